"""Bringing a run from source to report in this process: the same assets, jobs and instance as the UI, no daemon needed."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import dagster as dg
import polars as pl
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.defs.assets.raw import foreign_source
from backtest_assets.defs.config import config_from_run
from backtest_assets.defs.desk import PROMOTE
from backtest_assets.defs.freshness import is_fresh_research, stale_derived, stale_raw
from backtest_assets.defs.frozen import check_unchanged
from backtest_assets.defs.guard import Guard, inspect
from backtest_assets.defs.jobs import DISCOVERY, EXECUTION, MARKET
from backtest_assets.defs.partitions import MONTHS, RUNS, SYMBOLS
from backtest_assets.defs.reads import CLOSING, READS
from backtest_assets.defs.resources import LakeResource, Observer
from backtest_assets.domain.clock import month_end, month_of
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import BrokenError, RefusedError, SourceError, UsageError
from backtest_assets.lake.publication import Publication
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import DEFAULT_DATASETS, Dataset, Slice, Source

DERIVED: Final = tuple(name for name in MARKET if READS[name])
"""Market tables that are made from raw ones, in the order in which they must be made."""
_Span: TypeAlias = tuple[datetime, datetime]
_QUIET: Final[Mapping[str, Any]] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class Session:
    """One opened project.

    Attributes:
        definitions: the asset graph.
        instance: the Dagster instance that the UI shows.
        resource: the lake, its settings, and who is told what lies ahead and what was up to date.
        tags: put on every run, for example the sign of life of this process.
    """

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    resource: LakeResource
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def lake(self) -> Lake:
        """The store."""
        return self.resource.lake

    @property
    def observer(self) -> Observer:
        """Who is told."""
        return self.resource.observer


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketOrder:
    """What is to be brought up to date in the market layer.

    Attributes:
        source: as a user writes it.
        required: partitions that are made or refused.
        optional: partitions that are made where the source reaches them.
        datasets: what is ingested; what is not must be there already (R33-R35).
        is_forced: ingest and make everything again, fresh or not (R36).
        first_day: ingest only from this day on, YYYY-MM-DD; empty for whole months.
        last_day: ingest only up to this day, inclusive; empty for whole months.
    """

    source: str
    required: Sequence[Partition]
    optional: Sequence[Partition] = ()
    datasets: frozenset[Dataset] = DEFAULT_DATASETS
    is_forced: bool = False
    first_day: str = ""
    last_day: str = ""

    @property
    def config(self) -> dict[str, str | bool]:
        """Config of the raw assets."""
        return {
            "source": self.source,
            "force": self.is_forced,
            "first_day": self.first_day,
            "last_day": self.last_day,
        }

    @property
    def is_partial(self) -> bool:
        """Whether only some days of the months are asked for."""
        return bool(self.first_day or self.last_day)


@dataclass(frozen=True, slots=True)
class Work:
    """What a drive did.

    Attributes:
        n_made: partitions published.
        n_fresh: partitions that were up to date already.
        refusals: text of every refusal met, in order.
    """

    n_made: int
    n_fresh: int
    refusals: tuple[str, ...]

    def __add__(self, other: "Work") -> "Work":
        return Work(self.n_made + other.n_made, self.n_fresh + other.n_fresh, self.refusals + other.refusals)


def check_source(source: Source, run: ResearchRun) -> None:
    """Refuse a window that the source cannot cover for every symbol, before anything is made.

    A symbol that the source knows to be listed or delisted inside the window is covered.

    Raises:
        SourceError: naming symbol, dataset, what the source has and what was asked.
    """
    start, end = run.window
    for symbol, dataset in itertools.product(run.symbol_list, (Dataset.UM_OHLCV, Dataset.UM_FUNDING)):
        span, listing = source.span(dataset, symbol), source.listing(dataset, symbol)
        if span is None:
            message = f"{source.identity} has no {dataset.value} for {symbol}; choose another symbol or source"
            raise SourceError(message)
        traded = (start, end) if listing is None else listing.within(start, end)
        first, last = span
        lacks = month_of(first) > month_of(traded[0]) or month_end(month_of(last)) < traded[1]
        if lacks or traded[0] == traded[1]:
            message = (
                f"{source.identity} has {dataset.value} of {symbol} from {first:%Y-%m-%d} to {last:%Y-%m-%d}; "
                f"the run asks for {run.start} to {run.end}: choose a window inside"
            )
            raise SourceError(message)


def drive_market(session: Session, order: MarketOrder) -> Work:
    """Ingest and clean the partitions that are absent, red or out of date."""
    as_of = session.resource.clock()
    source = session.resource.open_source(order.source, as_of=as_of, is_forced=order.is_forced)
    everything = [*order.required, *order.optional]
    _check_months(everything)
    _check_unmixed(session.lake, source, everything)
    work = Work(0, 0, ())
    for dataset in Dataset:
        if dataset in order.datasets:
            work += _ingest(session, source, dataset, order, as_of=as_of)
        elif dataset.is_required:
            work += Work(0, 0, tuple(_lacking(session, dataset, order.required)))
    for table in DERIVED:
        stale, n_fresh = stale_derived(
            session.instance, session.resource, table, everything, as_of=as_of, is_forced=order.is_forced
        )
        work += _materialize_months(session, table, stale, {}) + Work(0, n_fresh, ())
    return work


def _ingest(session: Session, source: Source, dataset: Dataset, order: MarketOrder, *, as_of: datetime) -> Work:
    # Every file is opened once before any month is tried: one that cannot be read is refused whole, and alone.
    spans, refusals = _spans(source, dataset, {p["symbol"] for p in (*order.required, *order.optional)})
    wanted = [p for p in order.required if p["symbol"] in spans and (dataset.is_required or spans[p["symbol"]])]
    wanted += [p for p in order.optional if _reaches(spans.get(p["symbol"]), p)]
    if order.is_forced or order.is_partial:
        return _materialize_months(session, dataset.value, wanted, order.config) + Work(0, 0, refusals)
    source.prepare([Slice.of_month(dataset, p["symbol"], p["month"]) for p in wanted], as_of=as_of)
    stale, still_red = stale_raw(session.instance, session.resource, source, dataset, wanted, as_of=as_of)
    refusals += tuple(f"still refused, the source is unchanged: {one}" for one in still_red)
    work = _materialize_months(session, dataset.value, stale, order.config)
    return work + Work(0, len(wanted) - len(stale) - len(still_red), refusals)


def _spans(source: Source, dataset: Dataset, symbols: Iterable[str]) -> tuple[dict[str, _Span | None], tuple[str, ...]]:
    """Return what the source has of each symbol, None where it has nothing, and why some symbols cannot be asked for."""
    spans: dict[str, _Span | None] = {}
    refusals: list[str] = []
    for symbol in sorted(symbols):
        try:
            spans[symbol] = source.span(dataset, symbol)
        except SourceError as error:
            refusals.append(f"{dataset.value} of {symbol} not ingested: {error}")
    return spans, tuple(refusals)


def _lacking(session: Session, dataset: Dataset, partitions: Sequence[Partition]) -> Iterator[str]:
    """Say what a skipped ingest leaves missing."""
    for refusal in inspect(session.instance, session.resource, dataset.value, partitions).refused:
        flag = dataset.value.removeprefix("raw_").removeprefix("um_")
        yield f"not ingested, because of --skip_ingest_{flag} 1: {refusal}"


def _check_months(partitions: Iterable[Partition]) -> None:
    known = set(MONTHS.get_partition_keys())
    strange = sorted({partition["month"] for partition in partitions} - known)
    if strange:
        message = f"months {', '.join(strange)} cannot be ingested; choose {min(known)} to {max(known)}"
        raise UsageError(message)


def _check_unmixed(lake: Lake, source: Source, partitions: Iterable[Partition]) -> None:
    """Refuse another source than the one that partitions were ingested from, before any verdict is touched."""
    for partition, dataset in itertools.product(partitions, Dataset):
        message = foreign_source(lake, source, dataset, partition)
        if message is not None:
            raise SourceError(message)


def drive_run(session: Session, run: ResearchRun, *, until_blueprints: bool, is_forced: bool = False) -> Work:
    """Make what the run lacks: settings, discovery, and on PROMOTE execution; strategy candidates and report come last in any case.

    Args:
        session: the opened project.
        run: the settings.
        until_blueprints: stop before execution.
        is_forced: make every table again, fresh or not (R36).

    Raises:
        RefusedError: if the run_id is frozen with other settings, or a stage was refused, with the refusal's text.
    """
    check_unchanged(session.instance, session.lake, run)
    session.instance.add_dynamic_partitions(str(RUNS.name), [run.run_id])
    work = _drive_stage(session, run, "discovery", DISCOVERY, is_promoted=False, is_forced=is_forced)
    if until_blueprints:
        return work
    is_promoted = decision_of(session, run) == PROMOTE
    tables = EXECUTION if is_promoted else CLOSING
    return work + _drive_stage(session, run, "execution", tables, is_promoted=is_promoted, is_forced=is_forced)


def decision_of(session: Session, run: ResearchRun) -> str:
    """Return what the checklist of a run decided.

    Raises:
        RefusedError: if the checklist may not be read.
    """
    return str(run_rows(session, "research_checklist", run.run_id)["decision"][0])


def run_rows(session: Session, table: str, run_id: str) -> pl.DataFrame:
    """Return a run's rows of a table, through the guard.

    Raises:
        RefusedError: if they may not be read.
    """
    return session.lake.scan([run_publication(session, table, run_id)]).collect()


def run_publication(session: Session, table: str, run_id: str) -> Publication:
    """Return a run's published version of a table, through the guard.

    Raises:
        RefusedError: if it may not be read.
    """
    inspection = inspect(session.instance, session.resource, table, [Partition.of_run(run_id)])
    if inspection.refused:
        raise RefusedError(str(inspection.refused[0]))
    return inspection.admitted[0].publication


def _reaches(span: _Span | None, partition: Partition) -> bool:
    return span is not None and month_of(span[0]) <= partition["month"] <= month_of(span[1])


def _register(instance: dg.DagsterInstance, symbols: Iterable[str]) -> None:
    """Make symbols partitions of Dagster's, which nobody takes back: only those that are to be made."""
    known = set(instance.get_dynamic_partitions(str(SYMBOLS.name)))
    missing = sorted(set(symbols) - known)
    if missing:
        instance.add_dynamic_partitions(str(SYMBOLS.name), missing)


def _drive_stage(
    session: Session, run: ResearchRun, job: str, tables: Sequence[str], *, is_promoted: bool, is_forced: bool
) -> Work:
    guard = Guard(session.instance, session.resource)
    up_to_date = itertools.takewhile(lambda name: is_fresh_research(guard, name, run, is_promoted=is_promoted), tables)
    fresh = [] if is_forced else list(up_to_date)
    stale = [table for table in tables if table not in fresh]
    for table in fresh:
        session.observer.settle(table, run.run_id, "fresh")
    if not stale:
        return Work(0, len(fresh), ())
    for table in stale:
        session.observer.expect(table, 1)
    config = config_from_run(run) if "research_run" in stale else {}
    refusals = _execute(session, job, stale, {**_QUIET, **config}, partition_key=run.run_id)
    if refusals:
        raise RefusedError("\n".join(refusals))
    return Work(len(stale), len(fresh), ())


def _materialize_months(
    session: Session, table: str, partitions: Sequence[Partition], config: Mapping[str, str | bool]
) -> Work:
    refusals: list[str] = []
    _register(session.instance, {partition["symbol"] for partition in partitions})
    if partitions:
        session.observer.expect(table, len(partitions))
    ops = {table: {"config": dict(config)}} if config else {}
    for first, last in rectangles(session.instance, partitions):
        tags = {ASSET_PARTITION_RANGE_START_TAG: first.label, ASSET_PARTITION_RANGE_END_TAG: last.label}
        refusals += _execute(session, "market", [table], {**_QUIET, "ops": ops}, tags=tags)
    n_refused = sum(text.count("\n- ") for text in refusals)
    return Work(len(partitions) - n_refused, 0, tuple(refusals))


def rectangles(instance: dg.DagsterInstance, partitions: Sequence[Partition]) -> list[tuple[Partition, Partition]]:
    """Cover the partitions with ranges of consecutive months x neighbouring symbols, each one Dagster run."""
    symbols = list(instance.get_dynamic_partitions(str(SYMBOLS.name)))
    months = {month: i for i, month in enumerate(MONTHS.get_partition_keys())}
    stretches: dict[tuple[str, str], list[str]] = {}
    for symbol in sorted({p["symbol"] for p in partitions}, key=symbols.index):
        mine = sorted(p["month"] for p in partitions if p["symbol"] == symbol)
        for _, group in itertools.groupby(enumerate(mine), key=lambda item: months[item[1]] - item[0]):
            stretch = [month for _, month in group]
            stretches.setdefault((stretch[0], stretch[-1]), []).append(symbol)
    ranges: list[tuple[Partition, Partition]] = []
    for (first, last), members in stretches.items():
        for _, group in itertools.groupby(enumerate(members), key=lambda item: symbols.index(item[1]) - item[0]):
            block = [symbol for _, symbol in group]
            ranges.append((Partition.of_month(block[0], first), Partition.of_month(block[-1], last)))
    return ranges


def _execute(
    session: Session,
    job: str,
    tables: Sequence[str],
    run_config: Mapping[str, Any],
    *,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> list[str]:
    """Run some assets of a job in this process; return the text of every refusal.

    Raises:
        BrokenError: if a step crashed instead of refusing.
    """
    result = session.definitions.resolve_job_def(job).execute_in_process(
        run_config=run_config,
        instance=session.instance,
        asset_selection=[dg.AssetKey(table) for table in tables],
        partition_key=partition_key,
        tags={**session.tags, **(tags or {})},
        raise_on_error=False,
    )
    if result.success:
        return []
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    texts = [data.user_failure_data.description for data in failures if data.user_failure_data is not None]
    if not texts or len(texts) < len(failures):
        crashes = [str(data.error_display_string) for data in failures if data.user_failure_data is None]
        message = "\n".join(crashes) or f"run {result.run_id} failed before its first step; see it in the UI"
        raise BrokenError(message)
    return [text or "a step was refused without a reason; see the run in the UI" for text in texts]

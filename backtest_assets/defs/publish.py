"""The only way to write a table: stage, ask every gate, then publish atomically or quarantine.

Green: the partition is published, materialised and its verdicts recorded. Red: nothing is published, the staged rows go
to quarantine with their verdicts, the failed evaluations are recorded per partition, and the step fails at the end; the
good partitions of the same step are kept.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import dagster as dg
import polars as pl
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import DagsterEventType
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.defs.code_version import code_version
from backtest_assets.defs.growth import growth_of
from backtest_assets.defs.metadata import (
    class_of,
    class_tags,
    publication_facts,
    severity_of,
    tables_of,
    verdict_facts,
    without_origins,
)
from backtest_assets.defs.reads import CHRONICLES
from backtest_assets.defs.resources import LakeResource, now
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import BacktestAssetsError, SourceError, TableError, TamperedError
from backtest_assets.gates.gate import Answer, Evidence, Gate, ask_all
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.publication import Input, Publication
from backtest_assets.lake.store import Lake
from backtest_assets.tables.contract import Table

AssetEvent: TypeAlias = dg.MaterializeResult[Any] | dg.AssetMaterialization | AssetCheckEvaluation | dg.AssetCheckResult


@dataclass(frozen=True, slots=True)
class Made:
    """What an asset made for one partition.

    Attributes:
        frame: the rows; they need not conform, a gate says so.
        inputs: the exact partitions consumed: the lineage record.
        frames: the input frames by table name, for the gates.
        run: the run's settings; None in the market layer.
        attachments: files published with the rows, by name.
        notes: facts kept in the manifest, for example the source's identity.
        listing: when the instrument traded, where the source knows.
        listings: the same by symbol, for a table of many symbols.
        shown: small tables that the UI shows with the materialisation, by name.
    """

    frame: pl.DataFrame
    inputs: Sequence[Input] = ()
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict[str, pl.DataFrame])
    run: ResearchRun | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    listing: Listing | None = None
    listings: Mapping[str, Listing] = field(default_factory=dict[str, Listing])
    shown: Mapping[str, pl.DataFrame] = field(default_factory=dict[str, pl.DataFrame])


@dataclass(frozen=True, slots=True)
class Published:
    """What a partition holds: a verified publication and its rows."""

    publication: Publication
    frame: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Step:
    context: dg.AssetExecutionContext
    lake: LakeResource
    table: Table
    as_of: datetime

    @property
    def is_range(self) -> bool:
        """A range run, even of one partition, records verdicts per partition only if told each one."""
        return ASSET_PARTITION_RANGE_START_TAG in self.context.run.tags

    def notes(self, made: Made) -> Mapping[str, str]:
        """What the manifest keeps: the maker's facts, and the market limits, those by name that are not the default."""
        limits = self.lake.settings.limits
        if self.table.layer != "market":
            return made.notes if made.run is None else {**made.notes, **class_of(made.run)}
        return {**made.notes, "limits_digest": limits.digest} | ({"limits": limits.changed} if limits.changed else {})


@dataclass(frozen=True, slots=True)
class _Settled:
    partition: Partition
    answers: Sequence[Answer]
    publication: Publication | None
    quarantined: str | None = None
    attempt: Mapping[str, str] = field(default_factory=dict[str, str])
    error: str = ""
    shown: Mapping[str, pl.DataFrame] = field(default_factory=dict[str, pl.DataFrame])

    @property
    def is_green(self) -> bool:
        return self.publication is not None


def publish(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    table: Table,
    made: Iterable[tuple[Partition, Made | BacktestAssetsError]],
    *,
    as_of: datetime,
) -> Iterator[AssetEvent]:
    """Settle each partition in turn, then record what happened to all of them.

    Args:
        context: the step.
        lake: where to publish.
        table: contract of the rows.
        made: rows per partition; an error in place of rows refuses the partition: all its gates are recorded red, unless
            a source gave nothing for rows that are published.
        as_of: the step's one instant: what the rows were made as of, and what the gates ask as of.

    Raises:
        dagster.Failure: after everything is recorded, if any partition was refused; never retried.
    """
    step = _Step(context, lake, table, as_of)
    settled: list[_Settled] = []
    for partition, product in made:
        outcome = _settle(step, partition, product)
        lake.observer.settle(table.name, partition.label, "published" if outcome.is_green else "refused")
        settled.append(outcome)
    refused = [one for one in settled if not one.is_green]
    yield from _materializations(step, settled, all_green=not refused)
    if not step.is_range and not refused:
        yield from (_result(gate, settled[0].answers[i], settled[0]) for i, gate in enumerate(GATES[table.name]))
        return
    yield from _evaluations(step, settled)
    if refused:
        raise _failure(table, refused, len(settled))
    for i, gate in enumerate(GATES[table.name]):
        red = sum(not one.answers[i].verdict.passed for one in settled)
        text = f"{red} of the {len(settled)} partitions of this run are red; each partition's own verdict is under Partitions"
        yield dg.AssetCheckResult(
            check_name=gate.name, passed=red == 0, severity=severity_of(gate.severity), description=text
        )


def _settle(step: _Step, partition: Partition, product: Made | BacktestAssetsError) -> _Settled:
    table, store = step.table, step.lake.lake
    if isinstance(product, BacktestAssetsError):
        return _unmade(step, partition, product)
    try:
        frame = table.conform(product.frame)
    except TableError:
        frame = product.frame  # the contract gate says why; quarantine keeps the rows as they were made
    try:
        staged = store.stage(table, partition, frame, attachments=product.attachments)
        evidence = Evidence(
            table,
            partition,
            frame,
            step.as_of,
            product.run,
            product.frames,
            _before(store, table, partition),
            product.listing,
            product.listings,
            step.lake.settings.limits,
            {(one.table, one.partition): one.digest for one in product.inputs},
        )
        answers = ask_all(GATES[table.name], evidence)
        if any(answer.blocks for answer in answers):
            kept = store.quarantine(staged, [answer.verdict for answer in answers], as_of=step.as_of)
            attempt = {"code_version": code_version(table), **step.notes(product)}
            return _Settled(partition, answers, None, str(kept), attempt)
        publication = store.publish(
            staged,
            code_version=code_version(table),
            inputs=product.inputs,
            notes=step.notes(product),
            writer=step.context.run.run_id,
            as_of=step.as_of,
        )
    except BacktestAssetsError as error:  # full disk, lost race: what is published, and judged, stays as it is
        return _Settled(partition, (), None, error=str(error))
    return _Settled(partition, answers, publication, shown=product.shown)


def _before(store: Lake, table: Table, partition: Partition) -> pl.DataFrame | None:
    """Return what gates hold new rows against: what is published, of a chronicle what any version of it held.

    Raises:
        TamperedError: if a version of a chronicle cannot be trusted: it is not mended by forgetting.
    """
    if table.name in CHRONICLES:
        return growth_of(store, table, partition).rows if store.history(table.name, partition) else None
    before = published(store, table, partition) if table.layer == "research" else None
    return None if before is None else before.frame


def _unmade(step: _Step, partition: Partition, error: BacktestAssetsError) -> _Settled:
    """Nothing was made. A source that gave nothing says nothing of rows that are published: they stay as judged."""
    if isinstance(error, SourceError) and published(step.lake.lake, step.table, partition) is not None:
        return _Settled(partition, (), None, error=f"{error}; what was published before stays as it was judged")
    return _Settled(partition, _all_red(step.table, str(error)), None)


def published(lake: Lake, table: Table, partition: Partition) -> Published | None:
    """Return what a partition holds now; None if it holds nothing, or nothing that can still be trusted."""
    try:
        publication = lake.current(table.name, partition)
        if publication is None:
            return None
        lake.verify(publication)
    except TamperedError:
        return None  # publishing again is the fix, so damage must not forbid it
    return Published(publication, lake.scan([publication]).collect())


def _all_red(table: Table, text: str) -> tuple[Answer, ...]:
    return tuple(
        Answer(Verdict(gate.name, float("nan"), float("nan"), "1", passed=False, detail=text), Severity.ERROR)
        for gate in GATES[table.name]
    )


def _materializations(
    step: _Step, settled: Sequence[_Settled], *, all_green: bool
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetMaterialization]:
    common = {"data_root": str(step.lake.settings.data_root), "n_partitions": len(settled)}
    greens = [(one, one.publication) for one in settled if one.publication is not None]
    if not all_green:
        for one, publication in greens:
            yield dg.AssetMaterialization(
                step.table.name,
                partition=one.partition.label,
                metadata=common | publication_facts(publication) | tables_of(one.shown),
                tags={DATA_VERSION_TAG: publication.digest},
            )
        return
    if not step.is_range:
        one, publication = greens[0]
        yield dg.MaterializeResult(
            asset_key=step.table.name,
            metadata=common | publication_facts(publication) | tables_of(one.shown),
            data_version=dg.DataVersion(publication.digest),
            tags=class_tags(publication.notes),
        )
        return
    _tell(
        step,
        {one.partition.label: publication_facts(publication) | tables_of(one.shown) for one, publication in greens},
    )
    yield dg.MaterializeResult(asset_key=step.table.name, metadata=common)


def _tell(step: _Step, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each partition of a range run its metadata, at once.

    `add_asset_metadata` lists the whole range and copies what it has for every partition: n x n. Private; `defs/test_publish.py` of the
    tests holds the contract.
    """
    execution = step.context.get_step_execution_context()
    key = dg.AssetKey(step.table.name)
    told = {AssetMetadataHandle(asset_key=key, partition_key=label): fact for label, fact in facts.items()}
    before = execution._metadata_accumulator.per_output_metadata  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way is linear
    execution._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata={**before, **told})  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # likewise


def _evaluations(step: _Step, settled: Sequence[_Settled]) -> Iterator[AssetCheckEvaluation]:
    key = dg.AssetKey(step.table.name)
    ids = step.context.instance.event_log_storage.get_latest_storage_id_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, {one.partition.label for one in settled if one.is_green}
    )
    for one in settled:
        if not one.answers:
            continue
        target = (
            AssetCheckEvaluationTargetMaterializationData(
                storage_id=ids[one.partition.label], run_id=step.context.run.run_id, timestamp=now().timestamp()
            )
            if one.is_green
            else None
        )
        for gate, answer in zip(GATES[step.table.name], one.answers, strict=True):
            yield AssetCheckEvaluation(
                asset_key=key,
                check_name=gate.name,
                passed=answer.verdict.passed,
                metadata=_verdict_metadata(answer.verdict, one),
                target_materialization_data=target,
                severity=severity_of(answer.severity),
                description=answer.verdict.detail,
                blocking=answer.severity is Severity.ERROR,
                partition=one.partition.label,
            )


def _result(gate: Gate, answer: Answer, one: _Settled) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=gate.name,
        passed=answer.verdict.passed,
        severity=severity_of(answer.severity),
        description=answer.verdict.detail,
        metadata=_verdict_metadata(answer.verdict, one),
    )


def _verdict_metadata(verdict: Verdict, one: _Settled) -> dict[str, dg.MetadataValue]:
    facts = verdict_facts(verdict)
    if one.publication is not None:
        facts["digest"] = dg.MetadataValue.text(one.publication.digest)
        facts["publication"] = dg.MetadataValue.text(one.publication.publication_id)
    if one.quarantined is not None:
        facts["quarantine"] = dg.MetadataValue.text(one.quarantined)
        facts = {name: dg.MetadataValue.text(text) for name, text in without_origins(one.attempt).items()} | facts
    return facts


def _failure(table: Table, refused: Sequence[_Settled], n_settled: int) -> dg.Failure:
    lines = [f"- {table.name}[{one.partition.label}]: {_reason(one)}" for one in refused]
    return dg.Failure(
        description=f"refused: {len(refused)} of {n_settled} partition(s) of {table.name} not published\n"
        + "\n".join(lines),
        metadata={"refused": dg.MetadataValue.md("\n".join(lines))},
        allow_retries=False,
    )


def _reason(one: _Settled) -> str:
    """Say one blocking verdict in full and name the others; all are in the checks.

    The first that measured something beside the contract: it says what to do, the contract only which rule is broken.
    """
    if one.error:
        return one.error
    blocking = [answer.verdict for answer in one.answers if answer.blocks]
    measured = (verdict for verdict in blocking if verdict.gate != "contract" and math.isfinite(verdict.observed))
    told = next(measured, blocking[0])
    others = [verdict.gate for verdict in blocking if verdict.detail != told.detail]
    return f"{told.gate}: {told.detail}" + (f" (also red: {', '.join(others)})" if others else "")

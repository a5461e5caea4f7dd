"""The clean market: each month from its own raw month, with what it may read beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeAlias

import dagster as dg
import polars as pl

from backtest_assets.defs.admission import Admitted
from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.guard import Guard
from backtest_assets.defs.listing import listing_of
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.scope import admit_months
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.errors import BacktestAssetsError, BrokenError, RefusedError
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.research.bars.coverage import cover
from backtest_assets.research.bars.positioning import build_positioning
from backtest_assets.research.bars.settlements import settle_funding
from backtest_assets.sources.base import Dataset, Origin
from backtest_assets.sources.merge import origins_from_text
from backtest_assets.tables.registry import TABLES


@dataclass(frozen=True, slots=True)
class Month:
    """What one partition is made from.

    Attributes:
        partition: symbol and month.
        frames: rows of every input that may be read, by table name.
        notes: their manifests' facts, by table name.
        as_of: the step's instant: a bar that closes meanwhile must not divide rows and gates.
        lake: for the limits.
    """

    partition: Partition
    frames: Mapping[str, pl.DataFrame]
    notes: Mapping[str, Mapping[str, str]]
    as_of: datetime
    lake: LakeResource

    @property
    def symbol(self) -> str:
        """Instrument."""
        return self.partition["symbol"]

    @property
    def month(self) -> str:
        """UTC month `YYYY-MM`."""
        return self.partition["month"]

    @property
    def listing(self) -> Listing | None:
        """When the instrument traded, by the table's own input: another market's life is another's."""
        return listing_of(next(iter(self.notes.values())))

    def frame(self, table: str) -> pl.DataFrame:
        """Return the rows of an input; empty if it may not be read."""
        return self.frames[table] if table in self.frames else TABLES[table].empty()

    def files(self, table: str) -> tuple[Origin, ...]:
        """Return what the rows of a raw input came from."""
        return origins_from_text(self.notes.get(table, {}).get("origins", ""))


_Make: TypeAlias = Callable[[Month], pl.DataFrame]


@table_asset("bars_um")
def bars_um(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """USD-M bars."""
    yield from _derive(context, lake, "bars_um", lambda month: _clean(month, "raw_um_ohlcv"))


@table_asset("bars_spot")
def bars_spot(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Spot bars."""
    yield from _derive(context, lake, "bars_spot", lambda month: _clean(month, "raw_spot_ohlcv"))


@table_asset("settlements_um")
def settlements_um(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Funding settlements."""
    yield from _derive(
        context,
        lake,
        "settlements_um",
        lambda month: settle_funding(
            month.frame("raw_um_funding"), symbol=month.symbol, month=month.month, as_of=month.as_of
        ),
    )


@table_asset("positioning_um")
def positioning_um(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Open interest and liquidations per bar."""
    yield from _derive(context, lake, "positioning_um", _position)


@table_asset("coverage")
def coverage(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """The coverage ledger."""
    yield from _derive(context, lake, "coverage", _cover)


def _clean(month: Month, raw_table: str) -> pl.DataFrame:
    return clean_klines(
        month.frame(raw_table), symbol=month.symbol, month=month.month, as_of=month.as_of, listing=month.listing
    )


def _position(month: Month) -> pl.DataFrame:
    return build_positioning(
        month.frame("bars_um"),
        month.frame("raw_um_open_interest"),
        month.frame("raw_um_liquidations"),
        liquidation_days=_days(month.files("raw_um_liquidations")),
        max_age_min=month.lake.settings.limits.open_interest_age_max_min,
    )


def _days(files: Sequence[Origin]) -> frozenset[date]:
    return frozenset(
        (one.start + timedelta(days=i)).date()
        for one in files
        if one.sha256 is not None
        for i in range((one.end - one.start).days)
    )


def _cover(month: Month) -> pl.DataFrame:
    return pl.concat(
        cover(
            dataset.value,
            month.frame(dataset.value),
            symbol=month.symbol,
            month=month.month,
            as_of=month.as_of,
            listing=listing_of(month.notes.get(dataset.value, {})),
            origins=month.files(dataset.value),
            is_ingested=dataset.value in month.frames,
        )
        for dataset in Dataset
    )


def _derive(context: dg.AssetExecutionContext, lake: LakeResource, name: str, make: _Make) -> Iterator[AssetEvent]:
    table, as_of = TABLES[name], lake.clock()
    asked = [partition_from_key(table, key) for key in context.partition_keys]
    answers = admit_months(Guard(context.instance, lake).inspect, name, asked)
    made = (
        (p, inputs if isinstance(inputs, RefusedError) else _make_month(lake, name, p, inputs, make, as_of=as_of))
        for p, inputs in answers.items()
    )
    yield from publish(context, lake, table, made, as_of=as_of)


def _make_month(
    lake: LakeResource, name: str, partition: Partition, inputs: Sequence[Admitted], make: _Make, *, as_of: datetime
) -> Made | BacktestAssetsError:
    frames = {one.publication.table: lake.lake.scan([one.publication]).collect() for one in inputs}
    notes = {one.publication.table: one.publication.notes for one in inputs}
    month = Month(partition, frames, notes, as_of, lake)
    try:
        frame = make(month)
    except BacktestAssetsError as error:
        return error
    except Exception as error:  # noqa: BLE001  # one partition's trouble must not take the others of the range with it
        return BrokenError(f"{name} {partition}: {type(error).__name__}: {error}")
    first = inputs[0].publication.notes
    kept = {fact: first[fact] for fact in ("source", "listed_at", "delisted_at") if fact in first}
    return Made(frame, [one.input_for(name) for one in inputs], frames, notes=kept, listing=month.listing)

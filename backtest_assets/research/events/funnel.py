"""What became of every family: whether the data support it, and where its candidates went; detection stays out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import polars as pl

from backtest_assets.domain.event import EventType, Measure, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.events.definition import IS_ACCEPTED, LEAST_KNOWN, Definition, Status
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.tables.events import EVENT_FAMILIES

_DROPS: Final = (Status.COOLDOWN, Status.LOW_QUALITY, Status.OUTSIDE_WINDOW, Status.NOT_IN_UNIVERSE)
_IS_MEASURED: Final[Mapping[Measure, pl.Expr]] = MappingProxyType({
    Measure.VOLUME_QUOTE: pl.col("volume_measure") == "volume_quote",
    Measure.BASE_X_CLOSE: pl.col("volume_measure") == "base_x_close",
    Measure.TAKER_IMBALANCE: pl.col("taker_imbalance").is_not_null(),
    Measure.LOG_RETURN: pl.col("logret_1").is_not_null(),
    Measure.RANGE: pl.col("range_frac").is_not_null(),
    Measure.VOLATILITY: pl.col("rv_12").is_not_null(),
    Measure.BASIS: pl.col("basis_z_96").is_not_null(),
    Measure.FUNDING_RATE: pl.col("funding_rate_8h").is_not_null(),
})  # fmt: skip


def summarise_families(candidates: pl.DataFrame, features: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count the candidates of every family and symbol by their fate, and say which families the data cannot support.

    A family is NOT_RUN on a symbol if what it needs is known on less than `LEAST_KNOWN` of the symbol's bars in train. Phase 1
    obeys it, so it may not depend on what validation and test have or lack. What was detected all the same stays in the
    counts, which are of the whole run.

    Args:
        candidates: rows of `event_candidates`.
        features: rows of `features`.
        run: families, symbols and splits.

    Returns:
        Rows of `event_families`, one per family and symbol of the run, of the declared definitions alone.

    Raises:
        TableError: if a symbol's features leave out an instant of the grid.

    Knows:
        of status, reason, measure and the shares: which values train has, not what they are; nothing later.
        of counts, their instants and the last threshold: the whole run, test too; nothing that decides reads them.
    """
    train = run.splits[Split.TRAIN]
    inside = pl.col("known_at").is_between(train.start, train.end, closed="left")
    known = {
        grid.symbol: _known(grid.frame.filter(inside), run.event_types)
        for grid in SymbolGrid.each(features, "features")
    }
    centre = candidates.filter(pl.col("variant") == Variant.CENTRE.value).sort("known_at")
    cells = centre.group_by("event_type", "symbol").agg(
        n_candidates=pl.len(),
        n_accepted=_of(Status.ACCEPTED),
        **{f"n_{status.value}": _of(status) for status in _DROPS},
        first_known_at=pl.col("known_at").filter(IS_ACCEPTED).min(),
        last_known_at=pl.col("known_at").filter(IS_ACCEPTED).max(),
        threshold=pl.col("threshold").last(),
    )
    told = pl.DataFrame(
        [
            (family.value, symbol, *_standing(FAMILIES[family].definition, known.get(symbol, _NOTHING)))
            for family in run.event_types
            for symbol in run.symbol_list
        ],
        schema={name: EVENT_FAMILIES.schema[name] for name in ("event_type", "symbol", *_Standing._fields)},
        orient="row",
    )
    joined = told.join(cells, on=["event_type", "symbol"], how="left")
    return EVENT_FAMILIES.conform(joined.with_columns(pl.col("^n_.*$").fill_null(0)))


class _Known(NamedTuple):
    """Bars of a symbol in train, those that know an input, and those that a measure of a family decides."""

    n_bars: int
    of_input: Mapping[str, int]
    of_measure: Mapping[tuple[EventType, Measure], int]


class _Standing(NamedTuple):
    status: str
    reason: str
    known_frac: float
    measure: str | None
    measure_frac: float


_NOTHING: Final = _Known(0, {}, {})


def _of(status: Status) -> pl.Expr:
    return (pl.col("status") == status.value).sum()


def _known(rows: pl.DataFrame, families: tuple[EventType, ...]) -> _Known:
    definitions = [FAMILIES[family].definition for family in families]
    inputs = sorted({name for definition in definitions for name in definition.needs})
    decided = {(one.event_type, word): is_decided for one in definitions for word, is_decided in _decided(one)}
    of_input = rows.select(pl.col(name).is_not_null().sum() for name in inputs).row(0, named=True)
    of_measure = rows.select(
        one.fill_null(value=False).sum().alias(str(number)) for number, one in enumerate(decided.values())
    ).row(0)
    return _Known(rows.height, of_input, dict(zip(decided, of_measure, strict=True)))


def _decided(definition: Definition) -> list[tuple[Measure, pl.Expr]]:
    """Return of each measure whether it decides a bar: everything needed is known, and no better measure is."""
    is_open = pl.all_horizontal(pl.col(name).is_not_null() for name in definition.needs)
    decided: list[tuple[Measure, pl.Expr]] = []
    for word in definition.measures:
        is_known = _IS_MEASURED[word].fill_null(value=False)
        decided.append((word, is_open & is_known))
        is_open &= ~is_known
    return decided


def _standing(definition: Definition, known: _Known) -> _Standing:
    n_by = {word: known.of_measure.get((definition.event_type, word), 0) for word in definition.measures}
    n_bars = max(known.n_bars, 1)
    known_frac = sum(n_by.values()) / n_bars
    best = max(n_by, key=lambda word: n_by[word])  # the better one of equals
    measure = best.value if n_by[best] else None
    if known_frac >= LEAST_KNOWN:
        return _Standing("RUN", "", known_frac, measure, n_by[best] / n_bars)
    lacking = [name for name in definition.needs if known.of_input.get(name, 0) < LEAST_KNOWN * n_bars]
    named = " and ".join(lacking or (*definition.needs, " or ".join(definition.measures)))
    reason = f"{named} known on {known_frac:.1%} of train's {known.n_bars:,} bars, {LEAST_KNOWN:.0%} are needed"
    return _Standing("NOT_RUN", reason, known_frac, measure, n_by[best] / n_bars)

"""The event_candidates table: every family and rate variant of a run, each candidate with its fate; controls stay out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.definition import Status
from backtest_assets.research.events.families import (
    funding_extreme_reversal_window,
    range_compression_breakout_window,
    vol_shock_relaxation,
)
from backtest_assets.research.events.families.funding_extreme_reversal_window import FundingReversal
from backtest_assets.research.events.families.range_compression_breakout_window import Breakout
from backtest_assets.research.events.families.vol_shock_relaxation import VolShock
from backtest_assets.tables.events import EVENT_CANDIDATES

AnyDefinition: TypeAlias = VolShock | FundingReversal | Breakout
"""The parameters of one of the built families."""

DEFINITIONS: Final[Mapping[EventType, AnyDefinition]] = MappingProxyType(
    {definition.event_type: definition for definition in (VolShock(), FundingReversal(), Breakout())}
)
"""The declared (centre) definition of each family."""

_Frames: TypeAlias = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def detect_events(
    bars: pl.DataFrame, features: pl.DataFrame, funding: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Detect every family of the run with its centre, lower and higher exceedance rate.

    Args:
        bars: rows of `bars_um`, window and warm-up.
        features: rows of `features` of the same bars.
        funding: rows of `settlements_um`.
        run: settings; families and window.

    Returns:
        Rows of `event_candidates`; candidates known outside [start, end + 1 day) are `outside_window`. Cooldown counts
        from events before the window too, so a window's start changes no fate inside it but by its warm-up.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        each row: data up to its known_at, and `exit_at` when that instant has come.
    """
    if bars.is_empty():
        return EVENT_CANDIDATES.empty()
    start, end = run.window
    found = pl.concat(
        [
            _of_definition((bars, features, funding), event_type, variant)
            for event_type in run.event_types
            for variant in Variant
        ]
    )
    inside = pl.col("known_at").is_between(start, end, closed="left")
    status = pl.when(inside).then("status").otherwise(pl.lit(Status.OUTSIDE_WINDOW.value))
    return EVENT_CANDIDATES.conform(found.with_columns(status.alias("status")))


def _of_definition(frames: _Frames, event_type: EventType, variant: Variant) -> pl.DataFrame:
    params = DEFINITIONS[event_type].at(variant)
    found = _detect(*frames, params)
    ids = [
        params.event_id(symbol, onset)
        for symbol, onset in found.select("symbol", pl.col("onset_at").dt.epoch("us")).iter_rows()
    ]
    return found.with_columns(
        pl.Series("event_id", ids, dtype=pl.String),
        variant=pl.lit(variant.value),
        event_type=pl.lit(event_type.value),
        definition_version=pl.lit(params.version),
        parameter_digest=pl.lit(params.digest),
    )


def _detect(bars: pl.DataFrame, features: pl.DataFrame, funding: pl.DataFrame, params: AnyDefinition) -> pl.DataFrame:
    match params:
        case VolShock():
            return vol_shock_relaxation.detect(features, params=params)
        case FundingReversal():
            return funding_extreme_reversal_window.detect(bars, features, funding, params=params)
        case Breakout():
            return range_compression_breakout_window.detect(bars, features, params=params)

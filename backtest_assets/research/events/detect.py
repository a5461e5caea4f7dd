"""The event_candidates table: every family and rate variant of a run, each candidate with its fate; controls stay out."""

import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.definition import Status
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets.tables.events import EVENT_CANDIDATES


def detect_events(view: MarketView, *, run: ResearchRun) -> pl.DataFrame:
    """Detect every family of the run with its centre, lower and higher exceedance rate.

    Args:
        view: the market, window and warm-up.
        run: settings; families and window.

    Returns:
        Rows of `event_candidates`; candidates known outside [start, end + 1 day) are `outside_window`. Cooldown counts
        from events before the window too, so a window's start changes no fate inside it but by its warm-up.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        each row: data up to its known_at, and `exit_at` when that instant has come.
    """
    if view.bars.is_empty():
        return EVENT_CANDIDATES.empty()
    start, end = run.window
    found = pl.concat([_of_variant(view, event_type, variant) for event_type in run.event_types for variant in Variant])
    inside = pl.col("known_at").is_between(start, end, closed="left")
    status = pl.when(inside).then("status").otherwise(pl.lit(Status.OUTSIDE_WINDOW.value))
    return EVENT_CANDIDATES.conform(found.with_columns(status.alias("status")))


def _of_variant(view: MarketView, event_type: EventType, variant: Variant) -> pl.DataFrame:
    family = FAMILIES[event_type]
    params = family.definition.at(variant)
    found = family.detect(view, params=params)
    ids = params.event_ids(found.select("symbol", pl.col("onset_at").dt.epoch("us")).iter_rows())
    return found.with_columns(
        pl.Series("event_id", ids, dtype=pl.String),
        variant=pl.lit(variant.value),
        event_type=pl.lit(event_type.value),
        definition_version=pl.lit(params.version),
        parameter_digest=pl.lit(params.digest),
    )

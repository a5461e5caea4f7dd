"""Placebo events: the true ones moved back by whole weeks, matched and measured by the functions of the true ones.

Whatever they show beside their own controls is a fault of the comparison, not the family.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.research.outcomes.measure import price_holds, requests
from backtest_assets.research.phase1.sets import MatchedSets, Measured, matched_sets
from backtest_assets.tables.events import EVENT_CONTROLS


def train_events(events: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Return the centre events of train.

    Args:
        events: rows of `event_registry`.
        run: settings; the split plan.

    Returns:
        Rows of `event_registry`.

    Knows:
        events of train.
    """
    train = run.splits[Split.TRAIN]
    return events.filter(
        pl.col("variant") == Variant.CENTRE.value,
        pl.col("known_at").is_between(train.start, train.last_entry, closed="left"),
    )


def train_view(view: MarketView, *, run: ResearchRun) -> MarketView:
    """Return the market as far as the end of train.

    Args:
        view: bars, features and settlements of the run.
        run: settings; the split plan.

    Returns:
        Bars and features that open before the end of train, settlements up to it.

    Knows:
        train and the history before it.
    """
    end = run.splits[Split.TRAIN].end
    return MarketView(
        view.bars.filter(pl.col("open_at") < end),
        view.features.filter(pl.col("open_at") < end),
        view.funding.filter(pl.col("settled_at") <= end),
    )


def placebo_sets(view: MarketView, events: pl.DataFrame, *, weeks: int, run: ResearchRun) -> Mapping[str, MatchedSets]:
    """Match and measure all events of train as if they had set in some weeks earlier.

    All families move together, so that placebos lie among one another as the true events do. One that falls before the
    start of train is not measured, nor is an instant, placebo or control, within a day of a true event of its family:
    what follows true events is no fault of the comparison, and events that crowd are often preceded by others a week before.

    Args:
        view: the market up to the end of train.
        events: the centre events of train.
        weeks: how far back, at least 1 [weeks].
        run: settings; the split plan.

    Returns:
        Matched sets by family.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        outcomes of train.
    """
    moved = [pl.col(name) - timedelta(weeks=weeks) for name in ("onset_at", "known_at", "exit_at")]
    train = run.splits[Split.TRAIN]
    shifted = events.with_columns(moved).filter(
        pl.col("onset_at") >= train.start, pl.col("known_at").is_between(train.start, train.last_entry, closed="left")
    )
    shifted = _apart(shifted, events)
    matched = match_controls(view.bars, view.features, shifted, run=run)
    controls = EVENT_CONTROLS.conform(_apart(matched, events))
    wanted = requests(shifted, controls, run=run).filter(
        pl.col("delay_bars") == 0, pl.col("hold_bars").is_in(HOLD_GRID_BARS)
    )
    return matched_sets(
        Measured(
            price_holds(view.bars, view.funding, wanted),
            measure_barriers(view.bars, view.features, shifted, controls, run=run),
            controls,
        )
    )


def _apart(instants: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Drop the instants whose longest hold meets that of a true event of their family and symbol."""
    true = events.select("symbol", "event_type", true_at="known_at").sort("true_at")
    beside = instants.sort("known_at").join_asof(
        true,
        left_on="known_at",
        right_on="true_at",
        by=["symbol", "event_type"],
        strategy="nearest",
        check_sortedness=False,
    )
    distance = (pl.col("known_at") - pl.col("true_at")).abs()
    return beside.filter((distance >= max(HOLD_GRID_BARS) * BAR).fill_null(value=True)).drop("true_at")

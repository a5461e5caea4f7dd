"""Funding that stays high: for a whole day one crowd has paid more than in 85 % of the last 30 days."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.crowd import Crowd, Spells
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.strict import BEYOND
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.scan import lagged


@dataclass(frozen=True, slots=True)
class FundingPersistence(Definition):
    """Parameters.

    Attributes:
        least_hours: what the settlements of a spell cover together before it counts; the reference's 12 bars repeat one
            settlement, a day holds three of 8 hours, as in the feature `is_funding_persistent` [h].
        cooldown_bars: length of the event's window, in which no other is accepted: the reference's spacing [bars].
    """

    event_type: ClassVar[EventType] = EventType.FUNDING_PERSISTENCE_WINDOW
    version: ClassVar[str] = (
        "funding_persistence_v1: |funding_8h| above 85 % of 30 days for 24 h, one sign, none missing"
    )
    needs: ClassVar[tuple[str, ...]] = ("funding_rate_8h",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.FUNDING_RATE,)

    rate: float = 0.15
    least_hours: int = 24
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: FundingPersistence) -> pl.DataFrame:
    """Find the settlements that complete a day of high funding; a spell counts once, however long it lasts.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the bar of the spell's first settlement, `known_at` the close by which the
        completing one has settled, `side` against the crowd, `severity` |funding_8h| of the latter over its threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        settlements up to the completing one; each threshold ends before its settlement.
    """
    grids = SymbolGrid.each(view.features, "features")
    return pl.concat(
        [
            _of_symbol(Crowd.of(view.settlements(grid.symbol)), grid, params).frame(grid, params.spacing)
            for grid in grids
        ]
    )


def _of_symbol(crowd: Crowd, grid: SymbolGrid, params: FundingPersistence) -> Candidates:
    size = crowd.size
    high = crowd.threshold(size, params.rate)
    spells = _completed(crowd, high, params.least_hours)
    return crowd.candidates(grid, spells, values=size, thresholds=high, window_bars=params.cooldown_bars)


def _completed(crowd: Crowd, high: FloatArray, least_hours: int) -> Spells:
    is_high = (crowd.size > high * BEYOND) & (high > 0)
    goes_on = is_high & crowd.continues & (lagged(is_high.astype(np.float64)) > 0)
    begin = np.maximum.accumulate(np.where(goes_on, 0, np.arange(is_high.size)))
    until = np.cumsum(crowd.interval_h)
    before = until - crowd.interval_h
    covered, covered_before = until - before[begin], before - before[begin]
    known = np.flatnonzero(is_high & (covered >= least_hours) & (covered_before < least_hours))
    return Spells(begin[known], known, known)

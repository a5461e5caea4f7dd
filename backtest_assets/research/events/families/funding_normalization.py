"""Funding that normalises: within a day of an extreme the crowd's payment is back below the median of the last 30 days."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.crowd import HOUR_US, Crowd, Spells
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.strict import BEYOND
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class FundingNormalization(Definition):
    """Parameters.

    Attributes:
        usual_rate: share of settlements beyond what is usual: one half, the median.
        patience_hours: how long ago the extreme may be: the reference's 96 bars [h].
        cooldown_bars: length of the event's window, in which no other is accepted: the reference's spacing [bars].
    """

    event_type: ClassVar[EventType] = EventType.FUNDING_NORMALIZATION
    version: ClassVar[str] = (
        "funding_normalization_v1: |funding_8h| at or below its 30-day median within 24 h of an extreme"
    )
    needs: ClassVar[tuple[str, ...]] = ("funding_rate_8h",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.FUNDING_RATE,)

    rate: float = 0.05
    usual_rate: float = 0.5
    patience_hours: int = 24
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: FundingNormalization) -> pl.DataFrame:
    """Find the first usual settlement after an extreme one; an extreme normalises once.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate; `side` against the crowd of the last extreme, `threshold` the median in force now, `severity`
        |funding_8h| of that extreme over it: how far it came down.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        settlements up to the usual one; each threshold ends before its settlement.
    """
    grids = SymbolGrid.each(view.features, "features")
    return pl.concat(
        [
            _of_symbol(Crowd.of(view.settlements(grid.symbol)), grid, params).frame(grid, params.spacing)
            for grid in grids
        ]
    )


def _of_symbol(crowd: Crowd, grid: SymbolGrid, params: FundingNormalization) -> Candidates:
    size = crowd.size
    extreme, usual = crowd.threshold(size, params.rate), crowd.threshold(size, params.usual_rate)
    is_usual = (size <= usual * BEYOND) & (usual > 0)
    spells = _calmed(crowd, (size > extreme * BEYOND) & (extreme > 0), is_usual, params)
    return crowd.candidates(grid, spells, values=size, thresholds=usual, window_bars=params.cooldown_bars)


def _calmed(crowd: Crowd, is_extreme: BoolArray, is_usual: BoolArray, params: FundingNormalization) -> Spells:
    last_extreme, last_usual = _last_before(is_extreme), _last_before(is_usual)
    since = crowd.settled_us - crowd.settled_us[last_extreme]
    at = np.flatnonzero(is_usual & (last_extreme > last_usual) & (since <= params.patience_hours * HOUR_US))
    return Spells(at, at, last_extreme[at])


def _last_before(flags: BoolArray) -> IntArray:
    """Return the last true position before each one, -1 where there is none."""
    at = np.maximum.accumulate(np.where(flags, np.arange(flags.size), -1))
    return np.concatenate([[-1], at[:-1]])[: flags.size]

"""Funding that accelerates: over 8 hours a crowd's payment grew by more than in 95 % of the last 30 days."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.crowd import Crowd
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid


@dataclass(frozen=True, slots=True)
class FundingAcceleration(Definition):
    """Parameters.

    Attributes:
        change_hours: span of the growth: the reference's 32 bars [h].
        cooldown_bars: length of the event's window, in which no other is accepted: the reference's spacing [bars].
    """

    event_type: ClassVar[EventType] = EventType.FUNDING_ACCELERATION
    version: ClassVar[str] = "funding_acceleration_v1: growth of |funding_8h| over 8 h rises above 95 % of 30 days"
    needs: ClassVar[tuple[str, ...]] = ("funding_rate_8h",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.FUNDING_RATE,)

    rate: float = 0.05
    change_hours: int = 8
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: FundingAcceleration) -> pl.DataFrame:
    """Find the settlements at which funding begins to grow unusually fast.

    A fall counts as growth of 0, not as unknown: half of the values of any window are such zeros.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate; `side` against the crowd (minus the sign of funding), `severity` growth over threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the settlement itself and the rate in force 8 hours before; the threshold ends before it.
    """
    grids = SymbolGrid.each(view.features, "features")
    return pl.concat(
        [
            _of_symbol(Crowd.of(view.settlements(grid.symbol)), grid, params).frame(grid, params.spacing)
            for grid in grids
        ]
    )


def _of_symbol(crowd: Crowd, grid: SymbolGrid, params: FundingAcceleration) -> Candidates:
    growth = np.maximum(crowd.size - crowd.size_before(params.change_hours), 0.0)
    fast = crowd.threshold(growth, params.rate)
    return crowd.candidates(
        grid, Crowd.rises(growth, fast), values=growth, thresholds=fast, window_bars=params.cooldown_bars
    )

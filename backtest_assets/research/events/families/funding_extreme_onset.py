"""The onset of a funding extreme: the settlement at which a crowd begins to pay more than in 95 % of the last 30 days."""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.crowd import Crowd
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid


@dataclass(frozen=True, slots=True)
class FundingOnset(Definition):
    """Parameters.

    Attributes:
        cooldown_bars: length of the event's window, in which no other is accepted: the reference's spacing [bars].
    """

    event_type: ClassVar[EventType] = EventType.FUNDING_EXTREME_ONSET
    version: ClassVar[str] = "funding_onset_v1: |funding_8h| rises above 95 % of the settlements of 30 days"
    needs: ClassVar[tuple[str, ...]] = ("funding_rate_8h",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.FUNDING_RATE,)

    rate: float = 0.05
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: FundingOnset) -> pl.DataFrame:
    """Find the settlements at which funding becomes extreme.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate; `side` against the crowd (minus the sign of funding), `severity` |funding_8h| over threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the settlement itself; the threshold ends before it.
    """
    grids = SymbolGrid.each(view.features, "features")
    return pl.concat(
        [
            _of_symbol(Crowd.of(view.settlements(grid.symbol)), grid, params).frame(grid, params.spacing)
            for grid in grids
        ]
    )


def _of_symbol(crowd: Crowd, grid: SymbolGrid, params: FundingOnset) -> Candidates:
    size = crowd.size
    extreme = crowd.threshold(size, params.rate)
    return crowd.candidates(
        grid, Crowd.rises(size, extreme), values=size, thresholds=extreme, window_bars=params.cooldown_bars
    )

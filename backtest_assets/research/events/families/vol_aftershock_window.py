"""The day after a volatility shock has relaxed, in which shocks tend to come again; the shock itself is another family."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import IS_ACCEPTED, Candidates, Spacing
from backtest_assets.research.events.shock import Shock
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.scan import NEVER, extremes_between


@dataclass(frozen=True, slots=True)
class Aftershock(Shock):
    """Parameters: those of the parent shock, and the window after it.

    Attributes:
        window_bars: length of the event's window, in which no other is accepted: a day, the longest of the four
            overlapping windows once taken per shock [bars].
    """

    event_type: ClassVar[EventType] = EventType.VOL_AFTERSHOCK_WINDOW
    version: ClassVar[str] = "vol_aftershock_v2: the end of an accepted volatility shock, one event per shock"
    needs: ClassVar[tuple[str, ...]] = ("rv_ratio_288",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.VOLATILITY,)

    window_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.window_bars)


def detect(view: MarketView, *, params: Aftershock) -> pl.DataFrame:
    """Find the ends of accepted volatility shocks; a shock that ends on a gap has no aftershock window.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per ended parent: `onset_at` the open of the bar that ends it, `known_at` that bar's close, `exit_at` the
        end of the window, `side` 0, `severity` = the parent's highest ratio over its threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the close of the parent's last quiet bar.
    """
    return pl.concat(
        [_of_symbol(grid, params).frame(grid, params.spacing) for grid in SymbolGrid.each(view.features, "features")]
    )


def _of_symbol(grid: SymbolGrid, params: Aftershock) -> Candidates:
    shocks = params.shocks(grid)
    is_parent = shocks.frame(grid, params.shock_spacing).select(IS_ACCEPTED).to_series().to_numpy() & (
        shocks.exit_row < NEVER
    )
    is_parent[is_parent] = grid.is_real[shocks.exit_row[is_parent]]
    end, threshold = shocks.exit_row[is_parent], shocks.threshold[is_parent]
    ratio = grid.values("rv_ratio_288")
    _, peak = extremes_between(ratio, ratio, shocks.known_row[is_parent], end)
    return Candidates(
        onset_us=grid.open_us[end],
        known_row=end,
        exit_row=end + params.window_bars,
        side=np.zeros(end.size, dtype=np.int64),
        severity=peak / threshold,
        threshold=threshold,
        measure=Measure.VOLATILITY,
    )

"""A basis that comes apart and stays apart: far from its own day, and eight hours later still not back."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import THRESHOLD_BARS, THRESHOLD_LEAST, Candidates, Definition, Spacing
from backtest_assets.research.events.strict import BEYOND
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.rolling import rolling_count, rolling_quantile
from backtest_assets.stats.scan import NEVER, first_beyond, lagged


@dataclass(frozen=True, slots=True)
class Desync(Definition):
    """Parameters.

    Attributes:
        confirm_bars: bars after the onset through which the basis must not revert [bars].
        reverted_z: nearer to its day's mean than this, on the side it set out to, the basis has reverted [sigma].
    """

    event_type: ClassVar[EventType] = EventType.CROSS_VENUE_DESYNC
    version: ClassVar[str] = "desync_v1: |basis_z_96| crosses up its trailing 90-day quantile and stays out for 32 bars"
    needs: ClassVar[tuple[str, ...]] = ("basis_z_96",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.BASIS,)

    rate: float = 0.01
    confirm_bars: int = 32
    reverted_z: float = 0.5

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing(f"|basis_z_96| is back within {self.reverted_z:g}, or on the other side")


def detect(view: MarketView, *, params: Desync) -> pl.DataFrame:
    """Find the onsets of a basis that does not revert.

    A basis that swings to the other side has reverted. The event lasts until the basis does revert.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `known_at` the close of the last confirming bar, `side` against the basis (um rich: -1),
        `severity` |basis_z_96| at the onset over threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the basis up to the last confirming bar, none of them missing; the threshold ends one bar before the onset.
    """
    return pl.concat(
        [_of_symbol(grid, params).frame(grid, params.spacing) for grid in SymbolGrid.each(view.features, "features")]
    )


def _of_symbol(grid: SymbolGrid, params: Desync) -> Candidates:
    z = grid.values("basis_z_96")
    size = np.abs(z)
    threshold = lagged(rolling_quantile(size, THRESHOLD_BARS, THRESHOLD_LEAST, 1.0 - params.rate))
    was_within = lagged(size) <= lagged(threshold) * BEYOND
    onset = np.flatnonzero((size > threshold * BEYOND) & (threshold > 0) & was_within)
    onset = onset[onset + params.confirm_bars < z.size]
    onset = onset[_stays_out(z, onset, params)]
    side, known = _side(z, onset), onset + params.confirm_bars
    end = _reverted(z, known, side, params.reverted_z, z.size)
    return Candidates(
        onset_us=grid.open_us[onset],
        known_row=known,
        exit_row=end,
        side=-side,
        severity=size[onset] / threshold[onset],
        threshold=threshold[onset],
        measure=Measure.BASIS,
    )


def _stays_out(z: FloatArray, onset: IntArray, params: Desync) -> BoolArray:
    n_bars = params.confirm_bars
    is_complete = rolling_count(z, n_bars)[onset + n_bars] == n_bars
    return is_complete & (_reverted(z, onset, _side(z, onset), params.reverted_z, n_bars) == NEVER)


def _reverted(z: FloatArray, start: IntArray, side: IntArray, nearer_than: float, horizon: int) -> IntArray:
    return first_beyond(z, start, (side * nearer_than).astype(np.float64), -side, horizon)


def _side(z: FloatArray, onset: IntArray) -> IntArray:
    return np.sign(z[onset]).astype(np.int64)

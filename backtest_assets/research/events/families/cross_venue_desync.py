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
from backtest_assets.stats.scan import first_run_end, lagged


@dataclass(frozen=True, slots=True)
class Desync(Definition):
    """Parameters.

    Attributes:
        confirm_bars: bars after the onset through which the basis must not revert [bars].
        reverted_z: nearer to its day's mean than this, or on the side it did not set out to, the basis is back [sigma].
        reverted_bars: bars in a row on which it must be back before it has reverted; one close of two venues is noise: on
            real ones half of z is gone a bar later [bars].
        rest_bars: from the end to the next known_at: a day, because until then z is held against a day that holds the event,
            and a basis that comes home slowly would stand out on the other side of it [bars].
    """

    event_type: ClassVar[EventType] = EventType.CROSS_VENUE_DESYNC
    version: ClassVar[str] = (
        "desync_v2: |basis_z_96| crosses up its trailing 90-day quantile and 32 bars later has not come back for 3 in a row"
    )
    needs: ClassVar[tuple[str, ...]] = ("basis_z_96",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.BASIS,)

    rate: float = 0.01
    confirm_bars: int = 32
    reverted_z: float = 0.5
    reverted_bars: int = 3
    rest_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        until = f"{self.reverted_bars} bars in a row with |basis_z_96| back within {self.reverted_z:g}, or on the other side"
        return Spacing(until, rest_bars=self.rest_bars)


def detect(view: MarketView, *, params: Desync) -> pl.DataFrame:
    """Find the onsets of a basis that does not revert.

    A basis on the other side is back too. It reverts when it is back for `reverted_bars` bars in a row; through the
    confirming bars it must not, and on the last of them it must be out. The event lasts until it does revert, and rests.

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
    end = _reverted(z, onset, params)
    stays = _is_confirmed(z, onset, end, params)
    onset, end = onset[stays], end[stays]
    side, known = _side(z, onset), onset + params.confirm_bars
    return Candidates(
        onset_us=grid.open_us[onset],
        known_row=known,
        exit_row=end,
        side=-side,
        severity=size[onset] / threshold[onset],
        threshold=threshold[onset],
        measure=Measure.BASIS,
    )


def _is_confirmed(z: FloatArray, onset: IntArray, end: IntArray, params: Desync) -> BoolArray:
    n_bars, known = params.confirm_bars, onset + params.confirm_bars
    is_complete = rolling_count(z, n_bars)[known] == n_bars
    return is_complete & (end > known) & (_side(z, onset) * z[known] >= params.reverted_z)


def _reverted(z: FloatArray, onset: IntArray, params: Desync) -> IntArray:
    from_above = first_run_end(z < params.reverted_z, onset, params.reverted_bars)
    from_below = first_run_end(z > -params.reverted_z, onset, params.reverted_bars)
    return np.where(_side(z, onset) > 0, from_above, from_below)


def _side(z: FloatArray, onset: IntArray) -> IntArray:
    return np.sign(z[onset]).astype(np.int64)

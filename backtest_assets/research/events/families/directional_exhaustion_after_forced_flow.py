"""Forced flow that exhausts itself: a one-sided burst, and for eight hours no price beyond it."""

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
from backtest_assets.stats.rolling import rolling_max, rolling_min, rolling_quantile
from backtest_assets.stats.scan import lagged


@dataclass(frozen=True, slots=True)
class ForcedFlow(Definition):
    """Parameters.

    Attributes:
        quiet_bars: bars after the flow in which no new extreme may come [bars].
        cooldown_bars: length of the event's window, in which no other is accepted [bars].
    """

    event_type: ClassVar[EventType] = EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW
    version: ClassVar[str] = (
        "forced_flow_v1: |taker_imbalance|, or |logret_1| where takers are unknown, above its trailing 90-day quantile; "
        "then 32 bars within the last such bar's extreme"
    )
    needs: ClassVar[tuple[str, ...]] = ("logret_1",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.TAKER_IMBALANCE, Measure.LOG_RETURN)

    rate: float = 0.01
    quiet_bars: int = 32
    cooldown_bars: int = 32

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: ForcedFlow) -> pl.DataFrame:
    """Find bursts of one-sided flow after which the price goes no further.

    Flow is the taker imbalance from the bar on which 30 days of it are known, the bar's return before. A burst is a run of
    bars beyond the threshold in one direction; its last bar is the anchor, so that a cascade counts once, at its end.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the anchor's open, `known_at` the close of the last quiet bar, `side` against the
        flow, `severity` |flow| of the anchor over `threshold`, both imbalance or both log return as `measure` says.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        bars up to the last quiet one, none of them missing; the threshold ends one bar before the anchor.
    """
    return pl.concat(
        [_of_symbol(bar_grid, grid, params).frame(grid, params.spacing) for bar_grid, grid in view.grids()]
    )


def _of_symbol(bar_grid: SymbolGrid, grid: SymbolGrid, params: ForcedFlow) -> Candidates:
    flow, threshold, is_by_move = _flow(grid.values("taker_imbalance"), grid.values("logret_1"), params.rate)
    direction = np.where((np.abs(flow) > threshold * BEYOND) & (threshold > 0), np.sign(flow), 0.0).astype(np.int64)
    anchor = _anchors(direction, params.quiet_bars)
    anchor = anchor[_is_extreme_of_next(bar_grid, anchor, direction[anchor], params.quiet_bars)]
    known = anchor + params.quiet_bars
    return Candidates(
        onset_us=grid.open_us[anchor],
        known_row=known,
        exit_row=known + params.cooldown_bars,
        side=-direction[anchor],
        severity=np.abs(flow[anchor]) / threshold[anchor],
        threshold=threshold[anchor],
        measure=_measures(is_by_move[anchor]),
    )


def _flow(imbalance: FloatArray, move: FloatArray, rate: float) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return the flow of each bar, its threshold, both by the measure that the data have at that bar, and if by its return."""
    of_takers = _usual(imbalance, rate)
    is_by_move = np.isnan(of_takers)
    n_by_move = int(np.flatnonzero(is_by_move)[-1]) + 1 if is_by_move.any() else 0  # what no bar uses costs nothing
    of_moves = np.full(move.size, np.nan)
    of_moves[:n_by_move] = _usual(move[:n_by_move], rate)
    return np.where(is_by_move, move, imbalance), np.where(is_by_move, of_moves, of_takers), is_by_move


def _measures(is_by_move: BoolArray) -> pl.Series:
    return pl.Series(np.where(is_by_move, Measure.LOG_RETURN.value, Measure.TAKER_IMBALANCE.value), dtype=pl.String)


def _usual(values: FloatArray, rate: float) -> FloatArray:
    return lagged(rolling_quantile(np.abs(values), THRESHOLD_BARS, THRESHOLD_LEAST, 1.0 - rate))


def _anchors(direction: IntArray, quiet_bars: int) -> IntArray:
    ends = direction[:-1] != direction[1:]  # looks one bar ahead; the candidate is known `quiet_bars` ahead
    anchor = np.flatnonzero((direction[:-1] != 0) & ends)
    return anchor[anchor + quiet_bars < direction.size]


def _is_extreme_of_next(bar_grid: SymbolGrid, anchor: IntArray, direction: IntArray, n_bars: int) -> BoolArray:
    highs, lows = bar_grid.values("high"), bar_grid.values("low")
    top, bottom = (
        rolling_max(highs, n_bars, n_bars)[anchor + n_bars],
        rolling_min(lows, n_bars, n_bars)[anchor + n_bars],
    )
    return np.where(direction > 0, top <= highs[anchor], bottom >= lows[anchor])

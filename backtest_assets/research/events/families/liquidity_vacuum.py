"""A vacuum after a sudden move: bars that are wide although little is traded for it; what follows them stays out."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import THRESHOLD_BARS, Candidates, Definition, Spacing
from backtest_assets.research.events.shock import Crossings
from backtest_assets.research.events.strict import BEYOND
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, FloatArray
from backtest_assets.stats.rolling import rolling_median, rolling_quantile
from backtest_assets.stats.scan import first_run_end, lagged

_LEAST_WIDE: Final = 480  # wide bars behind a threshold; at one in twenty, two dozen of them are beyond it


@dataclass(frozen=True, slots=True)
class Vacuum(Definition):
    """Parameters; the rate is that of the move, and of thin bars among wide ones.

    Wide, two in a row and five days are the balanced profile of the earlier pipeline. Its low volume, 0.65 of the median,
    is not: traded value grows with the range, after a move most of all, so that bitcoin had such a run once a year and
    ether never. A bar is held against other wide ones instead. Nor does it set in at the bar after the move only.

    Attributes:
        usual_bars: bars behind what is usual, for volume and range alike: five days [bars].
        wide_ratio: above it a bar's range is wide [times its median].
        least_bars: thin bars in a row that make a vacuum [bars].
        patience_bars: bars after the move within which the vacuum must set in; at once it hardly ever does [bars].
        longest_bars: a vacuum is over after it at the latest [bars].
        rest_bars: least distance of the next event from the end [bars].
    """

    event_type: ClassVar[EventType] = EventType.LIQUIDITY_VACUUM
    version: ClassVar[str] = (
        "vacuum_v3: |logret_1| crosses up its trailing 90-day quantile, and within a day two wide bars in a row trade less "
        "for their range than all but a few of the wide bars of 90 days"
    )
    needs: ClassVar[tuple[str, ...]] = ("logret_1", "volume_quote_ratio_2880", "range_frac")
    measures: ClassVar[tuple[Measure, ...]] = (Measure.VOLUME_QUOTE, Measure.BASE_X_CLOSE)

    rate: float = 0.05
    usual_bars: int = 480
    wide_ratio: float = 1.3
    least_bars: int = 2
    patience_bars: int = 96
    longest_bars: int = 96
    rest_bars: int = 12

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        until = f"a bar that is not thin, at the latest {self.longest_bars} bars after the onset"
        return Spacing(until, rest_bars=self.rest_bars)


def detect(view: MarketView, *, params: Vacuum) -> pl.DataFrame:
    """Find the first run of thin bars after a sudden move; a gap ends a run.

    A bar's depth is its traded value over its range, both over their medians of five days. A wide bar is thin if its depth
    is below what all but a share `rate` of the wide bars of the 90 days before had.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the open of the first thin bar, `known_at` the close of the bar that makes the
        run long enough, `exit_at` the close of the first bar that is not thin, `side` 0, `severity` = |log return| of the
        newest move before the onset over its threshold, `measure` what the traded value of the first thin bar is.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the close of the run's bar number `least_bars`; the thresholds end one bar before the bar that is held against them.
    """
    return pl.concat(
        [
            _of_symbol(_thin(bar_grid, grid, params), grid, params).frame(grid, params.spacing)
            for bar_grid, grid in view.grids()
        ]
    )


def _thin(bar_grid: SymbolGrid, grid: SymbolGrid, params: Vacuum) -> BoolArray:
    width = _over_median(grid.values("range_frac"), params)
    unknown = np.full(width.size, np.nan)
    depth = np.divide(_traded(bar_grid, grid, params), width, out=unknown, where=width > params.wide_ratio)
    usual = lagged(rolling_quantile(depth, THRESHOLD_BARS, _LEAST_WIDE, params.rate))
    return (depth > 0) & (depth * BEYOND < usual)


def _traded(bar_grid: SymbolGrid, grid: SymbolGrid, params: Vacuum) -> FloatArray:
    """Return each bar's traded value over its median, both by the bar's measure."""
    by_price = bar_grid.values("volume_base") * bar_grid.values("close")
    measure = grid.frame["volume_measure"]
    ratio = np.full(by_price.size, np.nan)
    for word, value in ((Measure.VOLUME_QUOTE, bar_grid.values("volume_quote")), (Measure.BASE_X_CLOSE, by_price)):
        is_mine = (measure == word.value).fill_null(value=False).to_numpy()
        if is_mine.any():  # a measure that no bar has costs nothing
            ratio[is_mine] = _over_median(value, params)[is_mine]
    return ratio


def _over_median(values: FloatArray, params: Vacuum) -> FloatArray:
    usual = rolling_median(values, params.usual_bars, params.usual_bars // 3)
    return np.divide(values, usual, out=np.full(values.size, np.nan), where=usual > 0)


def _of_symbol(thin: BoolArray, grid: SymbolGrid, params: Vacuum) -> Candidates:
    move = Crossings.up(np.abs(grid.values("logret_1")), params.rate)
    not_thin = (grid.is_real & ~thin).astype(np.float64)
    first = np.flatnonzero(thin & (lagged(not_thin) > 0))
    newest = np.searchsorted(move.row, first) - 1
    first, newest = first[newest >= 0], newest[newest >= 0]
    known = first + params.least_bars - 1
    is_event = (first_run_end(thin, first - 1, params.least_bars) == known) & (
        first - move.row[newest] <= params.patience_bars
    )
    first, newest, known = first[is_event], newest[is_event], known[is_event]
    end = np.minimum(first_run_end(~thin, known, 1), first + params.longest_bars)
    return Candidates(
        onset_us=grid.open_us[first],
        known_row=known,
        exit_row=end,
        side=np.zeros(first.size, dtype=np.int64),
        severity=move.severity[newest],
        threshold=move.threshold[newest],
        measure=grid.frame["volume_measure"].gather(first),
    )

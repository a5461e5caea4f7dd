"""A vacuum after a sudden move: bars that are wide although little is traded; what follows them stays out."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.shock import Crossings
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, FloatArray
from backtest_assets.stats.rolling import rolling_median
from backtest_assets.stats.scan import first_run_end, lagged

_MONTH: Final = 2_880  # bars behind what is usual, for volume and range alike


@dataclass(frozen=True, slots=True)
class Vacuum(Definition):
    """Parameters: the balanced profile of the earlier pipeline.

    Attributes:
        low_volume: below it a bar's traded value is low [times its 30-day median].
        wide_ratio: above it a bar's range is wide [times its 30-day median].
        least_bars: thin bars in a row that make a vacuum [bars].
        patience_bars: bars after the move within which the vacuum must set in; right after a move volume is high [bars].
        longest_bars: a vacuum is over after it at the latest [bars].
        rest_bars: least distance of the next event from the end [bars].
    """

    event_type: ClassVar[EventType] = EventType.LIQUIDITY_VACUUM
    version: ClassVar[str] = (
        "vacuum_v2: |logret_1| crosses up its trailing 90-day quantile, and within a day bars are wide on low volume"
    )
    needs: ClassVar[tuple[str, ...]] = ("logret_1", "volume_quote_ratio_2880", "range_frac")
    measures: ClassVar[tuple[Measure, ...]] = (Measure.VOLUME_QUOTE, Measure.BASE_X_CLOSE)

    rate: float = 0.05
    low_volume: float = 0.65
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

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the open of the first thin bar, `known_at` the close of the bar that makes the
        run long enough, `exit_at` the close of the first bar that is not thin, `side` 0, `severity` = |log return| of the
        newest move before the onset over its threshold.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the close of the run's bar number `least_bars`; the threshold ends one bar before the move.
    """
    return pl.concat(
        [
            _of_symbol(
                _thin(grid.values("volume_quote_ratio_2880"), grid.values("range_frac"), params), grid, params
            ).frame(grid, params.spacing)
            for _, grid in view.grids()
        ]
    )


def _over_median(values: FloatArray) -> FloatArray:
    usual = rolling_median(values, _MONTH, _MONTH // 3)
    return np.divide(values, usual, out=np.full(values.size, np.nan), where=usual > 0)


def _thin(activity: FloatArray, width: FloatArray, params: Vacuum) -> BoolArray:
    return (activity < params.low_volume) & (_over_median(width) > params.wide_ratio)


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

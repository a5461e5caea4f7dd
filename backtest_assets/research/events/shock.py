"""Sudden bursts: crossings of a trailing quantile, and volatility shocks with their end; what follows them stays out."""

from dataclasses import dataclass

import numpy as np

from backtest_assets.domain.event import Measure
from backtest_assets.research.events.definition import THRESHOLD_BARS, THRESHOLD_LEAST, Candidates, Definition, Spacing
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.rolling import rolling_quantile
from backtest_assets.stats.scan import first_run_end, lagged


@dataclass(frozen=True, slots=True)
class Crossings:
    """Bars on which a series rises through its own trailing quantile; all arrays are (n_crossings,).

    Attributes:
        row: bar of the crossing, ascending.
        threshold: quantile in force, in the unit of the series.
        severity: value over threshold, at least 1.
    """

    row: IntArray
    threshold: FloatArray
    severity: FloatArray

    @classmethod
    def up(cls, values: FloatArray, rate: float) -> "Crossings":
        """Find the bars at or above the threshold whose bar before was below its own.

        Args:
            values: (n_bars,), at least 0; NaN = unknown, and neither it nor the bar after it crosses.
            rate: share of bars beyond the threshold.

        Raises:
            ValueError: if `values` holds an infinity or `rate` lies outside [0, 1].

        Knows:
            values up to the row; the threshold ends one bar before it.
        """
        threshold = lagged(rolling_quantile(values, THRESHOLD_BARS, THRESHOLD_LEAST, 1.0 - rate))
        above = (values >= threshold) & (threshold > 0)
        row = np.flatnonzero(above & (lagged(values) < lagged(threshold)))
        return cls(row, threshold[row], values[row] / threshold[row])


@dataclass(frozen=True, slots=True)
class Shock(Definition):
    """Parameters of a volatility shock.

    Attributes:
        quiet_ratio: at or below it a bar is quiet [times the usual volatility].
        quiet_bars: quiet bars in a row that end the shock [bars].
        rest_bars: least distance of the next onset from the end [bars].
    """

    rate: float = 0.01
    quiet_ratio: float = 1.25
    quiet_bars: int = 3
    rest_bars: int = 12

    @property
    def shock_spacing(self) -> Spacing:
        """The rule for the shocks themselves."""
        until = f"{self.quiet_bars} bars in a row with rv_ratio_288 at or below {self.quiet_ratio:g}"
        return Spacing(until, rest_bars=self.rest_bars)

    def shocks(self, grid: SymbolGrid) -> Candidates:
        """Find the shocks of a symbol: `rv_ratio_288` crosses up, until `quiet_bars` bars in a row are quiet.

        Args:
            grid: the symbol's features.

        Returns:
            One candidate per onset on a real bar; `side` 0, `severity` = ratio over threshold.

        Knows:
            the onset bar's close; the end at the close of its last quiet bar.
        """
        ratio = grid.values("rv_ratio_288")
        onset = Crossings.up(ratio, self.rate)
        real = grid.is_real[onset.row]
        row = onset.row[real]
        end = first_run_end(ratio <= self.quiet_ratio, row, self.quiet_bars)
        return Candidates(
            onset_us=grid.open_us[row],
            known_row=row,
            exit_row=end,
            side=np.zeros(row.size, dtype=np.int64),
            severity=onset.severity[real],
            threshold=onset.threshold[real],
            measure=Measure.VOLATILITY,
        )

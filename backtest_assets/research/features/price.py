"""What a bar's prices tell by themselves: volatility, range, trend and the basis; volume is `liquidity.py`'s."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest_assets.research.features.window import BASE, DAY, HALF_YEAR, MONTH, SHORT
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.scan import lagged

_BPS: Final = 1e4


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one symbol on its unbroken grid, NaN on a gap [quote per base].

    Attributes:
        close: (n_bars,).
        high: (n_bars,).
        low: (n_bars,).
        spot_close: (n_bars,) NaN too where spot is missing.
    """

    close: FloatArray
    high: FloatArray
    low: FloatArray
    spot_close: FloatArray

    def columns(self) -> Mapping[str, FloatArray]:
        """Return the columns of the features table that need prices only."""
        return {
            **self._volatility(),
            **self._range(),
            "trend_ret_96": self.close / lagged(self.close, DAY.n_bars) - 1.0,
            "trend_ret_2880": self.close / lagged(self.close, MONTH.n_bars) - 1.0,
            **self._basis(),
            "coverage_2880": MONTH.coverage(self.close),
        }

    def _volatility(self) -> Mapping[str, FloatArray]:
        logret = np.log(self.close / lagged(self.close))
        rv, sd = np.sqrt(SHORT.mean(logret**2)), DAY.std(logret)
        return {
            "logret_1": logret,
            "rv_12": rv,
            "rv_ratio_288": BASE.over_median(rv),
            "rv_96": sd,
            "rv_pct_2880": MONTH.rank(sd),
            "rv_pct_17280": HALF_YEAR.rank(sd),
        }

    def _range(self) -> Mapping[str, FloatArray]:
        top, bottom = DAY.highest(self.high), DAY.lowest(self.low)
        width = (top - bottom) / self.close
        return {
            "range_frac": (self.high - self.low) / self.close,
            "range_96_frac": width,
            "high_prev_96": lagged(top),
            "low_prev_96": lagged(bottom),
            "compression_ratio": MONTH.over_median(width),
        }

    def _basis(self) -> Mapping[str, FloatArray]:
        basis = (self.close / self.spot_close - 1.0) * _BPS
        return {"basis_bps": basis, "basis_z_96": DAY.z_score(basis)}

"""How much traded, who crossed the spread and how wide it may be; prices by themselves are `price.py`'s."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.research.features.window import DAY, MONTH
from backtest_assets.stats.arrays import BoolArray, FloatArray
from backtest_assets.stats.spread import high_low_spread

_BPS: Final = 1e4


@dataclass(frozen=True, slots=True)
class Liquidity:
    """Prices and volumes of one symbol on its unbroken grid, NaN on a gap.

    Attributes:
        close: (n_bars,) [quote per base].
        high: (n_bars,) [quote per base].
        low: (n_bars,) [quote per base].
        volume_base: (n_bars,) [base].
        volume_quote: (n_bars,) NaN too where the source lacks it [quote].
        taker_buy_base: (n_bars,) NaN too where the source lacks it [base].
    """

    close: FloatArray
    high: FloatArray
    low: FloatArray
    volume_base: FloatArray
    volume_quote: FloatArray
    taker_buy_base: FloatArray

    def columns(self) -> Mapping[str, FloatArray | pl.Series]:
        """Return the columns of the features table that need volume or the range of bars."""
        bought = np.full(self.close.size, np.nan)
        np.divide(self.taker_buy_base, self.volume_base, out=bought, where=self.volume_base > 0)
        imbalance = 2.0 * bought - 1.0
        spread = DAY.mean(high_low_spread(self.high, self.low)) * _BPS
        return {
            **self._volume(),
            "taker_imbalance": imbalance,
            "taker_imbalance_96": DAY.mean(imbalance),
            "spread_est_96_bps": np.where(spread > 0, spread, np.nan),
        }

    def _volume(self) -> Mapping[str, FloatArray | pl.Series]:
        """Compare each bar's traded value with its window's median, both by one measure."""
        by_price = self.volume_base * self.close
        is_quoted = MONTH.has_all(self.volume_quote, by_price)
        ratio = np.full(self.close.size, np.nan)
        for is_mine, value in ((is_quoted, self.volume_quote), (~is_quoted, by_price)):
            if is_mine.any():  # a measure that no window uses costs nothing
                ratio[is_mine] = MONTH.over_median(value)[is_mine]
        return {"volume_quote_ratio_2880": ratio, "volume_measure": _measure(is_quoted, np.isnan(ratio))}


def _measure(is_quoted: BoolArray, is_unknown: BoolArray) -> pl.Series:
    words = pl.when(pl.Series(is_quoted)).then(pl.lit("volume_quote")).otherwise(pl.lit("base_x_close"))
    return pl.select(pl.when(~pl.Series(is_unknown)).then(words)).to_series()

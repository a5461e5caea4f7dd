"""A trailing window of bars together with its stated coverage; what is measured in it belongs to the other modules."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest_assets.stats.arrays import BoolArray, FloatArray
from backtest_assets.stats.rank import rolling_percentile_rank
from backtest_assets.stats.rolling import (
    rolling_count,
    rolling_max,
    rolling_mean,
    rolling_median,
    rolling_min,
    rolling_std,
)

_DAY_BARS: Final = 96


@dataclass(frozen=True, slots=True)
class Window:
    """The bar and the `n_bars` - 1 before it; every statistic is NaN below `least` present values.

    Attributes:
        n_bars: bars of the grid, gaps included [bars].
    """

    n_bars: int

    @property
    def least(self) -> int:
        """Present values needed: two thirds up to a day, a third beyond, where one bad bar must not cost months [bars]."""
        return self.n_bars * 2 // 3 if self.n_bars <= _DAY_BARS else self.n_bars // 3

    def coverage(self, values: FloatArray) -> FloatArray:
        """Return the share of the window that is present, from the first bar on [fraction]."""
        return rolling_count(values, self.n_bars) / self.n_bars

    def has_all(self, part: FloatArray, whole: FloatArray) -> BoolArray:
        """Return where `part` is present wherever `whole` is, over the whole window."""
        missing = np.where(np.isnan(part) & ~np.isnan(whole), 1.0, np.nan)
        return rolling_count(missing, self.n_bars) == 0

    def mean(self, values: FloatArray) -> FloatArray:
        """Return the mean."""
        return rolling_mean(values, self.n_bars, self.least)

    def std(self, values: FloatArray) -> FloatArray:
        """Return the standard deviation (ddof = 1)."""
        return rolling_std(values, self.n_bars, self.least)

    def highest(self, values: FloatArray) -> FloatArray:
        """Return the largest value."""
        return rolling_max(values, self.n_bars, self.least)

    def lowest(self, values: FloatArray) -> FloatArray:
        """Return the smallest value."""
        return rolling_min(values, self.n_bars, self.least)

    def rank(self, values: FloatArray) -> FloatArray:
        """Return the percentile rank of the bar's own value, itself included, ties averaged [fraction in (0, 1]]."""
        return rolling_percentile_rank(values, self.n_bars, self.least)

    def over_median(self, values: FloatArray) -> FloatArray:
        """Return the bar's value over the median; NaN where that is 0 [1]."""
        return _over(values, rolling_median(values, self.n_bars, self.least))

    def z_score(self, values: FloatArray) -> FloatArray:
        """Return the bar's distance from the mean in standard deviations; NaN where these are 0 [sigma]."""
        return _over(values - self.mean(values), self.std(values))

    def whole_sum(self, values: FloatArray) -> FloatArray:
        """Return the sum, NaN unless every bar is present: a sum over a part would pass for less than there was."""
        return rolling_mean(values, self.n_bars, self.n_bars) * self.n_bars


SHORT: Final = Window(12)
"""Three hours: the present."""
DAY: Final = Window(_DAY_BARS)
"""A day: what the time of day cannot change."""
BASE: Final = Window(288)
"""Three days: what is usual."""
MONTH: Final = Window(2_880)
"""Thirty days: what is normal."""
HALF_YEAR: Final = Window(17_280)
"""180 days: what a regime is."""


def _over(value: FloatArray, base: FloatArray) -> FloatArray:
    return np.divide(value, base, out=np.full(value.size, np.nan), where=base > 0)

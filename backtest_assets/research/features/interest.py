"""Open interest and liquidations beside each bar: how much is held, how it changed, how much was forced out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest_assets.research.features.window import DAY
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.scan import lagged

_HOUR_BARS: Final = 4


@dataclass(frozen=True, slots=True)
class Interest:
    """Positioning of one symbol on its unbroken grid, NaN where it is not known.

    Attributes:
        open_interest_base: (n_bars,) [base].
        open_interest_quote: (n_bars,) [quote].
        liquidated_long_quote: (n_bars,) [quote].
        liquidated_short_quote: (n_bars,) [quote].
    """

    open_interest_base: FloatArray
    open_interest_quote: FloatArray
    liquidated_long_quote: FloatArray
    liquidated_short_quote: FloatArray

    def columns(self) -> Mapping[str, FloatArray]:
        """Return the columns of the features table that need positioning."""
        held = np.log(np.where(self.open_interest_base > 0, self.open_interest_base, np.nan))
        return {
            "open_interest_quote": self.open_interest_quote,
            "open_interest_log_change_4": held - lagged(held, _HOUR_BARS),
            "open_interest_log_change_96": held - lagged(held, DAY.n_bars),
            "liquidated_long_quote": self.liquidated_long_quote,
            "liquidated_short_quote": self.liquidated_short_quote,
            "liquidated_long_quote_96": DAY.whole_sum(self.liquidated_long_quote),
            "liquidated_short_quote_96": DAY.whole_sum(self.liquidated_short_quote),
        }

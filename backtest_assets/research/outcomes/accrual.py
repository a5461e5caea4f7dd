"""A hold's profit split by UTC day, marked at each midnight; the whole hold's numbers stay in `measure`."""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, DAY_US
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.funding import FundingPath
from backtest_assets.stats.scan import next_present

_BPS: Final = 1e4


def accruals(
    first_us: int, price: FloatArray, path: FundingPath, entry: IntArray, exit_: IntArray
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Split holds by UTC day.

    A day's mark is the first open at or after its midnight. A settlement belongs to the day of its instant, so an exit
    at midnight on which funding is paid touches the new day with share 0.

    Args:
        first_us: open of row 0 [us].
        price: (n_bars,) opens, NaN on gaps [quote per base].
        path: the symbol's settlements.
        entry: (n_holds,) row of the entry, a real bar.
        exit_: (n_holds,) row of the exit, a real bar after it.

    Returns:
        Lists per hold: `accrual_day`, `accrual_bps` (long gross minus funding), `accrual_share` (of the hold's bars).

    Knows:
        opens and settlements up to each exit.
    """
    entered_us, exited_us = first_us + entry * BAR_US, first_us + exit_ * BAR_US
    first_day, last_day = entered_us // DAY_US, (exited_us - 1) // DAY_US
    at_midnight = (exited_us % DAY_US == 0) & (path.between(exited_us - 1, exited_us) != 0)
    n_days = last_day - first_day + 1 + at_midnight
    hold = np.repeat(np.arange(entry.size), n_days)
    day = first_day[hold] + np.arange(hold.size) - np.repeat(np.cumsum(n_days) - n_days, n_days)
    midnight_us = day * DAY_US
    next_midnight_us = midnight_us + DAY_US
    begin = (np.maximum(midnight_us, entered_us[hold]) - first_us) // BAR_US
    end = (np.minimum(next_midnight_us, exited_us[hold]) - first_us) // BAR_US
    mark = np.minimum(next_present(price)[np.stack([begin, end])], exit_[hold])
    paid = path.between(
        np.maximum(entered_us[hold], midnight_us - 1), np.minimum(exited_us[hold], next_midnight_us - 1)
    )
    unit = _BPS / price[entry][hold]
    bps = (price[mark[1]] - price[mark[0]]) * unit - paid * unit
    share = (end - begin) / (exit_ - entry)[hold]
    lists = (
        pl.DataFrame({"hold": hold, "accrual_day": day, "accrual_bps": bps, "accrual_share": share})
        .with_columns(pl.col("accrual_day").cast(pl.Int32).cast(pl.Date))
        .group_by("hold", maintain_order=True)
        .agg("accrual_day", "accrual_bps", "accrual_share")
    )
    return lists["accrual_day"], lists["accrual_bps"], lists["accrual_share"]

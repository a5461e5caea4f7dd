"""Whether funding has stayed extreme: a state that settlements decide, known only once it has lasted."""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, HOUR_US
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.rank import share_below

WINDOW: Final = 90
"""Earlier settlements that a rate is compared with: 30 days at 8 hours [settlements]."""
LEAST: Final = 30
"""Of these, those needed; below, the state is not known [settlements]."""
HIGH_SHARE: Final = 0.85
"""Share of them that must be strictly smaller in size, so that a rate that stands still is never extreme [fraction]."""
RUN: Final = 3
"""Extreme settlements in a row that make the state: a day at 8 hours [settlements]."""

_SCHEMA: Final = {
    "symbol": pl.String(),
    "settled_at": pl.Datetime("us", "UTC"),
    "known_at": pl.Datetime("us", "UTC"),
    "is_funding_persistent": pl.Boolean(),
    "persistent_since": pl.Datetime("us", "UTC"),
    "funding_persistence_severity": pl.Float64(),
}


def funding_persistence(funding: pl.DataFrame) -> pl.DataFrame:
    """Say at every settlement whether funding is persistently extreme.

    It is when this settlement and the two before it each have a rate (per 8 hours) larger in size than `HIGH_SHARE` of the
    `WINDOW` settlements before them, all of one sign and none missing in between; it is over with the first settlement of
    which that does not hold. What comes before a missing settlement does not count.

    Args:
        funding: rows of `settlements_um`, any symbols, in any order; only instant, rate and interval are read.

    Returns:
        One row per settlement, by symbol and instant: `is_funding_persistent`, null below `LEAST` earlier settlements;
        `persistent_since` [UTC], the first extreme settlement of the run, null unless persistent;
        `funding_persistence_severity` [fraction], the share beyond `HIGH_SHARE`, 0 while not persistent, null likewise.

    Knows:
        settlements with settled_at <= the row's settled_at.
    """
    groups = funding.sort("symbol", "settled_at").partition_by("symbol", maintain_order=True)
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *(_of_symbol(rows) for rows in groups)])


def _of_symbol(rows: pl.DataFrame) -> pl.DataFrame:
    settled = rows["settled_at"].dt.epoch("us").to_numpy()
    interval_h = rows["funding_interval_h"].cast(pl.Float64).to_numpy()
    rate = rows["funding_rate"].cast(pl.Float64).to_numpy() * 8.0 / interval_h
    share = share_below(np.abs(rate), WINDOW, LEAST)
    is_extreme = share >= HIGH_SHARE
    begin = _run_begin(is_extreme, _continues(settled, interval_h, np.sign(rate)))
    is_active = is_extreme & (np.arange(begin.size) - begin >= RUN - 1)
    is_known = pl.Series(~np.isnan(share))
    made = pl.DataFrame(
        {
            "is_funding_persistent": is_active,
            "persistent_since": rows["settled_at"].gather(begin),
            "funding_persistence_severity": np.where(is_active, share - HIGH_SHARE, 0.0),
        }
    )
    return rows.select("symbol", "settled_at", known_at="settled_at").with_columns(
        made.select(
            pl.when(is_known).then("is_funding_persistent").alias("is_funding_persistent"),
            pl.when("is_funding_persistent").then("persistent_since").alias("persistent_since"),
            pl.when(is_known).then("funding_persistence_severity").alias("funding_persistence_severity"),
        )
    ).select(_SCHEMA.keys())  # fmt: skip


def _continues(settled: IntArray, interval_h: FloatArray, sign: FloatArray) -> BoolArray:
    """Return which settlements follow the one before on time and with its sign."""
    is_next = np.diff(settled, prepend=settled[:1]) <= interval_h * HOUR_US + BAR_US
    return is_next & (sign == np.concatenate([sign[:1], sign[:-1]]))


def _run_begin(is_extreme: BoolArray, continues: BoolArray) -> IntArray:
    """Return where the run of extreme settlements began that each one belongs to; itself where it belongs to none."""
    at = np.arange(is_extreme.size, dtype=np.int64)
    goes_on = is_extreme & continues & np.concatenate([[False], is_extreme[:-1]])
    return np.maximum.accumulate(np.where(goes_on, 0, at))

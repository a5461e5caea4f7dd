"""The features table: what every bar's close tells about volatility, range, trend, basis and funding.

Windows count bars of the grid and tolerate gaps: up to 96 bars they need two thirds of their bars, longer ones a third
(`_least`). Below that, and where an ingredient is missing, a value is null, never 0.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.research.bars.settlements import funding_as_of
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.rank import rolling_percentile_rank
from backtest_assets.stats.rolling import (
    rolling_count,
    rolling_max,
    rolling_mean,
    rolling_median,
    rolling_min,
    rolling_std,
)
from backtest_assets.stats.scan import lagged
from backtest_assets.tables.features import FEATURES

_SHORT: Final = 12  # three hours: the present
_DAY: Final = 96
_BASE: Final = 288  # three days: what is usual
_MONTH: Final = 2_880  # thirty days: what is normal
_BPS: Final = 1e4
_KEY: Final = ("symbol", "open_at", "known_at", "is_gap")


def build_features(bars: pl.DataFrame, spot_bars: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    """Compute the features of every bar.

    Args:
        bars: rows of `bars_um`, all symbols of the run, window and warm-up.
        spot_bars: rows of `bars_spot`; where they are missing the basis is null.
        funding: rows of `settlements_um`; a settlement counts from `settled_at` until its own interval plus one bar is over.

    Returns:
        One row per bar in the columns of `tables/features.py`.

    Raises:
        TableError: if a symbol's bars leave out an instant of the grid.

    Knows:
        bars with known_at, and settlements with settled_at, up to the row's known_at.
    """
    spot = spot_bars.select("symbol", "open_at", spot_close="close")
    frames = [
        _of_symbol(SymbolGrid(grid.symbol, grid.first_us, _beside(grid.frame, spot, funding)))
        for grid in SymbolGrid.each(bars, "bars_um")
    ]
    return FEATURES.conform(pl.concat(frames) if frames else FEATURES.empty())


def _beside(bars: pl.DataFrame, spot: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    return funding_as_of(bars.join(spot, on=["symbol", "open_at"], how="left", maintain_order="left"), funding)


def _of_symbol(grid: SymbolGrid) -> pl.DataFrame:
    close, high, low = (grid.values(name) for name in ("close", "high", "low"))
    columns = {
        **_volatility(close),
        **_range(close, high, low),
        **_basis(close, grid.values("spot_close")),
        "trend_ret_96": close / lagged(close, _DAY) - 1.0,
        "coverage_2880": rolling_count(close, _MONTH) / _MONTH,
    }
    funding = ("funding_rate", "funding_rate_8h", "funding_age_h", "funding_settled_at")
    return grid.frame.select(
        *_KEY, *funding, *(pl.Series(name, values, nan_to_null=True) for name, values in columns.items())
    )


def _volatility(close: FloatArray) -> Mapping[str, FloatArray]:
    logret = np.log(close / lagged(close))
    rv = np.sqrt(rolling_mean(logret**2, _SHORT, _least(_SHORT)))
    sd = rolling_std(logret, _DAY, _least(_DAY))
    return {
        "logret_1": logret,
        "rv_12": rv,
        "rv_ratio_288": _over(rv, rolling_median(rv, _BASE, _least(_BASE))),
        "rv_96": sd,
        "rv_pct_2880": rolling_percentile_rank(sd, _MONTH, _least(_MONTH)),
    }


def _range(close: FloatArray, high: FloatArray, low: FloatArray) -> Mapping[str, FloatArray]:
    top, bottom = rolling_max(high, _DAY, _least(_DAY)), rolling_min(low, _DAY, _least(_DAY))
    width = (top - bottom) / close
    return {
        "range_96_frac": width,
        "high_prev_96": lagged(top),
        "low_prev_96": lagged(bottom),
        "compression_ratio": _over(width, rolling_median(width, _MONTH, _least(_MONTH))),
    }


def _basis(close: FloatArray, spot_close: FloatArray) -> Mapping[str, FloatArray]:
    basis = (close / spot_close - 1.0) * _BPS
    mean, sd = rolling_mean(basis, _DAY, _least(_DAY)), rolling_std(basis, _DAY, _least(_DAY))
    return {"basis_bps": basis, "basis_z_96": _over(basis - mean, sd)}


def _least(window: int) -> int:
    return window * 2 // 3 if window <= _DAY else window // 3


def _over(value: FloatArray, base: FloatArray) -> FloatArray:
    return np.divide(value, base, out=np.full(value.size, np.nan), where=base > 0)

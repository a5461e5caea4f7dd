"""Bars worked out once more from raw klines, by another way than `clean_klines`: cells of an array, no groups."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import BAR, MICROSECOND, epoch_us
from backtest_assets.gates.ask import Measured
from backtest_assets.gates.gate import MAX_EXAMPLES, Evidence
from backtest_assets.gates.rows import bar_span

_PRICES: Final = ("open", "high", "low", "close")
_SUMS: Final = ("volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
_ROUNDING: Final = 1e-9  # relative; sums in another order differ by some 1e-15 per term
_MINUTE: Final = timedelta(minutes=1)


def not_as_raw(evidence: Evidence, *, raw_table: str) -> Measured:
    """Return how many bars are not what the raw klines make of them [bars]; NaN if nothing can be compared.

    A complete bucket must be a bar of first, highest, lowest and last price and of sums; an incomplete one must be a gap
    without values. Prices must be equal to the bit, sums up to rounding.
    """
    raw = evidence.inputs[raw_table]
    lengths = raw["interval_min"].unique().to_list()
    if len(lengths) != 1 or BAR % (lengths[0] * _MINUTE):
        return float("nan"), f"{raw_table} has {raw.height} klines of the lengths {lengths}; nothing to compare"
    start, end = bar_span(evidence, raw)
    rebuilt, contradicted = _rebuilt(raw, start, end, lengths[0] * _MINUTE)
    found, doubled = _cells(evidence.frame, (*_PRICES, *_SUMS, "is_gap"), start, end, BAR)
    gap = np.isnan(rebuilt[0])
    same = _same(found[:-1], rebuilt) & (found[-1] == gap) & ~contradicted & ~doubled
    wrong = np.flatnonzero(~same)
    if not len(gap):
        return float("nan"), "no bar is expected in this month, but rows are there"
    shown = pl.DataFrame(
        {
            "open_at": [start + int(cell) * BAR for cell in wrong[:MAX_EXAMPLES]],
            "close": found[3][wrong[:MAX_EXAMPLES]],
            "close_raw": rebuilt[3][wrong[:MAX_EXAMPLES]],
        }
    ).fill_nan(None)
    return len(wrong), f"{len(wrong)} of {len(gap)} bars are not what {raw_table} makes of them", shown


def _rebuilt(
    klines: pl.DataFrame, start: datetime, end: datetime, step: timedelta
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    cells, doubled = _cells(klines, (*_PRICES, *_SUMS), start, end, step)
    n_parts = BAR // step
    parts = cells.reshape(len(cells), -1, n_parts)
    prices = (parts[0, :, 0], parts[1].max(axis=1), parts[2].min(axis=1), parts[3, :, -1])  # NaN in a part stays NaN
    bars = np.vstack([*prices, *(parts[len(_PRICES) :].sum(axis=2))])
    bars[:, ~np.isfinite(parts[: len(_PRICES)]).all(axis=(0, 2))] = np.nan
    return bars, np.logical_or.reduce(doubled.reshape(-1, n_parts), axis=1)


def _cells(
    frame: pl.DataFrame, names: tuple[str, ...], start: datetime, end: datetime, step: timedelta
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Lay rows into cells of `step` from start to end: values by name and cell, NaN for null; cells with two contents."""
    width, n_cells = step // MICROSECOND, (end - start) // step
    offset = frame["open_at"].to_physical().to_numpy() - epoch_us(start)
    values = np.vstack([frame[name].cast(pl.Float64()).to_numpy() for name in names])
    doubled = np.zeros(n_cells, dtype=np.bool_)
    if np.array_equal(offset, np.arange(n_cells) * width):
        return values, doubled
    inside = (offset % width == 0) & (offset >= 0) & (offset < n_cells * width)
    cell, values = (offset[inside] // width).astype(np.int64), values[:, inside]
    laid = np.full((len(names), n_cells), np.nan)
    laid[:, cell] = values
    doubled[cell[~_same(laid[:, cell], values, rounding=0.0)]] = True
    return laid, doubled


def _same(left: NDArray[np.float64], right: NDArray[np.float64], rounding: float = _ROUNDING) -> NDArray[np.bool_]:
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    if not equal.all():
        sums = slice(len(_PRICES), None)
        equal[sums] |= np.abs(left[sums] - right[sums]) <= rounding * np.abs(right[sums])
    return equal.all(axis=0)

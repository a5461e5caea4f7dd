"""Whether rows made once more are the stored ones; whether they knew the future is asked in `foresight.py`.

Values are compared column by column, without a join and without a second wide frame: a table of every bar is large.
"""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.gates.ask import differing

_KEY: Final = ("symbol", "open_at")
_TOLERANCE: Final = 1e-9  # relative; sums in another order differ by some 1e-13


def unlike(stored: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """Return the keys of stored rows that another making of them does not give, or gives otherwise; a null key is one.

    Args:
        stored: rows by symbol and open_at.
        again: the same rows made once more, with some of the columns of `stored`.

    Returns:
        The key and `differs`: of the first row of each column what was stored and what came again; those rows first, the
        others without a text.
    """
    stored = stored.select(again.columns)
    if not all(stored[name].equals(again[name], null_equal=True) for name in _KEY):
        return differing(stored, again, _KEY)
    is_unlike = np.logical_or.reduce([stored[name].is_null().to_numpy() for name in _KEY])
    told: dict[int, list[str]] = {}
    for name in again.columns:
        if not stored[name].equals(again[name], null_equal=True):
            rows = ~is_same(stored[name], again[name])
            is_unlike |= rows
            for row in np.flatnonzero(rows)[:1].tolist():
                told.setdefault(row, []).append(f"{name} {_text(stored[name][row])} -> {_text(again[name][row])}")
    at = np.flatnonzero(is_unlike)
    texts = pl.DataFrame(
        {"_row": list(told), "differs": [", ".join(parts) for parts in told.values()]},
        schema={"_row": pl.Int64, "differs": pl.String},
    )
    rows = stored.select(_KEY)[at].with_columns(_row=pl.Series(at))
    return _told_first(rows.join(texts, on="_row", how="left", maintain_order="left").drop("_row"))


def _told_first(rows: pl.DataFrame) -> pl.DataFrame:
    """Put the rows that show what is wrong where a verdict's examples are taken from."""
    return rows.sort(pl.col("differs").is_null(), maintain_order=True)


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def is_same(left: pl.Series, right: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return where two columns of the same rows agree, beyond rounding; null agrees with null only."""
    if not left.dtype.is_float():
        return left.eq_missing(right).to_numpy()
    mine, other = left.to_numpy(), right.to_numpy()
    near = np.abs(mine - other) <= _TOLERANCE * (1.0 + np.abs(mine))
    return near | (left.is_null() & right.is_null()).to_numpy()

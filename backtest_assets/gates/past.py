"""Whether rows made once more are the stored ones, and whether their past was known in the past.

Values are compared column by column, without a join and without a second wide frame: a table of every bar is large.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.gates.ask import cuts, differing
from backtest_assets.gates.gate import Evidence

_KEY: Final = ("symbol", "open_at")
_TOLERANCE: Final = 1e-9  # relative; sums in another order differ by some 1e-13


def unlike(stored: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """Return the keys of stored rows that another making of them does not give, or gives otherwise; a null key is one.

    Args:
        stored: rows by symbol and open_at.
        again: the same rows made once more, with some of the columns of `stored`.
    """
    stored = stored.select(again.columns)
    if not all(stored[name].equals(again[name], null_equal=True) for name in _KEY):
        return differing(stored, again, _KEY)
    is_unlike = np.logical_or.reduce([stored[name].is_null().to_numpy() for name in _KEY])
    for name in again.columns:
        if not stored[name].equals(again[name], null_equal=True):
            is_unlike |= ~_same(stored[name], again[name])
    return stored.select(_KEY).filter(pl.Series(is_unlike))


def changed_past(
    evidence: Evidence, symbols: Sequence[str], rebuild: Callable[[pl.Expr, datetime], pl.DataFrame]
) -> pl.DataFrame:
    """Return the keys of rows that the data known at two earlier instants do not give.

    Args:
        evidence: the stored rows, with `symbol` and `known_at`.
        symbols: the symbols that must have rows.
        rebuild: makes the table from what one symbol's data (the filter) were at an instant.
    """
    frame = evidence.frame
    found: list[pl.DataFrame] = [frame.select(_KEY).filter(~pl.col("symbol").is_in(list(symbols)))]
    for cut in cuts(frame["known_at"]):
        for symbol in symbols:
            mine = pl.col("symbol") == symbol
            past = frame.lazy().filter(mine & (pl.col("known_at") <= cut))
            again = rebuild(mine, cut)
            if not past.select(_KEY).collect().equals(again.select(_KEY)):
                found.append(differing(past.collect(), again, _KEY))
                continue
            for name in again.columns:
                column = past.select(*dict.fromkeys((*_KEY, name))).collect()
                found.append(unlike(column, again.select(column.columns)))
    return pl.concat(found).unique()


def _same(left: pl.Series, right: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not left.dtype.is_float():
        return left.eq_missing(right).to_numpy()
    mine, other = left.to_numpy(), right.to_numpy()
    near = np.abs(mine - other) <= _TOLERANCE * (1.0 + np.abs(mine))
    return near | (left.is_null() & right.is_null()).to_numpy()

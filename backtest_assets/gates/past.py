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
            rows = ~_same(stored[name], again[name])
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


def changed_past(
    evidence: Evidence, symbols: Sequence[str], rebuild: Callable[[pl.Expr, datetime], pl.DataFrame]
) -> pl.DataFrame:
    """Return the keys of rows that the data known at two earlier instants do not give, and what differs, as `unlike` does.

    Args:
        evidence: the stored rows, with `symbol` and `known_at`.
        symbols: the symbols that must have rows.
        rebuild: makes the table from what one symbol's data (the filter) were at an instant.
    """
    frame = evidence.frame
    strange = frame.select(_KEY).filter(~pl.col("symbol").is_in(list(symbols)))
    found = [strange.with_columns(differs=pl.lit("its symbol has no data"))]
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
    texts = pl.col("differs").drop_nulls().unique(maintain_order=True).str.join(", ")
    rows = pl.concat(found).group_by(_KEY, maintain_order=True).agg(texts)
    return _told_first(rows.with_columns(pl.when(pl.col("differs") != "").then("differs")))


def _told_first(rows: pl.DataFrame) -> pl.DataFrame:
    """Put the rows that show what is wrong where a verdict's examples are taken from."""
    return rows.sort(pl.col("differs").is_null(), maintain_order=True)


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _same(left: pl.Series, right: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if not left.dtype.is_float():
        return left.eq_missing(right).to_numpy()
    mine, other = left.to_numpy(), right.to_numpy()
    near = np.abs(mine - other) <= _TOLERANCE * (1.0 + np.abs(mine))
    return near | (left.is_null() & right.is_null()).to_numpy()

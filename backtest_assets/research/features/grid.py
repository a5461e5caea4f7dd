"""One symbol's rows on an unbroken 15-minute grid, so that a row number is a time; what is computed on it stays out."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US
from backtest_assets.errors import TableError
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class SymbolGrid:
    """Rows of one symbol; row i opens at `first_us + i * BAR_US` and is known one bar later.

    Attributes:
        symbol: instrument.
        first_us: open of row 0 [us].
        frame: the rows, by `open_at`.
    """

    symbol: str
    first_us: int
    frame: pl.DataFrame

    @classmethod
    def each(cls, frame: pl.DataFrame, name: str) -> Iterator["SymbolGrid"]:
        """Split a frame by symbol, in the order of the symbols' names.

        Args:
            frame: rows with `symbol` and `open_at`, in any order.
            name: the frame's table, for the message.

        Raises:
            TableError: if a symbol's rows leave out or repeat an instant of the 15-minute grid.
        """
        for symbol, rows in sorted(_by_symbol(frame), key=itemgetter(0)):
            ordered = rows if rows["open_at"].is_sorted() else rows.sort("open_at")
            opens = _microseconds(ordered["open_at"])
            breaks = np.flatnonzero(np.diff(opens) != BAR_US)
            if breaks.size:
                message = (
                    f"table {name}, symbol {symbol}: the 15-minute grid breaks after {ordered['open_at'][int(breaks[0])]}; "
                    "a gap must be an explicit row: materialise the months in between"
                )
                raise TableError(message)
            yield cls(symbol, int(opens[0]), ordered)

    @classmethod
    def pairs(cls, bars: pl.DataFrame, features: pl.DataFrame) -> Iterator[tuple["SymbolGrid", "SymbolGrid"]]:
        """Split bars and their features by symbol, row i of one being row i of the other.

        Raises:
            TableError: if both do not cover the same symbols and instants.
        """
        grids = list(cls.each(bars, "bars_um")), list(cls.each(features, "features"))
        spans = tuple([(grid.symbol, grid.first_us, grid.height) for grid in side] for side in grids)
        if spans[0] != spans[1]:
            message = (
                f"features and bars_um do not cover the same rows: {spans[1]} against {spans[0]}; rebuild features"
            )
            raise TableError(message)
        yield from zip(*grids, strict=True)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.frame.height

    @property
    def open_us(self) -> IntArray:
        """When each row opens [us]."""
        return self.first_us + np.arange(self.height, dtype=np.int64) * BAR_US

    @property
    def known_us(self) -> IntArray:
        """When each row is known: its close [us]."""
        return self.open_us + BAR_US

    @property
    def is_real(self) -> BoolArray:
        """Which rows are bars and not gaps."""
        return ~self.frame["is_gap"].to_numpy()

    def values(self, column: str) -> FloatArray:
        """Return a numeric column with NaN for null."""
        return self.frame[column].cast(pl.Float64).to_numpy()

    def row_opening_at(self, at_us: IntArray) -> IntArray:
        """Return the row that opens at or last before each instant; may lie outside [0, height)."""
        return (at_us - self.first_us) // BAR_US

    def row_known_at(self, at_us: IntArray) -> IntArray:
        """Return the newest row that is known at each instant; may lie outside [0, height)."""
        return self.row_opening_at(at_us) - 1


def _by_symbol(frame: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Split by symbol, without a copy where each symbol's rows lie together, as in every conformed table."""
    runs = frame["symbol"].rle().struct.unnest()
    if runs["value"].n_unique() < runs.height:
        return [(str(symbol), rows) for (symbol,), rows in frame.partition_by("symbol", as_dict=True).items()]
    first = runs["len"].cum_sum() - runs["len"]
    return [
        (str(symbol), frame.slice(start, n))
        for symbol, start, n in zip(runs["value"], first.to_list(), runs["len"].to_list(), strict=True)
    ]


def _microseconds(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()

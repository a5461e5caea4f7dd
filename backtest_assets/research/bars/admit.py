"""The door of raw rows: whose they are, and each of them once; what they are worth is asked by the gates."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from backtest_assets.domain.clock import BAR, MICROSECOND, month_end, month_start
from backtest_assets.domain.exchange import KLINE_MINUTES
from backtest_assets.errors import TableError
from backtest_assets.tables.contract import Table


@dataclass(frozen=True, slots=True)
class RawRows:
    """Raw rows of one table that may be worked with.

    Attributes:
        table: contract of the rows; the second column of its key is their instant.
    """

    table: Table

    def once(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Return every row once, in key order.

        Raises:
            TableError: if rows of one key contradict each other; rows that repeat each other exactly count once.
        """
        rows = self.table.conform(raw)
        if rows.height == rows.select(pl.struct(self.table.key).n_unique()).item():
            return rows
        return self._unrepeated(rows)

    def of_month(self, raw: pl.DataFrame, *, symbol: str, month: str) -> pl.DataFrame:
        """Return the rows of a symbol and a month `YYYY-MM`, every one once, in key order.

        Raises:
            TableError: if a row is of another symbol or month, or contradicts another row of its key.
        """
        rows = self.table.conform(raw)
        self._refuse_strangers(rows, symbol, month)
        # One symbol's rows are sorted by their instant: counting its values is cheaper than comparing whole rows.
        is_instant_a_key = self.table.key == ("symbol", self._instant)
        if is_instant_a_key and rows[self._instant].n_unique() == rows.height:
            return rows
        return self._unrepeated(rows)

    def klines(self, raw: pl.DataFrame, *, symbol: str, month: str) -> tuple[pl.DataFrame, timedelta]:
        """Return the klines of a symbol and a month, every one once, and how long they are; a bar if there are none.

        Raises:
            TableError: if a kline is of another symbol or month, off the grid of its own length, of another length than
                1, 5 or 15 minutes or than the others, or contradicts another kline of its open.
        """
        rows = self.of_month(raw, symbol=symbol, month=month)
        lengths = rows["interval_min"].unique().to_list()
        if not lengths:
            return rows, BAR
        if len(lengths) > 1 or lengths[0] not in KLINE_MINUTES:
            message = (
                f"{self.table.name} {symbol} {month}: klines are {', '.join(map(str, lengths))} minutes long; a month must "
                f"have one length of {KLINE_MINUTES}: ingest the month again with one interval"
            )
            raise TableError(message)
        length = timedelta(minutes=lengths[0])
        off = rows["open_at"].filter(rows["open_at"].to_physical() % (length // MICROSECOND) != 0)
        if len(off):
            message = (
                f"{self.table.name} {symbol} {month}: {len(off)} klines are off the {lengths[0]}-minute grid, "
                f"first at {off[0]}; ingest the month again"
            )
            raise TableError(message)
        return rows, length

    @property
    def _instant(self) -> str:
        return self.table.key[1]

    def _refuse_strangers(self, rows: pl.DataFrame, symbol: str, month: str) -> None:
        # In key order the ends tell of all rows: nulls and smaller values come first, greater ones last.
        start, end = month_start(month), month_end(month)
        of, at = rows["symbol"], rows[self._instant]
        if all(of[i] == symbol and at[i] is not None and start <= at[i] < end for i in (0, -1) if rows.height):
            return
        own = (pl.col("symbol") == symbol) & pl.col(self._instant).is_between(start, end, closed="left")
        strangers = rows.filter(~own.fill_null(value=False))
        message = (
            f"{self.table.name} {symbol} {month}: {strangers.height} rows are of another symbol or outside the month, "
            f"first {strangers['symbol'][0]} at {strangers[self._instant][0]}; ingest the month again"
        )
        raise TableError(message)

    def _unrepeated(self, rows: pl.DataFrame) -> pl.DataFrame:
        distinct = rows.unique(maintain_order=True)
        twice = distinct.filter(pl.struct(self.table.key).is_duplicated())
        if not twice.is_empty():
            symbol, at = twice.select(self.table.key[:2]).row(0)
            count = twice.select(pl.struct(self.table.key).n_unique()).item()
            message = (
                f"{self.table.name} {symbol}: {count} instants have rows that contradict each other, first at {at}; "
                "nothing says which is right: mend the source and ingest the month again"
            )
            raise TableError(message)
        return distinct

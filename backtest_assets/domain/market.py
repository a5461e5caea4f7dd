"""Markets, symbols, listings and the partition of a table; how to store or fetch them stays out."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from backtest_assets.domain.clock import month_start
from backtest_assets.errors import UsageError

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Market(StrEnum):
    """Where an instrument trades: USD-M perpetual futures or spot."""

    UM = "um"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Listing:
    """When an instrument traded.

    Attributes:
        listed_at: its first instant of trading.
        delisted_at: the first instant after its last; None while it trades.
    """

    listed_at: datetime
    delisted_at: datetime | None = None

    def within(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Return the part of [start, end) in which it traded; start and end coincide if it did not."""
        first = min(max(start, self.listed_at), end)
        last = end if self.delisted_at is None else max(min(end, self.delisted_at), first)
        return first, last


def parse_symbols(text: str) -> tuple[str, ...]:
    """Split a comma list of symbols: upper case, first mention kept, order kept (R5).

    >>> parse_symbols("btcusdt, ETHUSDT,BTCUSDT")
    ('BTCUSDT', 'ETHUSDT')

    Raises:
        UsageError: if the list is empty or a name has characters outside A-Z and 0-9.
    """
    symbols = tuple(dict.fromkeys(part.strip().upper() for part in text.split(",") if part.strip()))
    if not symbols:
        message = "symbols: the list is empty; give at least one, for example --symbols BTCUSDT,ETHUSDT"
        raise UsageError(message)
    for symbol in symbols:
        if _SYMBOL.fullmatch(symbol) is None:
            message = f"symbols: {symbol!r} is not a symbol; use 2 to 20 letters and digits, for example BTCUSDT"
            raise UsageError(message)
    return symbols


def check_run_id(run_id: str) -> str:
    """Return `run_id` unchanged if it may name a run (system.md section 3).

    Raises:
        UsageError: if it does not match `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`.
    """
    if _RUN_ID.fullmatch(run_id) is None:
        message = (
            f"run_id {run_id!r} cannot name a run: start with a letter or digit, then up to 63 letters, digits, "
            "'_', '.' or '-'; for example --run_id BTC_ETH_2024"
        )
        raise UsageError(message)
    return run_id


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one table: (symbol, month) in the market layer, (run_id,) in the research layer.

    Attributes:
        keys: dimension name and value, in path order.
    """

    keys: tuple[tuple[str, str], ...]

    @classmethod
    def of_month(cls, symbol: str, month: str) -> "Partition":
        """Return the market partition of a symbol and a month `YYYY-MM`."""
        month_start(month)
        (checked,) = parse_symbols(symbol)
        return cls((("symbol", checked), ("month", month)))

    @classmethod
    def of_run(cls, run_id: str) -> "Partition":
        """Return the research partition of a run."""
        return cls((("run_id", check_run_id(run_id)),))

    @property
    def label(self) -> str:
        """Dagster's text of the partition key: `month|symbol` (dimensions sorted by name) or the run_id."""
        return "|".join(value for _, value in sorted(self.keys))

    def __getitem__(self, dimension: str) -> str:
        return dict(self.keys)[dimension]

    def __str__(self) -> str:
        return "/".join(f"{name}={value}" for name, value in self.keys)

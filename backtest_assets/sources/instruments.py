"""A folder's own declaration of when its instruments traded, `instruments.csv`; what follows from it stays out.

Columns `symbol,market,listed_at,delisted_at`: market `um` or `spot`, ISO 8601 days or instants in UTC, `delisted_at` empty
while it trades. Lines are in any order; an instrument that no line names is not known.
"""

import csv
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from backtest_assets.domain.market import Listing, Market, parse_symbols
from backtest_assets.errors import SourceError, UsageError

FILE_NAME: Final = "instruments.csv"
COLUMNS: Final = ("symbol", "market", "listed_at", "delisted_at")

_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|\+00:00)?)?")


def read_instruments(folder: Path) -> Mapping[tuple[str, Market], Listing]:
    """Return when each declared instrument traded, by symbol and market; empty if the folder declares none.

    Raises:
        SourceError: naming line and fix if the file is there and cannot be used.
    """
    path = folder / FILE_NAME
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return MappingProxyType({})
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({error}); write it as UTF-8 text, or remove it"
        raise SourceError(message) from error
    rows = list(csv.reader(lines))
    if not rows or tuple(name.strip() for name in rows[0]) != COLUMNS:
        message = f"{path}: its first line is {','.join(rows[0]) if rows else 'missing'!r}; write {','.join(COLUMNS)}"
        raise SourceError(message)
    found: dict[tuple[str, Market], Listing] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        key, listing = _instrument(f"{path} line {number}", [field.strip() for field in row])
        if key in found:
            message = f"{path} line {number}: {key[0]} in {key[1].value} is declared twice; keep one line"
            raise SourceError(message)
        found[key] = listing
    return MappingProxyType(found)


def _instrument(place: str, row: list[str]) -> tuple[tuple[str, Market], Listing]:
    if len(row) != len(COLUMNS):
        message = f"{place}: has {len(row)} fields; write {','.join(COLUMNS)}"
        raise SourceError(message)
    symbol, market, listed, delisted = row
    try:
        known = parse_symbols(symbol)
    except UsageError as error:
        message = f"{place}: {error}"
        raise SourceError(message) from error
    if known != (symbol,) or market not in set(Market):
        message = f"{place}: {symbol},{market} is no instrument; write a symbol in capitals, and um or spot"
        raise SourceError(message)
    listing = Listing(_instant(place, listed), _instant(place, delisted) if delisted else None)
    if listing.delisted_at is not None and listing.delisted_at <= listing.listed_at:
        message = f"{place}: {symbol} is delisted at {delisted}, not after its listing at {listed}; mend one of them"
        raise SourceError(message)
    return (symbol, Market(market)), listing


def _instant(place: str, text: str) -> datetime:
    # A day, or an instant that says UTC or nothing: another offset would be read as a mistake sooner than as a wish.
    try:
        instant = datetime.fromisoformat(text) if _INSTANT.fullmatch(text) else None
    except ValueError:
        instant = None
    if instant is None:
        message = f"{place}: {text!r} is no UTC day or instant; write it as 2021-03-04 or 2021-03-04T12:00:00Z"
        raise SourceError(message)
    return instant.replace(tzinfo=UTC)

"""Whether rows and the listing agree: when a month may be without rows, and rows of a time that was not listed.

The listing is only what a source says of itself; rows that traded are evidence against it, and then nobody is silently right.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.domain.clock import BAR, EPOCH, MICROSECOND, epoch_us, month_end, month_start
from backtest_assets.domain.exchange import FUNDING_INTERVAL_MAX
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Listing
from backtest_assets.gates.ask import Measured, limit_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.bars.calendar import grid_ceil

_SETTLED: Final = frozenset({"raw_um_funding", "settlements_um"})
_BY_DAY: Final = "raw_um_liquidations"  # the one table that comes in files of whole days only
_MADE_FROM: Final = {
    "bars_um": ("raw_um_ohlcv", "open_at"),
    "bars_spot": ("raw_spot_ohlcv", "open_at"),
    "settlements_um": ("raw_um_funding", "settled_at"),
}
_DAY: Final = timedelta(days=1)  # listings are declared by the day, and trading began hours before some onboardDates
_Find: TypeAlias = Callable[[Evidence, Listing, pl.DataFrame, str], pl.DataFrame]
_MEND: Final = (
    "mend what is wrong, the listing (instruments.csv, or onboardDate and deliveryDate of exchangeInfo) or the rows (another "
    "instrument's under this name), and ingest the month again"
)


def nothing_expected(evidence: Evidence) -> str:
    """Return why a month may be without rows, empty if it may not: the one rule of every market table.

    It was not listed, was delisted, or nothing of the month can have happened or arrived by `as_of`. Without a listing every
    month is held against the calendar.
    """
    if _nothing_due(evidence, None):
        return f"nothing of this month was over at {evidence.as_of:%Y-%m-%d %H:%M} UTC"
    if _no_day_due(evidence):
        return f"no file of a day of this month had to be there at {evidence.as_of:%Y-%m-%d %H:%M} UTC"
    listing = evidence.listing
    if listing is None or not _nothing_due(evidence, listing):
        return ""
    return f"not listed in this month: it traded {_told(listing)}"


def contradiction(evidence: Evidence) -> str:
    """Return what speaks against an empty month of a clean table that the listing explains, empty if nothing does.

    Raises:
        KeyError: if the evidence lacks the raw table.
    """
    listing = evidence.listing
    if listing is None or evidence.table.name not in _MADE_FROM:
        return ""
    name, instant = _MADE_FROM[evidence.table.name]
    raw = evidence.inputs[name]
    n_rows = _unlisted(evidence, listing, raw, instant).height
    return f"no rows, but {_against(listing, n_rows, raw.height, name)}; {_MEND}" if n_rows else ""


def delisting(listing: Listing | None, end: datetime) -> datetime:
    """Return when an instrument was delisted; `end` if it was not."""
    return end if listing is None or listing.delisted_at is None else listing.delisted_at


def listing_gates(instant: str) -> tuple[Gate, Gate]:
    """Return the gate that the listing does not deny the whole month, and the remark that it denies a part of it.

    Args:
        instant: column of the rows' instant.
    """

    def measure(evidence: Evidence, *, find: _Find) -> Measured:
        rows, listing = evidence.frame, evidence.listing
        if n_null := rows[instant].null_count():
            return float("nan"), f"{n_null} rows do not say when they were"
        if listing is None:
            return 0, "no listing is known, the month is held against the calendar"
        found = find(evidence, listing, rows, instant)
        return found.height, _against(listing, found.height, rows.height, evidence.table.name), found

    return (
        limit_gate(
            "listed",
            "Nothing traded in a month that the listing leaves nothing of; an ERROR, because its bars would be empty and look right.",
            partial(measure, find=_unlisted),
            limit=0,
            unit="rows",
            fix=_MEND,
        ),
        limit_gate(
            "wholly_listed",
            "Nothing traded outside of the listing; a remark, because trading began before some onboardDates, and what lies "
            "outside is left out.",
            partial(measure, find=_beyond),
            limit=0,
            unit="rows",
            fix=f"if these rows are missed, {_MEND}",
            severity=Severity.WARN,
        ),
    )


def _nothing_due(evidence: Evidence, listing: Listing | None) -> bool:
    month = evidence.partition["month"]
    start, end = month_start(month), month_end(month)
    if evidence.table.name in _SETTLED:
        first = first_due(start, FUNDING_INTERVAL_MAX, listing)  # every interval divides the longest
        return first >= min(end, evidence.as_of + MICROSECOND, delisting(listing, end))
    last = max(start, min(end, evidence.as_of))
    opened, last = (start, last) if listing is None else listing.within(start, last)
    return grid_ceil(opened) + BAR > last


def _no_day_due(evidence: Evidence) -> bool:
    """Tell whether not even the month's first file of a day can be missed: a day is over first, and published late."""
    month, listing = evidence.partition["month"], evidence.listing
    start = month_start(month)
    first = start if listing is None else max(start, listing.listed_at)
    late = max(_DAY, timedelta(hours=evidence.limits.tail_age_max_h))
    return evidence.table.name == _BY_DAY and evidence.as_of < min(month_end(month), first + late)


def first_due(start: datetime, interval: timedelta, listing: Listing | None) -> datetime:
    """Return the first settlement due from `start` on; a new contract settles first after its listing, never at it."""
    earliest = start if listing is None or listing.listed_at < start else listing.listed_at + MICROSECOND
    return earliest + (EPOCH - earliest) % interval


def _unlisted(evidence: Evidence, listing: Listing, rows: pl.DataFrame, instant: str) -> pl.DataFrame:
    """Return the rows that traded more than a day outside of a listing that leaves nothing of the month."""
    if not _nothing_due(evidence, listing):
        return pl.DataFrame()
    delisted_at = None if listing.delisted_at is None else listing.delisted_at + _DAY
    return _beyond(evidence, Listing(listing.listed_at - _DAY, delisted_at), rows, instant)


def _beyond(_: Evidence, listing: Listing, rows: pl.DataFrame, instant: str) -> pl.DataFrame:
    """Return the rows that traded outside of a listing."""
    at = rows[instant].to_physical()
    beyond = at < epoch_us(listing.listed_at)
    if listing.delisted_at is not None:
        beyond |= at > epoch_us(listing.delisted_at)  # a last settlement may be on the very instant
    if "volume_base" in rows.columns:
        beyond &= (rows["volume_base"] != 0).fill_null(value=True)  # dead klines after a delisting traded nothing
    return rows.select("symbol", instant).filter(beyond) if beyond.any() else pl.DataFrame()


def _against(listing: Listing, n_rows: int, n_all: int, name: str) -> str:
    return f"{n_rows} of {n_all} rows of {name} traded outside of the listing, {_told(listing)}"


def _told(listing: Listing) -> str:
    until = "" if listing.delisted_at is None else f" until {listing.delisted_at:%Y-%m-%d %H:%M}"
    return f"from {listing.listed_at:%Y-%m-%d %H:%M}{until} UTC"

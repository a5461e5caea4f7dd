"""Which bars a month must have, listing and open months considered; what is really there is for `clean` and `coverage`."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, EPOCH, month_end, month_start
from backtest_assets.domain.market import Listing

_MINUTES: Final = BAR // timedelta(minutes=1)


def expected_span(
    month: str, *, as_of: datetime, listing: Listing | None, newest_close: datetime | None
) -> tuple[datetime, datetime]:
    """Return the half-open span of bars that a month must have.

    It begins with the month, or with the first whole bar after the listing. It ends with the month if the month is over; in
    an open month it ends with the newest bar that has arrived, because a tail that has not arrived yet is no gap (its age is
    a gate's question). The last whole bar before a delisting ends it earlier.

    Args:
        month: UTC month `YYYY-MM`.
        as_of: when the question is asked.
        listing: when the instrument traded; None holds the whole month against the calendar.
        newest_close: close of the newest kline that raw has (`newest_close`); None if it has none. Not used once the month
            is over.

    Returns:
        Start and end on the 15-minute grid; they coincide if no bar is expected.

    Raises:
        UsageError: if the label is not `YYYY-MM`.

    Knows:
        the calendar, the listing, and klines closed by `as_of`.
    """
    start, end = month_start(month), month_end(month)
    if as_of < end:
        arrived = start if newest_close is None else min(newest_close, as_of)
        end = max(start, min(end, grid_floor(arrived)))
    if listing is None:
        return start, end
    delisted_at = None if listing.delisted_at is None else grid_floor(listing.delisted_at)
    return Listing(grid_ceil(listing.listed_at), delisted_at).within(start, end)


def expected_opens(span: tuple[datetime, datetime], minutes: int = _MINUTES) -> pl.Series:
    """Return the opens of all klines of a span, as the series `open_at`; empty for an empty span.

    Args:
        span: half-open span on the grid of `minutes`.
        minutes: length of a kline [min].

    Knows:
        the calendar alone.
    """
    start, end = span
    return pl.datetime_range(
        start, end, timedelta(minutes=minutes), closed="left", time_unit="us", time_zone="UTC", eager=True
    ).alias("open_at")


def newest_close(raw: pl.DataFrame, *, as_of: datetime) -> datetime | None:
    """Return the close of the newest kline that is closed by `as_of`; None if there is none.

    Args:
        raw: rows of `raw_um_ohlcv` or `raw_spot_ohlcv`.
        as_of: a kline that closes later does not count.

    Knows:
        klines closed by `as_of`.
    """
    close = pl.col("open_at") + pl.duration(minutes="interval_min")
    newest = raw.select(close.filter(close <= as_of).max()).item()
    return newest if isinstance(newest, datetime) else None


def grid_floor(instant: datetime) -> datetime:
    """Return the last instant of the 15-minute grid at or before an instant.

    >>> grid_floor(datetime.fromisoformat("2024-01-01T10:29Z")).isoformat()
    '2024-01-01T10:15:00+00:00'
    """
    return instant - (instant - EPOCH) % BAR


def grid_ceil(instant: datetime) -> datetime:
    """Return the first instant of the 15-minute grid at or after an instant.

    >>> grid_ceil(datetime.fromisoformat("2024-01-01T10:16Z")).isoformat()
    '2024-01-01T10:30:00+00:00'
    """
    return instant + (EPOCH - instant) % BAR

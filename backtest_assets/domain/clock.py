"""The calendar of bars and months, UTC throughout; the wall clock stays out (callers pass `as_of`)."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

from backtest_assets.errors import SettingsError, UsageError

BAR = timedelta(minutes=15)
BAR_US = 15 * 60 * 1_000_000
BARS_PER_DAY = 96
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
MINUTE_US: Final = 60 * 1_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def utc(day: date) -> datetime:
    """Return midnight UTC of a day.

    >>> utc(date(2024, 1, 1)).isoformat()
    '2024-01-01T00:00:00+00:00'
    """
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def epoch_us(instant: datetime) -> int:
    """Return an instant as the tables store it, exactly [us since 1970].

    >>> epoch_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (instant - EPOCH) // MICROSECOND


def month_of(instant: datetime | date) -> str:
    """Return the month label `YYYY-MM` of an instant.

    >>> month_of(date(2024, 3, 9))
    '2024-03'
    """
    return f"{instant.year:04d}-{instant.month:02d}"


def month_start(month: str) -> datetime:
    """Return the first instant of a month `YYYY-MM`.

    Raises:
        UsageError: if the label is not `YYYY-MM`.
    """
    match = _MONTH.fullmatch(month)
    if match is None:
        message = f"month {month!r} is not of the form YYYY-MM, for example 2024-03"
        raise UsageError(message)
    return datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)


def month_end(month: str) -> datetime:
    """Return the first instant after a month `YYYY-MM` (half-open end)."""
    first = month_start(month)
    return first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)  # noqa: PLR2004  # December


def months_between(start: datetime, end: datetime) -> tuple[str, ...]:
    """Return the labels of all months that [start, end) touches, oldest first.

    >>> months_between(utc(date(2023, 12, 5)), utc(date(2024, 2, 1)))
    ('2023-12', '2024-01')
    """

    def walk() -> Iterator[str]:
        month = month_of(start)
        while month_start(month) < end:
            yield month
            month = month_of(month_end(month))

    return tuple(walk())


def parse_day(name: str, text: str) -> date:
    """Read a day `YYYY-MM-DD`.

    Args:
        name: of the setting, for the message.
        text: what the user gave.

    Raises:
        SettingsError: if it is no such day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{name} {text!r} is not a day of the form YYYY-MM-DD"
        raise SettingsError(message) from None


def day_window(start: str, end: str) -> tuple[datetime, datetime]:
    """Read two days `YYYY-MM-DD` as the half-open UTC window from the first to the end of the last; never empty.

    >>> [instant.isoformat() for instant in day_window("2024-01-01", "2024-01-31")]
    ['2024-01-01T00:00:00+00:00', '2024-02-01T00:00:00+00:00']

    Raises:
        SettingsError: if one is no such day, or the first lies after the last.
    """
    first, last = parse_day("start", start), parse_day("end", end)
    if first > last:
        message = f"start {start} lies after end {end}; give start <= end"
        raise SettingsError(message)
    return utc(first), utc(last) + timedelta(days=1)

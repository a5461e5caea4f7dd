"""Integer times to microseconds; a file's own dates say whether they are ms or us."""

from datetime import datetime, timedelta
from typing import Final

from backtest_assets.domain.clock import epoch_us
from backtest_assets.sources.archive.text import Sheet

US_PER_UNIT: Final = {"ms": 1_000, "us": 1}

SLACK: Final = timedelta(days=1)
"""How far outside its own dates a file's times may lie: the metrics of a day end at the next midnight."""


def epoch_unit(sheet: Sheet, column: str, start: datetime, end: datetime) -> str:
    """Return the unit in which every time of a column lies within [start, end), give or take a day.

    A value that fits in one unit is off by a factor of 1,000 in the other, so a wrong unit cannot pass.

    Args:
        sheet: at least one row.
        column: integers since 1970.
        start: first instant the file is about.
        end: first instant after it.

    Returns:
        `ms` or `us`.

    Raises:
        SourceError: naming file, line and value if the units are mixed, or a time fits the dates in neither.
    """
    times = sheet.frame[column]
    low_us, high_us = epoch_us(start - SLACK), epoch_us(end + SLACK)
    bounds = {unit: (-(-low_us // us), -(-high_us // us) - 1) for unit, us in US_PER_UNIT.items()}
    first, last = times.min(), times.max()
    for unit, (low, high) in bounds.items():
        if isinstance(first, int) and isinstance(last, int) and low <= first and last <= high:
            return unit
    is_ms, is_us = (times.is_between(low, high) for low, high in bounds.values())
    if (is_ms | is_us).all():
        other = f"{column} {{{column}}} is of another unit than the rows before: ms and us are mixed; fetch it again"
        raise sheet.refusal(is_ms != is_ms[0], other)
    stray = f"{column} {{{column}}} lies, in ms or us since 1970, outside {start:%Y-%m-%d} to {end:%Y-%m-%d}; fetch it again"
    raise sheet.refusal(~(is_ms | is_us), stray)

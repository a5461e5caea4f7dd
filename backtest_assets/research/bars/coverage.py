"""The ledger of every expected instant of a raw month: there or not, and if not, why; limits on it belong to the gates."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
import polars as pl

from backtest_assets.domain.clock import HOUR_US, epoch_us, month_end, month_start
from backtest_assets.domain.market import Listing
from backtest_assets.errors import TableError
from backtest_assets.research.bars.instants import Instants, instants_of, usual_instants
from backtest_assets.stats.arrays import IntArray
from backtest_assets.tables.bars import COVERAGE


class State(StrEnum):
    """What became of an expected instant."""

    PRESENT = "present"
    OUTAGE = "outage"
    SOURCE_MISSING = "source_missing"
    NOT_LISTED = "not_listed"
    NOT_YET = "not_yet"
    NOT_INGESTED = "not_ingested"


EXPECTED: Final = (State.PRESENT, State.OUTAGE, State.SOURCE_MISSING, State.NOT_INGESTED)
"""States of instants that should be there by now."""

MISSING: Final = EXPECTED[1:]
"""States of instants that should be there and are not."""

_STATES: Final = tuple(State)
_PRESENT, _OUTAGE, _SOURCE_MISSING, _NOT_LISTED, _NOT_YET, _ = range(len(_STATES))
_NONE: Final = -1


class Origin(Protocol):
    """A file or request that covers the half-open [start, end); `sha256` is None if the source says it has no such file."""

    @property
    def name(self) -> str: ...  # noqa: D102  # a field of a protocol; the class says what it is
    @property
    def sha256(self) -> str | None: ...  # noqa: D102  # likewise
    @property
    def start(self) -> datetime: ...  # noqa: D102  # likewise
    @property
    def end(self) -> datetime: ...  # noqa: D102  # likewise


def cover(
    dataset: str,
    frame: pl.DataFrame,
    *,
    symbol: str,
    month: str,
    as_of: datetime,
    listing: Listing | None,
    origins: Sequence[Origin],
    is_ingested: bool,
) -> pl.DataFrame:
    """Account for every instant that a dataset must have in a month (`instants_of`), in stretches of one state and origin.

    The first of these that is true is an instant's state:
    `not_ingested`: nothing of the dataset is published, never asked for or refused; the whole month is one stretch;
    `not_listed`: it is not wholly within the listing;
    `not_yet`: it is over after `as_of`, or the month is open and nothing newer has arrived;
    `present`: its row is there, or it is a day of liquidations that a file covers: a quiet day is known;
    `outage`: a file covers it and does not have it;
    `source_missing`: no file covers it.

    Args:
        dataset: name of the raw table.
        frame: its rows of this symbol and month; empty if not ingested.
        symbol: instrument.
        month: UTC month `YYYY-MM`.
        as_of: when the ledger is made.
        listing: when the instrument traded; None holds the whole month against the calendar.
        origins: what the rows came from, in any order; where two cover an instant the shorter one is named: a day's file
            beside its month's is there for what the month's lacks or has wrong.
        is_ingested: whether the dataset was ever ingested for this month.

    Returns:
        Rows of `coverage` that tile the month: each stretch ends where the next begins. `origin` is the file that covers a
        stretch, or where none does the one that the source said it lacks.

    Raises:
        TableError: if the dataset is unknown, it was not ingested but has rows, or the rows are not the month's.

    Knows:
        what the month's files and rows hold at `as_of`.
    """
    if not is_ingested and not frame.is_empty():
        message = f"{dataset} {symbol} {month}: {frame.height} rows of a dataset that is said not to be ingested; pass both from one manifest"
        raise TableError(message)
    if not is_ingested:
        unit, n_instants = usual_instants(dataset, month)
        whole = (epoch_us(month_start(month)), epoch_us(month_end(month)), n_instants)
        return _ledger(symbol, dataset, unit, [(*whole, State.NOT_INGESTED, None)])
    instants = instants_of(dataset, frame, symbol=symbol, month=month)
    ordered = sorted(origins, key=lambda origin: (origin.end - origin.start, origin.start, origin.name))
    held = _covering(instants, ordered, held=True)
    states = _states(instants, held, month, as_of, listing)
    named = np.where(states <= _OUTAGE, held, _NONE)
    if np.any(states == _SOURCE_MISSING):
        named = np.where(states == _SOURCE_MISSING, _covering(instants, ordered, held=False), named)
    stretches = [
        (first_us, until_us, n_instants, _STATES[state], None if number == _NONE else ordered[number])
        for first_us, until_us, n_instants, state, number in _stretches(instants, states, named, month)
    ]
    return _ledger(symbol, dataset, instants.unit, stretches)


def coverage_summary(coverage: pl.DataFrame) -> pl.DataFrame:
    """Count the ledger per symbol and dataset.

    Args:
        coverage: rows of `coverage`, any months.

    Returns:
        One row per symbol and dataset, sorted: `n_expected` (instants that should be there by now), of them `n_present`,
        `n_outage`, `n_source_missing` and `n_not_ingested`; the longest unbroken stretch of missing ones over all reasons,
        the first of equals: `longest_gap_at` [UTC], null if nothing is missing, `longest_gap_instants`, and `longest_gap_h`
        until the instant after it [h].

    Knows:
        the ledger alone.
    """
    key = ["symbol", "dataset"]
    rows = COVERAGE.conform(coverage)
    n = pl.col("n_instants")
    counts = rows.group_by(key, maintain_order=True).agg(
        n.filter(pl.col("state").is_in(EXPECTED)).sum().alias("n_expected"),
        *(n.filter(pl.col("state") == state).sum().alias(f"n_{state.value}") for state in EXPECTED),
    )
    missing = rows.filter(pl.col("state").is_in(MISSING))
    is_new = (pl.col("first_at") != pl.col("until_at").shift().over(key)).fill_null(value=True)
    longest = (
        missing.with_columns(gap=is_new.cum_sum())
        .group_by("gap", *key, maintain_order=True)
        .agg(
            pl.col("first_at").first().alias("longest_gap_at"),
            n.sum().alias("longest_gap_instants"),
            ((pl.col("until_at").last() - pl.col("first_at").first()).dt.total_microseconds() / HOUR_US).alias(
                "longest_gap_h"
            ),
        )
        .sort("longest_gap_instants", "longest_gap_at", descending=[True, False], maintain_order=True)
        .unique(key, keep="first", maintain_order=True)
        .drop("gap")
    )
    return counts.join(longest, on=key, how="left", maintain_order="left").with_columns(
        pl.col("longest_gap_instants").fill_null(0), pl.col("longest_gap_h").fill_null(0.0)
    )


def _covering(instants: Instants, ordered: Sequence[Origin], *, held: bool) -> IntArray:
    covering = np.full(instants.at_us.size, _NONE, dtype=np.int64)
    for number, origin in reversed(list(enumerate(ordered))):
        if (origin.sha256 is not None) == held:
            covering[instants.covered(origin.start, origin.end)] = number
    return covering


def _states(instants: Instants, held: IntArray, month: str, as_of: datetime, listing: Listing | None) -> IntArray:
    is_there = instants.is_there | (held != _NONE) if instants.unit == "days" else instants.is_there
    is_yet = instants.until_us <= epoch_us(as_of)
    if as_of < month_end(month):
        arrived = np.flatnonzero(is_there & is_yet)
        is_yet &= np.arange(is_yet.size) <= (arrived[-1] if arrived.size else _NONE)
    states = np.where(held == _NONE, _SOURCE_MISSING, _OUTAGE)
    states[is_there] = _PRESENT
    states[~is_yet] = _NOT_YET
    states[~instants.of_listing(listing)] = _NOT_LISTED
    return states


def _stretches(instants: Instants, states: IntArray, origins: IntArray, month: str) -> Iterator[tuple[int, ...]]:
    """Yield first [us], until [us], count, state and origin of every run of instants that are alike in both."""
    is_new = (states[1:] != states[:-1]) | (origins[1:] != origins[:-1])
    first = np.concatenate([[0], np.flatnonzero(is_new) + 1])
    # The month is tiled whole: the first stretch begins with it, whenever its first instant is.
    bounds = [epoch_us(month_start(month)), *instants.at_us[first[1:]].tolist(), epoch_us(month_end(month))]
    counts = np.diff(first, append=states.size).tolist()
    return zip(bounds[:-1], bounds[1:], counts, states[first].tolist(), origins[first].tolist(), strict=True)


def _ledger(
    symbol: str, dataset: str, unit: str, stretches: Sequence[tuple[int, int, int, State, Origin | None]]
) -> pl.DataFrame:
    rows = [
        (symbol, dataset, first_us, until_us, n_instants, unit, state.value, origin and origin.name, origin and origin.sha256)
        for first_us, until_us, n_instants, state, origin in stretches
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=COVERAGE.schema, orient="row")

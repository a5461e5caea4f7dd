"""What the market layer's gates share: whose rows they are, how old the newest is, how holes are told.

When a month may be empty is for `listed`; which rows are right is each table's own module's.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import MICROSECOND, epoch_us, month_end, month_start
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import Measured, breaking, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.listed import contradiction, delisting, nothing_expected
from backtest_assets.research.bars.calendar import expected_span, newest_close
from backtest_assets.tables.contract import INSTANT

_HOUR: Final = timedelta(hours=1)


def bar_span(evidence: Evidence, raw: pl.DataFrame) -> tuple[datetime, datetime]:
    """Return the half-open span of bars that the month must have, given its raw klines."""
    month, as_of = evidence.partition["month"], evidence.as_of
    arrived = newest_close(raw, as_of=as_of) if as_of < month_end(month) else None
    return expected_span(month, as_of=as_of, listing=evidence.listing, newest_close=arrived)


def market_gates(*gates: Gate) -> tuple[Gate, ...]:
    """Return the gates of a market table: red without rows, but green where nothing was to be expected and nothing traded."""
    return tuple(replace(gate, ask=_unless_nothing_expected(gate.ask)) for gate in gates)


def _unless_nothing_expected(ask: Callable[[Evidence], Verdict]) -> Callable[[Evidence], Verdict]:
    def asked(evidence: Evidence) -> Verdict:
        verdict = ask(evidence)
        why = nothing_expected(evidence) if evidence.frame.is_empty() and not verdict.passed else ""
        against = contradiction(evidence) if why else ""
        if against:
            return replace(verdict, detail=against)
        return replace(verdict, observed=0.0, passed=True, detail=why) if why else verdict

    return asked


def inside_partition(instant: str) -> Gate:
    """Return the gate that rows belong to the partition's symbol and month."""

    def holds(evidence: Evidence) -> pl.Series:
        month, at = evidence.partition["month"], evidence.frame[instant].to_physical()
        within = (at >= epoch_us(month_start(month))) & (at < epoch_us(month_end(month)))
        return within & (evidence.frame["symbol"] == evidence.partition["symbol"])

    return rows_gate(
        "rows_inside_partition",
        "Every row is of the partition's symbol and month (R5, R6).",
        breaking(holds, ("symbol", instant)),
        fix="symbols or months are mixed: mend the source's file and ingest again",
    )


def no_duplicates(instant: str) -> Gate:
    """Return the gate that no instant comes twice; rows that repeat each other exactly were merged before."""

    def twice(evidence: Evidence) -> pl.DataFrame:
        keys = evidence.frame.select("symbol", instant)
        at = keys[instant]
        if at.null_count() == 0 and at.n_unique() == keys.height:
            return keys.clear()
        return keys.filter(keys.is_duplicated() | at.is_null())

    return rows_gate(
        "no_duplicates",
        "No symbol and instant comes twice.",
        twice,
        fix="nothing says which row is right: mend the source's file and ingest again",
    )


def tail_age(instant: str) -> Gate:
    """Return the remark that the newest row of an open month is old, by the column of the rows' instant."""

    def measure(evidence: Evidence) -> Measured:
        newest, end = evidence.frame[instant].max(), month_end(evidence.partition["month"])
        if not isinstance(newest, datetime):
            return float("nan"), "no row says when it was"
        end = min(end, delisting(evidence.listing, end))
        if evidence.as_of >= end:
            return 0.0, f"the month was over at {end:%Y-%m-%d %H:%M} UTC, so its tail is held against the calendar"
        return (evidence.as_of - newest) / _HOUR, f"the newest row is of {newest:%Y-%m-%d %H:%M} UTC"

    return limited_gate(
        "tail_age",
        "Age of the newest row of a month that is still open; a remark, because the rows that are there are right.",
        measure,
        setting="tail_age_max_h",
        fix="top the month up, or look whether the source still delivers",
        severity=Severity.WARN,
    )


def holes_of(missing: pl.Series, step: timedelta) -> pl.DataFrame:
    """Return runs of missing instants, the longest first: `first` and `n_missing`.

    Args:
        missing: instants in order.
        step: distance of two that follow each other.
    """
    # Missing instants in a row differ from their own position by a constant.
    run = pl.col("first").dt.epoch("us") // (step // MICROSECOND) - pl.int_range(pl.len())
    holes = missing.alias("first").to_frame().group_by(run.alias("run")).agg(pl.col("first").min(), n_missing=pl.len())
    return holes.select("first", "n_missing").sort(["n_missing", "first"], descending=[True, False])


def missing_share(
    found: pl.Series, span: tuple[datetime, datetime], step: timedelta, what: str
) -> tuple[float, str, pl.DataFrame]:
    """Return the share of a span's instants that were not found [fraction], and the longest holes.

    Args:
        found: the instants that are there; strangers among them do not count.
        span: half-open span, whose start is expected.
        step: distance of two expected instants.
        what: their name for the operator.
    """
    expected, at = grid_us(span, step), found.drop_nulls().to_physical().to_numpy()
    if not expected.size:
        return float("nan"), f"no {what} were to be expected, but rows are there", found.to_frame()
    if np.array_equal(expected, at):
        return 0.0, f"all {expected.size} {what} are there", pl.DataFrame()
    missing = np.setdiff1d(expected, at)
    holes = holes_of(instants(missing), step)
    where = ", the longest hole {1} from {0:%Y-%m-%d %H:%M} UTC".format(*holes.row(0)) if missing.size else ""
    return missing.size / expected.size, f"{missing.size} of {expected.size} {what} are missing{where}", holes


def grid_us(span: tuple[datetime, datetime], step: timedelta) -> NDArray[np.int64]:
    """Return the instants of a half-open span, its start first [us since 1970]."""
    return np.arange(epoch_us(span[0]), epoch_us(span[1]), step // MICROSECOND, dtype=np.int64)


def instants(at_us: NDArray[np.int64]) -> pl.Series:
    """Return stored instants as a series of instants."""
    return pl.Series("at", at_us).cast(INSTANT)


def is_on(at: pl.Series, step: timedelta) -> pl.Series:
    """Tell of each instant whether it is on the UTC grid of a step that divides a day."""
    return at.to_physical() % (step // MICROSECOND) == 0


def is_amount(values: pl.Series) -> pl.Series:
    """Tell of each value whether it is a finite number >= 0; NaN is none, null stays null."""
    return (values >= 0) & (values < math.inf)  # false for NaN, which Polars sorts above infinity


def over_by_now(instant: str) -> Callable[[Evidence], pl.Series]:
    """Return the question whether each row's instant is not after the moment of asking."""

    def holds(evidence: Evidence) -> pl.Series:
        return evidence.frame[instant].to_physical() <= epoch_us(evidence.as_of)

    return holds

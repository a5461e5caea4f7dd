"""Questions about raw klines and settlements, asked before they are published; cleaning them stays out.

An empty frame passes no gate: what is missing counts as no.
"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US, month_end, month_start
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.gate import MAX_EXAMPLES, Evidence, Gate, examples_of

UM_COVERAGE_MIN: Final = 0.99
"""Least share of a month's closed bars [fraction]; it also bounds the longest hole, at 29 bars or 7 hours."""

SPOT_COVERAGE_MIN: Final = 0.90
"""Least share of a month's closed spot bars [fraction]; spot is optional, a red month stops only what needs the basis."""

UM_COMPLETE: Final = 1.0
"""Share of UM bars below which a month is remarked upon [fraction]; the exchange publishes every bar it was open for."""

SPOT_COMPLETE: Final = 0.999
"""The same for spot [fraction]; three missing bars in a month are usual there (maintenance)."""

FUNDING_INTERVALS_H: Final = (1.0, 2.0, 4.0, 8.0)
"""Intervals the exchange settles at [h]; each divides a day, so 00:00 UTC is a settlement of all of them."""

FUNDING_RATE_MAX: Final = 0.03
"""Largest |rate| per interval [fraction]; the exchange caps rates at 3 % at most, more is a unit mistake."""

FUNDING_RATE_USUAL: Final = 0.005
"""|rate| above which a month is remarked upon [fraction]; BTC and ETH never passed 0.4 % to 2025."""

_PRICES: Final = ("open", "high", "low", "close")
_ZERO_ROWS: Final = 0


def rows_gate(
    name: str,
    about: str,
    holds: Callable[[Evidence], pl.Expr],
    shown: tuple[str, ...],
    *,
    fix: str,
    severity: Severity = Severity.ERROR,
) -> Gate:
    """Return a gate that no row may break.

    Args:
        name: of the gate.
        about: the question.
        holds: boolean expression over the staged frame; null counts as broken.
        shown: columns of the example rows.
        fix: what the operator should do, ending the verdict's sentence.
        severity: ERROR blocks, WARN remarks.
    """

    def ask(evidence: Evidence) -> Verdict:
        if evidence.frame.is_empty():
            return nothing_to_judge(name, _ZERO_ROWS, "rows")
        broken = evidence.frame.filter(~holds(evidence).fill_null(value=False))
        detail = (
            f"{broken.height} of {evidence.frame.height} rows break it; {fix}" if broken.height else "every row holds"
        )
        return Verdict(name, broken.height, _ZERO_ROWS, "rows", broken.is_empty(), detail, examples_of(broken, shown))

    return Gate(name, severity, f"{about} Limit: 0 rows.", ask)


def nothing_to_judge(name: str, limit: float, unit: str) -> Verdict:
    """Return the red verdict of a gate that was shown no rows."""
    detail = "there are no rows: get this month from a source that has it, or choose a window without it"
    return Verdict(name, math.nan, limit, unit, passed=False, detail=detail)


def expected_opens(evidence: Evidence) -> pl.Series:
    """Return the open times of all bars of the partition's month that are closed by `as_of`: the calendar, not a count."""
    month = evidence.partition["month"]
    last = min(month_end(month), evidence.as_of) - BAR
    return pl.datetime_range(month_start(month), last, BAR, time_unit="us", time_zone="UTC", eager=True).alias(
        "open_at"
    )


def inside_partition(instant: str) -> Gate:
    """Return the gate that rows belong to the partition's symbol and month."""

    def holds(evidence: Evidence) -> pl.Expr:
        month = evidence.partition["month"]
        within = pl.col(instant).is_between(month_start(month), month_end(month), closed="left")
        return within & (pl.col("symbol") == evidence.partition["symbol"])

    return rows_gate(
        "rows_inside_partition",
        "Every row is of the partition's symbol and month.",
        holds,
        ("symbol", instant),
        fix="the source mixes symbols or months: mend its file and ingest again",
    )


def no_duplicates(instant: str) -> Gate:
    """Return the gate that no instant comes twice."""
    return rows_gate(
        "no_duplicates",
        "No symbol and instant comes twice.",
        lambda _: ~pl.struct("symbol", instant).is_duplicated() & pl.col(instant).is_not_null(),
        ("symbol", instant),
        fix="nothing says which row is right: mend the source's file and ingest again",
    )


def _ohlc_sane(_: Evidence) -> pl.Expr:
    finite = pl.all_horizontal(
        (pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(value=False) for name in _PRICES
    )
    ordered = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
        pl.max_horizontal("open", "close") <= pl.col("high")
    )
    volume = pl.col("volume_base").is_finite() & (pl.col("volume_base") >= 0)
    optional = (
        pl.col("volume_quote").is_finite() & (pl.col("volume_quote") >= 0),
        pl.col("n_trades") >= 0,
        pl.col("taker_buy_base").is_finite() & pl.col("taker_buy_base").is_between(0, pl.col("volume_base")),
        pl.col("taker_buy_quote").is_finite() & pl.col("taker_buy_quote").is_between(0, pl.col("volume_quote")),
    )
    # Null is "the source lacks it" in these four.
    return finite & ordered & volume & pl.all_horizontal(holds.fill_null(value=True) for holds in optional)


def _coverage(name: str, limit: float, severity: Severity, fix: str) -> Gate:
    unit = "share of expected bars"

    def ask(evidence: Evidence) -> Verdict:
        expected = expected_opens(evidence)
        if evidence.frame.is_empty() or expected.is_empty():
            return nothing_to_judge(name, limit, unit)
        missing = expected.filter(~expected.is_in(evidence.frame["open_at"].implode()))
        share = 1 - len(missing) / len(expected)
        holes = _holes(missing)
        detail = "no closed bar of the month is missing"
        if len(missing):
            first, longest = holes.row(0)
            where = f"longest hole {longest} bars from {first:%Y-%m-%d %H:%M} UTC{_late_start(evidence)}"
            detail = f"{len(missing)} closed bars of the month are missing, {where}" + (
                "" if share >= limit else f"; {fix}"
            )
        return Verdict(name, share, limit, unit, share >= limit, detail, examples_of(holes, ("first", "n_bars")))

    return Gate(name, severity, f"Share of the month's closed bars that are present; limit: at least {limit:g}.", ask)


def _holes(missing: pl.Series) -> pl.DataFrame:
    # Missing bars in a row differ from their own position by a constant.
    run = pl.col("first").dt.epoch("us") // BAR_US - pl.int_range(pl.len())
    holes = missing.alias("first").to_frame().group_by(run.alias("run")).agg(pl.col("first").min(), n_bars=pl.len())
    return holes.select("first", "n_bars").sort(["n_bars", "first"], descending=[True, False])


def _late_start(evidence: Evidence) -> str:
    first = evidence.frame["open_at"].min()
    if isinstance(first, datetime) and first > month_start(evidence.partition["month"]):
        return f" (the source starts at {first:%Y-%m-%d %H:%M}: a month it has only from the middle cannot be used, begin with the next)"
    return ""


_KLINE_GATES: Final = (
    inside_partition("open_at"),
    rows_gate(
        "on_grid",
        "Every bar opens on the 15-minute UTC grid.",
        lambda _: pl.col("open_at") == pl.col("open_at").dt.truncate("15m"),
        ("symbol", "open_at"),
        fix="the times are shifted or of another interval: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_closed_bars",
        "No bar is younger than the moment of asking.",
        lambda evidence: pl.col("open_at") + BAR <= evidence.as_of,
        ("symbol", "open_at", "close"),
        fix="bars that are not closed yet will still change: leave them out of the source and ingest again later",
    ),
    rows_gate(
        "ohlc_sane",
        "Prices are finite and > 0, low <= open, close <= high; volumes >= 0, taker buys no more than the total.",
        _ohlc_sane,
        ("open_at", *_PRICES, "volume_base", "taker_buy_base"),
        fix="the source's rows are corrupt: get the month from the exchange's archive again",
    ),
    no_duplicates("open_at"),
)

GATES_RAW_UM_OHLCV: Final = (
    *_KLINE_GATES,
    _coverage("coverage", UM_COVERAGE_MIN, Severity.ERROR, "ingest the missing days, or begin with a later month"),
    _coverage("complete", UM_COMPLETE, Severity.WARN, "they stay explicit gaps; look whether the exchange was closed"),
)

GATES_RAW_SPOT_OHLCV: Final = (
    *_KLINE_GATES,
    _coverage(
        "coverage",
        SPOT_COVERAGE_MIN,
        Severity.ERROR,
        "only what needs the spot price of this month is stopped; ingest it from another source to use it",
    ),
    _coverage("complete", SPOT_COMPLETE, Severity.WARN, "they stay explicit gaps, and the basis is unknown there"),
)


def _settlements(frame: pl.DataFrame) -> pl.DataFrame:
    own = pl.duration(minutes=60 * pl.col("funding_interval_h"))
    rows = frame.sort("settled_at").with_columns(own=own, spacing=pl.col("settled_at").diff())
    # When the interval changes, the first settlement that bears the new one may still end an old one (SOLUSDT,
    # 2022-11-10 04:00); the one after it must then keep the new.
    changed = (pl.col("spacing") == pl.col("own").shift(1)) & (pl.col("spacing").shift(-1) == pl.col("own"))
    follows = (pl.col("spacing") == pl.col("own")) | changed
    return rows.with_columns(follows=follows.fill_null(value=False), next=pl.col("settled_at") + pl.col("own"))


def _ask_settlements_complete(evidence: Evidence) -> Verdict:
    name, unit = "settlements_complete", "holes"
    fix = "ingest the month's funding again; a month from the middle of a listing cannot be used, begin with the next"
    if evidence.frame.is_empty():
        return nothing_to_judge(name, 0, unit)
    month = evidence.partition["month"]
    rows = _settlements(evidence.frame)
    first, last, due = rows["settled_at"][0], rows["settled_at"][-1], rows["next"][-1]
    joints = rows.slice(1).filter(~pl.col("follows"))
    holes = [f"{at} does not follow the one before by its interval" for at in joints["settled_at"]]
    if first is None or first > month_start(month):
        holes.append(f"the first is {first}, after the month's start")
    if due is None or (due < month_end(month) and due <= evidence.as_of):
        holes.append(f"after {last} one was due at {due}")
    detail = "every settlement follows the one before by its own interval"
    if holes:
        detail = f"{'; '.join(holes[:MAX_EXAMPLES])}; {fix}"
    examples = examples_of(joints, ("settled_at", "funding_interval_h"))
    return Verdict(name, len(holes), 0, unit, not holes, detail, examples)


GATES_RAW_UM_FUNDING: Final = (
    inside_partition("settled_at"),
    rows_gate(
        "interval_known",
        f"The interval is one of {', '.join(f'{hours:g}' for hours in FUNDING_INTERVALS_H)} h.",
        lambda _: pl.col("funding_interval_h").is_in(FUNDING_INTERVALS_H),
        ("settled_at", "funding_interval_h"),
        fix="without its interval a rate cannot be booked: mend the source's interval column and ingest again",
    ),
    rows_gate(
        "on_grid",
        "Every settlement is on the exact hour of its interval's UTC grid.",
        lambda _: (
            (pl.col("settled_at") == pl.col("settled_at").dt.truncate("1h"))
            & (pl.col("settled_at").dt.hour() % pl.col("funding_interval_h") == 0)
        ),
        ("settled_at", "received_at", "funding_interval_h"),
        fix="the stamps are more than 5 s off, or the interval is wrong: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_settled",
        "No settlement lies after the moment of asking.",
        lambda evidence: pl.col("settled_at") <= evidence.as_of,
        ("settled_at", "funding_rate"),
        fix="a rate that is not settled yet will still change: leave it out of the source and ingest again later",
    ),
    no_duplicates("settled_at"),
    Gate(
        "settlements_complete",
        Severity.ERROR,
        "Settlements follow each other by their own interval from the month's first to its last; limit: 0 holes.",
        _ask_settlements_complete,
    ),
    rows_gate(
        "rate_bounded",
        f"|rate| is finite and at most {FUNDING_RATE_MAX:g} per interval.",
        lambda _: pl.col("funding_rate").is_finite() & (pl.col("funding_rate").abs() <= FUNDING_RATE_MAX),
        ("settled_at", "funding_rate", "funding_interval_h"),
        fix="the rate is not a fraction per interval: check the source's unit (0.0001 is 1 bp) and ingest again",
    ),
    rows_gate(
        "rate_usual",
        f"|rate| is at most {FUNDING_RATE_USUAL:g} per interval.",
        lambda _: pl.col("funding_rate").abs() <= FUNDING_RATE_USUAL,
        ("settled_at", "funding_rate", "funding_interval_h"),
        fix="such a rate is rare: look at the exchange's announcement before trusting it",
        severity=Severity.WARN,
    ),
)

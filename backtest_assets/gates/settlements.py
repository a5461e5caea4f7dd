"""Questions about settlements: complete by their own interval, as raw gave them, and never used when stale."""

from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, HOUR_US, epoch_us, month_end, month_start
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limit_gate, rows_gate
from backtest_assets.gates.gate import MAX_EXAMPLES, Evidence, Gate
from backtest_assets.gates.listed import first_due
from backtest_assets.gates.rows import inside_partition, instants, market_gates

_REBUILD: Final = "materialise the month's settlements again; if it stays red, settle_funding is broken"


def settlements_complete(severity: Severity) -> Gate:
    """Return the gate that settlements follow each other by their own interval through the month.

    Args:
        severity: a remark on raw, where a month may come in parts; an ERROR where the rates are used.
    """
    why = (
        "an ERROR, because a missing rate would be booked as none"
        if severity is Severity.ERROR
        else "a remark, because a month may come in parts"
    )
    return limit_gate(
        "settlements_complete",
        f"Settlements follow each other by their own interval from the month's or the listing's first to the last due (R34); {why}.",
        _holes,
        limit=0,
        unit="holes",
        fix="ingest the month's funding again; a month that a source has only from the middle cannot be used, begin with the next",
        severity=severity,
    )


def changes_confirmed() -> Gate:
    """Return the remark that a shorter interval was borne before it was kept: a settlement lost there leaves the same trace."""
    return limit_gate(
        "changes_confirmed",
        "No settlement bears a shorter interval than the one it ends; a remark, because the exchange does change intervals so.",
        _unconfirmed,
        limit=0,
        unit="settlements",
        fix="the first settlement of the shorter interval may be lost just before: look at the exchange's announcement",
        severity=Severity.WARN,
    )


def _unconfirmed(evidence: Evidence) -> Measured:
    rows = _followed(evidence.frame)
    if rows["settled_at"].null_count() or rows["own"].null_count():
        return float("nan"), "some settlements have no instant or no interval"
    changes = rows.filter("is_shortened").select("settled_at", "funding_interval_h")
    return changes.height, f"{changes.height} of {rows.height} settlements", changes


def _holes(evidence: Evidence) -> Measured:
    rows = _followed(evidence.frame)
    if rows["settled_at"].null_count() or rows["own"].null_count():
        return float("nan"), "some settlements have no instant or no interval"
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    joints = rows.slice(1).filter(~pl.col("follows")).select("settled_at", "funding_interval_h")
    holes = [f"{at} does not follow the one before by its interval" for at in joints["settled_at"]]
    start, end = _listed(evidence)
    if first["settled_at"] > first_due(start, first["own"], evidence.listing):
        holes.append(f"the first is {first['settled_at']}, after {start}")
    due = last["settled_at"] + last["own"]
    if due < end and due <= evidence.as_of:
        holes.append(f"after {last['settled_at']} one was due at {due}")
    return (
        len(holes),
        "; ".join(holes[:MAX_EXAMPLES]) or f"{rows.height} settlements from {first['settled_at']}",
        joints,
    )


def _followed(frame: pl.DataFrame) -> pl.DataFrame:
    own, spacing = pl.col("own"), pl.col("spacing")
    rows = frame.sort("settled_at").select(
        "settled_at",
        "funding_interval_h",
        own=pl.duration(minutes=60 * pl.col("funding_interval_h")),
        spacing=pl.col("settled_at").diff(),
    )
    # When the interval changes, the first settlement that bears the new one may still end an old one (SOLUSDT,
    # 2022-11-10 04:00). The old must then have been borne twice before and the new be kept twice after, as far as there are
    # rows: a strange settlement in the middle of an interval looks like a change as well, but not for so long.
    held = (spacing == own.shift(1)) & (spacing == own.shift(2)).fill_null(value=True)
    kept = [(spacing.shift(-n) == own).fill_null(value=True) for n in (1, 2)]
    change = held & kept[0] & kept[1] & (spacing != own)
    return rows.with_columns(
        follows=((spacing == own) | change).fill_null(value=False),
        is_shortened=(change & (spacing > own)).fill_null(value=False),
    )


def _listed(evidence: Evidence) -> tuple[datetime, datetime]:
    start, end = month_start(evidence.partition["month"]), month_end(evidence.partition["month"])
    return (start, end) if evidence.listing is None else evidence.listing.within(start, end)


def _not_raw(evidence: Evidence) -> Measured:
    if evidence.frame.null_count().sum_horizontal()[0]:
        return float("nan"), "some settlements lack a value"
    stamped = pl.col("settled_at").dt.epoch("us") + (1000 * pl.col("jitter_ms")).round().cast(pl.Int64())
    mine = _as_numbers(evidence.frame, stamped)
    raw = evidence.inputs["raw_um_funding"].filter(pl.col("settled_at") <= evidence.as_of)
    given = _as_numbers(raw, pl.col("received_at").dt.epoch("us"))
    differ = sorted({at for at, *_ in mine ^ given})
    n_wrong = len(differ) + evidence.frame.height - len(mine)  # a settlement that is there twice is wrong too
    shown = instants(np.array(differ, dtype=np.int64)).to_frame("settled_at")
    return n_wrong, f"{n_wrong} of {len(given)} settlements are not what raw_um_funding says", shown


def _as_numbers(frame: pl.DataFrame, stamped: pl.Expr) -> set[tuple[int, int, float, float]]:
    at = pl.col("settled_at").dt.epoch("us")
    return set(frame.select(at, stamped.alias("stamped"), "funding_rate", "funding_interval_h").iter_rows())


def _stale_in_time(evidence: Evidence) -> pl.Series:
    rows = evidence.frame
    settled, known, stale = (rows[name].to_physical() for name in ("settled_at", "known_at", "stale_at"))
    in_time = stale - settled == rows["funding_interval_h"] * HOUR_US + BAR_US
    return in_time & (known == settled) & (known <= epoch_us(evidence.as_of))


GATES_SETTLEMENTS_UM: Final = market_gates(
    inside_partition("settled_at"),
    settlements_complete(Severity.ERROR),
    limit_gate(
        "identical_to_raw",
        "The settlements are those of raw_um_funding by the moment of asking, each once, with rate, interval and stamp.",
        _not_raw,
        limit=0,
        unit="settlements",
        fix=_REBUILD,
    ),
    rows_gate(
        "stale_after_own_interval",
        "A rate is known at its settlement and stale one bar after its own interval is over.",
        breaking(
            _stale_in_time,
            ("settled_at", "funding_interval_h", "stale_at"),
        ),
        fix=_REBUILD,
    ),
)
"""Input: raw_um_funding."""

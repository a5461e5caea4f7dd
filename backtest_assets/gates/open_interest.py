"""Questions about raw snapshots of open interest, asked before they are published."""

from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.exchange import SNAPSHOT_EVERY
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.rows import (
    inside_partition,
    is_amount,
    is_on,
    market_gates,
    missing_share,
    no_duplicates,
    over_by_now,
    tail_age,
)
from backtest_assets.research.bars.calendar import expected_span

_RATIOS: Final = ("top_trader_account_ratio", "top_trader_position_ratio", "account_ratio", "taker_volume_ratio")


def _missing_snapshots(evidence: Evidence) -> Measured:
    newest, month = evidence.frame["snapshot_at"].max(), evidence.partition["month"]
    if not isinstance(newest, datetime):
        return float("nan"), "no snapshot says when it was"
    # A tail of an open month that has not arrived is no hole; once the month is over, `newest` is not used.
    span = expected_span(month, as_of=evidence.as_of, listing=evidence.listing, newest_close=newest)
    return missing_share(evidence.frame["snapshot_at"], span, SNAPSHOT_EVERY, "snapshots")


def _counts_sane(evidence: Evidence) -> pl.Series:
    rows = evidence.frame
    kept = is_amount(rows["open_interest_base"]) & is_amount(rows["open_interest_quote"])
    for name in _RATIOS:
        ratio = is_amount(rows[name])
        kept &= ratio if ratio.null_count() == 0 else ratio.fill_null(value=True)  # null is "the source lacks it"
    return kept


GATES_RAW_UM_OPEN_INTEREST: Final = market_gates(
    inside_partition("snapshot_at"),
    rows_gate(
        "on_grid",
        "Every snapshot is on the 5-minute UTC grid.",
        breaking(lambda evidence: is_on(evidence.frame["snapshot_at"], SNAPSHOT_EVERY), ("symbol", "snapshot_at")),
        fix="the times are shifted or in another zone: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_taken",
        "No snapshot lies after the moment of asking.",
        breaking(over_by_now("snapshot_at"), ("symbol", "snapshot_at")),
        fix="the clock of the source or of this machine is wrong: mend it and ingest again",
    ),
    rows_gate(
        "counts_sane",
        "Open interest is finite and >= 0, and so are the ratios that the source has.",
        breaking(_counts_sane, ("snapshot_at", "open_interest_base", "open_interest_quote")),
        fix="the source's rows are corrupt: get the days from the exchange's archive again",
    ),
    no_duplicates("snapshot_at"),
    limited_gate(
        "coverage",
        "Share of the month's expected snapshots that are missing; a remark, because bars only use fresh ones.",
        _missing_snapshots,
        setting="open_interest_missing_share_max",
        fix="ingest the missing days; where no snapshot is fresh, open interest is null",
        severity=Severity.WARN,
    ),
    tail_age("snapshot_at"),
)

"""Questions about positioning: the rows of the bars, each value recomputed from its snapshots and orders.

Both sources are optional: what is not known must be null, and the share of it is only remarked upon.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import DAY_US, MICROSECOND, MINUTE_US, epoch_us
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, limit_gate, limited_gate
from backtest_assets.gates.gate import MAX_EXAMPLES, Evidence
from backtest_assets.gates.rows import inside_partition, market_gates

PUBLISHED_AFTER: Final = timedelta(minutes=5)
"""A snapshot counts as known one snapshot later: the exchange publishes it within that time. Said apart from what the bars
are built with, so that a shorter wait there is a red gate here."""

_ROUNDING: Final = 1e-9  # relative; sums in another order differ by some 1e-13
_OPEN_INTEREST: Final = ("open_interest_base", "open_interest_quote", "open_interest_age_min")
_LIQUIDATED: Final = ("liquidated_long_quote", "liquidated_short_quote", "n_liquidations")
_REBUILD: Final = "materialise the month's positioning again; if it stays red, build_positioning is broken"


def _not_the_bars(evidence: Evidence) -> Measured:
    bars = evidence.inputs["bars_um"].select("symbol", "open_at", "known_at").sort("open_at")
    mine = evidence.frame.select("symbol", "open_at", "known_at").sort("open_at")
    if mine.equals(bars):
        return 0, f"exactly the {bars.height} bars"
    wrong = pl.concat([left.join(right, on=left.columns, how="anti") for left, right in ((mine, bars), (bars, mine))])
    return max(wrong.height, 1), f"{wrong.height} rows are of one of the two only", wrong


def _not_the_snapshots(evidence: Evidence) -> Measured:
    known_us = _instants(evidence.frame, "known_at")
    expected = np.full((len(_OPEN_INTEREST), len(known_us)), np.nan)
    snapshots = evidence.inputs.get("raw_um_open_interest")
    if snapshots is not None and snapshots.height:
        rows = snapshots.sort("snapshot_at")
        taken_us = _instants(rows, "snapshot_at")
        newest = np.searchsorted(taken_us + PUBLISHED_AFTER // MICROSECOND, known_us, side="right") - 1
        age_min = np.where(newest >= 0, (known_us - taken_us[newest]) / MINUTE_US, np.nan)
        fresh = age_min <= evidence.limits.open_interest_age_max_min
        expected[:2] = [rows[name].to_numpy()[newest] for name in _OPEN_INTEREST[:2]]
        expected[2] = age_min
        expected[:, ~fresh] = np.nan
    return _differing(evidence.frame, _OPEN_INTEREST, expected, "newest snapshot that was known and fresh")


def _not_the_orders(evidence: Evidence) -> Measured:
    """Recompute the sums of each bar; a day may be null as a whole if it is without an order, or not over yet."""
    opened_us, known_us = _instants(evidence.frame, "open_at"), _instants(evidence.frame, "known_at")
    sums = np.zeros((len(_LIQUIDATED), len(opened_us)))
    orders = evidence.inputs.get("raw_um_liquidations")
    if orders is not None and orders.height:
        at_us = _instants(orders, "liquidated_at")
        bar = np.searchsorted(opened_us, at_us, side="right") - 1
        inside = (bar >= 0) & (at_us < known_us[bar])
        notional, sells = orders["notional_quote"].to_numpy(), (orders["order_side"] == "SELL").to_numpy()
        for row, kind in enumerate((sells, ~sells)):
            np.add.at(sums[row], bar[inside & kind], notional[inside & kind])
        np.add.at(sums[2], bar[inside], 1.0)
    days, day = np.unique(opened_us // DAY_US, return_inverse=True)
    has_order = (np.bincount(day, weights=sums[2]) > 0) & ((days + 1) * DAY_US <= epoch_us(evidence.as_of))
    all_null = np.bincount(day, weights=evidence.frame["n_liquidations"].is_not_null().to_numpy()) == 0
    sums[:, (all_null & ~has_order)[day]] = np.nan
    return _differing(evidence.frame, _LIQUIDATED, sums, "orders of the bar")


def _instants(frame: pl.DataFrame, name: str) -> NDArray[np.int64]:
    if frame[name].null_count():
        message = f"{frame[name].null_count()} rows have no {name}"
        raise ValueError(message)
    return frame[name].dt.epoch("us").to_numpy()


def _differing(frame: pl.DataFrame, names: tuple[str, ...], expected: NDArray[np.float64], what: str) -> Measured:
    found = np.vstack([frame[name].cast(pl.Float64()).to_numpy() for name in names])
    near = np.abs(found - expected) <= _ROUNDING * np.abs(expected)
    wrong = np.flatnonzero(~(near | (np.isnan(found) & np.isnan(expected))).all(axis=0))
    shown = frame[wrong[:MAX_EXAMPLES]].select("symbol", "open_at", *names)
    values = {f"{name}_expected": expected[i, wrong[:MAX_EXAMPLES]] for i, name in enumerate(names)}
    text = f"{len(wrong)} of {frame.height} bars do not have the {what}"
    return len(wrong), text, shown.with_columns(pl.DataFrame(values).fill_nan(None))


def _unknown(evidence: Evidence, name: str) -> Measured:
    unknown = evidence.frame.select("symbol", "open_at").filter(evidence.frame[name].is_null())
    share = unknown.height / evidence.frame.height
    return share, f"{name} is null in {unknown.height} of {evidence.frame.height} bars", unknown


GATES_POSITIONING_UM: Final = market_gates(
    inside_partition("open_at"),
    limit_gate(
        "rows_are_the_bars",
        "One row per bar of bars_um, no other.",
        _not_the_bars,
        limit=0,
        unit="rows",
        fix=_REBUILD,
    ),
    limit_gate(
        "open_interest_as_known",
        "Open interest is the newest snapshot that was published and fresh at the bar's close, else null.",
        _not_the_snapshots,
        limit=0,
        unit="bars",
        fix=f"{_REBUILD} (setting open_interest_age_max_min)",
    ),
    limit_gate(
        "liquidations_add_up",
        "Liquidations are the bar's orders, sold longs and bought shorts; an unknown day is null as a whole, never 0 in part.",
        _not_the_orders,
        limit=0,
        unit="bars",
        fix=_REBUILD,
    ),
    limited_gate(
        "open_interest_known",
        "Share of bars without open interest; a remark, because every reader can do without.",
        lambda evidence: _unknown(evidence, "open_interest_base"),
        setting="open_interest_missing_share_max",
        fix="ingest raw_um_open_interest for the missing days",
        severity=Severity.WARN,
    ),
    limit_gate(
        "liquidations_known",
        "Share of bars whose liquidations are unknown; a remark, because every reader can do without.",
        lambda evidence: _unknown(evidence, "n_liquidations"),
        limit=0,
        unit="share of bars",
        fix="ingest raw_um_liquidations for the missing days",
        severity=Severity.WARN,
    ),
)
"""Inputs: bars_um; raw_um_open_interest and raw_um_liquidations where they were ingested."""

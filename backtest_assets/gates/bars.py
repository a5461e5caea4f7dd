"""Questions about clean bars: the grid, the gaps, and that raw was not changed on the way; odd prices have their own module."""

from functools import partial
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US, BARS_PER_DAY, epoch_us
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Market
from backtest_assets.gates.ask import Measured, breaking, limit_gate, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.prices import IN_LINE_WITH_UM, PRICE_GATES, gaps_of
from backtest_assets.gates.rebuilt import not_as_raw
from backtest_assets.gates.rows import bar_span, grid_us, holes_of, inside_partition, instants, market_gates

_REBUILD: Final = "materialise the month's bars again; if it stays red, clean_klines is broken"
_INGEST: Final = "ingest the missing days from another source, or leave the month out"


def _off_grid(evidence: Evidence, *, raw_table: str) -> Measured:
    span = bar_span(evidence, evidence.inputs[raw_table])
    found, expected = evidence.frame["open_at"], grid_us(span, BAR)
    at = found.drop_nulls().to_physical().to_numpy()
    if not found.null_count() and np.array_equal(at, expected):
        return 0, f"exactly the {at.size} bars from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC"
    missing, extra = np.setdiff1d(expected, at), np.setdiff1d(at, expected)
    n_double = found.len() - np.unique(at).size
    n_wrong = missing.size + extra.size + n_double
    text = f"{missing.size} grid instants are missing, {extra.size} rows are off it, {n_double} double or null"
    return max(n_wrong, 1), text, instants(np.concatenate([missing, extra])).to_frame("open_at")


def _missing_days(evidence: Evidence) -> Measured:
    if evidence.frame["open_at"].null_count():
        return float("nan"), "some bars do not say when they were"
    gap, n_days = gaps_of(evidence.frame), evidence.frame.height // BARS_PER_DAY
    if gap.sum() < BARS_PER_DAY:
        return 0, f"each of some {n_days} UTC days has a bar"
    by_day = (
        evidence.frame.select(day=pl.col("open_at").dt.truncate("1d"))
        .filter(gap)
        .group_by("day")
        .len()
        .filter(pl.col("len") >= BARS_PER_DAY)
        .select("day")
        .sort("day")
    )
    return by_day.height, f"{by_day.height} of some {n_days} UTC days have no bar at all", by_day


def _gap_share(evidence: Evidence) -> Measured:
    gap = gaps_of(evidence.frame)
    n_gaps, n_bars = int(gap.sum()), len(gap)
    if not n_gaps:
        return 0.0, f"none of {n_bars} bars is a gap"
    holes = holes_of(evidence.frame["open_at"].filter(gap), BAR)
    first, longest = holes.row(0)
    return (
        n_gaps / n_bars,
        f"{n_gaps} of {n_bars} bars are gaps, the longest hole {longest} bars from {first:%Y-%m-%d %H:%M} UTC",
        holes,
    )


def _gaps(evidence: Evidence) -> pl.DataFrame:
    gap = gaps_of(evidence.frame)
    return evidence.frame.select("symbol", "open_at").filter(gap) if gap.any() else pl.DataFrame()


def _bar_gates(market: Market) -> tuple[Gate, ...]:
    raw_table = f"raw_{market.value}_ohlcv"
    return (
        inside_partition("open_at"),
        limit_gate(
            "exact_grid",
            "The rows are exactly the bars that the month must have, listing and open months considered.",
            partial(_off_grid, raw_table=raw_table),
            limit=0,
            unit="instants missing or too many",
            fix=_REBUILD,
        ),
        rows_gate(
            "known_at_close",
            "Every bar is known at its close, and closed by the moment of asking.",
            breaking(
                lambda evidence: (
                    (evidence.frame["known_at"].to_physical() - evidence.frame["open_at"].to_physical() == BAR_US)
                    & (evidence.frame["known_at"].to_physical() <= epoch_us(evidence.as_of))
                ),
                ("open_at", "known_at"),
            ),
            fix=_REBUILD,
        ),
        limit_gate(
            "identical_to_raw",
            f"Every bar is the complete bucket of {raw_table}, worked out once more; every incomplete bucket is a gap.",
            partial(not_as_raw, raw_table=raw_table),
            limit=0,
            unit="bars",
            fix=_REBUILD,
        ),
        limited_gate(
            "missing_days",
            "Whole UTC days without a bar; an ERROR, because what moved on such a day is unknown to every window over it.",
            _missing_days,
            setting=f"{market.value}_missing_days_max",
            fix=_INGEST,
        ),
        limited_gate(
            "gap_share",
            "Share of bars that are gaps; an ERROR, because statistics over holes are not those of the market.",
            _gap_share,
            setting=f"{market.value}_gap_share_max",
            fix=_INGEST,
        ),
        rows_gate(
            "no_gaps",
            "No bar is a gap; a remark, because exchanges do close now and then.",
            _gaps,
            fix="no trade is entered, held over or exited on a gap; look whether the exchange was closed",
            severity=Severity.WARN,
        ),
        *PRICE_GATES,
    )


GATES_BARS_UM: Final = market_gates(*_bar_gates(Market.UM))
"""Input: raw_um_ohlcv."""
GATES_BARS_SPOT: Final = market_gates(*_bar_gates(Market.SPOT), IN_LINE_WITH_UM)
"""Inputs: raw_spot_ohlcv, and bars_um where there are any."""

"""Questions about clean bars: the grid, the gaps, and that no price was changed on the way from raw."""

import math
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.gate import Evidence, Gate, examples_of
from backtest_assets.gates.raw import (
    SPOT_COVERAGE_MIN,
    UM_COVERAGE_MIN,
    expected_opens,
    inside_partition,
    nothing_to_judge,
    rows_gate,
)

UM_GAP_SHARE_MAX: Final = 1 - UM_COVERAGE_MIN
"""Largest share of gap bars in a month [fraction]; what raw coverage leaves open."""

SPOT_GAP_SHARE_MAX: Final = 1 - SPOT_COVERAGE_MIN
"""The same for spot [fraction]."""

_VALUES: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "volume_quote",
    "n_trades",
    "taker_buy_base",
    "taker_buy_quote",
)
_REBUILD: Final = "materialise the month's bars again; if it stays red, clean_klines is broken"
_ROUNDING: Final = 1e-12  # 1 - 0.99 is not exactly 0.01 [fraction]


def _ask_grid(evidence: Evidence) -> Verdict:
    name, unit = "exact_grid", "instants missing or too many"
    found, expected = evidence.frame["open_at"], expected_opens(evidence)
    if found.is_empty() or expected.is_empty():
        return nothing_to_judge(name, 0, unit)
    missing = expected.filter(~expected.is_in(found.implode()))
    extra = found.filter(~found.is_in(expected.implode()).fill_null(value=False) | found.is_duplicated())
    wrong = pl.concat([missing, extra])
    detail = f"{len(missing)} grid instants are missing, {len(extra)} rows are off it or double; {_REBUILD}"
    return Verdict(
        name,
        len(wrong),
        0,
        unit,
        wrong.is_empty(),
        detail if len(wrong) else "exactly the month's closed bars",
        examples_of(wrong.to_frame(), ("open_at",)),
    )


def _gap_share(limit: float) -> Gate:
    name, unit = "gap_share", "share of bars"

    def ask(evidence: Evidence) -> Verdict:
        fix = "ingest the missing days from another source, or leave the month out"
        # A bar without a close is a gap whatever its flag says; an unknown flag is one too.
        gap = evidence.frame["is_gap"].fill_null(value=True) | evidence.frame["close"].is_null()
        if gap.is_empty():
            return nothing_to_judge(name, limit, unit)
        n_gaps = int(gap.sum())
        share = n_gaps / len(gap)
        detail = f"{n_gaps} of {len(gap)} bars are gaps; {fix}" if n_gaps else "no gaps"
        return Verdict(
            name,
            share,
            limit,
            unit,
            share <= limit + _ROUNDING,
            detail,
            examples_of(evidence.frame.filter(gap), ("symbol", "open_at")),
        )

    return Gate(name, Severity.ERROR, f"Share of gap bars in the month; limit: {limit:.2g}.", ask)


def _same_as_raw(raw_table: str) -> Gate:
    name, unit = "identical_to_raw", "bars"

    def ask(evidence: Evidence) -> Verdict:
        raw = (
            evidence.inputs[raw_table]
            .filter(pl.col("open_at") + BAR <= evidence.as_of)
            .select("open_at", *_VALUES)
            .unique()
        )
        if evidence.frame.is_empty() or raw.is_empty():
            return Verdict(
                name,
                math.nan,
                0,
                unit,
                passed=False,
                detail=f"no bars, or no rows of {raw_table} to compare with; {_REBUILD}",
            )
        real = evidence.frame.filter(~pl.col("is_gap")).select("open_at", *_VALUES)
        both = real.join(raw, on="open_at", how="full", suffix="_raw", coalesce=True)
        same = pl.all_horizontal(pl.col(value).eq_missing(pl.col(f"{value}_raw")) for value in _VALUES)
        differ = both.filter(~(same & pl.col("close").is_not_null()))
        detail = (
            f"{differ.height} bars are not what {raw_table} says; {_REBUILD}"
            if differ.height
            else f"every bar is as in {raw_table}"
        )
        return Verdict(
            name,
            differ.height,
            0,
            unit,
            differ.is_empty(),
            detail,
            examples_of(differ, ("open_at", "close", "close_raw")),
        )

    return Gate(
        name,
        Severity.ERROR,
        f"Every bar has the values of its row in {raw_table}, none more, none less; limit: 0 bars.",
        ask,
    )


def _gates(raw_table: str, gap_share_max: float) -> tuple[Gate, ...]:
    return (
        inside_partition("open_at"),
        Gate(
            "exact_grid", Severity.ERROR, "The rows are exactly the month's closed bars; limit: 0 instants.", _ask_grid
        ),
        rows_gate(
            "known_at_close",
            "Every bar is known at its close, and closed by the moment of asking.",
            lambda evidence: (pl.col("known_at") == pl.col("open_at") + BAR) & (pl.col("known_at") <= evidence.as_of),
            ("open_at", "known_at"),
            fix=_REBUILD,
        ),
        _same_as_raw(raw_table),
        _gap_share(gap_share_max),
        rows_gate(
            "no_gaps",
            "No bar is a gap.",
            lambda _: ~pl.col("is_gap"),
            ("symbol", "open_at"),
            fix="no trade is entered, held over or exited on a gap; look whether the exchange was closed",
            severity=Severity.WARN,
        ),
    )


GATES_BARS_UM: Final = _gates("raw_um_ohlcv", UM_GAP_SHARE_MAX)
GATES_BARS_SPOT: Final = _gates("raw_spot_ohlcv", SPOT_GAP_SHARE_MAX)

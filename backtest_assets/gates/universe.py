"""What must be true of the universe: every month and symbol judged, by volume that was known before the month."""

from typing import Final

import polars as pl

from backtest_assets.domain.clock import month_start, months_between
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate

_KEY: Final = ("month", "symbol")
_CLOSE: Final = 1e-9  # relative; sums in another order differ by some 1e-13


def _unjudged(evidence: Evidence) -> pl.DataFrame:
    run = evidence.settings
    asked = pl.DataFrame({"month": months_between(*run.window)}).join(
        pl.DataFrame({"symbol": run.symbol_list}), how="cross"
    )
    rows = evidence.frame.select(_KEY)
    return pl.concat([asked.join(rows, on=_KEY, how="anti"), rows.join(asked, on=_KEY, how="anti")])


def _known_late(evidence: Evidence) -> pl.DataFrame:
    starts = {month: month_start(month) for month in evidence.frame["month"].unique()}
    start = pl.col("month").replace_strict(starts, return_dtype=evidence.frame.schema["known_at"])
    first = (pl.col("known_at") == start) | (
        (pl.col("known_at") == start + pl.duration(minutes=15)) & (pl.col("reason") == "no_history_yet")
    )
    return broken(evidence.frame, first | ~pl.col("is_eligible")).select(*_KEY, "known_at", "reason")


def _misranked(evidence: Evidence) -> pl.DataFrame:
    # volumes summed again bar by bar, for every month by a filter of its own
    days = pl.duration(days=evidence.settings.universe_lookback_days)
    bars = evidence.inputs["bars_um"].filter(~pl.col("is_gap"))
    value = pl.col("volume_quote").fill_null(pl.col("volume_base") * pl.col("close"))
    found: list[pl.DataFrame] = []
    for (month,), rows in evidence.frame.partition_by("month", as_dict=True).items():
        start = pl.lit(month_start(str(month)))
        inside = (pl.col("open_at") >= start - days) & (pl.col("known_at") <= start)
        sums = bars.filter(inside).group_by("symbol").agg(again=value.sum())
        joined = rows.join(sums, on="symbol", how="left")
        same = (pl.col("dollar_volume_quote") - pl.col("again")).abs() <= _CLOSE * pl.col("again")
        both_null = pl.col("dollar_volume_quote").is_null() & pl.col("again").is_null()
        by_size = rows.filter(pl.col("rank").is_not_null()).sort(
            "dollar_volume_quote", "symbol", descending=[True, False]
        )
        in_order = pl.col("rank") == pl.int_range(1, pl.len() + 1)
        found += [broken(joined, same | both_null).select(_KEY), broken(by_size, in_order).select(_KEY)]
    return pl.concat(found)


def _too_many(evidence: Evidence) -> pl.DataFrame:
    top_n = evidence.settings.universe_top_n
    eligible = pl.col("is_eligible")
    crowded = evidence.frame.filter(eligible & (pl.col("rank") > top_n)) if top_n else evidence.frame.clear()
    unlisted = evidence.frame.filter(eligible & ~pl.col("is_listed"))
    undeclared = [
        evidence.frame.filter(
            eligible & (pl.col("symbol") == symbol) & pl.col("month").is_in(_unlisted_months(evidence, symbol))
        )
        for symbol in evidence.listings
    ]
    return pl.concat([crowded, unlisted, *undeclared]).select(*_KEY, "rank", "reason")


def _unlisted_months(evidence: Evidence, symbol: str) -> list[str]:
    listing = evidence.listings[symbol]
    return [
        month
        for month in evidence.frame["month"].unique().to_list()
        if listing.listed_at >= month_start(month)
        or (listing.delisted_at is not None and listing.delisted_at <= month_start(month))
    ]


def _left_out(evidence: Evidence) -> tuple[float, str]:
    out = evidence.frame.filter(~pl.col("is_eligible"))
    reasons = out.group_by("reason").len().sort("reason")
    listed = ", ".join(f"{n} {reason}" for reason, n in reasons.iter_rows()) or "none"
    return out.height, f"not eligible: {listed}"


GATES_UNIVERSE: Final[tuple[Gate, ...]] = (
    rows_gate(
        "every_month_judged",
        "Every month and symbol of the run has exactly one row.",
        _unjudged,
        fix="rebuild universe; a symbol without a row may not be traded",
    ),
    rows_gate(
        "known_before_month",
        "An eligible row is known at the month's first instant, or where there is no history at its first close.",
        _known_late,
        fix="rebuild universe; a universe that is known later looks ahead",
    ),
    rows_gate(
        "volumes_recounted",
        "Dollar volumes of the days before the month, summed again from the bars, are the stored ones, and ranks follow them.",
        _misranked,
        fix="bars_um changed after the universe was built: rebuild universe",
    ),
    rows_gate(
        "eligible_only",
        "Only listed symbols within the top N are eligible.",
        _too_many,
        fix="rebuild universe; if it stays red, build_universe is broken",
    ),
    limit_gate(
        "all_eligible",
        "Every symbol may be traded in every month.",
        _left_out,
        limit=0,
        unit="symbol months",
        fix="events there are dropped as not_in_universe; start later, or raise universe_top_n",
        severity=Severity.WARN,
    ),
)

"""What must be true of the features: every bar has its row, little is unknown, nothing is known early."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import cuts, differing, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.bars.calendar import grid_ceil, grid_floor
from backtest_assets.research.features.build import build_features

NULL_SHARE_LIMIT: Final = 0.10
"""Largest share of nulls inside the run's window [fraction]: the 11 days that ranks need are 3 % of a year without
warm-up; more means gaps or missing funding, and the events found would not be of the whole window."""

_BASIS: Final = ("basis_bps", "basis_z_96")
_KEY: Final = ("symbol", "open_at")


def _uncovered(evidence: Evidence) -> pl.DataFrame:
    start, end = evidence.settings.window
    spans = [(symbol, *_traded(evidence, symbol, start, end)) for symbol in evidence.settings.symbol_list]
    calendar = pl.concat(
        pl.datetime_range(first, last, BAR, closed="left", time_unit="us", eager=True)
        .alias("open_at")
        .to_frame()
        .select(symbol=pl.lit(symbol), open_at="open_at")
        for symbol, first, last in spans
    )
    bars, rows = evidence.inputs["bars_um"].select(_KEY), evidence.frame.select(_KEY)
    return pl.concat(
        [
            calendar.join(rows, on=_KEY, how="anti"),
            bars.join(rows, on=_KEY, how="anti"),
            rows.join(bars, on=_KEY, how="anti"),
        ]
    ).unique()


def _traded(evidence: Evidence, symbol: str, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the whole bars of the window in which a symbol traded."""
    listing = evidence.listings.get(symbol)
    first, last = (start, end) if listing is None else listing.within(start, end)
    first = grid_ceil(first)
    return first, max(grid_floor(last), first)


def _null_share(evidence: Evidence, columns: Sequence[str]) -> tuple[float, str]:
    start, end = evidence.settings.window
    inside = evidence.frame.filter(pl.col("open_at").is_between(start, end, closed="left"))
    if inside.is_empty():
        return float("nan"), "no row in the run's window"
    shares = inside.select(pl.col(columns).is_null().mean()).row(0, named=True)
    worst = max(shares, key=lambda name: shares[name])
    return shares[worst], f"most nulls in {worst}"


def _unlike_bars(evidence: Evidence) -> pl.DataFrame:
    close = pl.col("close")
    again = (
        evidence.inputs["bars_um"]
        .sort(_KEY)
        .select(
            *_KEY,
            "is_gap",
            logret_1=(close / close.shift(1).over("symbol")).log(),
            trend_ret_96=close / close.shift(96).over("symbol") - 1.0,
        )
    )
    return differing(evidence.frame.select(again.columns), again, _KEY)


def _stale_or_early_funding(evidence: Evidence) -> pl.DataFrame:
    # the settlement a row shows must be the last one at or before known_at: counted anew, by search
    found = [_miscounted(rows, evidence.inputs["settlements_um"]) for rows in evidence.frame.partition_by("symbol")]
    return pl.concat(found)


def _miscounted(rows: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    settled = funding.join(rows.head(1), on="symbol", how="semi")["settled_at"].sort().dt.epoch("us").to_numpy()
    shown = pl.col("funding_settled_at").dt.epoch("us").fill_null(0)  # none shown: none may have been settled
    known, last = rows.select(pl.col("known_at").dt.epoch("us"), shown).fill_null(np.iinfo(np.int64).max).get_columns()
    n_between = np.searchsorted(settled, known.to_numpy(), "right") - np.searchsorted(settled, last.to_numpy(), "right")
    return rows.select(*_KEY, "known_at", "funding_settled_at", n_between=pl.Series(n_between)).filter(
        (pl.col("n_between") != 0) | (pl.col("funding_settled_at") > pl.col("known_at")) | pl.col("known_at").is_null()
    )


def _changed_past(evidence: Evidence) -> pl.DataFrame:
    bars, spot, funding = (evidence.inputs[name] for name in ("bars_um", "bars_spot", "settlements_um"))
    found: list[pl.DataFrame] = []
    for cut in cuts(evidence.frame["known_at"]):
        known = pl.col("known_at") <= cut
        again = build_features(bars.filter(known), spot.filter(known), funding.filter(pl.col("settled_at") <= cut))
        found.append(differing(evidence.frame.filter(known), again, _KEY))
    return pl.concat(found)


_OTHERS: Final = ("logret_1", "rv_12", "rv_ratio_288", "rv_96", "rv_pct_2880", "range_96_frac", "high_prev_96",
                  "low_prev_96", "compression_ratio", "trend_ret_96", "funding_rate", "funding_rate_8h")  # fmt: skip

GATES_FEATURES: Final[tuple[Gate, ...]] = (
    rows_gate(
        "covers_bars",
        "Features have exactly the rows of bars_um, and every instant of the run's window for every symbol.",
        _uncovered,
        fix="backfill the missing months of bars_um, then rebuild features",
    ),
    limit_gate(
        "null_share",
        "Inside the window few values of any feature but the basis are unknown.",
        lambda evidence: _null_share(evidence, _OTHERS),
        limit=NULL_SHARE_LIMIT,
        unit="fraction",
        fix="look at the gaps of bars_um and settlements_um, or start the run later, after its warm-up",
    ),
    limit_gate(
        "basis_null_share",
        "Inside the window few values of the basis are unknown (spot is optional).",
        lambda evidence: _null_share(evidence, _BASIS),
        limit=NULL_SHARE_LIMIT,
        unit="fraction",
        fix="ingest the spot months that are missing; nothing but the basis depends on them",
        severity=Severity.WARN,
    ),
    rows_gate(
        "agrees_with_bars",
        "Returns and trends computed anew from bars_um are the stored ones.",
        _unlike_bars,
        fix="bars_um changed after features were built: rebuild features",
    ),
    rows_gate(
        "funding_is_last_settled",
        "A row shows the last settlement at or before its known_at, neither an older nor a later one.",
        _stale_or_early_funding,
        fix="settlements_um changed after features were built: rebuild features",
    ),
    rows_gate(
        "prefix_invariant",
        "Features computed from the data known at two earlier instants are the stored ones.",
        _changed_past,
        fix="a feature sees the future, or its inputs changed since: rebuild features; if red again, do not trade on it",
    ),
)

"""What must be true of the features: every bar has its row, little is unknown, nothing is known early."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import limit_gate, rows_gate
from backtest_assets.gates.foresight import N_CUTS, Cut, Future, Line, Tape, compare_columns, foresight_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.past import unlike
from backtest_assets.gates.recounted import N_SAMPLED, unlike_persistence, unlike_positioning, unlike_samples
from backtest_assets.research.bars.calendar import grid_ceil, grid_floor
from backtest_assets.research.features.build import build_features

NULL_SHARE_LIMIT: Final = 0.10
"""Largest share of nulls inside the run's window [fraction]: the 11 days that ranks need are 3 % of a year without
warm-up; more means gaps or missing funding, and the events found would not be of the whole window."""
LONG_NULL_SHARE_LIMIT: Final = 0.25
"""The same for windows of a month and half a year [fraction]: the 60 days that the longest needs are 17 % of a year."""
SPREAD_NULL_SHARE_LIMIT: Final = 2 / 3
"""Share of days whose bars show no spread [fraction]; 9 % on BTC and ETH, half where there is none to see."""

_KEY: Final = ("symbol", "open_at")
_MEMORY: Final = (17_280 + 2 * 96) * BAR
"""Past that a row needs: ranks over 180 days of a day's volatility."""
_TAIL: Final = 480 * BAR
"""Rows before a cut that are compared: five days."""


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


def _null_share(evidence: Evidence, columns: Sequence[str]) -> tuple[float, str, pl.DataFrame]:
    """Return the share of the column with most nulls, and every column with its own, the worst first."""
    start, end = evidence.settings.window
    inside = evidence.frame.select("open_at", *columns).filter(pl.col("open_at").is_between(start, end, closed="left"))
    if inside.is_empty():
        return float("nan"), "no row in the run's window", pl.DataFrame()
    shares = inside.select(pl.col(columns).is_null().mean()).unpivot(variable_name="column", value_name="null_share")
    told = shares.filter(pl.col("null_share") > 0).sort("null_share", descending=True, maintain_order=True)
    if told.is_empty():
        return 0.0, "no nulls", told
    worst = told.row(0, named=True)
    return worst["null_share"], f"most nulls in {worst['column']}", told


def _unlike_bars(evidence: Evidence) -> pl.DataFrame:
    close, volume = pl.col("close"), pl.col("volume_base")
    prices = ("close", "high", "low", "volume_base", "taker_buy_base")
    again = (
        evidence.inputs["bars_um"]
        .select(*_KEY, "is_gap", *prices)
        .sort(_KEY)
        .select(
            *_KEY,
            "is_gap",
            logret_1=(close / close.shift(1).over("symbol")).log(),
            trend_ret_96=close / close.shift(96).over("symbol") - 1.0,
            trend_ret_2880=close / close.shift(2_880).over("symbol") - 1.0,
            range_frac=(pl.col("high") - pl.col("low")) / close,
            taker_imbalance=pl.when(volume > 0).then((2 * pl.col("taker_buy_base") - volume) / volume),
        )
    )
    return unlike(evidence.frame, again)


def _stale_or_early_funding(evidence: Evidence) -> pl.DataFrame:
    # the settlement a row shows must be the last one at or before known_at: counted anew, by search
    shown = evidence.frame.select(*_KEY, "known_at", "funding_settled_at")
    found = [_miscounted(rows, evidence.inputs["settlements_um"]) for rows in shown.partition_by("symbol")]
    return pl.concat(found)


def _miscounted(rows: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    settled = funding.join(rows.head(1), on="symbol", how="semi")["settled_at"].sort().dt.epoch("us").to_numpy()
    shown = pl.col("funding_settled_at").dt.epoch("us").fill_null(0)  # none shown: none may have been settled
    known, last = rows.select(pl.col("known_at").dt.epoch("us"), shown).fill_null(np.iinfo(np.int64).max).get_columns()
    n_between = np.searchsorted(settled, known.to_numpy(), "right") - np.searchsorted(settled, last.to_numpy(), "right")
    return rows.select(*_KEY, "known_at", "funding_settled_at", n_between=pl.Series(n_between)).filter(
        (pl.col("n_between") != 0) | (pl.col("funding_settled_at") > pl.col("known_at")) | pl.col("known_at").is_null()
    )


def _changed_by_the_future(evidence: Evidence) -> Mapping[str, Line]:
    names = ("bars_um", "bars_spot", "settlements_um", "positioning_um")
    settled: tuple[str, Sequence[str]] = (
        "settled_at",
        [c for c in evidence.inputs["settlements_um"].columns if c != "funding_rate"],
    )

    def rebuild(symbol: str) -> Callable[[Cut, Future, datetime | None], pl.DataFrame]:
        tapes = [
            Tape.of(evidence.inputs[name], symbol, time=settled[0], kept=settled[1])
            if name == "settlements_um"
            else Tape.of(evidence.inputs[name], symbol)
            for name in names
        ]

        def made(cut: Cut, future: Future, since: datetime | None) -> pl.DataFrame:
            bars, spot, funding, positioning = (tape.seen(cut, future, since) for tape in tapes)
            return build_features(bars, spot, funding, positioning)

        return made

    return compare_columns(evidence, "bars_um", rebuild, memory=_MEMORY, tail=_TAIL)


def _optional(
    name: str,
    columns: Sequence[str],
    source: tuple[str, str],
    fix: str,
    *,
    limit: float = NULL_SHARE_LIMIT,
) -> Gate:
    """Return the remark that columns are null which nothing else depends on.

    Args:
        name: of the gate.
        columns: the columns.
        source: table and column that they are made from.
        fix: what brings them.
        limit: largest share of nulls inside the window without a remark [fraction].
    """
    table, column = source

    def measure(evidence: Evidence) -> tuple[float, str, pl.DataFrame]:
        share, worst, told = _null_share(evidence, columns)
        rows = evidence.inputs[table]
        if rows.is_empty():
            return share, f"{table} is not there: {', '.join(columns)} are null", told
        if rows[column].null_count() == rows.height:
            return share, f"{table} has no {column}: {', '.join(columns)} are null", told
        return share, worst, told

    about = f"Inside the window few values of {', '.join(columns)} are unknown; a remark, because they are optional."
    return limit_gate(name, about, measure, limit=limit, unit="fraction", fix=fix, severity=Severity.WARN)


_REQUIRED: Final = (
    "logret_1", "rv_12", "rv_ratio_288", "rv_96", "rv_pct_2880", "range_frac", "range_96_frac", "high_prev_96",
    "low_prev_96", "compression_ratio", "trend_ret_96", "funding_rate", "funding_rate_8h", "is_funding_persistent",
    "funding_persistence_age_h", "funding_persistence_severity",
)  # fmt: skip

GATES_FEATURES: Final[tuple[Gate, ...]] = (
    rows_gate(
        "covers_bars",
        "Features have exactly the rows of bars_um, and every instant of the run's window for every symbol.",
        _uncovered,
        fix="backfill the missing months of bars_um, then rebuild features",
    ),
    limit_gate(
        "null_share",
        "Inside the window few values are unknown of any feature that bars and settlements must give.",
        lambda evidence: _null_share(evidence, _REQUIRED),
        limit=NULL_SHARE_LIMIT,
        unit="fraction",
        fix="look at the gaps of bars_um and settlements_um, or start the run later, after its warm-up",
    ),
    _optional(
        "basis_null_share",
        ("basis_bps", "basis_z_96"),
        ("bars_spot", "close"),
        "ingest the spot months that are missing",
    ),
    _optional(
        "long_window_null_share",
        ("rv_pct_17280", "trend_ret_2880"),
        ("bars_um", "close"),
        "ingest more months before the start",
        limit=LONG_NULL_SHARE_LIMIT,
    ),
    _optional(
        "volume_null_share",
        ("volume_quote_ratio_2880",),
        ("bars_um", "volume_base"),
        "use a source with volumes",
    ),
    _optional(
        "taker_null_share",
        ("taker_imbalance", "taker_imbalance_96"),
        ("bars_um", "taker_buy_base"),
        "use a source with taker volumes (binance has them)",
    ),
    _optional(
        "spread_null_share",
        ("spread_est_96_bps",),
        ("bars_um", "high"),
        "volatility hides the spread in these bars: do not condition on it",
        limit=SPREAD_NULL_SHARE_LIMIT,
    ),
    _optional(
        "open_interest_null_share",
        ("open_interest_quote", "open_interest_log_change_4", "open_interest_log_change_96"),
        ("positioning_um", "open_interest_base"),
        "ingest raw_um_open_interest",
    ),
    _optional(
        "liquidations_null_share",
        (
            "liquidated_long_quote",
            "liquidated_short_quote",
            "liquidated_long_quote_96",
            "liquidated_short_quote_96",
        ),
        ("positioning_um", "liquidated_long_quote"),
        "ingest raw_um_liquidations",
    ),
    rows_gate(
        "agrees_with_bars",
        "Returns, trends, ranges and taker imbalance computed anew from bars_um are the stored ones.",
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
        "samples_recounted",
        f"At {N_SAMPLED} bars per symbol ranks, traded value and spread counted anew over whole windows are the stored ones.",
        unlike_samples,
        fix="bars_um changed after features were built: rebuild features; if red again, a rolling statistic is broken",
    ),
    rows_gate(
        "agrees_with_positioning",
        "Open interest, its changes and liquidations computed anew from positioning_um are the stored ones.",
        unlike_positioning,
        fix="positioning_um changed after features were built: rebuild features",
    ),
    rows_gate(
        "persistence_recounted",
        "The funding state is the one that a walk over the settlements gives.",
        unlike_persistence,
        fix="settlements_um changed after features were built: rebuild features; if red again, the state is broken",
    ),
    foresight_gate(
        "prefix_invariant",
        f"At {N_CUTS} random instants no column changes when the future is removed or replaced.",
        "column",
        _changed_by_the_future,
        fix="a feature sees the future, or its inputs changed since: rebuild features; if red again, do not trade on it",
    ),
)

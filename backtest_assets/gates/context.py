"""What must be true of the context: every feature row has its words and measures, words are known, few are unknown."""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import broken, differing, limit_gate, rows_gate
from backtest_assets.gates.foresight import N_CUTS, Cut, Future, Line, Tape, compare_columns, foresight_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.context.build import NEEDS, build_context

WORDS: Final = {
    "vol_regime": ("low", "mid", "high", "unknown"),
    "bull_bear": ("bull", "bear", "unknown"),
    "funding_regime": ("negative", "neutral", "positive", "unknown"),
    "compression_state": ("compressed", "open", "unknown"),
    "liquidity_regime": ("thin", "usual", "heavy", "unknown"),
    "session": ("asia", "eu", "us"),
}
OPTIONAL: Final = frozenset({"liquidity_regime"})
"""Regimes that need what a source may lack (volume): all unknown is a remark only."""
UNKNOWN_REMARK: Final = 0.10
"""Share of unknown words that deserves a remark [fraction]: the 30 days thresholds need are 8 % of a year."""
UNKNOWN_LIMIT: Final = 0.50
"""Share of unknown words at which a regime says nothing about the window any more [fraction]."""

COPIED: Final = (
    "rv_pct_2880",
    "funding_persistence_age_h",
    "basis_z_96",
    "volume_quote_ratio_2880",
    "open_interest_log_change_96",
)
"""Measures that are columns of features."""
RANKED: Final = {"funding_pct_8640": ("funding_rate_8h", 8_640), "spread_pct_2880": ("spread_est_96_bps", 2_880)}
"""Measures that are ranks of a column of features in a trailing window [bars]; a third of it must be known."""
N_RANKED: Final = 24
"""Rows of each symbol whose ranks are counted again [rows]."""
RANK_ERROR: Final = 1e-9
"""Difference of a rank counted again [fraction]: rounding of one division."""

_KEY: Final = ("symbol", "open_at")
_MEMORY: Final = (8_640 + 1) * BAR
"""Past that a row needs: funding thirds of 90 days, lagged one bar."""
_TAIL: Final = 480 * BAR
"""Rows before a cut that are compared: five days."""


def _strange(evidence: Evidence) -> pl.DataFrame:
    return broken(evidence.frame, pl.all_horizontal(pl.col(name).is_in(words) for name, words in WORDS.items()))


def _uncovered(evidence: Evidence) -> pl.DataFrame:
    mine, features = (frame.select(*_KEY, "known_at") for frame in (evidence.frame, evidence.inputs["features"]))
    return differing(mine, features, _KEY)


def _unknown_share(evidence: Evidence, regimes: Collection[str]) -> tuple[float, str]:
    start, end = evidence.settings.window
    inside = evidence.frame.filter(pl.col("open_at").is_between(start, end, closed="left"))
    if inside.is_empty():
        return float("nan"), "no row in the run's window"
    unknown = inside.select((pl.col(name).fill_null("unknown") == "unknown").mean() for name in regimes).row(
        0, named=True
    )
    worst = max(unknown, key=lambda name: unknown[name])
    return unknown[worst], f"most unknown in {worst}"


def _miscopied(evidence: Evidence) -> pl.DataFrame:
    mine, features = (frame.select(*_KEY, *COPIED) for frame in (evidence.frame, evidence.inputs["features"]))
    return differing(mine, features.join(mine, on=_KEY, how="semi"), _KEY)


def _rank_error(evidence: Evidence) -> tuple[float, str]:
    """Count the ranks of evenly spaced rows again, value by value: smaller ones, and half of the equal ones."""
    worst, culprit, n_counted = 0.0, "", 0
    sources = evidence.inputs["features"].select(*_KEY, *(source for source, _ in RANKED.values()))
    both = sources.join(evidence.frame.select(*_KEY, *RANKED), on=_KEY, how="left").sort(_KEY)
    for (symbol,), rows in both.group_by("symbol", maintain_order=True):
        for name, (source, window) in RANKED.items():
            values, ranks = rows[source].to_list(), rows[name].to_list()
            for at in sorted({round(k * (rows.height - 1) / N_RANKED) for k in range(1, N_RANKED + 1)}):
                error = _error_of_rank(ranks[at], values[max(0, at + 1 - window) : at + 1], window)
                n_counted += 1
                if not error <= worst:
                    worst, culprit = error, f"{name} of {symbol} at {rows['open_at'][at]}"
    if not n_counted:
        return float("nan"), "no rank to count again"
    return worst, culprit or f"{n_counted} ranks counted again"


def _error_of_rank(rank: float | None, values: list[float | None], window: int) -> float:
    own, known = values[-1], [value for value in values if value is not None]
    if own is None or len(known) < window // 3:
        return 0.0 if rank is None else math.inf
    n_below, n_equal = sum(value < own for value in known), sum(value == own for value in known)
    return math.inf if rank is None else abs(rank - (n_below + (n_equal + 1) / 2) / len(known))


def _changed_by_the_future(evidence: Evidence) -> Mapping[str, Line]:
    features = evidence.inputs["features"].select(NEEDS)

    def rebuild(symbol: str) -> Callable[[Cut, Future, datetime | None], pl.DataFrame]:
        tape = Tape.of(features, symbol)
        return lambda cut, future, since: build_context(tape.seen(cut, future, since))

    return compare_columns(evidence, "features", rebuild, memory=_MEMORY, tail=_TAIL)


GATES_MARKET_CONTEXT: Final[tuple[Gate, ...]] = (
    rows_gate("words_known", "Every regime is a word of its vocabulary.", _strange, fix="rebuild context"),
    rows_gate(
        "covers_features",
        "Context has exactly the rows of features.",
        _uncovered,
        fix="features changed after context was built: rebuild context",
    ),
    rows_gate(
        "measures_copied",
        "Measures that are features equal them.",
        _miscopied,
        fix="features changed after context was built: rebuild context",
    ),
    limit_gate(
        "ranks_recounted",
        f"Ranks of {N_RANKED} rows of each symbol, counted value by value, are the table's.",
        _rank_error,
        limit=RANK_ERROR,
        unit="fraction",
        fix="rebuild context",
    ),
    limit_gate(
        "unknown_share",
        "Inside the window few regimes are unknown, optional ones apart.",
        lambda evidence: _unknown_share(evidence, [name for name in WORDS if name not in OPTIONAL]),
        limit=UNKNOWN_LIMIT,
        unit="fraction",
        fix="look at the nulls of features; a longer history before start helps",
    ),
    limit_gate(
        "unknown_remark",
        "Inside the window hardly any regime is unknown.",
        lambda evidence: _unknown_share(evidence, WORDS),
        limit=UNKNOWN_REMARK,
        unit="fraction",
        fix="conditions on this regime see only part of the window",
        severity=Severity.WARN,
    ),
    foresight_gate(
        "prefix_invariant",
        f"At {N_CUTS} random instants no regime changes when the future of the features is removed or replaced.",
        "column",
        _changed_by_the_future,
        fix="a regime sees the future, or features changed since: rebuild context; if red again, do not trade on it",
    ),
)

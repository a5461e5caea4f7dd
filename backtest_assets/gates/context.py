"""What must be true of the context: every feature row has its words, they are of the vocabulary, few are unknown."""

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

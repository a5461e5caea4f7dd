"""What phase 1 found of every family: its decision and its negative controls. The only reader of `phase1_evidence` here.

Keep effects out: of the true events only the decision and the count are read. Where the true z lies among the placebos
(`p_shifted`) is an effect too and decides nothing here. Placebos are read of the moves that phase 2 would trade, at the
holds of the mechanism's bucket: that the weeks before a compression are calm by construction says nothing against the
moves after it. Shuffles are the family's, of all its moves together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from scipy.stats import binom

from backtest_assets.domain.sensor import Bucket
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses.queue.mechanism import BUCKET_HOLDS, NegativeControl
from backtest_assets.research.phase1.criteria import N_SHUFFLES, PLACEBO_LEVEL, SHUFFLE_LEVEL, FamilyDecision

MOVE_METRICS: Final = {bucket: tuple(f"move_{hold}_bars_bps" for hold in BUCKET_HOLDS[bucket]) for bucket in Bucket}
"""Metrics of phase 1 that are the moves a bucket trades."""

SHUFFLE_LIMIT: Final = 0.001
"""p at which phase 1's test rejects too many shuffled sets [probability]: one sound test in a thousand is struck."""


@dataclass(frozen=True, slots=True)
class Placebo:
    """The result of one negative control on one family.

    Attributes:
        p: what was observed [probability]; None if it was not run on all of the bucket's moves.
        limit: what it is held against [probability].
        passed: it shows no effect; false if it was not run.
    """

    p: float | None
    limit: float
    passed: bool


NEVER_RUN: Final = Placebo(None, PLACEBO_LEVEL, passed=False)


@dataclass(frozen=True, slots=True)
class FamilyEvidence:
    """What phase 1 says of one family.

    Attributes:
        decision: pass, freeze or not_run.
        reason: why, in its words.
        n_matched: events with matched controls on train [events].
        placebos: the negative controls, by bucket.
    """

    decision: FamilyDecision
    reason: str
    n_matched: int
    placebos: Mapping[Bucket, Mapping[NegativeControl, Placebo]]


PHASE1_SCHEMA: Final = pl.Schema(
    {
        "event_type": pl.String(),
        "metric": pl.String(),
        "n_matched": pl.Int64(),
        "p_placebo": pl.Float64(),
        "shuffled_rejection_share": pl.Float64(),
        "decision": pl.String(),
        "reason": pl.String(),
    }
)
"""What is read of `phase1_evidence`, by name."""


def read_phase1(phase1: pl.DataFrame) -> Mapping[str, FamilyEvidence]:
    """Read decision and negative controls of every family from phase 1.

    Args:
        phase1: table phase1_evidence, one row per family and metric.

    Returns:
        By the name of the family, whether or not this system knows it.

    Raises:
        TableError: if a family has two decisions, or one that is unknown.

    Knows:
        placebo statistics, counts and decisions of train.
    """
    families: dict[str, list[dict[str, Any]]] = {}
    for row in phase1.select(PHASE1_SCHEMA.names()).sort("event_type", "metric").to_dicts():
        families.setdefault(row["event_type"], []).append(row)
    return {family: _read_family(family, rows) for family, rows in families.items()}


def _read_family(family: str, rows: Sequence[Mapping[str, Any]]) -> FamilyEvidence:
    decisions = {row["decision"] for row in rows}
    if len(decisions) != 1 or not decisions <= set(FamilyDecision):
        message = (
            f"table phase1_evidence: {family} is decided {sorted(map(str, decisions))}, not once as one of "
            f"{', '.join(FamilyDecision)}; make phase1_evidence again"
        )
        raise TableError(message)
    placebos = {bucket: _placebos_of(rows, metrics) for bucket, metrics in MOVE_METRICS.items()}
    n_matched = min(row["n_matched"] or 0 for row in rows)
    return FamilyEvidence(FamilyDecision(decisions.pop()), rows[0]["reason"] or "", n_matched, placebos)


def _placebos_of(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Mapping[NegativeControl, Placebo]:
    own = [row for row in rows if row["metric"] in metrics]
    if len(own) != len(metrics):
        return dict.fromkeys(NegativeControl, NEVER_RUN)
    return {NegativeControl.TIME_SHIFTED: _shifted(own), NegativeControl.LABEL_SHUFFLED: _shuffled(own)}


def _shifted(rows: Sequence[Mapping[str, Any]]) -> Placebo:
    """Hold the smallest p of the shifted events, each adjusted for all metrics and shifts, against its level."""
    p = min((_number(row["p_placebo"]) for row in rows), key=_nan_first)
    return Placebo(None if math.isnan(p) else p, PLACEBO_LEVEL, passed=p > PLACEBO_LEVEL)


def _shuffled(rows: Sequence[Mapping[str, Any]]) -> Placebo:
    """Ask whether the test rejects more shuffled sets than its level says: one-sided binomial, the worst row."""
    shares = [_number(row["shuffled_rejection_share"]) for row in rows]
    if any(math.isnan(share) for share in shares):
        return Placebo(None, SHUFFLE_LIMIT, passed=False)
    n_rejected = round(max(shares) * N_SHUFFLES)
    p = float(binom.sf(n_rejected - 1, N_SHUFFLES, SHUFFLE_LEVEL))
    return Placebo(p, SHUFFLE_LIMIT, passed=p > SHUFFLE_LIMIT)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _nan_first(value: float) -> tuple[bool, float]:
    return not math.isnan(value), value

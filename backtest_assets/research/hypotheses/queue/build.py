"""The hypothesis queue of a run: every mechanism and target family, scored, judged and ranked."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.queue.datasets import measure_datasets
from backtest_assets.research.hypotheses.queue.fusion import fuse_datasets
from backtest_assets.research.hypotheses.queue.judge import Case, Fate, QueueStatus, judge_case
from backtest_assets.research.hypotheses.queue.mechanism import Mechanism, SourceKind
from backtest_assets.research.hypotheses.queue.placebos import read_phase1
from backtest_assets.research.hypotheses.queue.scores import mechanism_coherence, observability, testability
from backtest_assets.research.hypotheses.queue.templates import TEMPLATES
from backtest_assets.tables.hypotheses import HYPOTHESIS_QUEUE

UNMAPPED: Final = "UNMAPPED"
"""First word of the reason of a family that no mechanism speaks of, or that the run does not know (X8)."""

PRIORITY_DIGITS: Final = 4
"""Digits of a priority: equal ones are ranked by content id, not by rounding."""

_ID_LENGTH: Final = 16
_TOP: Final = 5


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row of the queue: a case with its scores and fate, or the record of a family, which has neither."""

    family: str
    fate: Fate
    case: Case | None = None
    scores: tuple[float, float, float] | None = None

    @property
    def id(self) -> str:
        if self.case is not None:
            return self.case.mechanism.id
        return hashlib.sha256(f"{SourceKind.FAMILY}|{self.family}".encode()).hexdigest()[:_ID_LENGTH]

    @property
    def kind(self) -> SourceKind:
        return SourceKind.FAMILY if self.case is None else self.case.mechanism.source_kind

    @property
    def priority(self) -> float | None:
        return None if self.scores is None else round(sum(self.scores) / len(self.scores), PRIORITY_DIGITS)

    @property
    def by_priority(self) -> tuple[float, str, str]:
        return (0.0 if self.priority is None else -self.priority), self.id, self.family

    @property
    def order(self) -> tuple[bool, bool, float, str, str]:
        return self.fate.status is not QueueStatus.QUEUED, not self.fate.is_tested, *self.by_priority


def build_queue(
    features: pl.DataFrame, phase1: pl.DataFrame, *, run: ResearchRun, templates: Sequence[Mechanism] = TEMPLATES
) -> pl.DataFrame:
    """Queue what the run's data can show and its placebos do not contradict, best first.

    Choosing before testing is no peeking as long as the choice does not depend on the effect that is tested. A mechanism
    is removed from phase 2 because its text leaks, because data are missing, because a placebo shows an effect, because a
    control has no number, or because it ranks too low by data and counts: none of these looks at what followed the
    events themselves. (The shuffles are held against the true p, but only to ask whether the test keeps what it promises:
    a large or a small p alone removes nothing.) Phase 1's decision does look at it. A family that is frozen, or had too
    few matched events, is therefore SKIPPED in name only: its hypotheses stay in phase 2 (`is_tested`) and in its
    multiplicity adjustment, where phase 1's own gate rejects them. Nor does a freeze let another fused mechanism in.

    Args:
        features: table features.
        phase1: table phase1_evidence; a family that it does not have is not run.
        run: gives families, symbols, splits and the settings of the queue.
        templates: the declared mechanisms.

    Returns:
        Table hypothesis_queue: one row per mechanism and family of the run that it speaks of, and one per family of the
        run, or of `phase1`, for which nothing is queued.

    Raises:
        TableError: if phase 1 is of two minds on a family.

    Knows:
        which values of train and validation are there; placebos, counts and decisions of train; nothing of test.
    """
    available, families = measure_datasets(features, run=run), read_phase1(phase1)
    fused = fuse_datasets([name for name, one in available.items() if one.is_available])
    cases = [
        Case(mechanism, family, available, families.get(family), run)
        for mechanism in (*templates, *fused)
        for family in mechanism.families
        if family in run.event_types
    ]
    entries = _cut([_entry(case) for case in cases], run.hypothesis_max_fused)
    ranked = sorted([*entries, *_records(entries, families, run)], key=lambda entry: entry.order)
    rows = [_row(entry, rank) for rank, entry in enumerate(ranked, start=1)]
    return HYPOTHESIS_QUEUE.conform(pl.DataFrame(rows, schema=HYPOTHESIS_QUEUE.schema))


def describe_queue(queue: pl.DataFrame, *, run: ResearchRun) -> Mapping[str, str]:
    """Say in a few words what is queued and whether phase 2 obeys.

    Args:
        queue: table hypothesis_queue.
        run: gives the switch.

    Returns:
        `obeyed`, `by_status` and `top`, for the operator.

    Knows:
        the queue.
    """
    counts = Counter(queue["status"].to_list())
    best = queue.filter(pl.col("status") == QueueStatus.QUEUED.value).sort("rank").head(_TOP)
    top = (
        f"{row['rank']}. {row['template_id'] or row['fusion_operator']} {row['event_type']} {row['horizon_bucket']} "
        f"{row['condition'] or 'every condition'} ({row['priority']:.4f})"
        for row in best.to_dicts()
    )
    return {
        "obeyed": "yes: run_hypothesis_generator 1" if run.obeys_queue else "not obeyed: run_hypothesis_generator 0",
        "by_status": ", ".join(f"{status} {counts[status]}" for status in QueueStatus),
        "top": "; ".join(top) or "nothing is queued",
    }


def _entry(case: Case) -> _Entry:
    is_run = [placebo.p is not None for placebo in case.placebos.values()]
    n_matched = case.evidence.n_matched if case.evidence else 0
    scores = (
        mechanism_coherence(case.datasets),
        observability(case.datasets, case.available),
        testability(is_run, n_matched, enough=case.run.phase2_min_ess),
    )
    return _Entry(case.family.value, judge_case(case), case, scores)


def _cut(entries: Sequence[_Entry], most: int) -> list[_Entry]:
    """Skip the fused mechanisms beyond the first `most` by priority, whatever phase 1 decided on their families."""
    fused = [entry for entry in entries if entry.fate.is_tested and entry.kind is SourceKind.FUSION]
    best = list(dict.fromkeys(entry.id for entry in sorted(fused, key=lambda entry: entry.by_priority)))
    low = frozenset(best[most:])
    beyond = Fate(QueueStatus.SKIPPED, f"beyond the first {most} fused mechanisms (hypothesis_max_fused)")
    return [replace(entry, fate=beyond) if entry.fate.is_tested and entry.id in low else entry for entry in entries]


def _records(entries: Iterable[_Entry], families: Iterable[str], run: ResearchRun) -> list[_Entry]:
    """Record every family for which nothing is queued: of the run, or of phase 1 and unknown to the run."""
    fates: dict[str, list[Fate]] = {family.value: [] for family in run.event_types}
    for entry in entries:
        fates[entry.family].append(entry.fate)
    told = {
        family: _why_nothing(own)
        for family, own in fates.items()
        if all(fate.status is not QueueStatus.QUEUED for fate in own)
    }
    told |= {name: f"{UNMAPPED}: the run has no family of this name" for name in families if name not in fates}
    return [_Entry(name, Fate(QueueStatus.SKIPPED, reason)) for name, reason in told.items()]


def _why_nothing(fates: Sequence[Fate]) -> str:
    if not fates:
        return f"{UNMAPPED}: no mechanism speaks of it"
    reasons = Counter(f"{fate.status} {fate.reason}" for fate in fates)
    return "nothing queued: " + "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common())


def _row(entry: _Entry, rank: int) -> dict[str, object]:
    coherence, observed, testable = entry.scores or (None, None, None)
    return {
        "hypothesis_id": entry.id,
        "source_kind": entry.kind.value,
        "event_type": entry.family,
        "mechanism_coherence": coherence,
        "observability": observed,
        "testability": testable,
        "priority": entry.priority,
        "rank": rank,
        "status": entry.fate.status.value,
        "is_tested": entry.fate.is_tested,
        "reason": entry.fate.reason,
        **_claim(entry.case),
    }


def _claim(case: Case | None) -> dict[str, str]:
    """Return what a row says of its mechanism, and what its controls showed."""
    if case is None:
        return dict.fromkeys(_CLAIM, "") | {"negative_controls_json": "{}"}
    mechanism = case.mechanism
    numbers = {name.value: {"limit": p.limit, "p": p.p, "passed": p.passed} for name, p in case.placebos.items()}
    return {
        "template_id": mechanism.name if mechanism.source_kind is SourceKind.TEMPLATE else "",
        "fusion_operator": mechanism.name if mechanism.source_kind is SourceKind.FUSION else "",
        "mechanism_sentence": mechanism.sentence,
        "consequence": mechanism.consequence,
        "required_datasets": ",".join(case.datasets),
        "horizon_bucket": mechanism.bucket.value,
        "condition": mechanism.condition or "",
        "negative_controls_json": json.dumps(numbers, sort_keys=True, allow_nan=False),
    }


_CLAIM: Final = (
    "template_id",
    "fusion_operator",
    "mechanism_sentence",
    "consequence",
    "required_datasets",
    "horizon_bucket",
    "condition",
)

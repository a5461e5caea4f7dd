"""What becomes of a mechanism on one family: the reasons for which it is not queued, in the order they are asked.

Keep ranking out (`build`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.sensor import SensorDataset
from backtest_assets.research.hypotheses.queue.datasets import Availability
from backtest_assets.research.hypotheses.queue.leaks import find_leaks
from backtest_assets.research.hypotheses.queue.mechanism import Mechanism, NegativeControl
from backtest_assets.research.hypotheses.queue.placebos import NEVER_RUN, FamilyEvidence, Placebo
from backtest_assets.research.phase1.criteria import FamilyDecision


class QueueStatus(StrEnum):
    """What became of a mechanism on one family."""

    QUEUED = "QUEUED"
    REJECTED = "REJECTED"
    SKIPPED = "SKIPPED"
    NOT_RUN = "NOT_RUN"


@dataclass(frozen=True, slots=True)
class Fate:
    """The judgement on a mechanism and family.

    Attributes:
        status: the judgement.
        reason: why it is not queued; empty if it is.
        is_tested: whether phase 2 tests it where the run obeys the queue.
    """

    status: QueueStatus
    reason: str = ""
    is_tested: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A mechanism on one family, with everything its judgement may look at.

    Attributes:
        mechanism: what is claimed.
        family: of which events.
        available: what the run has of every data set.
        evidence: what phase 1 says of the family; None if it says nothing.
        run: gives symbols and limits.
    """

    mechanism: Mechanism
    family: EventType
    available: Mapping[SensorDataset, Availability]
    evidence: FamilyEvidence | None
    run: ResearchRun

    @property
    def lacking(self) -> tuple[SensorDataset, ...]:
        """The data sets of every need that none of them meets."""
        unmet = (need for need in self.mechanism.needs if not any(self.available[name].is_available for name in need))
        return tuple(dict.fromkeys(name for need in unmet for name in need))

    @property
    def datasets(self) -> tuple[SensorDataset, ...]:
        """What it is seen in: first what is lacking, then everything it needs that the run has."""
        met = [name for need in self.mechanism.needs for name in need if self.available[name].is_available]
        return tuple(dict.fromkeys((*self.lacking, *met)))

    @property
    def placebos(self) -> Mapping[NegativeControl, Placebo]:
        """The result of every declared negative control on the moves of the mechanism's bucket."""
        if self.evidence is None:
            return dict.fromkeys(self.mechanism.controls, NEVER_RUN)
        found = self.evidence.placebos[self.mechanism.bucket]
        return {control: found[control] for control in self.mechanism.controls}


def judge_case(case: Case) -> Fate:
    """Judge a mechanism on one family.

    Args:
        case: the mechanism, the family and what is known of both.

    Returns:
        QUEUED, or the first reason against it: its text leaks, data are lacking, phase 1 has nothing of the family or did
        not run it, a negative control shows an effect or was not run, phase 1 froze the family.

    Knows:
        placebos, counts and decisions of train.
    """
    return next((fate for ask in _AGAINST if (fate := ask(case)) is not None), Fate(QueueStatus.QUEUED, is_tested=True))


def _leaks(case: Case) -> Fate | None:
    reasons = find_leaks(case.mechanism, case.family, run=case.run)
    return Fate(QueueStatus.REJECTED, "; ".join(reasons)) if reasons else None


def _lacks_data(case: Case) -> Fate | None:
    lacks = [case.available[name].lack for name in case.lacking]
    return Fate(QueueStatus.NOT_RUN, "; ".join(lacks)) if lacks else None


def _lacks_evidence(case: Case) -> Fate | None:
    if case.evidence is None:
        reason = f"phase1_evidence has no row of {case.family}: no negative control was run"
        return Fate(QueueStatus.NOT_RUN, reason)
    if case.evidence.decision is FamilyDecision.NOT_RUN:
        reason = f"phase 1 did not run {case.family}: {case.evidence.reason}"
        return Fate(QueueStatus.SKIPPED, reason, is_tested=True)
    return None


def _shows_effect(case: Case) -> Fate | None:
    shown = [
        f"{control} shows an effect: p {one.p:.4g}, limit {one.limit:g}"
        for control, one in case.placebos.items()
        if one.p is not None and not one.passed
    ]
    return Fate(QueueStatus.REJECTED, "; ".join(shown)) if shown else None


def _lacks_number(case: Case) -> Fate | None:
    unknown = [control for control, one in case.placebos.items() if one.p is None]
    reason = f"{', '.join(unknown)} not run on every {case.mechanism.bucket} move of {case.family}"
    return Fate(QueueStatus.NOT_RUN, reason) if unknown else None


def _is_frozen(case: Case) -> Fate | None:
    if case.evidence is None or case.evidence.decision is not FamilyDecision.FREEZE:
        return None
    return Fate(QueueStatus.SKIPPED, f"phase 1 froze {case.family}: {case.evidence.reason}", is_tested=True)


_AGAINST: Final[tuple[Callable[[Case], Fate | None], ...]] = (
    _leaks,
    _lacks_data,
    _lacks_evidence,
    _shows_effect,
    _lacks_number,
    _is_frozen,
)

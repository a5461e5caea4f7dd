"""How good a mechanism's sensors and controls are (reference_1 section 6.3), from roles, content and counts only."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from backtest_assets.domain.sensor import SENSING, Role, SensorDataset
from backtest_assets.research.hypotheses.queue.datasets import Availability

ROLE_WEIGHTS: Final = {Role.TRIGGER: 0.4, Role.STATE: 0.2, Role.CONFIRM: 0.2, Role.INVALIDATE: 0.2}
"""What each role adds to the coherence of a mechanism [score]: without a trigger it has no beginning."""

_DIGITS: Final = 4


def mechanism_coherence(datasets: Collection[SensorDataset]) -> float:
    """Return the weights of the roles that the data sets can play together, 0 to 1.

    Args:
        datasets: what the mechanism is seen in.

    Returns:
        The score.

    Knows:
        its argument.
    """
    roles = frozenset[Role]().union(*(SENSING[name].roles for name in datasets))
    return round(sum(weight for role, weight in ROLE_WEIGHTS.items() if role in roles), _DIGITS)


def observability(datasets: Collection[SensorDataset], available: Mapping[SensorDataset, Availability]) -> float:
    """Return how finely and how completely data sets are seen, 0 to 1.

    Args:
        datasets: what the mechanism is seen in, and what it lacks.
        available: what the run has of them.

    Returns:
        Mean over the data sets of resolution times content; 0 for one that the run cannot use.

    Knows:
        which values of train and validation are there.
    """
    seen = [SENSING[name].resolution * available[name].content * available[name].is_available for name in datasets]
    return round(sum(seen) / len(seen), _DIGITS) if seen else 0.0


def testability(is_run: Sequence[bool], n_matched: int, *, enough: float) -> float:
    """Return how far the declared negative controls were run, and on how many events, 0 to 1.

    Args:
        is_run: for each declared control whether it has a number.
        n_matched: events of the family with matched controls on train [events].
        enough: events from which on more do not help [events].

    Returns:
        Half the share of controls that were run plus half the share of `enough` that is there.

    Knows:
        counts of train, no effect.
    """
    share = sum(is_run) / len(is_run) if is_run else 0.0
    return round(0.5 * share + 0.5 * min(1.0, n_matched / enough), _DIGITS)

"""Limits of phase 1, once, with unit and reason, and the decision they make. Keep computation of the numbers out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backtest_assets.domain.run import HOLD_GRID_BARS

MIN_MATCHED: Final = 30
"""Matched train events [events]: below, no day-clustered comparison of a family means anything."""

MAX_EFFECT_P: Final = 0.20
"""Family-wise p of the clearest metric [probability]: phase 1 only turns away families of which nothing is to be seen; one in
five families without any effect still passes, and phase 2 tests it at its own level."""

PLACEBO_LEVEL: Final = 0.01
"""Family-wise p over metrics and shifts at which a placebo counts as an effect [probability]. One biased move strikes all: 16
bars lie inside 48. Volatility is not asked: an instant some weeks before an event is chosen with the event known, so
volatility there differs by construction (weeks before a breakout out of a compression: |z| up to 9 on markets without any
effect), while moves do not (root mean square z 1.0)."""

CONTRADICTION_LEVEL: Final = 0.05
"""One-sided level, shared out over years (or over symbols and regimes), at which a group contradicts the whole
[probability]."""

PLACEBO_WEEKS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
"""How far placebo events lie before the true ones [weeks]: same hour of the week, same quarter."""

MIN_PLACEBOS: Final = 4
"""Shifts whose comparison could be tested, of the eight [shifts]: with fewer, the weeks before say too little of a bias."""

SHUFFLE_LEVEL: Final = 0.05
"""Adjusted p of the clearest move at which a shuffled set counts as rejected [probability]."""

N_SHUFFLES: Final = 199
"""Shuffles of a family's sets [shuffles]: a test that rejects 15 % at the level above is found nine times in ten."""

DAY_METRICS: Final = ("realized_vol_sigmas", "range_sigmas", "tail_hit")
"""What is measured over a day, whatever the direction, in daily sigmas known before the onset: volatility drifts over years,
and controls lie in the past. Its clusters are weeks, since what is left of volatility outlives a day. Random instants,
root mean square t: 1.0 to 1.2 in real years, 0.9 to 1.3 on invented markets (in bps with days as clusters 1.2 to 2.0 and
up to 3.5)."""

MOVE_METRICS: Final = tuple(f"move_{hold}_bars_bps" for hold in HOLD_GRID_BARS)
"""What phase 2 trades, and so the only ground to pass on; the others are shown. Its clusters are days."""

METRICS: Final = (*DAY_METRICS, *MOVE_METRICS)
"""What events and controls are compared by."""


class FamilyDecision(StrEnum):
    """What phase 2 may do with a family."""

    PASSED = "pass"
    FREEZE = "freeze"
    NOT_RUN = "not_run"


class Ground(StrEnum):
    """The one word for why a family is decided as it is; of those of not_run, which come first here, the first that holds."""

    UNSUPPORTED = "unsupported"
    FEW_MATCHED = "few_matched"
    NO_SCATTER = "no_scatter"
    FEW_PLACEBOS = "few_placebos"
    NO_EFFECT = "no_effect"
    BIASED = "biased"
    CONTRADICTED = "contradicted"
    EFFECT = "effect"


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided of a family.

    Attributes:
        decision: what phase 2 may do with it.
        ground: why, in one word.
        reason: why, with metrics and numbers.
    """

    decision: FamilyDecision
    ground: Ground
    reason: str


@dataclass(frozen=True, slots=True)
class MetricNumbers:
    """The numbers of one metric that the decision reads; NaN = unknown.

    Attributes:
        n_matched: matched train events [events].
        p_family: adjusted for the family's metrics [probability].
        p_placebo: smallest adjusted p of the shifted events, times their shifts [probability].
        n_years_opposite: years that contradict the whole [years].
        n_groups_opposite: symbols and regimes that contradict the whole [groups].
    """

    n_matched: int
    p_family: float
    p_placebo: float
    n_years_opposite: int
    n_groups_opposite: int


def why_not_run(standings: Sequence[tuple[str, str]], n_matched: Mapping[str, int]) -> Decided | None:
    """Say from counts alone why a family cannot be judged.

    Args:
        standings: status and reason of the family on each symbol, as in `event_families`.
        n_matched: matched train events by metric.

    Returns:
        not_run with its reason; None if the numbers may be looked at.

    Knows:
        which values and how many outcomes train has, not what they are; nothing later.
    """
    if all(status == "NOT_RUN" for status, _ in standings):
        reason = f"the data do not support the family on any symbol: {'; '.join(sorted({why for _, why in standings}))}"
        return Decided(FamilyDecision.NOT_RUN, Ground.UNSUPPORTED, reason)
    metric = min(n_matched, key=lambda name: n_matched[name])
    if n_matched[metric] < MIN_MATCHED:
        reason = f"{metric}: {n_matched[metric]} matched train events, {MIN_MATCHED} are needed"
        return Decided(FamilyDecision.NOT_RUN, Ground.FEW_MATCHED, reason)
    return None


def decide_family(numbers: Mapping[str, MetricNumbers], *, n_placebos: int) -> Decided:
    """Decide on a family that has enough matched events.

    Args:
        numbers: of every metric.
        n_placebos: shifts whose comparison could be tested [shifts].

    Returns:
        The decision, and its reason, which names metrics and numbers. not_run if a number is unknown or too few placebos
        could be tested; freeze if no move differs from its controls, if a move of the placebos differs, or if a year, a
        symbol or a regime contradicts a move that differs.

    Knows:
        train statistics of the family.
    """
    unknown = [metric for metric, n in numbers.items() if math.isnan(n.p_family)]
    if unknown:
        reason = f"{', '.join(unknown)}: no scatter over days or weeks"
        return Decided(FamilyDecision.NOT_RUN, Ground.NO_SCATTER, reason)
    if n_placebos < MIN_PLACEBOS or any(math.isnan(n.p_placebo) for n in numbers.values()):
        reason = f"{n_placebos} of {len(PLACEBO_WEEKS)} shifts could be compared and tested, {MIN_PLACEBOS} are needed"
        return Decided(FamilyDecision.NOT_RUN, Ground.FEW_PLACEBOS, reason)
    moves = {name: numbers[name] for name in MOVE_METRICS}
    differing = [name for name, n in moves.items() if n.p_family <= MAX_EFFECT_P]
    clearest = min(differing or moves, key=lambda name: moves[name].p_family)
    found = f"{clearest} differs from its controls at adjusted p {moves[clearest].p_family:.3g}"
    if not differing:
        reason = (
            f"no move differs from its controls: the clearest, {clearest}, has adjusted p {moves[clearest].p_family:.3g}, "
            f"above {MAX_EFFECT_P:g}"
        )
        return Decided(FamilyDecision.FREEZE, Ground.NO_EFFECT, reason)
    biased = min(moves, key=lambda name: moves[name].p_placebo)
    if moves[biased].p_placebo <= PLACEBO_LEVEL:
        reason = (
            f"the comparison is biased: {found}, but {biased} of shifted events differs too, at adjusted p "
            f"{moves[biased].p_placebo:.3g}, not above {PLACEBO_LEVEL:g}"
        )
        return Decided(FamilyDecision.FREEZE, Ground.BIASED, reason)
    years = [(name, moves[name].n_years_opposite, "years") for name in differing]
    groups = [(name, moves[name].n_groups_opposite, "symbols or volatility regimes") for name in differing]
    against = [f"{name}: {n} {what} significantly contradict the whole" for name, n, what in years + groups if n]
    if against:
        return Decided(FamilyDecision.FREEZE, Ground.CONTRADICTED, "; ".join(against))
    return Decided(FamilyDecision.PASSED, Ground.EFFECT, found)

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

DAY_METRICS: Final = ("realized_vol_bps", "range_bps", "tail_hit")
"""What is measured over a day, whatever the direction."""

MOVE_METRICS: Final = tuple(f"move_{hold}_bars_bps" for hold in HOLD_GRID_BARS)
"""What phase 2 trades, and so the only ground to pass on; the errors of the others are too small (their days depend on one
another), and they are shown."""

METRICS: Final = (*DAY_METRICS, *MOVE_METRICS)
"""What events and controls are compared by."""


class FamilyDecision(StrEnum):
    """What phase 2 may do with a family."""

    PASSED = "pass"
    FREEZE = "freeze"
    NOT_RUN = "not_run"


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


def why_not_run(standings: Sequence[tuple[str, str]], n_matched: Mapping[str, int]) -> str:
    """Say from counts alone why a family cannot be judged.

    Args:
        standings: status and reason of the family on each symbol, as in `event_families`.
        n_matched: matched train events by metric.

    Returns:
        The reason; empty if it can be judged.

    Knows:
        how many train outcomes there are, not what they are.
    """
    if all(status == "NOT_RUN" for status, _ in standings):
        return f"the data do not support the family on any symbol: {'; '.join(sorted({why for _, why in standings}))}"
    metric = min(n_matched, key=lambda name: n_matched[name])
    if n_matched[metric] < MIN_MATCHED:
        return f"{metric}: {n_matched[metric]} matched train events, {MIN_MATCHED} are needed"
    return ""


def decide_family(numbers: Mapping[str, MetricNumbers]) -> tuple[FamilyDecision, str]:
    """Decide on a family that has enough matched events.

    Args:
        numbers: of every metric.

    Returns:
        The decision and its reason, which names metrics and numbers. not_run if a number is unknown; freeze if no move
        differs from its controls, if a move of the placebos differs, or if a year, a symbol or a regime contradicts a
        move that differs.

    Knows:
        train statistics of the family.
    """
    unknown = [m for m, n in numbers.items() if math.isnan(n.p_family) or math.isnan(n.p_placebo)]
    if unknown:
        return FamilyDecision.NOT_RUN, f"{', '.join(unknown)}: no scatter over days, or no placebo could be matched"
    moves = {name: numbers[name] for name in MOVE_METRICS}
    differing = [name for name, n in moves.items() if n.p_family <= MAX_EFFECT_P]
    clearest = min(differing or moves, key=lambda name: moves[name].p_family)
    found = f"{clearest} differs from its controls at adjusted p {moves[clearest].p_family:.3g}"
    if not differing:
        return FamilyDecision.FREEZE, (
            f"no move differs from its controls: the clearest, {clearest}, has adjusted p {moves[clearest].p_family:.3g}, "
            f"above {MAX_EFFECT_P:g}"
        )
    biased = min(moves, key=lambda name: moves[name].p_placebo)
    if moves[biased].p_placebo <= PLACEBO_LEVEL:
        return FamilyDecision.FREEZE, (
            f"the comparison is biased: {found}, but {biased} of shifted events differs too, at adjusted p "
            f"{moves[biased].p_placebo:.3g}, not above {PLACEBO_LEVEL:g}"
        )
    years = [(name, moves[name].n_years_opposite, "years") for name in differing]
    groups = [(name, moves[name].n_groups_opposite, "symbols or volatility regimes") for name in differing]
    against = [f"{name}: {n} {what} significantly contradict the whole" for name, n, what in years + groups if n]
    return (FamilyDecision.FREEZE, "; ".join(against)) if against else (FamilyDecision.PASSED, found)

"""What a run declares it will ask, before any outcome is seen: families x conditions x sides x delays x holds.

Keep outcomes out: nothing here depends on data but the names of the definitions the events were detected with.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.domain.event import EventType, SideRule, Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.errors import TableError
from backtest_assets.research.events.conditions import Condition

Base: TypeAlias = tuple[str, str, int, int]
"""event_type, condition, delay_bars, hold_bars."""

UNDETECTED: Final = "undetected"
"""Definition of a family of which the run has no event."""

ALWAYS_DELAY: Final = 1
"""Extra delay that every hypothesis must bear [bars]: nobody trades exactly on time."""

_MIRRORED: Final = frozenset({SideRule.SHORT, SideRule.AGAINST_EVENT})


@dataclass(frozen=True, slots=True)
class HypothesisRule:
    """A claim: after events of this family under this condition, this side earns money over this hold.

    Attributes:
        event_type: family of the events.
        condition: what must hold at `known_at`.
        side_rule: how an event becomes a position.
        hold_bars: bars between entry and the time exit.
        delay_bars: bars between `known_at` and the entry.
    """

    event_type: EventType
    condition: Condition
    side_rule: SideRule
    hold_bars: int
    delay_bars: int = 0

    @property
    def sign(self) -> int:
        """-1 if the rule is the mirror image of long or with_event, else +1."""
        return -1 if self.side_rule in _MIRRORED else 1

    @property
    def base(self) -> Base:
        """Family, condition, delay and hold: what a rule shares with its mirror image."""
        return self.event_type.value, self.condition.name, self.delay_bars, self.hold_bars

    def delays(self, run: ResearchRun) -> dict[int, bool]:
        """Return the delays the rule is re-priced at and whether each counts: up to half the hold past its own, and always 1."""
        grid = sorted({0, ALWAYS_DELAY, *run.delays})
        return {self.delay_bars + extra: extra <= max(ALWAYS_DELAY, self.hold_bars // 2) for extra in grid}

    def id(self, definition: str) -> str:
        """Return the content id of the rule on events of a definition."""
        what = (self.event_type.value, self.condition.name, self.hold_bars)
        parts = (*what, definition, self.side_rule.value, self.delay_bars)
        return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def declared_rules(run: ResearchRun) -> tuple[HypothesisRule, ...]:
    """Return every hypothesis of a run, in fixed order.

    Args:
        run: gives families, symbols and entry delays.

    Returns:
        Families x their conditions x two sides x entry delays x the hold grid.

    Knows:
        settings only.
    """
    return tuple(
        HypothesisRule(family, condition, side_rule, hold, delay)
        for family in run.event_types
        for condition in Condition.declared(family, run.symbol_list)
        for side_rule in _side_rules(family)
        for delay in run.entry_delays
        for hold in HOLD_GRID_BARS
    )


def condition_places(run: ResearchRun) -> Mapping[tuple[EventType, str], int]:
    """Return the place of every condition in its family's order of priority.

    Args:
        run: gives families and symbols.

    Returns:
        By family and condition, 1 for the first; places beyond `phase2_max_conditions` are not tested.

    Knows:
        settings only.
    """
    return {
        (family, condition.name): place
        for family in run.event_types
        for place, condition in enumerate(Condition.declared(family, run.symbol_list), start=1)
    }


def hold_neighbours(hold_bars: int) -> tuple[int, int]:
    """Return the neighbours of a hold.

    Args:
        hold_bars: the hold [bars].

    Returns:
        The holds 10 % shorter and longer, at least one bar away [bars].

    Knows:
        its argument.

    >>> [hold_neighbours(hold) for hold in (4, 16)]
    [(3, 5), (14, 18)]
    """
    return min(round(0.9 * hold_bars), hold_bars - 1), max(round(1.1 * hold_bars), hold_bars + 1)


def definitions_of(events: pl.DataFrame, run: ResearchRun) -> Mapping[EventType, str]:
    """Return the definition every family's centre events were detected with.

    Args:
        events: table event_registry.
        run: gives the families.

    Returns:
        Version and parameter digest by family; `UNDETECTED` for a family without events.

    Raises:
        TableError: if one family has centre events of two definitions.

    Knows:
        the definitions' names, no event.
    """
    found: dict[EventType, str] = {}
    centre = events.filter(pl.col("variant") == Variant.CENTRE)
    for family in run.event_types:
        names = centre.filter(pl.col("event_type") == family).select("definition_version", "parameter_digest").unique()
        if names.height > 1:
            message = (
                f"table event_registry, run {run.run_id}: {family} has centre events of {names.height} definitions "
                f"{sorted(names.rows())}; detect the run's events again with one"
            )
            raise TableError(message)
        found[family] = "@".join(names.row(0)) if names.height else UNDETECTED
    return found


def _side_rules(family: EventType) -> tuple[SideRule, SideRule]:
    sided = family.is_sided
    return (SideRule.WITH_EVENT, SideRule.AGAINST_EVENT) if sided else (SideRule.LONG, SideRule.SHORT)

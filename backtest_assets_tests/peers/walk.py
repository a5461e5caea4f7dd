"""One scenario traded the slow way, by our rules or with some of them exchanged for another engine's.

A difference to a peer counts as explained only if this walk, with the named rules exchanged, makes the peer's trade.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from backtest_assets_tests.peers.scenarios import Scenario


class Rule(StrEnum):
    """A rule of ours that a peer has otherwise."""

    ENTRY_BAR = "entry_bar"
    DUE_BAR = "due_bar"
    OPEN_FIRST = "open_first"
    HIGH_FIRST = "high_first"
    AT_LEVEL = "at_level"
    COSTS_ON_FILLS = "costs_on_fills"
    LEFT_OPEN = "left_open"


FOLLOWS: Final = "follows"
"""Reason of a trade that only one side makes, because the other one still holds, or is free, by an exchanged rule."""

TEXTS: Final = MappingProxyType({
    Rule.ENTRY_BAR: ("Stop and target are watched from the entry bar on, which is entered at its open.", "The entry bar is not watched."),
    Rule.DUE_BAR: ("A time exit fills at the open of the due bar, before its range is looked at.", "Stop and target of the whole due bar come first."),
    Rule.OPEN_FIRST: ("Of a bar that touches both levels the stop comes first, also where it opens beyond the target.", "An open beyond the target fills the target."),
    Rule.HIGH_FIRST: ("A bar that touches both levels is a stop.", "A bar goes open, high, low, close: a long's target comes before its stop."),
    Rule.AT_LEVEL: ("Beyond the level a stop fills at the worse open, a target at the better one.", "Both fill at their level, also where the bar opens beyond it, and before a time exit at that open."),
    Rule.COSTS_ON_FILLS: ("Fees and slippage of both fills are charged on the entry notional, and prices are the market's.", "Each fill pays on its own notional, and slippage moves its price."),
    Rule.LEFT_OPEN: ("What is held at the last bar leaves at its close.", "It is left open."),
    FOLLOWS: ("One position at a time, again one bar after the exit bar at the earliest.", "The same, but an exit by another rule frees the next entry earlier or later."),
})  # fmt: skip
"""Our rule (`../shared/design/system.md`, section 7) and the peer's."""

PROFILES: Final = MappingProxyType({
    "vectorbt": (Rule.ENTRY_BAR, Rule.DUE_BAR, Rule.COSTS_ON_FILLS, Rule.LEFT_OPEN),
    "vectorbt_two_rows": (Rule.OPEN_FIRST, Rule.COSTS_ON_FILLS, Rule.LEFT_OPEN),
    "nautilus": (Rule.OPEN_FIRST, Rule.HIGH_FIRST, Rule.AT_LEVEL, Rule.COSTS_ON_FILLS, Rule.LEFT_OPEN),
})  # fmt: skip
"""The rules that each peer has otherwise."""

Exchanged = frozenset[Rule]


@dataclass(frozen=True)
class Trade:
    """What an engine did; `exit_bar`, `exit_price` and `net_frac` of a position that it left open are None."""

    entry_bar: int
    side: int
    entry_price: float
    exit_bar: int | None
    exit_price: float | None
    net_frac: float | None

    def is_like(self, other: "Trade", tolerance: float = 1e-9) -> bool:
        """Say whether both are one trade: the same bars and side, prices and net to the tolerance."""
        if (self.entry_bar, self.side, self.exit_bar) != (other.entry_bar, other.side, other.exit_bar):
            return False
        numbers = [
            (self.entry_price, other.entry_price),
            (self.exit_price, other.exit_price),
            (self.net_frac, other.net_frac),
        ]
        return all((a is None and b is None) or (a is not None and b is not None and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)) for a, b in numbers)  # fmt: skip


def walk(scenario: Scenario, exchanged: Exchanged = frozenset()) -> Iterator[Trade]:
    """Trade a whole scenario, one position at a time."""
    free_from = 0
    for bar, side in scenario.orders:
        if bar < free_from or math.isnan(scenario.ohlc[0, bar]):
            continue
        trade = walk_one(scenario, bar, side, exchanged)
        free_from = scenario.ohlc.shape[1] if trade.exit_bar is None else trade.exit_bar + 1
        yield trade


def walk_one(scenario: Scenario, first: int, side: int, exchanged: Exchanged = frozenset()) -> Trade:
    """Enter at the open of a bar and leave by the rules."""
    bar, price = _leave(scenario, first, side, exchanged)
    entry = float(scenario.ohlc[0, first])
    fee, slip = scenario.fees_bps / 1e4, scenario.slippage_bps / 1e4
    if Rule.COSTS_ON_FILLS in exchanged:
        paid = entry * (1.0 + side * slip)
        if bar is None or price is None:
            return Trade(first, side, paid, None, None, None)
        got = price * (1.0 - side * slip)
        return Trade(first, side, paid, bar, got, (side * (got - paid) - fee * (got + paid)) / entry)
    if bar is None or price is None:
        return Trade(first, side, entry, None, None, None)
    return Trade(first, side, entry, bar, price, side * (price / entry - 1.0) - 2.0 * (fee + slip))


def _leave(s: Scenario, first: int, side: int, exchanged: Exchanged) -> tuple[int | None, float | None]:
    entry = float(s.ohlc[0, first])
    stop, goal = entry - side * entry * s.stop, entry * (1.0 + side * s.target)
    last = None
    for bar in range(first, s.ohlc.shape[1]):
        opened, high, low, close = map(float, s.ohlc[:, bar])
        if math.isnan(opened):
            continue
        last = close
        looks: list[tuple[float, float]] = []
        if Rule.OPEN_FIRST in exchanged and bar > first:
            looks.append((opened, opened))
        is_due = bar >= first + s.hold
        if not (is_due and Rule.DUE_BAR not in exchanged) and not (bar == first and Rule.ENTRY_BAR in exchanged):
            against, along = (low, high) if side > 0 else (high, low)
            is_target_first = Rule.HIGH_FIRST in exchanged and side > 0
            looks += [(opened, along), (against, opened)] if is_target_first else [(against, along)]
        for against, along in looks:
            for level, is_hit, is_beyond in (
                (stop, side * (stop - against) >= 0.0, side * (stop - opened) > 0.0),
                (goal, side * (along - goal) >= 0.0, side * (opened - goal) > 0.0),
            ):
                if is_hit:
                    is_open = is_beyond and bar > first and Rule.AT_LEVEL not in exchanged
                    return bar, opened if is_open else level
        if is_due:
            return bar, opened
    return (None, None) if Rule.LEFT_OPEN in exchanged else (s.ohlc.shape[1] - 1, last)

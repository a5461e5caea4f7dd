"""The vocabulary of events and sides; detection lives in research/events."""

from enum import StrEnum


class EventType(StrEnum):
    """Built event families, in the fixed order of rule R9."""

    VOL_SHOCK_RELAXATION = "vol_shock_relaxation"
    FUNDING_EXTREME_REVERSAL_WINDOW = "funding_extreme_reversal_window"
    RANGE_COMPRESSION_BREAKOUT_WINDOW = "range_compression_breakout_window"


class SideRule(StrEnum):
    """How a hypothesis turns an event into a position.

    `long` and `short` are for families without a side; `with_event` and `against_event` follow or oppose the event's side.
    """

    LONG = "long"
    SHORT = "short"
    WITH_EVENT = "with_event"
    AGAINST_EVENT = "against_event"

    def side(self, event_side: int) -> int:
        """Return +1 (long) or -1 (short) for an event of the given side.

        Raises:
            ValueError: if the rule follows the event's side and the event has none (0).
        """
        if self is SideRule.LONG:
            return 1
        if self is SideRule.SHORT:
            return -1
        if event_side not in (-1, 1):
            message = f"side rule {self.value} needs an event with a side, got {event_side}"
            raise ValueError(message)
        return event_side if self is SideRule.WITH_EVENT else -event_side


class Variant(StrEnum):
    """Which exceedance rate an event was detected with: the declared one, or 10 % less or more (R13)."""

    CENTRE = "centre"
    RATE_MINUS = "rate_minus"
    RATE_PLUS = "rate_plus"

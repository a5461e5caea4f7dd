"""The vocabulary of events and sides; detection lives in research/events."""

from enum import StrEnum


class EventType(StrEnum):
    """Event families, in the fixed order of rule R9, then the four of a funding episode."""

    VOL_SHOCK_RELAXATION = "vol_shock_relaxation"
    LIQUIDITY_REFILL_LAG_WINDOW = "liquidity_refill_lag_window"
    LIQUIDITY_ABSENCE_WINDOW = "liquidity_absence_window"
    VOL_AFTERSHOCK_WINDOW = "vol_aftershock_window"
    DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW = "directional_exhaustion_after_forced_flow"
    CROSS_VENUE_DESYNC = "cross_venue_desync"
    LIQUIDITY_VACUUM = "liquidity_vacuum"
    FUNDING_EXTREME_REVERSAL_WINDOW = "funding_extreme_reversal_window"
    RANGE_COMPRESSION_BREAKOUT_WINDOW = "range_compression_breakout_window"
    FUNDING_EXTREME_ONSET = "funding_extreme_onset"
    FUNDING_ACCELERATION = "funding_acceleration"
    FUNDING_PERSISTENCE_WINDOW = "funding_persistence_window"
    FUNDING_NORMALIZATION = "funding_normalization"

    @property
    def is_sided(self) -> bool:
        """Whether its events carry a side of +1 or -1; the others carry 0."""
        return self in _SIDED


_SIDED = frozenset(
    {
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW,
        EventType.CROSS_VENUE_DESYNC,
        EventType.FUNDING_EXTREME_REVERSAL_WINDOW,
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
        EventType.FUNDING_EXTREME_ONSET,
        EventType.FUNDING_ACCELERATION,
        EventType.FUNDING_PERSISTENCE_WINDOW,
        EventType.FUNDING_NORMALIZATION,
    }
)


class Measure(StrEnum):
    """What the data show of a market that an event can be decided by; a family declares which, best first."""

    VOLUME_QUOTE = "volume_quote"
    BASE_X_CLOSE = "base_x_close"
    TAKER_IMBALANCE = "taker_imbalance"
    LOG_RETURN = "log_return"
    RANGE = "range"
    VOLATILITY = "volatility"
    BASIS = "basis"
    FUNDING_RATE = "funding_rate"


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

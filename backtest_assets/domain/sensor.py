"""What the sensors of a mechanism read and how well; whether a run has it is measured in research/hypotheses/queue."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class SensorDataset(StrEnum):
    """A part of the market data that a mechanism can be seen in; the last three no source of this system has."""

    UM_LIQUIDATIONS = "um_liquidations"
    UM_TAKERS = "um_takers"
    UM_OPEN_INTEREST = "um_open_interest"
    UM_FUNDING = "um_funding"
    UM_OHLCV = "um_ohlcv"
    UM_VOLUMES = "um_volumes"
    SPOT_OHLCV = "spot_ohlcv"
    UM_L1_QUOTES = "um_l1_quotes"
    UM_L1_TRADES = "um_l1_trades"
    EVENT_CALENDAR = "event_calendar"


class Sensor(StrEnum):
    """What a data set shows of a market."""

    FORCED_FLOW = "forced_flow"
    CROWDING = "crowding"
    LIQUIDITY_STATE = "liquidity_state"
    SYNCHRONIZATION = "synchronization"
    EXPECTATION = "expectation"


class Role(StrEnum):
    """What a data set can do in a mechanism: set it off, describe the state, confirm it, or call it off."""

    TRIGGER = "trigger"
    STATE = "state"
    CONFIRM = "confirm"
    INVALIDATE = "invalidate"


class Bucket(StrEnum):
    """How soon a consequence is expected; which holds that means is said in research/hypotheses/queue."""

    SHORT = "short"
    MEDIUM = "medium"


@dataclass(frozen=True, slots=True)
class Sensing:
    """How a data set serves as a sensor.

    Attributes:
        sensor: what it shows.
        roles: what it can do in a mechanism.
        resolution: how finely it resolves time [score, 1 is below a minute].
    """

    sensor: Sensor
    roles: frozenset[Role]
    resolution: float


_SUB_MINUTE, _MINUTE, _FIVE_MINUTES, _BAR, _SCHEDULED, _EIGHT_HOURS = 1.0, 0.9, 0.85, 0.7, 0.65, 0.55
_SETS_OFF: Final = frozenset({Role.TRIGGER, Role.CONFIRM})
_DESCRIBES: Final = frozenset({Role.STATE})
_CONFIRMS: Final = frozenset({Role.CONFIRM})

SENSING: Final = {
    SensorDataset.UM_LIQUIDATIONS: Sensing(Sensor.FORCED_FLOW, _SETS_OFF, _MINUTE),
    SensorDataset.UM_TAKERS: Sensing(Sensor.FORCED_FLOW, _SETS_OFF, _BAR),
    SensorDataset.UM_OPEN_INTEREST: Sensing(Sensor.CROWDING, _DESCRIBES, _FIVE_MINUTES),
    SensorDataset.UM_FUNDING: Sensing(Sensor.CROWDING, _DESCRIBES, _EIGHT_HOURS),
    SensorDataset.UM_OHLCV: Sensing(Sensor.LIQUIDITY_STATE, frozenset({Role.STATE, Role.INVALIDATE}), _BAR),
    SensorDataset.UM_VOLUMES: Sensing(Sensor.LIQUIDITY_STATE, _CONFIRMS, _BAR),
    SensorDataset.SPOT_OHLCV: Sensing(Sensor.SYNCHRONIZATION, _SETS_OFF, _BAR),
    SensorDataset.UM_L1_QUOTES: Sensing(
        Sensor.LIQUIDITY_STATE, frozenset({Role.CONFIRM, Role.INVALIDATE}), _SUB_MINUTE
    ),
    SensorDataset.UM_L1_TRADES: Sensing(Sensor.LIQUIDITY_STATE, _CONFIRMS, _SUB_MINUTE),
    SensorDataset.EVENT_CALENDAR: Sensing(Sensor.EXPECTATION, frozenset({Role.TRIGGER, Role.STATE}), _SCHEDULED),
}
"""Sensor, roles and resolution of every data set (reference_1 section 6.1, with volumes and takers told from prices)."""

"""Mechanisms fused from data sets by their roles, F1..F5 (reference_1 section 6.2). Keep their judgement out (`judge`)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from backtest_assets.domain.event import EventType
from backtest_assets.domain.sensor import SENSING, Bucket, Role, Sensor, SensorDataset
from backtest_assets.research.hypotheses.queue.mechanism import Mechanism, SourceKind


@dataclass(frozen=True, slots=True)
class Fusion:
    """An operator that fuses data sets.

    Attributes:
        name: F1, ...
        roles: what each member must be able to do.
        sensors: what each member must show; None for anything.
        sentence: the mechanism, with one place per member.
        consequence: what follows.
        bucket: how soon.
        families: event families it speaks of.
        condition: what must hold at `known_at`; None for every condition.
        is_across: whether the members must be of different sensors, not only different data sets.
    """

    name: str
    roles: tuple[Role, ...]
    sensors: tuple[Sensor | None, ...]
    sentence: str
    consequence: str
    bucket: Bucket
    families: tuple[EventType, ...]
    condition: str | None = None
    is_across: bool = False


FUSIONS: Final = (
    Fusion(
        "F1", (Role.TRIGGER, Role.STATE), (None, None), "{0} during {1} displaces the price for a while.",
        "temporary dislocation", Bucket.SHORT, (EventType.LIQUIDITY_ABSENCE_WINDOW,),
    ),
    Fusion(
        "F2", (Role.TRIGGER, Role.CONFIRM), (None, None), "{0}, confirmed by {1}, drives makers away and they come back late.",
        "delayed refill", Bucket.MEDIUM, (EventType.LIQUIDITY_REFILL_LAG_WINDOW,), is_across=True,
    ),
    Fusion(
        "F3", (Role.STATE, Role.TRIGGER), (None, None), "After {0}, {1} shakes the market more to one side than to the other.",
        "asymmetric aftershock", Bucket.MEDIUM, (EventType.VOL_SHOCK_RELAXATION, EventType.VOL_AFTERSHOCK_WINDOW),
    ),
    Fusion(
        "F4", (Role.TRIGGER, Role.TRIGGER), (Sensor.SYNCHRONIZATION, Sensor.FORCED_FLOW),
        "{0} that comes with {1} goes too far and is taken back.", "overshoot then convergence", Bucket.SHORT,
        (EventType.CROSS_VENUE_DESYNC, EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW),
    ),
    Fusion(
        "F5", (Role.TRIGGER, Role.STATE, Role.INVALIDATE), (None, None, None),
        "{0} during {1} displaces the price only as long as there is {2}.", "regime-conditional dislocation", Bucket.SHORT,
        (EventType.LIQUIDITY_VACUUM, EventType.LIQUIDITY_ABSENCE_WINDOW), "vol_regime_high",
    ),
)  # fmt: skip
"""The operators, in fixed order."""

_WORDS: Final = {
    SensorDataset.UM_LIQUIDATIONS: "a run of forced orders",
    SensorDataset.UM_TAKERS: "one-sided aggression",
    SensorDataset.UM_OPEN_INTEREST: "a build-up of positions",
    SensorDataset.UM_FUNDING: "a crowd that pays to stay",
    SensorDataset.UM_OHLCV: "a nervous market",
    SensorDataset.UM_VOLUMES: "a change in how much is traded",
    SensorDataset.SPOT_OHLCV: "a gap between two venues",
    SensorDataset.UM_L1_QUOTES: "a thin book",
    SensorDataset.UM_L1_TRADES: "a burst of small trades",
    SensorDataset.EVENT_CALENDAR: "a scheduled release",
}


def fuse_datasets(available: Collection[SensorDataset], fusions: tuple[Fusion, ...] = FUSIONS) -> tuple[Mechanism, ...]:
    """Fuse the data sets that a run has.

    Args:
        available: the data sets; what is not among them is not fused.
        fusions: the operators.

    Returns:
        One mechanism per operator and fitting choice of members, in fixed order.

    Knows:
        which data sets there are.
    """
    present = tuple(name for name in SensorDataset if name in available)
    return tuple(_fused(operator, members) for operator in fusions for members in _choices(operator, present))


def _choices(operator: Fusion, present: tuple[SensorDataset, ...]) -> Iterator[tuple[SensorDataset, ...]]:
    able = [
        [name for name in present if role in SENSING[name].roles and sensor in (None, SENSING[name].sensor)]
        for role, sensor in zip(operator.roles, operator.sensors, strict=True)
    ]
    for members in product(*able):
        sensors = {SENSING[name].sensor for name in members}
        if len(set(members)) == len(members) and (len(sensors) == len(members) or not operator.is_across):
            yield members


def _fused(operator: Fusion, members: tuple[SensorDataset, ...]) -> Mechanism:
    sentence = operator.sentence.format(*(_WORDS[name] for name in members))
    return Mechanism(
        SourceKind.FUSION,
        operator.name,
        sentence[0].upper() + sentence[1:],
        tuple((name,) for name in members),
        operator.consequence,
        operator.bucket,
        operator.families,
        operator.condition,
    )

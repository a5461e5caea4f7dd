"""The declared mechanisms T1..T5 (reference_1 section 6.2), cut down to what this system's data can show.

Sides are told apart where the family has one: the side of an event is against the flow, or against the crowd. What needs
an order book or a calendar is listed and never run. Keep judgement out (`judge`).
"""

from typing import Final

from backtest_assets.domain.event import EventType
from backtest_assets.domain.sensor import Bucket, SensorDataset
from backtest_assets.research.hypotheses.queue.mechanism import Mechanism, SourceKind

_FLOW: Final = (SensorDataset.UM_LIQUIDATIONS, SensorDataset.UM_TAKERS)
_CROWD: Final = (SensorDataset.UM_FUNDING, SensorDataset.UM_OPEN_INTEREST)
_PRICES: Final = (SensorDataset.UM_OHLCV,)
_VOLUMES: Final = (SensorDataset.UM_VOLUMES,)
_TAKERS: Final = (SensorDataset.UM_TAKERS,)
_SPOT: Final = (SensorDataset.SPOT_OHLCV,)
_BOOK: Final = (SensorDataset.UM_L1_QUOTES,)
_CALENDAR: Final = (SensorDataset.EVENT_CALENDAR,)

_SHOCK, _REFILL, _ABSENCE, _AFTERSHOCK, _FLOW_END, _DESYNC, _VACUUM, _REVERSAL, _BREAKOUT = tuple(EventType)[:9]
_ONSET, _ACCELERATION, _PERSISTENCE, _NORMALIZATION = tuple(EventType)[9:]
_CROWDED: Final = (_REVERSAL, _ONSET, _ACCELERATION, _PERSISTENCE)


def _template(
    name: str,
    sentence: str,
    needs: tuple[tuple[SensorDataset, ...], ...],
    *,
    then: str,
    within: Bucket,
    after: tuple[EventType, ...],
    if_: str | None = None,
) -> Mechanism:
    return Mechanism(SourceKind.TEMPLATE, name, sentence, needs, then, within, after, if_)


_FORCED: Final = (
    _template(
        "T1", "Forced buyers lift prices beyond what others will pay, and prices fall back once they are done.",
        (_FLOW, _PRICES), then="price dislocation", within=Bucket.SHORT, after=(_FLOW_END,), if_="event_side_down",
    ),
    _template(
        "T1", "Forced sellers press prices below what others will ask, and prices recover once they are done.",
        (_FLOW, _PRICES), then="price dislocation", within=Bucket.SHORT, after=(_FLOW_END,), if_="event_side_up",
    ),
    _template(
        "T1", "An isolated burst of forced orders uses up the resting orders, and volatility expands.",
        (_FLOW, _PRICES), then="volatility expansion", within=Bucket.SHORT, after=(_FLOW_END, _SHOCK),
    ),
    _template(
        "T1", "Forced orders that come in clusters displace the price further than a single one.",
        (_FLOW, _PRICES), then="price dislocation", within=Bucket.SHORT, after=(_FLOW_END,), if_="severity_high",
    ),
    _template(
        "T1", "Forced orders that come in clusters leave nobody to trade against.",
        (_FLOW, _PRICES), then="liquidity vacuum", within=Bucket.MEDIUM, after=(_VACUUM, _FLOW_END),
    ),
    _template(
        "T1", "Forced orders that set off one another in a nervous market leave nobody to trade against.",
        (_FLOW, _PRICES), then="liquidity vacuum", within=Bucket.MEDIUM, after=(_VACUUM,), if_="vol_regime_high",
    ),
    _template(
        "T1", "Forced orders that set off one another shake the market again after it has calmed.",
        (_FLOW, _PRICES), then="volatility aftershock", within=Bucket.MEDIUM, after=(_AFTERSHOCK,),
    ),
)  # fmt: skip
_SYNCHRONIZATION: Final = (
    _template(
        "T2", "When two venues disagree, those who can trade on both bring them together.",
        (_SPOT, _PRICES), then="convergence", within=Bucket.SHORT, after=(_DESYNC,),
    ),
    _template(
        "T2", "When one venue stops following the other, makers step back until they agree again.",
        (_SPOT, _PRICES), then="delayed refill", within=Bucket.SHORT, after=(_DESYNC, _REFILL),
    ),
    _template(
        "T2", "An unusually large gap between two venues is pressure on one of them, and passes.",
        (_SPOT, _PRICES), then="temporary dislocation", within=Bucket.SHORT, after=(_DESYNC,), if_="severity_high",
    ),
)  # fmt: skip
_LIQUIDITY: Final = (
    _template(
        "T3", "When the depth of the book is used up, the next order moves the price out of proportion.",
        (_BOOK,), then="nonlinear impact", within=Bucket.SHORT, after=(_VACUUM, _ABSENCE),
    ),
    _template(
        "T3", "After aggressive trades the resting orders come back late, and the range stays wide until they do.",
        (_TAKERS, _PRICES), then="refill lag", within=Bucket.MEDIUM, after=(_REFILL,),
    ),
    _template(
        "T3", "When trading thins out, small orders move the price and it wanders off.",
        (_VOLUMES, _PRICES), then="liquidity vacuum", within=Bucket.MEDIUM, after=(_VACUUM, _ABSENCE),
    ),
    _template(
        "T3", "Where few trade at the hours of settlement, the first who must trade move the price.",
        (_VOLUMES, _PRICES), then="temporary dislocation", within=Bucket.SHORT, after=(_ABSENCE,),
    ),
)  # fmt: skip
_CROWDING: Final = (
    _template(
        "T4", "Crowded longs that meet forced flow leave through one door, and prices fall faster than they rose.",
        (_CROWD,), then="asymmetric unwind", within=Bucket.MEDIUM, after=_CROWDED, if_="event_side_down",
    ),
    _template(
        "T4", "Crowded shorts that meet forced flow leave through one door, and prices rise faster than they fell.",
        (_CROWD,), then="asymmetric unwind", within=Bucket.MEDIUM, after=_CROWDED, if_="event_side_up",
    ),
    _template(
        "T4", "A burst of volatility in a market of crowded longs shakes it again as they give up.",
        (_CROWD, _PRICES), then="delayed aftershock", within=Bucket.MEDIUM, after=(_SHOCK, _AFTERSHOCK), if_="funding_regime_positive",
    ),
    _template(
        "T4", "A burst of volatility in a market of crowded shorts shakes it again as they give up.",
        (_CROWD, _PRICES), then="delayed aftershock", within=Bucket.MEDIUM, after=(_SHOCK, _AFTERSHOCK), if_="funding_regime_negative",
    ),
    _template(
        "T4", "Those who join a crowd last pay most to stay, and are the first to leave.",
        (_CROWD,), then="asymmetric unwind", within=Bucket.SHORT, after=(_ONSET, _ACCELERATION),
    ),
    _template(
        "T4", "Once a crowd has gone, the price it held up or down drifts back.",
        (_CROWD,), then="drift after the unwind", within=Bucket.MEDIUM, after=(_NORMALIZATION,),
    ),
)  # fmt: skip
_INFORMATION: Final = (
    _template(
        "T5", "A scheduled release is priced in steps by those who read it later.",
        (_CALENDAR,), then="repricing drift", within=Bucket.SHORT, after=(_BREAKOUT, _SHOCK),
    ),
    _template(
        "T5", "A narrow range is agreement; what breaks it is news, priced in steps by those who hear it later.",
        (_PRICES,), then="repricing drift", within=Bucket.SHORT, after=(_BREAKOUT,),
    ),
    _template(
        "T5", "A narrow range after calm weeks is broken by news that few were placed for.",
        (_PRICES,), then="repricing drift", within=Bucket.MEDIUM, after=(_BREAKOUT,), if_="vol_regime_low",
    ),
    _template(
        "T5", "An unscheduled release arrives as a burst of volatility and is priced in steps.",
        (_PRICES,), then="repricing drift", within=Bucket.SHORT, after=(_SHOCK,),
    ),
)  # fmt: skip

TEMPLATES: Final = (*_FORCED, *_SYNCHRONIZATION, *_LIQUIDITY, *_CROWDING, *_INFORMATION)
"""Every declared mechanism, in fixed order."""

"""Which thresholds are asked of which family, declared with their meaning before any outcome is seen.

Both sides of every one are asked, so that neither can be chosen after looking. Keep their evaluation out (`thresholds`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backtest_assets.domain.event import EventType

_NERVOUS: Final = ("rv_pct_2880>=0.8", "rv_pct_2880<=0.2")
"""The fifth of the month in which prices moved most, and least: who is still willing to take the other side."""
_CROWDED: Final = ("funding_pct_8640>=0.8", "funding_pct_8640<=0.2")
"""Longs, or shorts, pay more to stay than in four fifths of three months: whose exit the event may set off."""
_TRADED: Final = ("volume_quote_ratio_2880>=2", "volume_quote_ratio_2880<=0.5")
"""Twice, or half, of the usual trading: whether others see the event too."""
_WIDE: Final = ("spread_pct_2880>=0.8", "spread_pct_2880<=0.2")
"""The fifth of the month in which trading was dearest, and cheapest: whether makers have stepped back already."""
_LEVERED: Final = ("open_interest_log_change_96>=0.05", "open_interest_log_change_96<=-0.05")
"""Positions grew, or were closed, by a twentieth in a day: whether leverage is still there to be unwound."""
_STRETCHED: Final = ("basis_z_96>=1", "basis_z_96<=-1")
"""The perpetual is dearer, or cheaper, against spot than it was in most of the day."""
_OLD: Final = ("funding_persistence_age_h>=24", "funding_persistence_age_h<24")
"""The crowd has paid for a day, or has only just come."""

ASKED: Final[Mapping[EventType, tuple[str, ...]]] = MappingProxyType({
    EventType.VOL_SHOCK_RELAXATION: (*_CROWDED, *_LEVERED),
    EventType.LIQUIDITY_REFILL_LAG_WINDOW: (*_NERVOUS, *_WIDE),
    EventType.LIQUIDITY_ABSENCE_WINDOW: (*_NERVOUS, *_WIDE),
    EventType.VOL_AFTERSHOCK_WINDOW: (*_CROWDED, *_TRADED),
    EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: (*_LEVERED, *_CROWDED),
    EventType.CROSS_VENUE_DESYNC: (*_TRADED, *_CROWDED),
    EventType.LIQUIDITY_VACUUM: (*_NERVOUS, *_LEVERED),
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW: (*_LEVERED, *_NERVOUS),
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: (*_TRADED, *_LEVERED),
    EventType.FUNDING_EXTREME_ONSET: (*_STRETCHED, *_NERVOUS),
    EventType.FUNDING_ACCELERATION: (*_OLD, *_STRETCHED),
    EventType.FUNDING_PERSISTENCE_WINDOW: (*_LEVERED, *_NERVOUS),
    EventType.FUNDING_NORMALIZATION: (*_STRETCHED, *_NERVOUS),
})  # fmt: skip
"""Texts of the thresholds by family, in order of priority."""

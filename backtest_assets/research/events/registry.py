"""Every built family: its declared definition and its detector, in the order of `EventType`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.definition import Definition
from backtest_assets.research.events.families import (
    funding_extreme_reversal_window,
    range_compression_breakout_window,
    vol_shock_relaxation,
)


@dataclass(frozen=True, slots=True)
class Family:
    """One event family.

    Attributes:
        definition: the declared (centre) definition.
        detect: `detect(view, params=definition)` finds every candidate, in the columns of `Candidates.frame`.
    """

    definition: Definition
    detect: Callable[..., pl.DataFrame]


_FAMILIES: Final = (
    Family(vol_shock_relaxation.VolShock(), vol_shock_relaxation.detect),
    Family(funding_extreme_reversal_window.FundingReversal(), funding_extreme_reversal_window.detect),
    Family(range_compression_breakout_window.Breakout(), range_compression_breakout_window.detect),
)
FAMILIES: Final[Mapping[EventType, Family]] = MappingProxyType(
    {family.definition.event_type: family for family in _FAMILIES}
)

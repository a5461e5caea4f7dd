"""Every built family: its declared definition and its detector, in the order of `EventType`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.definition import Definition
from backtest_assets.research.events.families import (
    cross_venue_desync,
    directional_exhaustion_after_forced_flow,
    funding_acceleration,
    funding_extreme_onset,
    funding_extreme_reversal_window,
    funding_normalization,
    funding_persistence_window,
    liquidity_absence_window,
    liquidity_refill_lag_window,
    liquidity_vacuum,
    range_compression_breakout_window,
    vol_aftershock_window,
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
    Family(liquidity_refill_lag_window.RefillLag(), liquidity_refill_lag_window.detect),
    Family(liquidity_absence_window.Absence(), liquidity_absence_window.detect),
    Family(vol_aftershock_window.Aftershock(), vol_aftershock_window.detect),
    Family(directional_exhaustion_after_forced_flow.ForcedFlow(), directional_exhaustion_after_forced_flow.detect),
    Family(cross_venue_desync.Desync(), cross_venue_desync.detect),
    Family(liquidity_vacuum.Vacuum(), liquidity_vacuum.detect),
    Family(funding_extreme_reversal_window.FundingReversal(), funding_extreme_reversal_window.detect),
    Family(range_compression_breakout_window.Breakout(), range_compression_breakout_window.detect),
    Family(funding_extreme_onset.FundingOnset(), funding_extreme_onset.detect),
    Family(funding_acceleration.FundingAcceleration(), funding_acceleration.detect),
    Family(funding_persistence_window.FundingPersistence(), funding_persistence_window.detect),
    Family(funding_normalization.FundingNormalization(), funding_normalization.detect),
)
FAMILIES: Final[Mapping[EventType, Family]] = MappingProxyType(
    {family.definition.event_type: family for family in _FAMILIES}
)

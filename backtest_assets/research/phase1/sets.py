"""Events and their controls as matched sets: one array per family, on train only. Keep tests of them out (`evidence`)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BARS_PER_DAY
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.domain.split import Split
from backtest_assets.research.context.build import HIGH, LOW
from backtest_assets.research.events.controls import CONTROLS_PER_EVENT
from backtest_assets.research.outcomes.direction import direction_of_event
from backtest_assets.research.phase1.criteria import DAY_METRICS, METRICS
from backtest_assets.stats.arrays import FloatArray, IntArray

DAY_HOLD_BARS: Final = BARS_PER_DAY
"""The hold over which volatility and range are compared [bars]."""

_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; Monday is 0
_KEY: Final = ("event_type", "event_id", "control_no")
_IS_HIT: Final = pl.col("up_bars").is_not_null() | pl.col("down_bars").is_not_null()


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a run's events and controls.

    Attributes:
        outcomes: rows of `event_outcomes`, accruals not needed.
        barriers: rows of `event_barriers`.
        controls: rows of `event_controls`.
    """

    outcomes: pl.DataFrame
    barriers: pl.DataFrame
    controls: pl.DataFrame


@dataclass(frozen=True, slots=True)
class MatchedSets:
    """A family's train events beside their controls, in the order of time, symbol and id.

    Attributes:
        values: (n_events, 1 + CONTROLS_PER_EVENT, n_metrics), member 0 is the event; NaN = unknown or no such control.
        days: (n_events,) UTC day on which the event was known [days since 1970].
        years: (n_events,) its year.
        symbols: (n_events,) number of its symbol.
        regimes: (n_events,) third of the volatility rank before its onset, 0 low; -1 without a control.
    """

    values: FloatArray
    days: IntArray
    years: IntArray
    symbols: IntArray
    regimes: IntArray

    @property
    def clusters(self) -> IntArray:
        """(n_events, n_metrics) what is one cluster: the day, of what is measured over a day the week from Monday.

        Weeks are counted down from -1, so that no week bears the number of a day.
        """
        weeks = -1 - (self.days + _EPOCH_WEEKDAY) // 7
        is_weekly = np.array([metric in DAY_METRICS for metric in METRICS])
        return np.where(is_weekly, weeks[:, np.newaxis], self.days[:, np.newaxis])


def matched_sets(measured: Measured) -> Mapping[str, MatchedSets]:
    """Lay the train outcomes of events and controls side by side.

    Args:
        measured: outcomes, barriers and controls; validation rows are left out here.

    Returns:
        By family; families without an outcome on train are left out. A move is the event's side times gross minus
        funding, of a family without sides that of a long; volatility and range are in daily sigmas, unknown without a
        barrier; a tail is known only where the whole day was watched, since whoever is dropped for a gap would otherwise
        be dropped only if not hit before it.

    Knows:
        outcomes of train.
    """
    values = _values(measured)
    rank = measured.controls.group_by("event_id").agg(rank=pl.col("event_rv_pct").first())
    events = (
        values.filter(pl.col("control_no") == 0)
        .join(rank, on="event_id", how="left")
        .sort("event_type", "known_at", "symbol", "event_id")
        .select(
            "event_type",
            "event_id",
            row=pl.int_range(pl.len()).over("event_type"),
            day=pl.col("known_at").dt.epoch("d").cast(pl.Int64),
            year=pl.col("known_at").dt.year().cast(pl.Int64),
            symbol=pl.col("symbol").rank("dense").cast(pl.Int64),
            regime=pl.when(pl.col("rank") <= LOW).then(0).when(pl.col("rank") <= HIGH).then(1).when(
                pl.col("rank") > HIGH).then(2).otherwise(-1).cast(pl.Int64),
        )
    )  # fmt: skip
    placed = values.join(events.select("event_id", "event_type", "row"), on=["event_id", "event_type"])
    of_family = placed.partition_by("event_type", as_dict=True)
    return {
        str(family): _sets(rows, of_family[family,])
        for (family,), rows in events.partition_by("event_type", as_dict=True).items()
    }


def no_sets() -> MatchedSets:
    """Return the sets of a family without an outcome on train.

    Returns:
        Arrays without a row.

    Knows:
        nothing.
    """
    nothing = np.empty(0, dtype=np.int64)
    return MatchedSets(np.empty((0, 1 + CONTROLS_PER_EVENT, len(METRICS))), nothing, nothing, nothing, nothing)


def _sets(events: pl.DataFrame, members: pl.DataFrame) -> MatchedSets:
    values = np.full((events.height, 1 + CONTROLS_PER_EVENT, len(METRICS)), np.nan)
    values[members["row"].to_numpy(), members["control_no"].to_numpy()] = members.select(METRICS).to_numpy()
    days, years, symbols, regimes = (events[name].to_numpy() for name in ("day", "year", "symbol", "regime"))
    return MatchedSets(values, days, years, symbols, regimes)


def _values(measured: Measured) -> pl.DataFrame:
    """Return every metric of every event and control on train; null where unknown."""
    train = measured.outcomes.filter(
        pl.col("variant") == Variant.CENTRE.value,
        pl.col("delay_bars") == 0,
        pl.col("hold_bars").is_in(HOLD_GRID_BARS),
        pl.col("split") == Split.TRAIN.value,
    )
    is_day, move = (
        pl.col("hold_bars") == DAY_HOLD_BARS,
        direction_of_event() * (pl.col("gross_bps") - pl.col("funding_bps")),
    )
    sigma = measured.barriers.filter(pl.col("split") == Split.TRAIN.value).select(
        *_KEY, "barrier_bps", tail_hit=pl.when(~pl.col("ends_early")).then(_IS_HIT.cast(pl.Float64))
    )
    wide = train.group_by(_KEY).agg(
        pl.col("symbol", "known_at").first(),
        vol_bps=pl.col("realized_vol_bps").filter(is_day).first(),
        range_bps=(pl.col("highest_bps") - pl.col("lowest_bps")).filter(is_day).first(),
        **{f"move_{hold}_bars_bps": move.filter(pl.col("hold_bars") == hold).first() for hold in HOLD_GRID_BARS},
    )
    return wide.join(sigma, on=_KEY, how="left").with_columns(
        realized_vol_sigmas=pl.col("vol_bps") * math.sqrt(DAY_HOLD_BARS) / pl.col("barrier_bps"),
        range_sigmas=pl.col("range_bps") / pl.col("barrier_bps"),
    )

"""Funding settlements of a symbol, each against the thirty days before it; what makes an event of them is its family's.

Ranks are asked at settlements, not at bars that repeat the last rate, and strictly: "rank at least 95" means larger than
95 % of the earlier values, which is a value beyond the threshold with the threshold at the 0.95 quantile of the inverted
distribution. A rate that stands still is therefore never beyond it.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.event import Measure
from backtest_assets.research.events.definition import Candidates
from backtest_assets.research.events.strict import BEYOND
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.scan import lagged

HOUR_US: Final = 3_600_000_000

_WINDOW: Final = "30d"  # as the features' "normal"; by time, so that contracts of 1, 4 and 8 hours see the same past
_LEAST_HOURS: Final = 10 * 24  # of settled intervals behind a threshold: a third of the window


@dataclass(frozen=True, slots=True)
class Spells:
    """States of the crowd as positions of settlements; all arrays are (n_spells,), ascending.

    Attributes:
        onset: the first settlement of the state.
        known: the settlement that completes it.
        payer: the settlement whose sign of funding says who the crowd is, and whose value is measured.
    """

    onset: IntArray
    known: IntArray
    payer: IntArray


@dataclass(frozen=True, slots=True)
class Crowd:
    """A symbol's settlements by time; all arrays are (n_settlements,).

    Attributes:
        settled_us: instants [us].
        interval_h: hours that each covers [h].
        rate: funding rates, > 0 where longs pay [fraction per 8 h].
    """

    settled_us: IntArray
    interval_h: FloatArray
    rate: FloatArray

    @classmethod
    def of(cls, settlements: pl.DataFrame) -> Self:
        """Read the settlements of one symbol.

        Args:
            settlements: rows of `settlements_um` of one symbol, by `settled_at`.
        """
        interval_h = settlements["funding_interval_h"].cast(pl.Float64).to_numpy()
        rate = settlements["funding_rate"].to_numpy() * 8.0 / interval_h
        return cls(settlements["settled_at"].dt.epoch("us").to_numpy(), interval_h, rate)

    @property
    def size(self) -> FloatArray:
        """How much is paid, whoever pays [fraction per 8 h]."""
        return np.abs(self.rate)

    @property
    def continues(self) -> BoolArray:
        """Which settlements follow the one before on time and with its sign."""
        sign = np.sign(self.rate)
        on_time = np.diff(self.settled_us, prepend=self.settled_us[:1]) <= self.interval_h * HOUR_US + BAR_US
        return on_time & (sign == lagged(sign))

    def size_before(self, hours: int) -> FloatArray:
        """Return the size of the rate in force `hours` before each settlement, NaN where that one is missing.

        Args:
            hours: distance back [h].
        """
        if not self.settled_us.size:
            return self.size
        instant = self.settled_us - hours * HOUR_US
        at = np.searchsorted(self.settled_us, instant, side="right") - 1
        age = instant - self.settled_us[at]
        in_force = (at >= 0) & (age < self.interval_h[at] * HOUR_US)
        return np.where(in_force, self.size[at], np.nan)

    def threshold(self, values: FloatArray, rate: float) -> FloatArray:
        """Return what a share `rate` of the values of the 30 days before each settlement exceeds.

        Args:
            values: one per settlement, NaN = unknown.
            rate: exceedance rate in [0, 1].

        Returns:
            (n_settlements,) in the unit of `values`; NaN where the 30 days hold less than 10 days of settled intervals.
        """
        past = pl.DataFrame({"at": self.settled_us, "hours": self.interval_h}).with_columns(
            pl.col("at").cast(pl.Datetime("us")), value=pl.Series(values, nan_to_null=True)
        )
        known_hours = pl.when(pl.col("value").is_not_null()).then("hours").rolling_sum_by("at", _WINDOW, closed="left")
        quantile = pl.col("value").rolling_quantile_by(
            "at", _WINDOW, quantile=1.0 - rate, interpolation="equiprobable", closed="left"
        )
        return past.select(pl.when(known_hours >= _LEAST_HOURS).then(quantile)).to_series().cast(pl.Float64).to_numpy()

    @staticmethod
    def rises(values: FloatArray, thresholds: FloatArray) -> Spells:
        """Return the settlements at which a value is beyond its threshold and the one before was not.

        Args:
            values: one per settlement.
            thresholds: one per settlement; at 0 there is no measure of what is usual, and nothing rises.
        """
        was_within = lagged(values) <= lagged(thresholds) * BEYOND
        at = np.flatnonzero((values > thresholds * BEYOND) & (thresholds > 0) & was_within)
        return Spells(at, at, at)

    def candidates(
        self, grid: SymbolGrid, spells: Spells, *, values: FloatArray, thresholds: FloatArray, window_bars: int
    ) -> Candidates:
        """Place spells on the grid: a settlement is known at the first close at or after it.

        Args:
            grid: the symbol's features; spells that set in before it or are known after it are left out.
            spells: where the states are.
            values: what was measured at each settlement.
            thresholds: what it is measured against at each settlement; above 0 where a spell is known.
            window_bars: length of the event's window, in which no other is accepted [bars].

        Returns:
            `onset_us` opens the bar at whose close the onset settled, `side` is against the crowd, `severity` the payer's
            value over the threshold in force when the spell is known.
        """
        row = -((grid.first_us - self.settled_us) // BAR_US) - 1
        inside = (row[spells.onset] >= 0) & (row[spells.known] < grid.height)
        onset, known, payer = (at[inside] for at in (spells.onset, spells.known, spells.payer))
        return Candidates(
            onset_us=grid.first_us + row[onset] * BAR_US,
            known_row=row[known],
            exit_row=row[known] + window_bars,
            side=-np.sign(self.rate[payer]).astype(np.int64),
            severity=values[payer] / thresholds[known],
            threshold=thresholds[known],
            measure=Measure.FUNDING_RATE,
        )

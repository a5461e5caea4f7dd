"""A funding hour at which hardly anyone trades, compared with the same hour of the month before; prices are not asked."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, BARS_PER_DAY
from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.rolling import rolling_quantile
from backtest_assets.stats.scan import lagged

_PER_DAY: Final = 3  # funding hours: 00, 08 and 16 UTC
_EVERY_US: Final = BARS_PER_DAY // _PER_DAY * BAR_US
_MONTH: Final = 2_880  # bars behind the usual traded value


@dataclass(frozen=True, slots=True)
class Absence(Definition):
    """Parameters.

    Attributes:
        history_days: days of the same hour behind a threshold: a month, so that weekends are a part of it [days].
        least_days: of these, days that must be known: two thirds, for a quantile at one fifth [days].
        window_bars: length of the event's window, in which no other is accepted [bars].
    """

    event_type: ClassVar[EventType] = EventType.LIQUIDITY_ABSENCE_WINDOW
    version: ClassVar[str] = (
        "absence_v2: traded value (rv_12 where a bar has none) of the first bar of a funding hour "
        "falls below its quantile of the same hour in the 30 days before"
    )
    needs: ClassVar[tuple[str, ...]] = ("rv_12",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.VOLUME_QUOTE, Measure.BASE_X_CLOSE, Measure.VOLATILITY)

    rate: float = 0.20
    history_days: int = 30
    least_days: int = 20
    window_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.window_bars)


def detect(view: MarketView, *, params: Absence) -> pl.DataFrame:
    """Find funding hours without activity after one with it; a state that lasts fires once.

    Activity is the bar's traded value over its 30-day median; on real bars whose traded value is unknown `rv_12` stands
    in, against its own past and its own hour before. No activity at all is an outage, not absence.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the open of the first bar of 00, 08 or 16 UTC, `known_at` its close, `side` 0,
        `severity` = threshold over activity, `measure` what both are of.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the onset bar's close; the threshold ends one day before it.
    """
    return pl.concat([_of_symbol(grid, params).frame(grid, params.spacing) for _, grid in view.grids()])


def _of_symbol(grid: SymbolGrid, params: Absence) -> Candidates:
    activity = grid.values("volume_quote_ratio_2880")
    hours = np.flatnonzero(grid.open_us % _EVERY_US == 0)
    volatility = np.where(grid.is_real, grid.values("rv_12"), np.nan)
    traded, moved = (_against_same_hour(values[hours], params) for values in (activity, volatility))
    share, before, threshold = np.where(np.isnan(activity[hours]), moved, traded)
    onset = np.flatnonzero((share < 1) & (share > 0) & (before >= 1))
    row = hours[onset]
    return Candidates(
        onset_us=grid.open_us[row],
        known_row=row,
        exit_row=row + params.window_bars,
        side=np.zeros(row.size, dtype=np.int64),
        severity=1.0 / share[onset],
        threshold=threshold[onset],
        measure=grid.frame["volume_measure"].gather(row).fill_null(Measure.VOLATILITY.value),
    )


def _against_same_hour(values: FloatArray, params: Absence) -> FloatArray:
    """Return values over thresholds, the same one funding hour before, and the thresholds, (3, n_hours)."""
    threshold = np.full(values.size, np.nan)
    for hour in range(_PER_DAY):
        same = values[hour::_PER_DAY]
        threshold[hour::_PER_DAY] = lagged(rolling_quantile(same, params.history_days, params.least_days, params.rate))
    share = np.divide(values, threshold, out=np.full(values.size, np.nan), where=threshold > 0)
    return np.stack([share, lagged(share), threshold])

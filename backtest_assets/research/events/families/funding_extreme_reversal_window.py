"""A funding extreme whose crowd is then proven wrong: an extreme settlement, and the first move against who pays it."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.scan import NEVER, first_beyond

_WINDOW: Final = "90d"
_LEAST_HOURS: Final = 30 * 24  # of settled intervals behind a threshold


@dataclass(frozen=True, slots=True)
class FundingReversal(Definition):
    """Parameters.

    Attributes:
        reversal_sd: move against the crowd that proves it wrong [rv_96 at the settlement, log price].
        patience_bars: bars after the settlement within which it must come [bars].
        cooldown_bars: length of the event's window, in which no other is accepted [bars].
    """

    event_type: ClassVar[EventType] = EventType.FUNDING_EXTREME_REVERSAL_WINDOW
    version: ClassVar[str] = "funding_reversal_v2: |funding_8h| rises above its trailing 90-day quantile, then reverses"
    needs: ClassVar[tuple[str, ...]] = ("funding_rate_8h",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.FUNDING_RATE,)

    rate: float = 0.02
    reversal_sd: float = 4.0
    patience_bars: int = 96
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: FundingReversal) -> pl.DataFrame:
    """Find reversals after the onset of a funding extreme.

    Beyond means strictly: exchanges cap calm funding at one value (0.01 % per 8 h), and at or above a quantile that equals
    it would make one settlement in seven an extreme. The threshold must also exceed the median of the same 90 days.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the settlement, `known_at` the close of the reversal bar, `side` against the
        crowd (minus the sign of funding), `severity` |funding_8h| over threshold.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the reversal bar's close; the threshold ends before the settlement.
    """
    return pl.concat(
        [
            _of_symbol(
                np.log(bar_grid.values("close")), grid, _onsets(view.settlements(grid.symbol), params), params
            ).frame(grid, params.spacing)
            for bar_grid, grid in view.grids()
        ]
    )


def _onsets(settlements: pl.DataFrame, params: FundingReversal) -> pl.DataFrame:
    size = pl.col("size")
    extreme, usual = pl.col("threshold"), pl.col("median")
    return (
        settlements.with_columns(size=(pl.col("funding_rate") * 8.0 / pl.col("funding_interval_h")).abs())
        .with_columns(
            hours=pl.col("funding_interval_h").rolling_sum_by("settled_at", _WINDOW, closed="left"),
            threshold=size.rolling_quantile_by(
                "settled_at", _WINDOW, quantile=1.0 - params.rate, interpolation="linear", closed="left"
            ),
            median=size.rolling_median_by("settled_at", _WINDOW, closed="left"),
        )
        .filter(
            (size > extreme)
            & (size.shift(1) <= extreme.shift(1))
            & (extreme > usual)
            & (pl.col("hours") >= _LEAST_HOURS)
        )
        .select("settled_at", "size", "threshold", crowd=pl.col("funding_rate").sign().cast(pl.Int64))
    )


def _of_symbol(price: FloatArray, grid: SymbolGrid, onsets: pl.DataFrame, params: FundingReversal) -> Candidates:
    settled_us = onsets["settled_at"].dt.epoch("us").to_numpy()
    row = grid.row_known_at(settled_us)
    inside = np.flatnonzero((row >= 0) & (row < grid.height))
    row, settled_us = row[inside], settled_us[inside]
    side = -onsets["crowd"].to_numpy()[inside]
    level = price[row] + side * params.reversal_sd * grid.values("rv_96")[row]
    turned = first_beyond(price, row, level, side, params.patience_bars)
    found = np.flatnonzero(turned < NEVER)
    found = found[np.lexsort((settled_us[found], turned[found]))]
    size, threshold = (onsets[name].to_numpy()[inside][found] for name in ("size", "threshold"))
    return Candidates(
        onset_us=settled_us[found],
        known_row=turned[found],
        exit_row=turned[found] + params.cooldown_bars,
        side=side[found],
        severity=size / threshold,
        threshold=threshold,
        measure=Measure.FUNDING_RATE,
    )

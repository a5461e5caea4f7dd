"""A volatility shock that relaxes: three hours of volatility far above the usual; what follows it stays out."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.definition import THRESHOLD_BARS, THRESHOLD_LEAST, Candidates, Definition
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.rolling import rolling_quantile
from backtest_assets.stats.scan import NEVER, first_run_end, lagged


@dataclass(frozen=True, slots=True)
class VolShock(Definition):
    """Parameters.

    Attributes:
        quiet_ratio: at or below it a bar is quiet [times the usual volatility].
        quiet_bars: quiet bars in a row that end the event [bars].
        rest_bars: least distance of the next onset from the end [bars].
    """

    event_type: ClassVar[EventType] = EventType.VOL_SHOCK_RELAXATION
    version: ClassVar[str] = "vol_shock_v2: rv_ratio_288 crosses up its trailing 90-day quantile, lagged one bar"

    rate: float = 0.01
    quiet_ratio: float = 1.25
    quiet_bars: int = 3
    rest_bars: int = 12


def detect(features: pl.DataFrame, *, params: VolShock) -> pl.DataFrame:
    """Find the onsets of volatility shocks.

    Args:
        features: rows of `features`.
        params: the definition.

    Returns:
        One row per candidate; `side` 0, `severity` = ratio over threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the onset bar's close; the threshold ends one bar before it.
    """
    return pl.concat([_of_symbol(grid, params).frame(grid) for grid in SymbolGrid.each(features, "features")])


def _of_symbol(grid: SymbolGrid, params: VolShock) -> Candidates:
    ratio = grid.values("rv_ratio_288")
    threshold = lagged(rolling_quantile(ratio, THRESHOLD_BARS, THRESHOLD_LEAST, 1.0 - params.rate))
    above = (ratio >= threshold) & (threshold > 0)
    below_before = lagged(ratio) < lagged(threshold)
    onset = np.flatnonzero(above & below_before & grid.is_real)
    end = first_run_end(ratio <= params.quiet_ratio, onset, params.quiet_bars)
    return Candidates(
        onset_us=grid.open_us[onset],
        known_row=onset,
        exit_row=end,
        free_row=np.where(end < NEVER, end + params.rest_bars, NEVER),
        side=np.zeros(onset.size, dtype=np.int64),
        severity=ratio[onset] / threshold[onset],
        threshold=threshold[onset],
    )

"""A volatility shock that relaxes: three hours of volatility far above the usual; what follows it stays out."""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import Spacing
from backtest_assets.research.events.shock import Shock
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid


@dataclass(frozen=True, slots=True)
class VolShock(Shock):
    """Parameters: those of every shock."""

    event_type: ClassVar[EventType] = EventType.VOL_SHOCK_RELAXATION
    version: ClassVar[str] = "vol_shock_v2: rv_ratio_288 crosses up its trailing 90-day quantile, lagged one bar"
    needs: ClassVar[tuple[str, ...]] = ("rv_ratio_288",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.VOLATILITY,)

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return self.shock_spacing


def detect(view: MarketView, *, params: VolShock) -> pl.DataFrame:
    """Find the onsets of volatility shocks.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate; `side` 0, `severity` = ratio over threshold.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the onset bar's close; the threshold ends one bar before it.
    """
    return pl.concat(
        [params.shocks(grid).frame(grid, params.spacing) for grid in SymbolGrid.each(view.features, "features")]
    )

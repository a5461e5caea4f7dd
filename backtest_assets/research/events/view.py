"""What every event family may look at; a row of the past never changes when rows are added."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from backtest_assets.research.features.grid import SymbolGrid


@dataclass(frozen=True, slots=True)
class MarketView:
    """The market of a run, window and warm-up.

    Attributes:
        bars: rows of `bars_um`.
        features: rows of `features` of the same bars.
        funding: rows of `settlements_um`.
    """

    bars: pl.DataFrame
    features: pl.DataFrame
    funding: pl.DataFrame

    def grids(self) -> Iterator[tuple[SymbolGrid, SymbolGrid]]:
        """Give bars and features of each symbol, row i of one being row i of the other.

        Raises:
            TableError: if both do not cover the same unbroken grid.
        """
        return SymbolGrid.pairs(self.bars, self.features)

    def settlements(self, symbol: str) -> pl.DataFrame:
        """Return a symbol's settlements by time."""
        return self.funding.filter(pl.col("symbol") == symbol).sort("settled_at")

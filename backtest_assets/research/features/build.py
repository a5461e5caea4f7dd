"""The features table: what every bar's close tells of prices, liquidity, positions and funding.

Windows count bars of the grid and tolerate gaps: `window.py` states how many of their bars they need. Below that, and
where an ingredient is missing, a value is null, never 0.
"""

from typing import Final

import polars as pl

from backtest_assets.domain.clock import HOUR_US
from backtest_assets.research.bars.settlements import funding_as_of
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.research.features.interest import Interest
from backtest_assets.research.features.liquidity import Liquidity
from backtest_assets.research.features.persistence import funding_persistence
from backtest_assets.research.features.price import Prices
from backtest_assets.tables.features import FEATURES

_KEY: Final = ("symbol", "open_at", "known_at", "is_gap")
_PRICES: Final = ("close", "high", "low")
_VOLUMES: Final = ("volume_base", "volume_quote", "taker_buy_base")
_POSITIONS: Final = (
    "open_interest_base",
    "open_interest_quote",
    "liquidated_long_quote",
    "liquidated_short_quote",
)
_FUNDING: Final = ("funding_rate", "funding_rate_8h", "funding_age_h", "funding_settled_at")


def build_features(
    bars: pl.DataFrame, spot_bars: pl.DataFrame, funding: pl.DataFrame, positioning: pl.DataFrame
) -> pl.DataFrame:
    """Compute the features of every bar.

    Args:
        bars: rows of `bars_um`, all symbols of the run, window and warm-up.
        spot_bars: rows of `bars_spot`; where they are missing the basis is null.
        funding: rows of `settlements_um`; a settlement counts from `settled_at` until its own interval plus one bar is over.
        positioning: rows of `positioning_um`; where they are missing open interest and liquidations are null.

    Returns:
        One row per bar in the columns of `tables/features.py`.

    Raises:
        TableError: if a symbol's bars leave out an instant of the grid.

    Knows:
        bars with known_at, settlements with settled_at, and positions with known_at, up to the row's known_at.
    """
    frames: list[pl.DataFrame] = []
    for grid in SymbolGrid.each(bars.select(*_KEY, *_PRICES, *_VOLUMES), "bars_um"):
        mine = pl.col("symbol") == grid.symbol
        beside = grid.frame.join(_spot_of(spot_bars, mine), on="open_at", how="left", maintain_order="left").join(
            positioning.filter(mine).select("open_at", *_POSITIONS), on="open_at", how="left", maintain_order="left"
        )
        frames.append(_of_symbol(SymbolGrid(grid.symbol, grid.first_us, beside), funding.filter(mine)))
    return pl.concat(frames) if frames else FEATURES.empty()  # in the table's order already: sorting would copy it all


def _spot_of(spot_bars: pl.DataFrame, mine: pl.Expr) -> pl.DataFrame:
    return spot_bars.filter(mine).select("open_at", spot_close="close")


def _of_symbol(grid: SymbolGrid, funding: pl.DataFrame) -> pl.DataFrame:
    columns = {
        **Prices(*map(grid.values, (*_PRICES, "spot_close"))).columns(),
        **Liquidity(*map(grid.values, (*_PRICES, *_VOLUMES))).columns(),
        **Interest(*map(grid.values, _POSITIONS)).columns(),
    }
    made = [pl.Series(name, values, nan_to_null=True) for name, values in columns.items()]
    return _funding_beside(grid.frame.select(_KEY), funding).with_columns(made).select(FEATURES.schema.names())


def _funding_beside(rows: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    state = funding_persistence(funding).drop("symbol", "known_at")
    beside = funding_as_of(rows, funding).join(
        state, left_on="funding_settled_at", right_on="settled_at", how="left", maintain_order="left"
    )
    since_h = (pl.col("known_at") - pl.col("persistent_since")).dt.total_microseconds() / HOUR_US
    # a state whose next settlement is missing is not known any more, as its rate
    is_known = pl.col("funding_rate").is_not_null() & pl.col("is_funding_persistent").is_not_null()
    return beside.select(
        *_KEY,
        *_FUNDING,
        is_funding_persistent=pl.when(is_known).then("is_funding_persistent"),
        funding_persistence_age_h=pl.when(is_known).then(since_h.fill_null(0.0)),
        funding_persistence_severity=pl.when(is_known).then("funding_persistence_severity"),
    )

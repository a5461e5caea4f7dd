"""The context table: one word per regime and bar, unknown a word of its own, and the measures that conditions ask."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.research.features.window import MONTH
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.rank import rolling_percentile_rank
from backtest_assets.stats.rolling import rolling_quantile
from backtest_assets.stats.scan import lagged
from backtest_assets.tables.context import MARKET_CONTEXT

NEEDS: Final = (
    "symbol",
    "open_at",
    "known_at",
    "rv_pct_2880",
    "trend_ret_96",
    "funding_rate_8h",
    "compression_ratio",
    "volume_quote_ratio_2880",
    "spread_est_96_bps",
    "basis_z_96",
    "open_interest_log_change_96",
    "funding_persistence_age_h",
)
"""Columns of `features` that regimes and measures are made of."""

_WINDOW: Final = 8_640  # 90 days of bars
_LEAST: Final = 2_880  # a third of it
LOW, HIGH = 1.0 / 3.0, 2.0 / 3.0
"""Upper ends of the low and the mid third of a rank [fraction]."""
_COMPRESSED: Final = 0.8  # of the usual day's range
_THIN, _HEAVY = 0.5, 2.0  # of the usual bar's traded value
_EU_FROM, _US_FROM = 8, 16  # UTC hours


def build_context(features: pl.DataFrame) -> pl.DataFrame:
    """Name the regimes of every bar and rank what conditions ask.

    Funding is negative (positive) strictly below (above) the lower (upper) third of its own trailing 90 days, so a rate
    that stands still is neutral.

    Args:
        features: rows of `features`.

    Returns:
        One row per feature row in the columns of `tables/context.py`; `unknown`, or a null measure, where an ingredient
        is null.

    Raises:
        TableError: if a symbol's rows leave out an instant of the grid.

    Knows:
        the row's own features and those before it; funding thirds end one bar before the row.
    """
    thirds = [grid.frame.with_columns(_ranked(grid)) for grid in SymbolGrid.each(features.select(NEEDS), "features")]
    if not thirds:
        return MARKET_CONTEXT.empty()
    rank, trend, rate = pl.col("rv_pct_2880"), pl.col("trend_ret_96"), pl.col("funding_rate_8h")
    width, traded = pl.col("compression_ratio"), pl.col("volume_quote_ratio_2880")
    hour = pl.col("known_at").dt.hour()
    rows = pl.concat(thirds, rechunk=False)
    return rows.select(  # in the table's order and types already: sorting would copy it all
        "symbol",
        "open_at",
        "known_at",
        vol_regime=_word((rank <= LOW, "low"), (rank <= HIGH, "mid"), (rank > HIGH, "high")),
        bull_bear=_word((trend > 0, "bull"), (trend < 0, "bear")),
        funding_regime=_word(
            (pl.any_horizontal(pl.col("lower").is_null(), pl.col("upper").is_null(), rate.is_null()), "unknown"),
            (rate < pl.col("lower"), "negative"),
            (rate > pl.col("upper"), "positive"),
            (pl.lit(value=True), "neutral"),
        ),
        compression_state=_word((width <= _COMPRESSED, "compressed"), (width > _COMPRESSED, "open")),
        liquidity_regime=_word((traded <= _THIN, "thin"), (traded < _HEAVY, "usual"), (traded >= _HEAVY, "heavy")),
        session=_word((hour < _EU_FROM, "asia"), (hour < _US_FROM, "eu"), (hour >= _US_FROM, "us")),
        rv_pct_2880=rank,
        funding_pct_8640="funding_pct_8640",
        funding_persistence_age_h="funding_persistence_age_h",
        basis_z_96="basis_z_96",
        volume_quote_ratio_2880=traded,
        spread_pct_2880="spread_pct_2880",
        open_interest_log_change_96="open_interest_log_change_96",
    )


_THIRDS: Final = ((LOW, "lower"), (HIGH, "upper"))


def _ranked(grid: SymbolGrid) -> Iterator[pl.Series]:
    rate, spread = grid.values("funding_rate_8h"), grid.values("spread_est_96_bps")
    yield from (_third(rate, q, name) for q, name in _THIRDS)
    yield pl.Series("funding_pct_8640", rolling_percentile_rank(rate, _WINDOW, _LEAST), nan_to_null=True)
    yield pl.Series("spread_pct_2880", MONTH.rank(spread), nan_to_null=True)


def _third(rate: FloatArray, q: float, name: str) -> pl.Series:
    return pl.Series(name, lagged(rolling_quantile(rate, _WINDOW, _LEAST, q)), nan_to_null=True)


def _word(*cases: tuple[pl.Expr, str]) -> pl.Expr:
    # the first true case names the bar; null is never true, so what is not known falls through to "unknown"
    return pl.coalesce(*(pl.when(holds).then(pl.lit(word)) for holds, word in cases), pl.lit("unknown"))

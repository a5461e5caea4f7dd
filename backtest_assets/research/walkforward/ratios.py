"""What a slice's days and equity say of its quality: return for risk, and how far it can be believed.

The probabilistic Sharpe ratio and the track record are of the 2012 convention (variance at the observed ratio, n - 1 days),
as the interval of the Sharpe ratio is; the benchmark is 0 and no trial is counted: promotion deflates (`promotions`).
"""

import numpy as np
import polars as pl

from backtest_assets.research.walkforward.metric import Metric, known
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.drawdown import max_drawdown
from backtest_assets.stats.growth import annual_growth, calmar_ratio, sortino_ratio
from backtest_assets.stats.sharpe import annual_sharpe, minimum_track_record, probabilistic_sharpe_ratio

_PER_ROOT = "per sqrt(year)"


def ratio_metrics(daily: FloatArray, equity: FloatArray, *, n_days: int) -> list[Metric]:
    """Measure return, risk and their ratios.

    Args:
        daily: (n_days,) returns of every calendar day [fraction of equity].
        equity: (n_bars + 1,) from a capital of 1, bar by bar with exposure.
        n_days: days of the window.

    Returns:
        The metrics; null where a ratio is undefined: no scatter, no losing day, no drawdown, no Sharpe ratio above 0.

    Knows:
        the days and bars given.
    """
    sharpe, n_bars = annual_sharpe(daily), equity.size - 1
    deepest, growth = max_drawdown(equity), annual_growth(float(equity[-1]), n_days)
    moments = (sharpe.daily, sharpe.skew, sharpe.kurtosis)
    is_known = known(sharpe.daily) is not None
    probability = probabilistic_sharpe_ratio(moments[0], sharpe.n_days, *moments[1:]) if is_known else None
    record = minimum_track_record(*moments) if is_known else None
    return [
        Metric("ending_equity", float(equity[-1]), "times the start", n_bars),
        Metric("annual_growth", known(growth), "fraction per year", n_days),
        Metric("max_drawdown", deepest, "fraction", n_bars),
        Metric("calmar", known(calmar_ratio(growth, deepest)), "growth per drawdown", n_bars),
        Metric("sharpe_daily_annualised", known(sharpe.annual), _PER_ROOT, sharpe.n_days),
        Metric("sharpe_ci_low", known(sharpe.annual_low), _PER_ROOT, sharpe.n_days),
        Metric("sharpe_ci_high", known(sharpe.annual_high), _PER_ROOT, sharpe.n_days),
        Metric("psr_2012", None if probability is None else known(probability), "probability", sharpe.n_days),
        Metric("min_track_record_2012", None if record is None else known(record), "days", sharpe.n_days),
        Metric("sortino_daily_annualised", known(sortino_ratio(daily)), _PER_ROOT, daily.size),
    ]


def trade_metrics(trades: pl.DataFrame) -> list[Metric]:
    """Measure what the trades of a slice are like.

    Args:
        trades: rows of table trades.

    Returns:
        The metrics; null without a trade, but for counts. Excursions are against the entry price, fills included.

    Knows:
        the trades given.
    """
    n = trades.height
    if n == 0:
        return [Metric(name, 0.0 if name == "n_trades" else None, unit, 0) for name, unit in _OF_TRADES]
    side, held = trades["side"].to_numpy(), trades["n_bars_held"].to_numpy()
    adverse, favourable = (trades[name].to_numpy() for name in ("mae_frac", "mfe_frac"))
    n_long = int((side > 0).sum())
    values = (
        n,
        float((trades["net_pnl"].to_numpy() > 0).sum()) / n,
        n_long / n,
        (n - n_long) / n,
        float(held.mean()),
        float(np.median(held)),
        float(adverse.mean()) * _BPS_PER_UNIT,
        float(favourable.mean()) * _BPS_PER_UNIT,
    )
    return [Metric(name, float(value), unit, n) for (name, unit), value in zip(_OF_TRADES, values, strict=True)]


_BPS_PER_UNIT = 1e4
_OF_TRADES = (
    ("n_trades", "trades"),
    ("win_rate", "fraction"),
    ("long_share", "fraction"),
    ("short_share", "fraction"),
    ("hold_mean_bars", "bars"),
    ("hold_median_bars", "bars"),
    ("mae_mean_bps", "bps of entry price"),
    ("mfe_mean_bps", "bps of entry price"),
)

"""What the gates of metric tables share: who must be listed, and the ledger's sums counted once more."""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl

from backtest_assets.gates.ask import broken
from backtest_assets.gates.executed import executed_specs, near
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.walkforward.costs import BOOKED, COST_MULTIPLES

PORTFOLIO: Final = "portfolio"

_ALWAYS: Final = (
    "n_trades",
    *BOOKED,
    *(f"net_at_{m:g}x_costs" for m in COST_MULTIPLES),
    "ending_equity",
    "annual_growth",
    "max_drawdown",
    "exposure_frac",
    "turnover",
    "gross_exposure_mean",
    "net_exposure_mean",
    "gross_exposure_max",
    "long_exposure_mean",
    "short_exposure_mean",
    "net_long",
    "net_short",
)
_OF_SYMBOLS: Final = ("net", "gross_exposure_mean", "net_exposure_mean")

MAYBE_NULL: Final = (
    "win_rate",
    "long_share",
    "short_share",
    "hold_mean_bars",
    "hold_median_bars",
    "mae_mean_bps",
    "mfe_mean_bps",
    "break_even_bps",
    "calmar",
    "sharpe_daily_annualised",
    "sharpe_ci_low",
    "sharpe_ci_high",
    "psr_2012",
    "min_track_record_2012",
    "sortino_daily_annualised",
    "benchmark_return",
    "benchmark_max_drawdown",
    "benchmark_sharpe_annualised",
    "benchmark_correlation",
    "beta",
    "alpha_annual",
    "alpha_annual_se",
)
"""Metrics that are null where they are undefined."""


def never_null(evidence: Evidence) -> tuple[str, ...]:
    """Return the metrics that have a value whatever was traded; those by symbol for every symbol of the run."""
    symbols = evidence.settings.symbol_list
    return (*_ALWAYS, *(f"{name}_of_{symbol}" for name in _OF_SYMBOLS for symbol in symbols))


def scopes(evidence: Evidence) -> tuple[str, ...]:
    """Return the portfolio and every executed blueprint: exactly these are measured (R44)."""
    return (PORTFOLIO, *(spec.blueprint_id for spec in executed_specs(evidence)))


def misses(evidence: Evidence, expected: pl.DataFrame, metrics: Iterable[str]) -> pl.DataFrame:
    """Return the metrics that are expected and absent, absent in the plan and listed, or null where they never may be.

    Args:
        evidence: the metric rows, and the settings.
        expected: the keys that must be listed, in the frame's column names.
        metrics: the metrics of each key besides those that always exist.
    """
    always = never_null(evidence)
    keys = [*expected.columns, "metric"]
    wanted = expected.join(pl.DataFrame({"metric": [*always, *metrics]}), how="cross").with_columns(is_wanted=True)
    both = evidence.frame.select(*keys, "value", is_listed=True).join(wanted, on=keys, how="full", coalesce=True)
    has_value = pl.col("value").is_finite().fill_null(value=False) | ~pl.col("metric").is_in(always)
    return broken(both, pl.col("is_wanted") & pl.col("is_listed") & has_value).select(*keys, "value")


def recounted(ledger: pl.DataFrame, trades: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Count sums, trades and compounded equity of each scope from the rows: `scope`, `metric`, `expected`."""
    rows: list[tuple[str, str, float]] = []
    for name in names:
        own = pl.lit(value=True) if name == PORTFOLIO else pl.col("blueprint_id") == name
        mine = ledger.filter(own)
        bars = mine.group_by("open_at").agg(pl.col("net_pnl").sum())
        equity = bars.select(pl.col("net_pnl").log1p().sum().exp()).item()
        rows += [(name, metric, float(mine[column].sum())) for metric, column in BOOKED.items()]
        rows += [(name, "ending_equity", equity), (name, "n_trades", trades.filter(own).height)]
    schema = {"scope": pl.String, "metric": pl.String, "expected": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row", strict=False)


def differing_from(frame: pl.DataFrame, counted: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Return the counted metrics that the frame lacks or gives another value."""
    both = counted.join(frame.select(*on, "value"), on=list(on), how="left")
    return broken(both, near(pl.col("value"), pl.col("expected")))

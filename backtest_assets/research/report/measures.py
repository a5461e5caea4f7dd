"""The portfolio's published metrics, split by split, in groups that are read together; nothing is computed here."""

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from backtest_assets.domain.split import Split
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.row import Grid, Line, Row
from backtest_assets.research.report.words import metric_label

PORTFOLIO: Final = "portfolio"

_GROUPS: Final = (
    (
        "What was earned",
        *("n_trades", "net", "gross", "cost", "fees", "slippage", "funding", "turnover"),
        *("ending_equity", "annual_growth", "max_drawdown"),
    ),
    (
        "For the risk taken, and how far to believe it",
        *("sharpe_daily_annualised", "sharpe_ci_low", "sharpe_ci_high", "psr_2012", "min_track_record_2012"),
        *("sortino_daily_annualised", "calmar"),
    ),
    (
        "What the trades were like",
        *("win_rate", "expectancy_bps", "long_share", "short_share", "hold_mean_bars", "hold_median_bars"),
        *("mae_mean_bps", "mfe_mean_bps"),
    ),
    (
        "Exposure, and P&L by side",
        *("exposure_frac", "gross_exposure_mean", "gross_exposure_max", "net_exposure_mean"),
        *("long_exposure_mean", "short_exposure_mean", "net_long", "net_short"),
    ),
    ("By symbol", "net_of_", "gross_exposure_mean_of_", "net_exposure_mean_of_"),
    (
        "The same trades at other costs",
        *("net_at_0x_costs", "net_at_0.5x_costs", "net_at_1x_costs", "net_at_1.5x_costs", "net_at_2x_costs"),
        *("net_at_3x_costs", "stressed_net", "break_even_bps", "cost_ratio"),
    ),
    (
        "Beside buy and hold",
        *("benchmark_return", "benchmark_max_drawdown", "benchmark_sharpe_annualised", "benchmark_correlation"),
        *("beta", "alpha_annual", "alpha_annual_se"),
    ),
)
"""Heading and metrics of each group; a name that ends with `_of_` is of every symbol."""

_REST: Final = "Regimes and losses"


def walkforward_grid(execution: Execution) -> Grid:
    """Lay the portfolio's published metrics of train, validation and test side by side.

    Knows:
        the walk-forward tables, test included.
    """
    metrics = pl.concat(
        [
            execution.walkforward_summary.select("split", "blueprint_id", "metric", "value", "unit"),
            execution.walkforward_test.select(
                pl.lit(Split.TEST.value).alias("split"), "blueprint_id", "metric", "value", "unit"
            ),
        ]
    ).filter(pl.col("blueprint_id") == PORTFOLIO)
    return _metric_grid(metrics, "walkforward", tuple(Split))


def performance_grid(execution: Execution) -> Grid:
    """Lay the portfolio's backtest metrics side by side; the test window is sealed to them.

    Knows:
        the backtest metrics: nothing of the test window.
    """
    metrics = execution.backtest_metrics.filter(pl.col("scope") == PORTFOLIO)
    return _metric_grid(metrics, "performance", (Split.TRAIN, Split.VALIDATION, "discovery"))


def _metric_grid(metrics: pl.DataFrame, section: str, splits: Sequence[str]) -> Grid:
    found = {(row["split"], row["metric"]): row for row in metrics.to_dicts()}

    def cell(split: str, name: str) -> Row | str:
        row = found.get((split, name))
        item = f"{PORTFOLIO}/{split}/{name}"
        return "" if row is None else Row(section, item, observed=row["value"], unit=row["unit"])

    lines: list[Line] = []
    for heading, names in _grouped({name for _, name in found}):
        lines.append(Line(heading, ("",) * len(splits), is_marked=True))
        lines += [Line(metric_label(name), tuple(cell(split, name) for split in splits)) for name in names]
    return Grid(("", *(split.capitalize() for split in splits)), tuple(lines))


def _grouped(names: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading with its metrics in order; what no group names comes last."""
    left = set(names)
    for heading, *wanted in _GROUPS:
        own = [name for want in wanted for name in sorted(left) if name == want or _is_of(name, want)]
        left -= set(own)
        if own:
            yield heading, own
    if left:
        yield _REST, sorted(left)


def _is_of(name: str, want: str) -> bool:
    return want.endswith("_of_") and name.startswith(want)

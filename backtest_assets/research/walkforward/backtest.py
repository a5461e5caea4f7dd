"""The backtest's metrics, up to the test window and not a bar further."""

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.walkforward.benchmark import Benchmark
from backtest_assets.research.walkforward.metric import Metric, tidy
from backtest_assets.research.walkforward.slices import Slice
from backtest_assets.tables.simulation import BACKTEST_METRICS

DISCOVERY = "discovery"
"""Everything before the test window: train, validation and what was purged between them."""


def measure(
    ledger: pl.DataFrame, trades: pl.DataFrame, blueprints: pl.DataFrame, bars: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Measure portfolio and blueprints on train, validation and discovery; the test window stays sealed.

    Args:
        ledger: table simulation_ledger.
        trades: table trades.
        blueprints: table blueprints; every executed one is listed, with zeros and nulls if it never traded.
        bars: table bars_um; those before the test window are held by the benchmark.
        run: gives symbols and splits.

    Returns:
        Table backtest_metrics, keyed (scope, split, metric). Discovery holds the trades that are over when the test window
        starts.

    Knows:
        trades known at the test window's start and bars that open before it, nothing later.
    """
    test = run.splits[Split.TEST]
    sealed = trades.filter(pl.col("known_at") <= test.start, pl.col("split") != Split.TEST.value)
    windows = [(split, run.splits[split].start, run.splits[split].end) for split in (Split.TRAIN, Split.VALIDATION)]
    rows: list[tuple[dict[str, object], Metric]] = []
    for label, start, end in (*windows, (DISCOVERY, run.window[0], test.start)):
        own = sealed if label == DISCOVERY else sealed.filter(pl.col("split") == str(label))
        benchmark = Benchmark.hold(bars, run.symbol_list, start, end)
        for piece in Slice.each(ledger, own, blueprints, start, end):
            named: dict[str, object] = {"scope": piece.scope, "split": str(label)}
            rows += [(named, metric) for metric in piece.metrics(benchmark)]
    return BACKTEST_METRICS.conform(tidy(rows))

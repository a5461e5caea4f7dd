"""The evidence that promotion decides on: every executed blueprint on one split, and the plan of the splits.

Regimes are the market's, not the strategy's own P&L (D33); losses cluster on days of one unit of exposure (D34).
"""

import math
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError
from backtest_assets.research.walkforward.benchmark import Benchmark
from backtest_assets.research.walkforward.metric import EQUITY, Metric, tidy
from backtest_assets.research.walkforward.slices import PORTFOLIO, Slice
from backtest_assets.stats.drawdown import loss_clusters, tail_conditional_drawdown
from backtest_assets.tables.walkforward import WALKFORWARD_SPLITS, WALKFORWARD_SUMMARY, WALKFORWARD_TRAIN

STRESS: Final = 2.0
"""Costs are multiplied by this in `stressed_net` (R59) [1]."""

MIN_REGIME_TRADES: Final = 10
"""Trades below which shares by regime are null: three regimes need a few trades each (R94) [trades]."""

MIN_LOSS_CLUSTERS: Final = 22
"""Loss clusters a concentration is judged on (R97); a split with fewer is judged on train and validation together, and
null where these have fewer too. From here on the top tenth of independent exponential losses exceeds half by chance in
less than 5 % of samples (of 11 in 29 %): below it the gate would measure the count, not the strategy [clusters]."""

REGIMES: Final = ("low", "mid", "high", "unknown")

REGIME_LEAD: Final = 96 * BAR
"""Regimes are read one day before the trigger. At the trigger they are the event's own: on BTC and ETH 2022-2025 78 % of
the volatility shocks fall into high and 78 % of the breakouts into low volatility, a day earlier at most 54 % into one;
controls are matched before the onset for the same reason."""


def plan_table(*, run: ResearchRun) -> pl.DataFrame:
    """Write the run's one split plan down.

    Args:
        run: gives the plan.

    Returns:
        Table walkforward_splits, three rows in calendar order.

    Knows:
        settings only.
    """
    plan = run.splits
    return WALKFORWARD_SPLITS.conform(
        pl.DataFrame(
            [
                {
                    "split": window.split.value,
                    "start_at": window.start,
                    "last_entry_at": window.last_entry,
                    "end_at": window.end,
                    "n_days": window.n_days,
                    "purge_bars": plan.purge_bars,
                    "embargo_days": plan.embargo_days,
                }
                for window in plan.windows
            ]
        )
    )


def slice_metrics(
    ledger: pl.DataFrame,
    trades: pl.DataFrame,
    context: pl.DataFrame,
    blueprints: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    run: ResearchRun,
    split: Split,
) -> pl.DataFrame:
    """Measure portfolio and blueprints on the ledger rows of one split.

    Args:
        ledger: table simulation_ledger.
        trades: table trades.
        context: table market_context.
        blueprints: table blueprints; every executed one is listed, with zeros and nulls if it never traded.
        bars: table bars_um; those of the split's window are held by the benchmark.
        run: settings; symbols, splits, loss cluster share and drawdown tail.
        split: which one.

    Returns:
        Table walkforward_train, _validation or _test (one schema), keyed (blueprint_id, metric).

    Knows:
        the trades labelled with the split and the bars of its window; the concentration of a train or validation slice with few loss clusters also
        those of the other of the two.
    """
    window = run.splits[split]
    label = pl.col("split") == split.value
    pooled = pl.col("split").is_in([Split.TRAIN.value, Split.VALIDATION.value]) if split is not Split.TEST else label
    regimes = context.select("symbol", pl.col("known_at").alias("regime_at"), pl.col("vol_regime").alias("regime"))
    own = (
        trades.filter(label)
        .with_columns(regime_at=pl.col("triggered_at") - REGIME_LEAD)
        .join(regimes, on=["symbol", "regime_at"], how="left", validate="m:1", maintain_order="left")
        .with_columns(pl.col("regime").fill_null("unknown"))
    )
    span: dict[str, object] = {"start_at": window.start, "end_at": window.end}
    benchmark = Benchmark.hold(bars, run.symbol_list, window.start, window.end)
    pieces = Slice.each(ledger, own, blueprints, window.start, window.end)
    wider = Slice.each(ledger, trades.filter(pooled), blueprints, window.start, window.end)
    rows = [
        ({"blueprint_id": piece.scope, **span}, metric)
        for piece, both in zip(pieces, wider, strict=True)
        for metric in (*piece.metrics(benchmark), *_after_costs(piece), *_by_regime(piece), *_losses(piece, both, run))
    ]
    return WALKFORWARD_TRAIN.conform(tidy(rows))


def summarise(train: pl.DataFrame, validation: pl.DataFrame) -> pl.DataFrame:
    """Put train and validation side by side for promotion.

    Args:
        train: table walkforward_train.
        validation: table walkforward_validation.

    Returns:
        Table walkforward_summary: the rows of both with their `split`.

    Knows:
        train and validation; no row of test can enter.

    Raises:
        RefusedError: if one of them measures blueprints or metrics that the other does not.
    """
    keys = [frame.select("blueprint_id", "metric").sort("blueprint_id", "metric") for frame in (train, validation)]
    if train.is_empty() or not keys[0].equals(keys[1]):
        message = (
            f"table walkforward_summary: train measures {keys[0].height} metrics of {keys[0]['blueprint_id'].n_unique()} "
            f"scopes, validation {keys[1].height} of {keys[1]['blueprint_id'].n_unique()}; they must be the same and not "
            "empty, rebuild both from one ledger (R92)"
        )
        raise RefusedError(message)
    labelled = [
        frame.with_columns(pl.lit(split.value).alias("split"))
        for split, frame in ((Split.TRAIN, train), (Split.VALIDATION, validation))
    ]
    return WALKFORWARD_SUMMARY.conform(pl.concat(labelled))


def _after_costs(piece: Slice) -> list[Metric]:
    n, gross, cost = piece.trades.height, piece.sum_of("gross_pnl"), piece.sum_of("fee") + piece.sum_of("slippage")
    per_trade = (piece.trades["net_pnl"] / piece.trades["exposure"]).mean()
    return [
        Metric("cost", cost, EQUITY, n),
        Metric("stressed_net", gross - STRESS * cost + piece.sum_of("funding_pnl"), EQUITY, n),
        Metric("cost_ratio", cost / gross if gross > 0 else None, "cost per gross profit", n),
        Metric("expectancy_bps", per_trade * 1e4 if isinstance(per_trade, float) else None, "bps of notional", n),
    ]


def _by_regime(piece: Slice) -> list[Metric]:
    n = piece.trades.height
    net = {r: float(piece.trades.filter(pl.col("regime") == r)["net_pnl"].sum()) for r in REGIMES}
    gain = {r: max(value, 0.0) for r, value in net.items()}  # losses elsewhere do not spread a profit
    total = math.fsum(gain.values())
    enough = n >= MIN_REGIME_TRADES and total > 0
    shares = {r: value / total if enough else None for r, value in gain.items()}
    largest = max(gain.values()) / total if enough else None
    return [
        *(Metric(f"regime_share_vol_{r}", share, "fraction of profit", n) for r, share in shares.items()),
        Metric("max_regime_share", largest, "fraction of profit", n),
    ]


def _losses(piece: Slice, both: Slice, run: ResearchRun) -> list[Metric]:
    if piece.trades.is_empty():
        return [Metric(name, None, unit, 0) for name, unit in _LOSS_UNITS]
    daily, top_frac = _unit_pnl(piece), run.walkforward_drawdown_cluster_top_frac
    pnl = daily["net_pnl"].to_numpy()
    runs = (daily["net_pnl"] < 0).rle().struct.unnest().filter("value")["len"].to_numpy()
    found = loss_clusters(pnl, top_frac=top_frac)
    judged = (
        found
        if found.n >= MIN_LOSS_CLUSTERS
        else loss_clusters(_unit_pnl(both)["net_pnl"].to_numpy(), top_frac=top_frac)
    )
    tail = tail_conditional_drawdown(piece.on_every_day(daily), q=run.walkforward_drawdown_tail_q)
    values = (
        found.n,
        found.longest_days,
        float(np.quantile(runs, _LENGTH_Q)) if runs.size else 0.0,
        judged.concentration if judged.n >= MIN_LOSS_CLUSTERS else None,
        tail,
    )
    return [Metric(name, v, unit, pnl.size) for (name, unit), v in zip(_LOSS_UNITS, values, strict=True)]


def _unit_pnl(piece: Slice) -> pl.DataFrame:
    """Sum P&L on unit exposure over each day with a position: `day`, `net_pnl`; the portfolio is taken as it is."""
    capital = pl.col("exposure") if piece.scope != PORTFOLIO else 1.0
    return (
        piece.ledger.join(piece.trades.select("trade_id", "exposure"), on="trade_id", maintain_order="left")
        .group_by(pl.col("open_at").dt.date().alias("day"), maintain_order=True)
        .agg((pl.col("net_pnl") / capital).sum())
        .sort("day")
    )


_LENGTH_Q: Final = 0.95
_LOSS_UNITS: Final = (
    ("loss_cluster_count", "clusters"),
    ("max_loss_cluster_len", "trading days"),
    ("p95_loss_cluster_len", "trading days"),
    ("cluster_loss_concentration", "fraction of losses"),
    ("tail_conditional_drawdown", "fraction of unit capital"),
)

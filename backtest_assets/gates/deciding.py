"""The numbers that promotion decides on, counted once more in plain loops: another way to the same value."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, TypeAlias

import polars as pl

from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken
from backtest_assets.gates.executed import near
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.metrics import PORTFOLIO, scopes
from backtest_assets.research.walkforward.splits import MIN_LOSS_CLUSTERS, MIN_REGIME_TRADES, REGIME_LEAD

DECIDING: Final = (
    "cost_ratio",
    "max_regime_share",
    "max_loss_cluster_len",
    "cluster_loss_concentration",
    "tail_conditional_drawdown",
)
_Rows: TypeAlias = Sequence[Mapping[str, Any]]


def deciding_differences(evidence: Evidence, split: Split) -> pl.DataFrame:
    """Return the deciding metrics of a slice that are not what its trades and ledger rows say; null must meet null."""
    counted = pl.DataFrame(
        [(scope, metric, value) for scope in scopes(evidence) for metric, value in _recount(evidence, split, scope)],
        schema={"blueprint_id": pl.String, "metric": pl.String, "expected": pl.Float64},
        orient="row",
    )
    both = counted.join(
        evidence.frame.select("blueprint_id", "metric", "value"), on=["blueprint_id", "metric"], how="left"
    )
    same_null = pl.col("value").is_null() & pl.col("expected").is_null()
    return broken(both, same_null | near(pl.col("value"), pl.col("expected")))


def _recount(evidence: Evidence, split: Split, scope: str) -> Iterator[tuple[str, float | None]]:
    own = _rows(evidence, scope, [split])
    trades, ledger = own
    gross = math.fsum(row["gross_pnl"] for row in ledger)
    cost = math.fsum(row["fee"] + row["slippage"] for row in ledger)
    yield "cost_ratio", cost / gross if gross > 0 else None
    yield "max_regime_share", _largest_regime(evidence, trades)
    if not trades:
        yield from ((metric, None) for metric in DECIDING[2:])
        return
    run = evidence.settings
    daily = _daily(scope, *own)
    clusters = _clusters(daily)
    yield "max_loss_cluster_len", float(max((length for length, _ in clusters), default=0))
    if len(clusters) < MIN_LOSS_CLUSTERS and split is not Split.TEST:
        clusters = _clusters(_daily(scope, *_rows(evidence, scope, [Split.TRAIN, Split.VALIDATION])))
    yield "cluster_loss_concentration", _concentration(clusters, run.walkforward_drawdown_cluster_top_frac)
    window = run.splits[split]
    yield "tail_conditional_drawdown", _tail(daily, window.start.date(), window.n_days, run.walkforward_drawdown_tail_q)


def _rows(evidence: Evidence, scope: str, splits: Sequence[Split]) -> tuple[_Rows, _Rows]:
    mine = pl.lit(value=True) if scope == PORTFOLIO else pl.col("blueprint_id") == scope
    keep = mine & pl.col("split").is_in([split.value for split in splits])
    trades = evidence.inputs["trades"].filter(keep)
    ledger = evidence.inputs["simulation_ledger"].join(trades, on="trade_id", how="semi")
    return trades.to_dicts(), ledger.to_dicts()


def _largest_regime(evidence: Evidence, trades: _Rows) -> float | None:
    context = evidence.inputs["market_context"].select("symbol", "known_at", "vol_regime")
    asked = {(trade["symbol"], trade["triggered_at"] - REGIME_LEAD) for trade in trades}
    schema = {name: context.schema[name] for name in ("symbol", "known_at")}
    found = context.join(pl.DataFrame(list(asked), schema=schema, orient="row"), on=list(schema), how="semi")
    regimes = {(symbol, at): regime for symbol, at, regime in found.iter_rows()}
    net: defaultdict[str, float] = defaultdict(float)
    for trade in trades:
        triggered = trade["triggered_at"]
        net[regimes.get((trade["symbol"], triggered - REGIME_LEAD), "unknown")] += trade["net_pnl"]
    gain = [value for value in net.values() if value > 0]
    return max(gain) / math.fsum(gain) if gain and len(trades) >= MIN_REGIME_TRADES else None


def _daily(scope: str, trades: _Rows, ledger: _Rows) -> list[tuple[date, float]]:
    unit = {trade["trade_id"]: 1.0 if scope == PORTFOLIO else trade["exposure"] for trade in trades}
    days: defaultdict[date, float] = defaultdict(float)
    for row in ledger:
        days[row["open_at"].date()] += row["net_pnl"] / unit[row["trade_id"]]
    return sorted(days.items())


def _clusters(daily: Sequence[tuple[date, float]]) -> list[tuple[int, float]]:
    """Return length and loss of each run of losing trading days."""
    clusters: list[tuple[int, float]] = []
    before_lost = False
    for _, pnl in daily:
        if pnl < 0:
            length, loss = clusters.pop() if before_lost else (0, 0.0)
            clusters.append((length + 1, loss - pnl))
        before_lost = pnl < 0
    return clusters


def _concentration(clusters: Sequence[tuple[int, float]], top_frac: float) -> float | None:
    if len(clusters) < MIN_LOSS_CLUSTERS:
        return None
    losses = sorted((loss for _, loss in clusters), reverse=True)
    n_top = max(1, math.ceil(len(losses) * top_frac - 1e-9))
    return math.fsum(losses[:n_top]) / math.fsum(losses)


def _tail(daily: Sequence[tuple[date, float]], first: date, n_days: int, q: float) -> float:
    pnl = dict(daily)
    days = sorted({first + timedelta(days=i) for i in range(n_days)} | set(pnl))
    equity, peak, falls = 1.0, 1.0, list[float]()
    for day in days:
        equity *= max(1.0 + pnl.get(day, 0.0), 0.0)
        peak = max(peak, equity)
        falls.append(equity / peak - 1.0)
    ordered = sorted(falls)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    bound = ordered[low] + (position - low) * (ordered[high] - ordered[low])
    worst = [fall for fall in ordered if fall <= bound]
    return math.fsum(worst) / len(worst)

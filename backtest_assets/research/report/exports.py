"""The files of a run that the operators' runbook names, beside the page: the same rows as JSON and CSV; nothing is computed twice.

Names and keys are those of the users' earlier pipeline, numbers have this system's meaning; what is undefined is null.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.report.inputs import Execution, ReportInputs
from backtest_assets.research.report.performance import equity_frame
from backtest_assets.research.walkforward.benchmark import Benchmark
from backtest_assets.research.walkforward.costs import COST_MULTIPLES
from backtest_assets.research.walkforward.metric import Metric
from backtest_assets.research.walkforward.slices import PORTFOLIO, Slice
from backtest_assets.tables.simulation import TRADES

SUMMARY: Final = "summary.json"
EXECUTED: Final = (
    "metrics.json",
    "fee_sensitivity.json",
    "walkforward_summary.json",
    "promotion_report.json",
    "equity_curve.csv",
    "allocation_weights.csv",
)
"""Exports that exist only after the checklist said PROMOTE; trades come beside them, a file per symbol."""

_REGIMES: Final = ("regime_share_vol_", "max_regime_share")
_CLUSTERS: Final = (
    "loss_cluster_count",
    "max_loss_cluster_len",
    "p95_loss_cluster_len",
    "cluster_loss_concentration",
    "tail_conditional_drawdown",
)
_HEADLINES: Final = {
    "total_trades": "n_trades",
    "win_rate": "win_rate",
    "ending_equity": "ending_equity",
    "max_drawdown": "max_drawdown",
    "sharpe_annualized": "sharpe_daily_annualised",
}
_COSTS: Final = {
    "gross_alpha": "gross",
    "fees": "fees",
    "slippage": "slippage",
    "funding_pnl": "funding",
    "net_alpha": "net",
    "turnover_units": "turnover",
}
_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"

_Values = dict[str, float | None]
_BySplit = dict[str, dict[str, _Values]]


def exports_of(inputs: ReportInputs, rows: pl.DataFrame, *, run: ResearchRun) -> Mapping[str, bytes]:
    """Write the runbook's triage files of a run.

    Args:
        inputs: the run's published frames.
        rows: table report without its page rows.
        run: the settings they were made with.

    Returns:
        Contents by file name: `summary.json` of every run; `metrics.json` and `fee_sensitivity.json` (the whole run),
        `walkforward_summary.json`, `promotion_report.json`, `equity_curve.csv`, `allocation_weights.csv` and one
        `trades_<symbol>.csv` per symbol of a run that was executed.
        Equal inputs give equal bytes.

    Knows:
        the whole run, test included.
    """
    made = {SUMMARY: _json(_summary(inputs, rows, run=run))}
    if inputs.execution is None:
        return made
    measured = _measured(inputs, inputs.execution, run=run)
    contents = (
        _json(_metrics(inputs.execution, inputs.blueprints, measured, run=run)),
        _json(_sensitivity(measured, run=run)),
        walkforward_json(inputs.execution, run=run),
        _json(_promotions(inputs.execution, run=run)),
        _csv(equity_frame(inputs.execution).select(pl.col("open_at").alias("timestamp"), "equity")),
        _csv(inputs.execution.capital_allocation.sort("rank", nulls_last=True)),
    )
    return made | dict(zip(EXECUTED, contents, strict=True)) | dict(_trades(inputs.execution, run=run))


def r_multiple() -> pl.Expr:
    """Net P&L of a trade over what it would have lost at its first stop, costs aside [1]; null where that is nothing.

    Knows:
        the trade.
    """
    risk = (pl.col("entry_price") - pl.col("stop_price")).abs() / pl.col("entry_price") * pl.col("exposure")
    return pl.when(risk > 0).then(pl.col("net_pnl") / risk)


def _summary(inputs: ReportInputs, rows: pl.DataFrame, *, run: ResearchRun) -> dict[str, Any]:
    names = ("observed", "unit", "comparator", "limit", "margin", "is_passed", "text")
    sections: dict[str, dict[str, Any]] = {}
    for row in rows.sort("position").to_dicts():
        sections.setdefault(row["section"], {})[row["item"]] = {name: row[name] for name in names}
    return {**_named(run), "decision": inputs.decision, "sections": sections}


def _named(run: ResearchRun) -> dict[str, Any]:
    overrides = list(run.non_production_overrides)
    return {"run_id": run.run_id, "run_class": run.run_class, "non_production_overrides": overrides}


def _measured(inputs: ReportInputs, execution: Execution, *, run: ResearchRun) -> Mapping[str, Metric]:
    """Measure all executed blueprints together over the whole run, as every split is measured."""
    held = Benchmark.hold(inputs.bars_um, run.symbol_list, *run.window)
    whole = next(Slice.each(execution.simulation_ledger, execution.trades, inputs.blueprints, *run.window))
    return {metric.name: metric for metric in whole.metrics(held)}


def _sensitivity(measured: Mapping[str, Metric], *, run: ResearchRun) -> dict[str, Any]:
    return {
        **_named(run),
        "cost_bps": run.cost.per_side_bps,
        "net_at_multiple_of_costs": {f"{m:g}": measured[f"net_at_{m:g}x_costs"].value for m in COST_MULTIPLES},
        "break_even_bps": measured["break_even_bps"].value,
    }


def _metrics(
    execution: Execution, blueprints: pl.DataFrame, measured: Mapping[str, Metric], *, run: ResearchRun
) -> dict[str, Any]:
    start, end = run.window
    executed = blueprints.filter("is_executed").sort("rank", "blueprint_id")["blueprint_id"].to_list()
    mean_r = execution.trades.select(r_multiple().mean()).item()
    return {
        **_named(run),
        "window": {"start": start.strftime(_INSTANT), "end": end.strftime(_INSTANT)},
        **{name: measured[metric].value for name, metric in _HEADLINES.items()},
        "avg_r": mean_r,
        "cost_decomposition": {name: measured[metric].value for name, metric in _COSTS.items()},
        "whole_run": {name: {"value": one.value, "unit": one.unit, "n": one.n} for name, one in measured.items()},
        "metadata": {
            "execution_mode": "blueprint",
            "strategy_ids": executed,
            "blueprint_filter_event_type": run.blueprints_filter_event_type,
            "blueprint_top_k": run.blueprints_top_k,
        },
    }


def walkforward_json(execution: Execution, *, run: ResearchRun) -> bytes:
    """Nest the metrics of every split: of the portfolio, of every strategy, and of these by regime and loss cluster.

    Args:
        execution: the frames of an executed run.
        run: names it.

    Returns:
        `walkforward_summary.json`.

    Knows:
        the whole run, test included.
    """
    measured = pl.concat(
        [execution.walkforward_summary, execution.walkforward_test.with_columns(split=pl.lit(Split.TEST.value))],
        how="diagonal",
    ).sort("blueprint_id", "split", "metric")
    of: _BySplit = {}
    for name, split, metric, value in measured.select("blueprint_id", "split", "metric", "value").iter_rows():
        of.setdefault(name, {}).setdefault(split, {})[metric] = value
    portfolio = of.pop(PORTFOLIO, {})
    splits = execution.walkforward_splits.sort("start_at").to_dicts()
    executed = execution.promotions["blueprint_id"].unique()
    told = {
        **_named(run),
        "splits": [
            {
                "label": row["split"],
                "start": row["start_at"].strftime(_INSTANT),
                "end": row["end_at"].strftime(_INSTANT),
            }
            for row in splits
        ],
        "per_split_metrics": portfolio,
        "per_strategy_split_metrics": of,
        "per_strategy_regime_metrics": _only(of, _REGIMES),
        "per_strategy_drawdown_cluster_metrics": _only(of, _CLUSTERS),
        "final_test_metrics": portfolio.get(Split.TEST.value, {}),
        "tested_splits": [row["split"] for row in splits],
        "expected_strategy_count": executed.len(),
        "observed_strategy_count": len(of),
        "unexpected_strategy_ids": sorted(set(of) - set(executed)),
    }
    return _json(told)


def _only(of: _BySplit, starts: tuple[str, ...]) -> _BySplit:
    return {
        name: {
            split: {metric: value for metric, value in values.items() if metric.startswith(starts)}
            for split, values in splits.items()
        }
        for name, splits in of.items()
    }


def _promotions(execution: Execution, *, run: ResearchRun) -> dict[str, Any]:
    judged = execution.promotions.sort("blueprint_id", "gate")
    tested: dict[str, dict[str, Any]] = {}
    for row in judged.to_dicts():
        told = tested.setdefault(row["blueprint_id"], {"is_promoted": row["is_promoted"], "gates": {}})
        told["gates"][row["gate"]] = {
            name: row[name] for name in row if name not in {"blueprint_id", "gate", "is_promoted"}
        }
    survivors = [name for name, told in tested.items() if told["is_promoted"]]
    return {
        **_named(run),
        "tested_count": len(tested),
        "survivors_count": len(survivors),
        "survivors": survivors,
        "tested": tested,
    }


def _trades(execution: Execution, *, run: ResearchRun) -> Iterator[tuple[str, bytes]]:
    listed = execution.trades.sort(TRADES.key).with_columns(r_multiple=r_multiple())
    for symbol in sorted(run.symbol_list):
        yield f"trades_{symbol}.csv", _csv(listed.filter(symbol=symbol))


def _json(told: Mapping[str, Any]) -> bytes:
    return (json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv(datetime_format=_INSTANT).encode()

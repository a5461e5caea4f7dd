"""What must be true of the split plan and of the slices; which limits a blueprint must keep stays in promotions."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.deciding import deciding_differences
from backtest_assets.gates.executed import near
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.measured import Rows, measured_differently, unreconciled
from backtest_assets.gates.metrics import MAYBE_NULL, PORTFOLIO, differing_from, misses, recounted, scopes
from backtest_assets.research.promotions.criteria import MIN_TRADES
from backtest_assets.research.report.performance import MIN_DAYS_FOR_INTERVAL
from backtest_assets.research.walkforward.costs import BOOKED, COST_MULTIPLES
from backtest_assets.research.walkforward.splits import STRESS

MIN_DAYS: Final = 7
"""Shortest window of the plan (R56) [days]: below a week not even every weekday is in it once."""

_SLICE_METRICS: Final = (
    *MAYBE_NULL,
    "cost",
    "stressed_net",
    "cost_ratio",
    "expectancy_bps",
    *(f"regime_share_vol_{regime}" for regime in ("low", "mid", "high", "unknown")),
    "max_regime_share",
    "loss_cluster_count",
    "max_loss_cluster_len",
    "p95_loss_cluster_len",
    "cluster_loss_concentration",
    "tail_conditional_drawdown",
)


def _window_problems(evidence: Evidence) -> pl.DataFrame:
    run, rows = evidence.settings, evidence.frame.sort("start_at")
    start, end = run.window
    embargo = timedelta(days=run.walkforward_embargo_days)
    names = pl.Series([split.value for split in Split]) if rows.height == len(Split) else pl.lit(None, pl.String)
    return broken(
        rows,
        (pl.col("split") == names)
        & (pl.col("start_at") == pl.col("end_at").shift(1).fill_null(start - embargo) + embargo)
        & ((pl.col("split") != Split.TEST.value) | (pl.col("end_at") == end))
        & (pl.col("last_entry_at") == pl.col("end_at") - pl.col("purge_bars") * BAR)
        & (pl.col("purge_bars") > max(run.entry_delays) + max(run.delays) + max(HOLD_GRID_BARS))
        & (pl.col("embargo_days") == run.walkforward_embargo_days),
    )


def _windows_long_enough() -> Gate:
    def ask(evidence: Evidence) -> Verdict:
        days = (pl.col("end_at") - pl.col("start_at")).dt.total_days()
        found = {split: n for split, n in evidence.frame.select("split", days).iter_rows() if n is not None}
        shortest = min((found.get(split.value, math.nan) for split in Split), key=lambda n: n if n >= 0 else -1.0)
        passed = shortest >= MIN_DAYS  # false for NaN: a window that is missing
        listed = ", ".join(f"{split} {n} days" for split, n in found.items()) or "no window"
        detail = (
            listed if passed else f"{listed}; choose a longer run window or other fractions under a new run_id (R56)"
        )
        return Verdict("windows_long_enough", shortest, MIN_DAYS, "days", passed=passed, detail=detail)

    about = f"Train, validation and test exist and last long enough (R56). Limit: at least {MIN_DAYS} days."
    return Gate("windows_long_enough", Severity.ERROR, about, ask)


GATES_WALKFORWARD_SPLITS: Final = (
    rows_gate(
        "plan_is_whole",
        "Train, validation and test follow each other over the whole run window, with the run's embargo, and a purge longer "
        "than the longest delay and hold.",
        _window_problems,
        fix="rebuild walkforward_splits from the run's settings",
    ),
    _windows_long_enough(),
)
"""Inputs: none."""


def _slice_set(evidence: Evidence) -> pl.DataFrame:
    return misses(evidence, pl.DataFrame({"blueprint_id": scopes(evidence)}), _SLICE_METRICS)


def _other_window(split: Split) -> Callable[[Evidence], pl.DataFrame]:
    def find(evidence: Evidence) -> pl.DataFrame:
        plan = evidence.inputs["walkforward_splits"].filter(split=split.value).select("start_at", "end_at")
        return evidence.frame.join(plan, on=["start_at", "end_at"], how="anti")

    return find


def _other_rows(split: Split) -> Callable[[Evidence], pl.DataFrame]:
    def find(evidence: Evidence) -> pl.DataFrame:
        rows = _rows_of(evidence, split)
        counted = recounted(rows.ledger, rows.trades, scopes(evidence)).rename({"scope": "blueprint_id"})
        return differing_from(evidence.frame, counted, ("blueprint_id", "metric"))

    return find


def _rows_of(evidence: Evidence, split: Split) -> Rows:
    trades = evidence.inputs["trades"].filter(split=split.value)
    ledger = evidence.inputs["simulation_ledger"].join(trades, on="trade_id", how="semi")
    window = evidence.settings.splits[split]
    return Rows(ledger, trades, evidence.inputs["bars_um"], window.start, window.end)


def _other_measures(split: Split) -> Callable[[Evidence], pl.DataFrame]:
    def find(evidence: Evidence) -> pl.DataFrame:
        told = evidence.frame.rename({"blueprint_id": "scope"})
        return measured_differently(told, _rows_of(evidence, split), scopes(evidence), run=evidence.settings)

    return find


def _wide(evidence: Evidence) -> pl.DataFrame:
    return evidence.frame.pivot("metric", index="blueprint_id", values="value")


def _unstressed(evidence: Evidence) -> pl.DataFrame:
    cost = pl.col("fees") + pl.col("slippage")
    stressed = pl.col("gross") - STRESS * cost + pl.col("funding")
    return broken(_wide(evidence), near(pl.col("cost"), cost) & near(pl.col("stressed_net"), stressed))


_ADDITIVE: Final = (
    *BOOKED,
    *(f"net_at_{m:g}x_costs" for m in COST_MULTIPLES),
    *("n_trades", "cost", "stressed_net", "turnover", "net_long", "net_short"),
    *("gross_exposure_mean", "net_exposure_mean", "long_exposure_mean", "short_exposure_mean"),
)


def _not_additive(evidence: Evidence) -> pl.DataFrame:
    summed = evidence.frame.filter(pl.col("metric").is_in(_ADDITIVE))
    whole = pl.col("blueprint_id") == PORTFOLIO
    sums = summed.group_by("metric").agg(
        portfolio=pl.col("value").filter(whole).first(), parts=pl.col("value").filter(~whole).sum()
    )
    return broken(sums, near(pl.col("portfolio"), pl.col("parts"))) if sums.height else evidence.frame


def _few_trades(evidence: Evidence) -> tuple[float, str]:
    counts = evidence.frame.filter(pl.col("metric") == "n_trades", pl.col("blueprint_id") != PORTFOLIO)
    if counts.is_empty():
        return float("nan"), "no blueprint has a trade count"
    few = counts.filter(pl.col("value") < MIN_TRADES).sort("blueprint_id").select("blueprint_id", "value").rows()
    told = ", ".join(f"{name} {n:g}" for name, n in few) or "none"
    return len(few), f"blueprints with fewer than {MIN_TRADES:g} trades: {told}"


def _few_days(evidence: Evidence) -> tuple[float, str]:
    rows = _rows_of(evidence, Split.TEST)
    day = pl.col("open_at").dt.date()
    held = dict(rows.ledger.group_by("blueprint_id").agg(day.n_unique()).iter_rows())
    held[PORTFOLIO] = rows.ledger.select(day.n_unique()).item()
    named = evidence.frame.filter(pl.col("metric") == "n_trades")["blueprint_id"].sort()
    if named.is_empty():
        return float("nan"), "no scope has a trade count"
    few = {name: held.get(name, 0) for name in named if held.get(name, 0) < MIN_DAYS_FOR_INTERVAL}
    told = ", ".join(f"{name} {n}" for name, n in few.items()) or "none"
    n_days = evidence.settings.splits[Split.TEST].n_days
    return len(few), f"held on fewer than {MIN_DAYS_FOR_INTERVAL} of the {n_days} days of the test window: {told}"


def _split_gates(split: Split) -> tuple[Gate, ...]:
    fix = f"rebuild walkforward_{split.value} from the published ledger"
    return (
        rows_gate(
            "blueprint_set_exact",
            "Portfolio and every executed blueprint, no other, have every metric; those that always exist are finite (R44, R57).",
            _slice_set,
            fix=fix,
        ),
        rows_gate("window_is_planned", "The slice is the window of the published plan.", _other_window(split), fix=fix),
        rows_gate(
            "slice_equals_ledger",
            "Sums, trade counts and compounded equity are those of the ledger rows of this split's trades.",
            _other_rows(split),
            fix=fix,
        ),
        rows_gate(
            "stressed_net_is_stressed", "Stressed net is gross - 2 x cost + funding (R59).", _unstressed, fix=fix
        ),
        rows_gate(
            "deciding_metrics_recounted",
            "What promotion decides on (cost ratio, regime share, loss clusters, tail drawdown), counted once more (R61, R62).",
            lambda evidence: deciding_differences(evidence, split),
            fix=fix,
        ),
        rows_gate(
            "parts_add_up",
            "Net P&L and exposure are the sums of their sides and of their symbols; net at the run's own costs is net (D15).",
            lambda evidence: unreconciled(evidence.frame, ("blueprint_id",), run=evidence.settings),
            fix=fix,
        ),
        rows_gate(
            "measured_twice",
            "Ratios, trades, exposure and benchmark, counted once more from ledger, trades and the window's bars.",
            _other_measures(split),
            fix=fix,
        ),
        rows_gate("blueprints_add_up", "The portfolio is the sum of its blueprints.", _not_additive, fix=fix),
        limit_gate(
            "few_trades",
            "Blueprints have enough trades to be judged.",
            _few_trades,
            limit=0,
            unit="blueprints",
            fix="what is null for them fails promotion; a longer run window gives more events",
            severity=Severity.WARN,
        ),
    )


GATES_WALKFORWARD_TRAIN: Final = _split_gates(Split.TRAIN)
"""Inputs of this and the other two: walkforward_splits, bars_um, simulation_ledger, trades, market_context, blueprints."""
GATES_WALKFORWARD_VALIDATION: Final = _split_gates(Split.VALIDATION)
GATES_WALKFORWARD_TEST: Final = (
    *_split_gates(Split.TEST),
    limit_gate(
        "few_days_held",
        "Test was held on enough days to tell an edge from luck; test is reported, never a gate (R56).",
        _few_days,
        limit=0,
        unit="scopes",
        fix="their test says little: no interval is given; a longer run window gives more days",
        severity=Severity.WARN,
    ),
)


def _summary_set(evidence: Evidence) -> pl.DataFrame:
    keys = [(split.value, scope) for split in (Split.TRAIN, Split.VALIDATION) for scope in scopes(evidence)]
    expected = pl.DataFrame(keys, schema={"split": pl.String, "blueprint_id": pl.String}, orient="row")
    return misses(evidence, expected, _SLICE_METRICS)


def _not_the_slices(evidence: Evidence) -> pl.DataFrame:
    parts = [
        evidence.inputs[f"walkforward_{split.value}"].with_columns(split=pl.lit(split.value))
        for split in (Split.TRAIN, Split.VALIDATION)
    ]
    columns = evidence.frame.columns
    both = (pl.concat(parts).select(columns), evidence.frame)
    one_sided = [left.join(right, on=columns, how="anti", nulls_equal=True) for left, right in (both, both[::-1])]
    return pl.concat(one_sided)


GATES_WALKFORWARD_SUMMARY: Final = (
    rows_gate(
        "evidence_complete",
        "Every executed blueprint has every metric on train and on validation, and none on test (R91, R92).",
        _summary_set,
        fix="rebuild walkforward_train, walkforward_validation and the summary from one ledger",
    ),
    rows_gate(
        "summary_equals_slices",
        "The summary is train and validation, row by row.",
        _not_the_slices,
        fix="rebuild walkforward_summary",
    ),
)
"""Inputs: walkforward_train, walkforward_validation, blueprints."""

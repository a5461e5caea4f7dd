"""What must be true of naive entry: every tested hypothesis, traded plainly, judged by the run's limits."""

import math
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.ask import limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.tested import MAX_ERROR_BPS, N_RECOMPUTED, nothing_tested, tested_of
from backtest_assets.gates.traded import Row, Trade, Traded, mean, shuffled

_BPS: Final = 1e-4
_AGAIN: Final = "make it again from this run's own tables"


def _not_the_tested(evidence: Evidence) -> pl.DataFrame:
    """Return hypotheses that are tested and have no row, or have a row of other counts or another rule."""
    named = ["hypothesis_id", "event_type", "condition", "side_rule", "delay_bars", "hold_bars"]
    named += ["n_run", "n_train", "n_validation"]
    tested, shown = tested_of(evidence).select(named), evidence.frame.select(named)
    lacking = tested.join(shown, on=named, how="anti")
    return pl.concat([lacking, shown.join(tested, on=named, how="anti", nulls_equal=True)]).head(100)


def _misjudged_naive(evidence: Evidence) -> pl.DataFrame:
    """Judge every row again in plain comparisons and return those judged otherwise."""
    is_wrong = [not _is_judged_right(row, evidence.settings) for row in evidence.frame.to_dicts()]
    return evidence.frame.filter(pl.Series(is_wrong)).select("hypothesis_id", "status", "is_passed", "fail_reasons")


def _is_judged_right(row: Row, run: ResearchRun) -> bool:
    if run.run_naive_entry_eval == 0:
        shown = [row[n] for n in ("net_mean_train_bps", "net_mean_validation_bps", "net_mean_bps", "max_drawdown")]
        unknown = all(value is None for value in shown)
        return unknown and row["status"] == "NOT_RUN" and row["is_passed"] is False
    mean, fall = (math.nan if row[name] is None else row[name] for name in ("net_mean_bps", "max_drawdown"))
    red = [
        name
        for name, is_kept in (
            ("naive_min_trades", row["n_run"] is not None and row["n_run"] >= run.naive_min_trades),
            ("naive_min_expectancy_after_cost", mean * _BPS >= run.naive_min_expectancy_after_cost),
            ("naive_max_drawdown", fall >= run.naive_max_drawdown),
        )
        if not is_kept
    ]
    said = [reason.split(" ")[0] for reason in str(row["fail_reasons"]).split(",") if reason]
    return said == red and row["is_passed"] is (not red) and row["status"] == ("FAIL" if red else "PASS")


def _naive_error(evidence: Evidence) -> tuple[float, str]:
    """Add up the trades of a sample that the run's digest draws, and of what passed best, one by one."""
    run = evidence.settings
    rows = shuffled((row for row in evidence.frame.to_dicts() if row["status"] != "NOT_RUN"), run)
    if not rows:
        never = run.run_naive_entry_eval == 0
        return (0.0 if never else math.nan), "the run does not evaluate the plain rule (R74)"
    passed = [row for row in rows[N_RECOMPUTED:] if row["is_passed"]]
    passed.sort(key=lambda row: (-row["net_mean_bps"], row["hypothesis_id"]))
    traded = Traded.of(evidence)
    worst, culprit = 0.0, "trades added up one by one"
    for row in rows[:N_RECOMPUTED] + passed[:N_RECOMPUTED]:
        error = _error_of(row, traded.trades(row))
        if not error <= worst:
            worst, culprit = error, f"largest difference at {row['hypothesis_id']}"
    return worst, culprit


def _error_of(row: Row, trades: list[Trade]) -> float:
    truth = {
        "net_mean_train_bps": mean([net for _, _, split, net in trades if split == "train"]),
        "net_mean_validation_bps": mean([net for _, _, split, net in trades if split == "validation"]),
        "net_mean_bps": mean([net for *_, net in trades]),
    }
    errors = [abs(value - row[name]) for name, value in truth.items()]
    errors.append(abs(_fall([(known_at, net) for known_at, _, _, net in trades]) - row["max_drawdown"]) / _BPS)
    return max(errors) if len(trades) == row["n_train"] + row["n_validation"] else math.inf


def _fall(nets: list[tuple[datetime, float]]) -> float:
    at_once: dict[datetime, float] = {}
    for known_at, net in nets:
        at_once[known_at] = at_once.get(known_at, 0.0) + net
    equity = peak = 1.0
    deepest, total = 0.0, 1.0
    for net in at_once.values():
        total += _BPS * net
        equity = max(total, 0.0)
        peak = max(peak, equity)
        deepest = min(deepest, equity / peak - 1.0)
    return deepest


def _ask_naive_passed(evidence: Evidence) -> Verdict:
    frame = evidence.frame
    passed = frame.filter(pl.col("is_passed").fill_null(value=False)).height
    lost = frame["fail_reasons"].str.split(",").list.first().value_counts(sort=True)
    why = ", ".join(f"{reason} {n}" for reason, n in lost.filter(pl.col("fail_reasons") != "").iter_rows()) or "none"
    detail = f"{passed} of {frame.height} tested hypotheses earn when traded plainly; first short of: {why}"
    return Verdict("naive_entry_passed", passed, 1, "hypotheses", passed=passed >= 1, detail=detail)


GATES_NAIVE_ENTRY: Final = (
    rows_gate(
        "every_tested_once",
        "Every tested hypothesis has one row with its own counts.",
        _not_the_tested,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    rows_gate(
        "verdicts_follow_numbers",
        "Status and reasons follow from the numbers and the run's limits (R75-R77).",
        _misjudged_naive,
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    limit_gate(
        "trades_added_up",
        "Means and drawdown equal those of the trades, added up one by one.",
        _naive_error,
        limit=MAX_ERROR_BPS,
        unit="bps",
        fix=_AGAIN,
        may_be_empty=nothing_tested,
    ),
    Gate(
        "naive_entry_passed",
        Severity.WARN,
        "Something earns when traded plainly; limit: 1 hypothesis.",
        _ask_naive_passed,
    ),
)

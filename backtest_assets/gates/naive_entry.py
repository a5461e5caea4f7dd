"""What must be true of naive entry: every tested hypothesis, traded plainly, judged by the run's limits."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.ask import limit_gate, rows_gate
from backtest_assets.gates.booked import TRAIN, Booked, sign_of
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.tested import MAX_ERROR_BPS, nothing_tested, tested_of
from backtest_assets.stats.arrays import FloatArray, IntArray

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


def _is_judged_right(row: Mapping[str, Any], run: ResearchRun) -> bool:
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
    """Add up the trades of every row again."""
    run = evidence.settings
    rows = [row for row in evidence.frame.to_dicts() if row["status"] != "NOT_RUN"]
    if not rows:
        never = run.run_naive_entry_eval == 0
        return (0.0 if never else math.nan), "the run does not evaluate the plain rule (R74)"
    booked = Booked.of(evidence)
    worst, culprit = 0.0, f"{len(rows)} rows added up"
    for row in rows:
        error = _error_of(row, booked)
        if not error <= worst:
            worst, culprit = error, f"largest difference at {row['hypothesis_id']}"
    return worst, culprit


def _error_of(row: Mapping[str, Any], booked: Booked) -> float:
    found = booked.chosen(row)
    if found is None:
        return math.inf
    trades, own = found
    sign, cost = sign_of(row), 2.0 * (booked.run.fees_bps + booked.run.slippage_bps)
    net, is_train, known_us = sign * trades.pnl[own] - cost, trades.split[own] == TRAIN, trades.known_us[own]
    n_train = int(is_train.sum())
    if (n_train, net.size - n_train) != (row["n_train"], row["n_validation"]) or not 0 < n_train < net.size:
        return math.inf
    total = float(net.sum())
    of_train = float(net[is_train].sum())
    truth = {
        "net_mean_train_bps": of_train / n_train,
        "net_mean_validation_bps": (total - of_train) / (net.size - n_train),
        "net_mean_bps": total / net.size,
    }
    errors = [abs(value - row[name]) for name, value in truth.items()]
    errors.append(abs(_fall(net, known_us) - row["max_drawdown"]) / _BPS)
    return math.inf if any(map(math.isnan, errors)) else max(errors)


def _fall(net_bps: FloatArray, known_us: IntArray) -> float:
    """Return the deepest fall from a peak of 1 plus the running sum; what became known at once is entered at once."""
    first = np.concatenate([np.zeros(1, np.int64), 1 + np.flatnonzero(np.diff(known_us))])
    equity = np.concatenate([np.ones(1), np.maximum(1.0 + _BPS * np.cumsum(np.add.reduceat(net_bps, first)), 0.0)])
    return float((equity / np.maximum.accumulate(equity) - 1.0).min())


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
        "Means and drawdown of every row equal those of its trades, added up again.",
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

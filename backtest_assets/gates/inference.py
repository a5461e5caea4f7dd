"""What must be true of the summary of a run's joint inference; the numbers stay in research."""

import math
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.hypotheses.summary import SUMMARY

MAX_PENALTY_ERROR: Final = 1e-9
"""Relative difference between a hypothesis' penalty and k x se x the luckiest null: rounding, the draws are the same."""

MIN_DAY_LAG_P: Final = 0.05
"""p below which neighbouring days hang together: one false remark in twenty runs."""


def _values(evidence: Evidence) -> dict[str, float]:
    """Return the summary by name; NaN where a number is missing or null."""
    known = dict(evidence.frame.select("statistic", "value").iter_rows())
    return {name: math.nan if known.get(name) is None else float(known[name]) for name in SUMMARY}


def _ask_rows(evidence: Evidence) -> Verdict:
    found = dict(evidence.frame.select("statistic", "unit").iter_rows())
    wrong = sorted(map(str, set(found.items()) ^ set(SUMMARY.items())))
    passed = not wrong and evidence.frame.height == len(SUMMARY)
    detail = f"rows missing, unknown or in another unit: {wrong}" if wrong else f"{evidence.frame.height} rows"
    return Verdict("summary_complete", evidence.frame.height, len(SUMMARY), "rows", passed=passed, detail=detail)


def _ask_counted(evidence: Evidence) -> Verdict:
    run = evidence.settings
    tested = evidence.inputs["hypotheses"].filter(pl.col("is_eligible")).height
    said = _values(evidence)["n_tested"]
    is_whole = set(run.phase2_families) == set(run.event_types)
    passed = said == tested if is_whole else said >= tested
    others = "" if is_whole else f" of {', '.join(run.phase2_families)}, which the run enumerates alone"
    detail = f"the summary says {said:g} hypotheses were tested; table hypotheses has {tested}{others}"
    return Verdict("counts_tested", said, tested, "hypotheses", passed=passed, detail=detail)


def _unknown(evidence: Evidence) -> pl.DataFrame:
    """Return numbers that are unknown though something was tested, or known though nothing was."""
    n_tested = _values(evidence)["n_tested"]
    is_known = pl.col("value").is_not_null() & pl.col("value").is_finite().fill_null(value=False)
    should = (pl.col("statistic") == "n_tested") | pl.lit(n_tested > 0)
    return evidence.frame.filter((is_known != should).fill_null(value=True)).select("statistic", "value")


def _impossible(evidence: Evidence) -> pl.DataFrame:
    """Return numbers outside what they can be."""
    told = _values(evidence)
    if told["n_tested"] == 0:
        return evidence.frame.clear().select("statistic", "value")
    may_be = {
        "luckiest_null_t": told["luckiest_null_t"] > 0 or told["n_tested"] == 1,
        "effective_rank": 1 - MAX_PENALTY_ERROR <= told["effective_rank"] <= told["n_tested"] + MAX_PENALTY_ERROR,
        "spa_statistic": told["spa_statistic"] >= 0,
        "spa_p_lower": 0 < told["spa_p_lower"] <= told["spa_p_consistent"],
        "spa_p_consistent": 0 < told["spa_p_consistent"] <= told["spa_p_upper"],
        "spa_p_upper": 0 < told["spa_p_upper"] <= 1,
        "spa_block_length": told["spa_block_length"] >= 1,
        "day_lag_mean": -1 <= told["day_lag_mean"] <= 1,
        "day_lag_p": 0 < told["day_lag_p"] <= 1,
    }
    wrong = [name for name, is_possible in may_be.items() if not is_possible]
    return evidence.frame.filter(pl.col("statistic").is_in(wrong)).select("statistic", "value")


def _penalty_error(evidence: Evidence) -> tuple[float, str]:
    """Compare every tested hypothesis' penalty with what the summary's luckiest null makes of it."""
    k, luckiest = evidence.settings.phase2_multiplicity_k, _values(evidence)["luckiest_null_t"]
    worst, culprit = 0.0, "no tested hypothesis"
    for row in evidence.inputs["hypotheses"].filter(pl.col("is_eligible")).to_dicts():
        again, said = k * (row["se_train_bps"] or math.nan) * luckiest, row["multiplicity_penalty_bps"]
        error = math.nan if said is None else abs(again - said) / max(abs(said), MAX_PENALTY_ERROR)
        if not error <= worst:
            worst, culprit = error, f"largest difference at {row['hypothesis_id']}"
        if math.isnan(worst):
            break
    return worst, culprit


def _ask_days(evidence: Evidence) -> Verdict:
    told = _values(evidence)
    p = told["day_lag_p"]
    passed = p >= MIN_DAY_LAG_P  # false where nothing was tested: a remark, it blocks nothing
    detail = (
        f"mean correlation of neighbouring days {told['day_lag_mean']:.3f}, p over all hypotheses {p:.3f}; below the limit "
        "the wild day bootstrap's p-values may be too small: read the block bootstrap's (spa_p_consistent) beside them"
    )
    return Verdict("days_uncorrelated", p, MIN_DAY_LAG_P, "probability", passed=passed, detail=detail)


_AGAIN: Final = "summarise again from this run's own tables"

GATES_INFERENCE_SUMMARY: Final = (
    Gate("summary_complete", Severity.ERROR, "Every number of the summary is there once, in its unit.", _ask_rows),
    Gate(
        "counts_tested",
        Severity.ERROR,
        "It speaks of all tested hypotheses and of no other; where one family is enumerated alone, of the others' too.",
        _ask_counted,
    ),
    rows_gate("numbers_known", "Numbers are known if and only if something was tested.", _unknown, fix=_AGAIN),
    rows_gate("numbers_possible", "Numbers lie where they can lie, p-values in order.", _impossible, fix=_AGAIN),
    limit_gate(
        "penalty_agrees",
        "Penalties in table hypotheses are k x se x the luckiest null of the summary.",
        _penalty_error,
        limit=MAX_PENALTY_ERROR,
        unit="fraction",
        fix=_AGAIN,
    ),
    Gate(
        "days_uncorrelated",
        Severity.WARN,
        f"Residuals of neighbouring days are uncorrelated; limit: p >= {MIN_DAY_LAG_P}.",
        _ask_days,
    ),
)

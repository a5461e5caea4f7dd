"""What must be true of hypotheses; testing stays in research, the decision in `checklist`, trials in `trials`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.neighbours import broken_identities, untrue_neighbours, wrong_rows
from backtest_assets.gates.queue import QUEUE_OBEYED, cells_asked, nothing_asked
from backtest_assets.gates.retested import retest
from backtest_assets.gates.tested import is_near
from backtest_assets.research.hypotheses.checklist import (
    describe_best,
    loss_histogram,
)
from backtest_assets.research.hypotheses.criteria import (
    ELIGIBILITY,
    EVIDENCE,
    GATE_NUMBERS,
    MAX_ADJUSTED_P,
    MAX_COST_RATIO,
    MAX_VALIDATION_P,
)

REGIME_CONDITIONS: Final = 11
"""3 sessions, 2 trends, 3 volatility and 3 funding regimes [conditions]."""

THRESHOLD_CONDITIONS: Final = 4
"""Two thresholds, each asked from both sides, of every family [conditions]."""

MAX_P_SHORTFALL: Final = 0.05
"""How far an adjusted p may lie below its own p [probability]: three Monte Carlo errors of 2,000 draws at p .5 are .034,
and the bootstrap's distribution is not exactly Student's."""

MAX_MEAN_ERROR: Final = 1e-9
"""Difference of a recomputed mean [bps]: rounding of a sum, nothing else."""

MAX_STEP_ERROR: Final = 0.002
"""Difference of a recomputed Romano-Wolf p [probability]: four of 2,000 draws that rounding may put on the other side."""

_MIN_POSITIVE_MEANS: Final = {5: 4, 7: 5}
"""Of the centre and its four neighbours, or six where the condition is a threshold, at least two thirds [means]."""


def _ask_declared(evidence: Evidence) -> Verdict:
    """Count the declared hypotheses, or those that the queue asks for, by arithmetic of its own."""
    run = evidence.settings
    who = "the queue asks for" if run.obeys_queue else "the run's settings declare"
    n_symbols = len(run.symbol_list)
    conditions = [
        2
        + REGIME_CONDITIONS
        + THRESHOLD_CONDITIONS
        + (n_symbols if n_symbols > 1 else 0)
        + (2 if family.is_sided else 0)
        for family in run.phase2_families
    ]
    expected = sum(conditions) * len(HOLD_GRID_BARS)
    if run.obeys_queue:
        expected = len(cells_asked(evidence.inputs["hypothesis_queue"], run))
    expected *= 2 * len({int(delay) for delay in run.phase2_entry_delays_bars.split(",")})
    found = evidence.frame.select("event_type", "condition", "side_rule", "delay_bars", "hold_bars").unique().height
    passed = found == expected == evidence.frame.height
    detail = f"{evidence.frame.height} rows, {found} distinct hypotheses; {who} {expected}"
    return Verdict("all_declared_present", found, expected, "hypotheses", passed=passed, detail=detail)


def _not_finite(evidence: Evidence) -> pl.DataFrame:
    finite = pl.all_horizontal(pl.col(EVIDENCE).is_finite())
    wrong = broken(evidence.frame, ~pl.col("is_eligible") | finite)
    return wrong.select("hypothesis_id", "event_type", "condition", "side_rule", "hold_bars", "t_train", "p_validation")


def _out_of_step(evidence: Evidence) -> pl.DataFrame:
    tested = evidence.frame.filter(pl.col("is_eligible").fill_null(value=True))
    ordered = tested.sort("t_train", "p_rw", descending=[True, False], nulls_last=True)
    in_step = (pl.col("p_rw") >= pl.col("p_rw").shift(1, fill_value=0.0)) & pl.col("t_train").is_not_null()
    return broken(ordered, in_step).select("hypothesis_id", "t_train", "p_rw")


def _p_shortfall(evidence: Evidence) -> tuple[float, str]:
    tested = evidence.frame.filter(pl.col("is_eligible").fill_null(value=True), pl.col("t_train").fill_null(1.0) > 0)
    gaps = tested.select("hypothesis_id", gap=(pl.col("p_train") - pl.col("p_rw")).fill_null(math.inf))
    if gaps.is_empty():
        return 0.0, "no tested hypothesis has t above 0"
    worst = gaps.sort("gap", "hypothesis_id", descending=[True, False]).row(0)
    return max(0.0, worst[1]), f"largest shortfall at {worst[0]}"


def _not_the_tests(evidence: Evidence) -> pl.DataFrame:
    """Count and test every hypothesis again and return those of which a number is another."""
    truth = retest(evidence)
    told: list[str] = []
    for row in evidence.frame.to_dicts():
        key = (row["event_type"], row["condition"], row["side_rule"], row["delay_bars"], row["hold_bars"])
        again = truth.get(key)
        told.append("unknown to the run" if again is None else ", ".join(_untrue(row, again)))
    return wrong_rows(evidence, told)


def _untrue(row: Mapping[str, Any], again: Mapping[str, float]) -> Iterator[str]:
    for name, value in again.items():
        found = row[name]
        is_same = (
            found is not None and abs(found - value) <= MAX_STEP_ERROR if name == "p_rw" else is_near(found, value)
        )
        if not is_same:
            yield f"{name} {found} is {value:.9g}"


def _sealed_rows(evidence: Evidence) -> pl.DataFrame:
    test = evidence.settings.splits[Split.TEST]
    allowed = pl.col("split").is_in([Split.TRAIN, Split.VALIDATION]) & (pl.col("exited_at") < test.start)
    wrong = broken(evidence.inputs["event_outcomes"], allowed)
    return wrong.select("event_id", "event_type", "symbol", "split", "exited_at")


def _wrong_verdicts(evidence: Evidence) -> pl.DataFrame:
    """Judge every hypothesis again in plain comparisons and return those judged otherwise."""
    is_wrong = [not _is_judged_right(row, evidence.settings) for row in evidence.frame.to_dicts()]
    return evidence.frame.filter(pl.Series(is_wrong)).select("hypothesis_id", "status", "fail_reasons")


def _is_judged_right(row: dict[str, Any], run: ResearchRun) -> bool:
    number = {name: math.nan if value is None else value for name, value in row.items()}
    asked = {
        "gate_phase1": row["phase1_decision"] == "pass",
        "gate_multiplicity": number["p_rw"] <= MAX_ADJUSTED_P
        and number["p_bh"] <= MAX_ADJUSTED_P
        and number["expectancy_after_multiplicity_bps"] > 0,
        "gate_validation": number["net_mean_validation_bps"] > 0
        and number["excess_mean_validation_bps"] > 0
        and number["p_validation"] <= MAX_VALIDATION_P,
        "gate_ess": number["ess_run"] >= run.phase2_min_ess,
        "gate_after_cost": number["net_mean_train_bps"] > 0,
        "gate_stressed_cost": number["stressed_mean_train_bps"] > 0,
        "gate_cost_ratio": number["cost_ratio_train"] < MAX_COST_RATIO,
        "gate_delay_robustness": number["delay_positive_ratio"] >= run.phase2_min_delay_positive_ratio
        and number["delay_robustness_score"] >= run.phase2_min_delay_robustness_score,
        "gate_parameter_curvature": number["curvature_penalty"] <= run.phase2_parameter_curvature_max_penalty
        and number["n_positive_neighbours"] >= _MIN_POSITIVE_MEANS.get(row["n_curvature_means"], math.inf)
        and row["n_curvature_means"] == (7 if _is_threshold(row["condition"]) else 5),
    }
    if row["is_eligible"] is not True:
        is_beyond = row["condition_place"] is not None and row["condition_place"] > run.phase2_max_conditions
        return row["status"] == ("beyond_budget" if is_beyond else "insufficient_evidence") and not any(
            row[name] for name in GATE_NUMBERS
        )
    red = [name.removeprefix("gate_") for name in GATE_NUMBERS if not asked[name]]
    status = "rejected" if red else "selected"
    return row["status"] == status and row["fail_reasons"] == ",".join(red) and all(row[g] == asked[g] for g in asked)


def _is_threshold(condition: str) -> bool:
    """Say whether a condition is a number held against another, by how it is written."""
    return any(mark in condition for mark in ("<", ">", " "))


def _off_budget(evidence: Evidence) -> pl.DataFrame:
    """Return hypotheses that are tested beyond the budget or with too little, left out within it, or out of place."""
    within = pl.col("condition_place") <= evidence.settings.phase2_max_conditions
    enough = pl.all_horizontal(pl.col(name) >= least for name, least in ELIGIBILITY.items())
    n_places = pl.col("condition_place").n_unique().over("event_type", "condition")
    n_conditions = pl.col("condition").n_unique().over("event_type", "condition_place")
    last = pl.col("condition_place").max().over("event_type")
    is_whole = pl.lit(evidence.settings.obeys_queue) | (last == pl.col("condition").n_unique().over("event_type"))
    right = (
        (pl.col("is_eligible") == (within & enough))
        & ((n_places == 1) & (n_conditions == 1) & (pl.col("condition_place") >= 1) & is_whole)
        & ((pl.col("condition_place") == 1) == (pl.col("condition") == "all"))
    )
    shown = ("hypothesis_id", "event_type", "condition", "condition_place", "is_eligible", "status")
    return broken(evidence.frame, right).select(*shown)


def _wrong_beside(evidence: Evidence) -> pl.DataFrame:
    """Return tested hypotheses whose numbers shown beside contradict the deciding ones."""
    run = evidence.settings
    cost = 2 * (run.fees_bps + run.slippage_bps)
    raw, kept = pl.col("excess_mean_train_bps") + cost, pl.col("shrunken_excess_mean_train_bps") + cost
    is_shrunk = (kept.abs() <= raw.abs() + MAX_MEAN_ERROR) & (kept * raw >= -MAX_MEAN_ERROR)
    is_signed = (pl.col("t_iid_train") > 0) == (pl.col("t_train") > 0)
    is_older = (pl.col("penalty_2_ln_m_bps") ** 2 - 2 * pl.col("penalty_ln_m_bps") ** 2).abs() <= (
        MAX_MEAN_ERROR * (1 + pl.col("penalty_2_ln_m_bps") ** 2)
    )
    right = ~pl.col("is_eligible") | (is_shrunk & is_signed & is_older & (pl.col("penalty_ln_m_bps") >= 0))
    return broken(evidence.frame, right).select(
        "hypothesis_id", "t_train", "t_iid_train", "excess_mean_train_bps", "shrunken_excess_mean_train_bps"
    )


def _disobedient(evidence: Evidence) -> pl.DataFrame:
    """Return hypotheses that say another decision of phase 1 than the evidence of their family."""
    decided = (
        evidence.inputs["phase1_evidence"]
        .group_by("event_type")
        .agg(said=pl.col("decision").first(), n_said=pl.col("decision").n_unique())
    )
    both = evidence.frame.join(decided, on="event_type", how="left")
    is_obeyed = (
        (pl.col("phase1_decision") == pl.col("said"))
        & (pl.col("n_said") == 1)
        & (~pl.col("gate_phase1") | (pl.col("said") == "pass"))
    )
    return broken(both, is_obeyed).select("hypothesis_id", "event_type", "phase1_decision", "said", "gate_phase1")


def _ask_selected(evidence: Evidence) -> Verdict:
    n_selected = evidence.frame.filter(pl.col("status") == "selected").height
    detail = (
        f"{n_selected} hypotheses selected; tested ones first lost at: {loss_histogram(evidence.frame)}; "
        f"{describe_best(evidence.frame)}"
    )
    return Verdict("candidates_selected", n_selected, 1, "hypotheses", passed=n_selected >= 1, detail=detail)


_AGAIN: Final = "test the hypotheses again from this run's own tables"

GATES_HYPOTHESES: Final = (
    Gate(
        "all_declared_present",
        Severity.ERROR,
        "Every hypothesis that is declared, or asked for by the queue, has one row.",
        _ask_declared,
    ),
    rows_gate(
        "budget_obeyed",
        "Tested is what the budget reaches by priority, all first, with enough events and days; no more and no less.",
        _off_budget,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "evidence_finite",
        "Tested hypotheses have every deciding number.",
        _not_finite,
        fix="look at their outcomes",
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "adjusted_p_in_step",
        "Adjusted p does not fall as t falls.",
        _out_of_step,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    limit_gate(
        "adjusted_p_not_below_p",
        "Adjusted p is not below the hypothesis' own p, where t is above 0.",
        _p_shortfall,
        limit=MAX_P_SHORTFALL,
        unit="probability",
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "numbers_agree",
        "Penalty, stress, cost ratio, effective sample, delays and neighbours give the numbers that are said to follow from them.",
        broken_identities,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "tests_recomputed",
        "Counts, means, t and every p are those of event_outcomes, counted by another road with the run's own draws.",
        _not_the_tests,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "neighbours_recomputed",
        "Means at other delays, rates, holds and thresholds of survivors are those of event_outcomes.",
        untrue_neighbours,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "test_stays_sealed",
        "Outcomes are of train and validation only.",
        _sealed_rows,
        fix="measure outcomes again",
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "phase1_obeyed",
        "Every hypothesis carries its family's decision of phase 1 and obeys it.",
        _disobedient,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "verdicts_follow_numbers",
        "Gates, status and reasons follow from the numbers.",
        _wrong_verdicts,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    rows_gate(
        "beside_agrees",
        "The iid t has the sign of t, the shrunken mean lies between the mean and the cost, the older penalties are in ratio.",
        _wrong_beside,
        fix=_AGAIN,
        may_be_empty=nothing_asked,
    ),
    QUEUE_OBEYED,
    Gate("candidates_selected", Severity.WARN, "Something was selected; limit: 1 hypothesis (R50).", _ask_selected),
)

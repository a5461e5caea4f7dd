"""Limits of a hypothesis, once, with unit and reason, and what they make of the numbers; run settings give the others.

Keep computation of the numbers out.
"""

from typing import Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.phase1.criteria import FamilyDecision

MIN_TRAIN_EVENTS: Final = 50
"""Events on train [events]: below, the mean of one hold is noise whatever it shows."""

MIN_TRAIN_DAYS: Final = 40
"""Days of train on which a trade was entered [days]: from here on the t, clustered by the days on which holds accrue, was
measured honest with room to spare."""

MIN_VALIDATION_EVENTS: Final = 10
"""Events on validation [events]: fewer cannot confirm anything."""

MIN_VALIDATION_DAYS: Final = 8
"""Days of validation on which a trade was entered [days]: from here on its t keeps its level, with fewer it does not,
however many days the holds last."""

MAX_ADJUSTED_P: Final = 0.05
"""Adjusted p on train, Romano-Wolf and Benjamini-Hochberg: one false find in twenty runs without an edge."""

MAX_VALIDATION_P: Final = 0.10
"""One-sided p on validation: it confirms a survivor, it does not search."""

STRESS_FACTOR: Final = 1.5
"""Costs are multiplied by this: spreads and fees are worst when everybody trades."""

MAX_COST_RATIO: Final = 0.60
"""Cost over gross profit [fraction], exclusive: an edge that mostly pays the exchange is too thin."""

MIN_POSITIVE_SHARE: Final = (2, 3)
"""Share of centre and neighbours (exceedance rate, hold and threshold, each 10 % lower and higher) with a
positive net mean, as numerator and denominator."""

EXCURSION_QUANTILE: Final = 0.95
"""Quantile of the moves against and for the position: exits put there guard, they do not make the edge."""

ELIGIBILITY: Final = {
    "n_train": MIN_TRAIN_EVENTS,
    "n_days_train": MIN_TRAIN_DAYS,
    "n_validation": MIN_VALIDATION_EVENTS,
    "n_days_validation": MIN_VALIDATION_DAYS,
}
"""Least counts of a hypothesis that is tested."""

EVIDENCE: Final = (
    "gross_mean_train_bps",
    "net_mean_train_bps",
    "excess_mean_train_bps",
    "se_train_bps",
    "t_train",
    "p_train",
    "p_rw",
    "p_bh",
    "p_by",
    "multiplicity_penalty_bps",
    "net_mean_validation_bps",
    "t_validation",
    "p_validation",
    "ess_run",
    "stressed_mean_train_bps",
)
"""Statistics every tested hypothesis must have; the others may be unknown and then fail their gate."""

ADMITTED: Final = FamilyDecision.PASSED.value
"""The decision of phase 1 that a family's hypotheses need. Those of the others stay in the adjustment of all p: they were
turned away after looking at the same data."""

GATE_NUMBERS: Final = {
    "gate_phase1": ("phase1_decision",),
    "gate_multiplicity": ("p_rw", "p_bh", "expectancy_after_multiplicity_bps"),
    "gate_validation": ("net_mean_validation_bps", "excess_mean_validation_bps", "p_validation"),
    "gate_ess": ("ess_run",),
    "gate_after_cost": ("net_mean_train_bps",),
    "gate_stressed_cost": ("stressed_mean_train_bps",),
    "gate_cost_ratio": ("cost_ratio_train",),
    "gate_delay_robustness": ("delay_positive_ratio", "delay_robustness_score"),
    "gate_parameter_curvature": ("curvature_penalty", "n_positive_neighbours", "n_curvature_means"),
}
"""The gates in the order they are reported, with the numbers each one reads."""


def verdict_columns(run: ResearchRun) -> dict[str, pl.Expr]:
    """Return the expression of every gate over the numbers of a hypothesis; false wherever a number is unknown.

    Args:
        run: gives the limits that are settings.

    Returns:
        Gate column name to boolean expression, in the order of `GATE_NUMBERS`; never null.

    Knows:
        the columns of its row.
    """
    positive, of = MIN_POSITIVE_SHARE
    asked = {
        "gate_phase1": pl.col("phase1_decision") == ADMITTED,
        "gate_multiplicity": (pl.col("p_rw") <= MAX_ADJUSTED_P)
        & (pl.col("p_bh") <= MAX_ADJUSTED_P)
        & (pl.col("expectancy_after_multiplicity_bps") > 0),
        "gate_validation": (pl.col("net_mean_validation_bps") > 0)
        & (pl.col("excess_mean_validation_bps") > 0)
        & (pl.col("p_validation") <= MAX_VALIDATION_P),
        "gate_ess": pl.col("ess_run") >= run.phase2_min_ess,
        "gate_after_cost": pl.col("net_mean_train_bps") > 0,
        "gate_stressed_cost": pl.col("stressed_mean_train_bps") > 0,
        "gate_cost_ratio": pl.col("cost_ratio_train") < MAX_COST_RATIO,
        "gate_delay_robustness": (pl.col("delay_positive_ratio") >= run.phase2_min_delay_positive_ratio)
        & (pl.col("delay_robustness_score") >= run.phase2_min_delay_robustness_score),
        "gate_parameter_curvature": (pl.col("curvature_penalty") <= run.phase2_parameter_curvature_max_penalty)
        & (pl.col("n_positive_neighbours") * of >= pl.col("n_curvature_means") * positive),
    }
    return {name: (pl.col("is_eligible") & rule).fill_null(value=False) for name, rule in asked.items()}


def within_budget(place: int, run: ResearchRun) -> bool:
    """Say whether a condition at a place of its family's order of priority is tested.

    Args:
        place: 1 for the first.
        run: gives the budget.

    Returns:
        Whether the budget reaches to it.

    Knows:
        settings only.
    """
    return place <= run.phase2_max_conditions


def status_columns(run: ResearchRun) -> dict[str, pl.Expr]:
    """Return `status` and `fail_reasons` over rows that have their gates.

    Args:
        run: gives the budget.

    Returns:
        `status`: selected (tested, every gate green), rejected (tested, not), insufficient_evidence (not tested),
        beyond_budget (not tested, whatever its counts).
        `fail_reasons`: the red gates, or the budget, or the counts below their limit, comma separated; empty if selected.

    Knows:
        the columns of its row.
    """
    gates = list(GATE_NUMBERS)
    red = pl.concat_list(pl.when(~pl.col(name)).then(pl.lit(name.removeprefix("gate_"))) for name in gates)
    few = pl.concat_list(
        pl.when(pl.col(name) < least).then(pl.lit(f"{name} < {least}")) for name, least in ELIGIBILITY.items()
    )
    beyond = pl.col("condition_place") > run.phase2_max_conditions
    few = pl.when(beyond).then(pl.concat_list(pl.lit(f"condition_place > {run.phase2_max_conditions}"))).otherwise(few)
    status = (
        pl.when(beyond)
        .then(pl.lit("beyond_budget"))
        .when(~pl.col("is_eligible"))
        .then(pl.lit("insufficient_evidence"))
        .when(pl.all_horizontal(gates))
        .then(pl.lit("selected"))
        .otherwise(pl.lit("rejected"))
    )
    reasons = pl.when(pl.col("is_eligible")).then(red).otherwise(few).list.drop_nulls().list.join(",")
    return {"status": status, "fail_reasons": reasons}

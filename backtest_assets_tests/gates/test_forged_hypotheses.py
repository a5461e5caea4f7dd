"""Hypotheses forged so that what was rejected is selected, with verdicts made again: red at the gate that counts again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from backtest_assets.gates.hypotheses import GATES_HYPOTHESES
from backtest_assets.research.hypotheses.criteria import status_columns, verdict_columns
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.tables.hypotheses import HYPOTHESES
from backtest_assets_tests.gates.test_hypotheses import evidence, red
from backtest_assets_tests.research.hypotheses.world import make_world, planted_world

Forgery = Mapping[str, pl.Expr | float]
BORDERLINE = pl.col("t_train") >= 1.3
SURVIVES = pl.col("gate_multiplicity")


def judged(frame: pl.DataFrame) -> pl.DataFrame:
    run = planted_world()[0].run
    said = frame.with_columns(**verdict_columns(run))
    return HYPOTHESES.conform(said.with_columns(**status_columns(run)))


def forged(where: pl.Expr, **values: pl.Expr | float) -> pl.DataFrame:
    """Write values over the rejected rows that are chosen, and judge all of them again."""
    frame = planted_world()[1]
    lost = where & (pl.col("status") == "rejected")
    written = {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in values.items()}
    changed = {
        name: pl.when(lost).then(value).otherwise(name).cast(frame.schema[name]) for name, value in written.items()
    }
    return judged(frame.with_columns(**changed))


def test_judging_again_changes_nothing_true():
    frame = planted_world()[1]
    assert judged(frame).equals(frame, null_equal=True)
    assert set() == red(GATES_HYPOTHESES, evidence(HYPOTHESES, frame))


@pytest.mark.parametrize(
    ("where", "values", "gates"),
    [
        (pl.lit(value=True), {"p_bh": 0.001}, {"tests_recomputed"}),
        (pl.lit(value=True), {"p_validation": 0.001}, {"tests_recomputed"}),
        (
            pl.lit(value=True),
            {"net_mean_validation_bps": 20.0, "excess_mean_validation_bps": 20.0},
            {"tests_recomputed"},
        ),
        (
            SURVIVES,
            {"net_mean_validation_bps": 20.0, "excess_mean_validation_bps": 20.0, "p_validation": 0.001},
            {"tests_recomputed"},
        ),
        (pl.lit(value=True), {"ess_run": 1e4}, {"numbers_agree"}),
        (
            SURVIVES,
            {"ess_train": pl.col("n_train").cast(float), "ess_run": pl.col("n_run").cast(float)},
            {"tests_recomputed"},
        ),
        (pl.lit(value=True), {"stressed_mean_train_bps": 5.0}, {"numbers_agree"}),
        (pl.lit(value=True), {"cost_ratio_train": 0.1}, {"numbers_agree"}),
        (pl.lit(value=True), {"delay_positive_ratio": 1.0, "delay_robustness_score": 1.0}, {"numbers_agree"}),
        (pl.lit(value=True), {"curvature_penalty": 0.0, "n_positive_neighbours": 5}, {"numbers_agree"}),
        (pl.lit(value=True), {"expectancy_after_multiplicity_bps": 10.0}, {"numbers_agree"}),
        (
            BORDERLINE,
            {"p_rw": pl.col("p_train"), "p_bh": pl.col("p_train")},
            {"tests_recomputed", "adjusted_p_in_step"},
        ),
        (
            BORDERLINE,
            {
                "p_rw": pl.min_horizontal("p_rw", pl.lit(0.05)),
                "p_bh": 0.05,
                "multiplicity_penalty_bps": 0.0,
                "expectancy_after_multiplicity_bps": pl.col("net_mean_train_bps"),
            },
            {"tests_recomputed"},
        ),
    ],
)
def test_a_forged_number_is_red_at_the_gate_that_counts_it_again(where: pl.Expr, values: Forgery, gates: set[str]):
    assert gates == red(GATES_HYPOTHESES, evidence(HYPOTHESES, forged(where, **values)))


def test_one_hypothesis_forged_in_every_number_is_red():
    best = planted_world()[1].filter(pl.col("status") == "rejected", ~SURVIVES).sort("t_train").tail(1)
    one = pl.col("hypothesis_id") == best["hypothesis_id"][0]
    frame = forged(
        one, p_train=1e-9, p_rw=0.0005, p_bh=0.0005, net_mean_validation_bps=20.0, excess_mean_validation_bps=20.0,
        p_validation=0.001, expectancy_after_multiplicity_bps=3.0, ess_run=1e3, stressed_mean_train_bps=5.0,
        cost_ratio_train=0.2, delay_positive_ratio=1.0, delay_robustness_score=1.0, curvature_penalty=0.0,
        n_positive_neighbours=pl.col("n_curvature_means"),
    )  # fmt: skip
    assert "selected" == frame.filter(one)["status"][0]
    assert (
        {"numbers_agree", "tests_recomputed", "neighbours_recomputed"}
        > red(GATES_HYPOTHESES, evidence(HYPOTHESES, frame)) - {"adjusted_p_in_step"}
        >= {"numbers_agree", "tests_recomputed"}
    )


def rewritten(name: str, change: Callable[[dict[str, Any], float], object]) -> pl.Series:
    """Return a JSON column with its means changed."""
    frame = planted_world()[1]
    texts = [
        json.dumps(change(json.loads(text), net)) if is_in else text
        for text, net, is_in in frame.select(name, "net_mean_train_bps", "gate_multiplicity").iter_rows()
    ]
    return pl.Series(name, texts)


def test_forged_neighbours_of_survivors_are_red_though_the_penalty_follows_from_them():
    frame = planted_world()[1]
    flat = rewritten("curvature_means_json", dict.fromkeys)
    level = {"curvature_penalty": 0.0, "n_positive_neighbours": pl.col("n_curvature_means")}
    after = judged(
        frame.with_columns(flat).with_columns(
            pl.when(SURVIVES).then(value if isinstance(value, pl.Expr) else pl.lit(value)).otherwise(name).alias(name)
            for name, value in level.items()
        )
    )
    assert {"neighbours_recomputed"} == red(GATES_HYPOTHESES, evidence(HYPOTHESES, after))


def test_forged_delays_of_survivors_are_red_though_the_score_follows_from_them():
    frame = planted_world()[1]
    steady = rewritten(
        "delay_means_json", lambda delays, net: {name: {**one, "mean_bps": net} for name, one in delays.items()}
    )
    level = {"delay_positive_ratio": pl.lit(1.0), "delay_robustness_score": pl.lit(1.0)}
    after = judged(
        frame.with_columns(steady).with_columns(
            pl.when(SURVIVES).then(value).otherwise(name).alias(name) for name, value in level.items()
        )
    )
    assert {"neighbours_recomputed"} == red(GATES_HYPOTHESES, evidence(HYPOTHESES, after))


def test_a_narrowed_run_whose_p_leaves_out_the_other_families_is_red():
    w, whole = planted_world()
    own = whole.filter(pl.col("event_type") == "liquidity_vacuum")
    narrowed = replace(w.run, phase2_event_type="liquidity_vacuum")
    assert "tests_recomputed" not in red(GATES_HYPOTHESES, replace(evidence(HYPOTHESES, own), run=narrowed))
    alone = own.with_columns(p_bh=pl.col("p_train") / pl.col("p_train").rank() * own.height)
    assert "tests_recomputed" in red(GATES_HYPOTHESES, replace(evidence(HYPOTHESES, alone), run=narrowed))


def test_other_entry_delays_and_drift_are_counted_again_alike():
    w = make_world(5, n_days=420, n_events=120, drift_bps=0.4, phase2_entry_delays_bars="0,4")
    frame = score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)
    tables = {
        "event_outcomes": w.outcomes, "event_registry": w.events, "market_context": w.context, "bars_um": w.bars,
        "phase1_evidence": w.phase1,
    }  # fmt: skip
    asked = replace(evidence(HYPOTHESES, frame, inputs=tables), run=w.run)
    assert frame["is_eligible"].any()
    assert not frame["is_eligible"].all()
    assert red(GATES_HYPOTHESES, asked) <= {"candidates_selected"}

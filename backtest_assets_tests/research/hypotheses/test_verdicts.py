import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.checklist import CHECKLIST, decide, describe_best, loss_histogram
from backtest_assets.research.hypotheses.criteria import GATE_NUMBERS, status_columns, verdict_columns
from backtest_assets.research.hypotheses.trials import list_trials
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import make_run, planted_world

PERFECT = {
    "is_eligible": True, "phase1_decision": "pass", "p_rw": 0.05, "p_bh": 0.05, "expectancy_after_multiplicity_bps": 0.1,
    "net_mean_validation_bps": 1.0, "excess_mean_validation_bps": 1.0, "p_validation": 0.10, "ess_run": 150.0,
    "net_mean_train_bps": 1.0, "stressed_mean_train_bps": 0.1, "cost_ratio_train": 0.59, "delay_positive_ratio": 0.6,
    "delay_robustness_score": 0.6, "curvature_penalty": 0.5, "n_positive_neighbours": 4, "n_curvature_means": 5,
    "condition_place": 1,
    "n_train": 50, "n_days_train": 40, "n_validation": 10, "n_days_validation": 8,
}  # fmt: skip


def judged(**changes: object):
    frame = pl.DataFrame(
        [PERFECT | changes],
        schema_overrides=dict.fromkeys(changes, pl.Float64) | {"is_eligible": pl.Boolean, "phase1_decision": pl.String},
    )
    frame = frame.with_columns(**verdict_columns(make_run(500)))
    return frame.with_columns(**status_columns(make_run(500))).row(0, named=True)


def test_numbers_exactly_at_their_limits_are_selected():
    row = judged()
    assert (row["status"], row["fail_reasons"]) == ("selected", "")


@pytest.mark.parametrize(
    ("name", "value", "gate"),
    [
        ("phase1_decision", "freeze", "phase1"),
        ("phase1_decision", "not_run", "phase1"),
        ("p_rw", 0.0501, "multiplicity"),
        ("p_bh", 0.0501, "multiplicity"),
        ("expectancy_after_multiplicity_bps", 0.0, "multiplicity"),
        ("net_mean_validation_bps", 0.0, "validation"),
        ("excess_mean_validation_bps", 0.0, "validation"),
        ("p_validation", 0.1001, "validation"),
        ("ess_run", 149.9, "ess"),
        ("net_mean_train_bps", 0.0, "after_cost"),
        ("stressed_mean_train_bps", 0.0, "stressed_cost"),
        ("cost_ratio_train", 0.60, "cost_ratio"),
        ("delay_positive_ratio", 0.59, "delay_robustness"),
        ("delay_robustness_score", 0.59, "delay_robustness"),
        ("curvature_penalty", 0.501, "parameter_curvature"),
        ("n_positive_neighbours", 3, "parameter_curvature"),
    ],
)
def test_r10_to_r16_one_number_past_its_limit_or_unknown_fails_exactly_its_gate(name, value, gate):
    for worse in (value, None):
        row = judged(**{name: worse})
        assert (row["status"], row["fail_reasons"]) == ("rejected", gate)


def test_r13_two_thirds_of_seven_means_are_five():
    """A condition that is a threshold has two more neighbours."""
    assert judged(n_curvature_means=7, n_positive_neighbours=5)["status"] == "selected"
    assert judged(n_curvature_means=7, n_positive_neighbours=4)["fail_reasons"] == "parameter_curvature"


def test_what_is_beyond_the_budget_says_so_and_not_what_it_would_have_shown():
    row = judged(is_eligible=False, condition_place=65, n_train=49)
    assert (row["status"], row["fail_reasons"]) == ("beyond_budget", "condition_place > 64")
    assert judged(condition_place=64)["status"] == "selected"


def test_untested_hypotheses_name_the_counts_that_were_short():
    row = judged(is_eligible=False, n_train=49, n_days_validation=7)
    assert (row["status"], row["fail_reasons"]) == ("insufficient_evidence", "n_train < 50,n_days_validation < 8")
    assert not any(row[gate] for gate in GATE_NUMBERS)


def test_a_planted_edge_promotes_the_run():
    w, table = planted_world()
    checklist = decide(table, candidates_of(w, table), run=w.run)
    assert set(checklist["gate"]) == set(CHECKLIST)
    assert checklist["is_passed"].all()
    assert set(checklist["decision"]) == {"PROMOTE"}
    assert "vol_shock_relaxation all long hold 16" in describe_best(table)


def test_without_a_selected_hypothesis_the_run_keeps_research_and_says_where_it_lost():
    w, table = planted_world()
    lost = table.with_columns(gate_validation=pl.lit(value=False), status=pl.lit("rejected"))
    checklist = decide(lost, candidates_of(w, lost), run=w.run)
    failed = checklist.filter(~pl.col("is_passed"))
    assert set(failed["gate"]) == {"validation_confirmed", "selected_hypotheses", "promoted_edge_candidates"}
    assert set(checklist["decision"]) == {"KEEP_RESEARCH"}
    said = failed.filter(pl.col("gate") == "validation_confirmed")["detail"][0]
    survivors = lost.filter("is_eligible", "gate_phase1", "gate_multiplicity")
    best = survivors.sort("t_train", descending=True).row(0, named=True)
    name = f"{best['event_type']} {best['condition']} {best['side_rule']} hold {best['hold_bars']} (t {best['t_train']:.2f})"
    numbers = ("net_mean_validation_bps", "excess_mean_validation_bps", "p_validation")
    measured = ", ".join(f"{number} {best[number]:.4g}" for number in numbers)
    counted = f"0 of {survivors.height} survivors are confirmed on validation"
    assert f"{counted}; the best of the {survivors.height}, {name}, fails: {measured}" == said
    assert "validation 14" in loss_histogram(lost)


def test_a_sentence_names_the_best_of_those_it_counts_and_nobody_where_there_is_none():
    """The best of all is of a frozen family: it is not among those of whom multiplicity was asked."""
    w, _ = planted_world()
    frozen = phase1_of(w.run.event_types, {"vol_shock_relaxation": {"decision": "freeze"}})
    table = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, frozen, run=w.run)
    told = dict(decide(table, candidates_of(w, table), run=w.run).select("gate", "detail").iter_rows())
    admitted = table.filter("is_eligible", "gate_phase1")
    best = admitted.sort("t_train", descending=True).row(0, named=True)
    assert describe_best(table).startswith("best candidate vol_shock_relaxation ")
    assert "vol_shock_relaxation" != best["event_type"]
    counted = f"0 of {admitted.height} that passed phase 1 survive multiplicity"
    assert told["multiplicity_survivors"].startswith(
        f"{counted}; the best of the {admitted.height}, {best['event_type']} {best['condition']} "
    )
    assert f" (t {best['t_train']:.2f}), fails: p_rw {best['p_rw']:.4g}, " in told["multiplicity_survivors"]
    assert "0 of 0 survivors are confirmed on validation" == told["validation_confirmed"]


def test_nothing_is_said_to_be_lost_where_there_is_no_edge_candidate():
    w, table = planted_world()
    lost = table.with_columns(gate_multiplicity=pl.lit(value=False), status=pl.lit("rejected"))
    told = dict(decide(lost, candidates_of(w, lost), run=w.run).select("gate", "detail").iter_rows())
    assert ("0 of 0 are PROMOTED", "0 of 0 with evidence pass every trap") == (
        told["promoted_edge_candidates"],
        told["robust_survivor_count"],
    )
    assert {"no edge candidate has evidence"} == {told["stability_pass"], told["capacity_pass"]}


def test_robustness_is_lost_to_traps_of_candidates_with_evidence_alone():
    w, table = planted_world()
    kept = candidates_of(w, table)
    lame = kept.with_columns(
        is_evidence=pl.int_range(pl.len()) > 0,
        is_robust=pl.lit(value=False),
        fail_reasons=pl.when(pl.int_range(pl.len()) > 0)
        .then(pl.lit("ess,trap:tails"))
        .otherwise(pl.lit("trap:overlap")),
    )
    told = dict(decide(table, lame, run=w.run).select("gate", "detail").iter_rows())
    n = kept.height
    assert f"0 of {n - 1} with evidence pass every trap; lost to: trap:tails {n - 1}" == told["robust_survivor_count"]
    assert f"; lost to: ess {n - 1}, trap:tails {n - 1}, trap:overlap 1" in told["promoted_edge_candidates"]


def test_a_frozen_family_stops_the_promotion_and_is_named():
    w, _ = planted_world()
    frozen = phase1_of(w.run.event_types, {"vol_shock_relaxation": {"decision": "freeze"}})
    table = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, frozen, run=w.run)
    rows = {row["gate"]: row for row in decide(table, candidates_of(w, table), run=w.run).to_dicts()}
    funnel = {"multiplicity_survivors", "validation_confirmed", "selected_hypotheses"}
    assert {*funnel, "promoted_edge_candidates"} == {name for name, row in rows.items() if not row["is_passed"]}
    assert rows["phase1_passed"]["observed"] < rows["eligible_hypotheses"]["observed"]
    assert "not passed: vol_shock_relaxation freeze" in rows["phase1_passed"]["detail"]
    assert "first fails phase1: phase1_decision freeze" in describe_best(table)


def test_no_hypothesis_no_promotion():
    w, table = planted_world()
    checklist = decide(table.clear(), candidates_of(w, table.clear()), run=w.run)
    assert not checklist["is_passed"].any()
    assert set(checklist["decision"]) == {"KEEP_RESEARCH"}


def test_missing_evidence_is_an_error_and_stops_a_promotion():
    w, table = planted_world()
    lame = table.with_columns(se_train_bps=pl.when(pl.int_range(pl.len()) > 0).then("se_train_bps"))
    checklist = decide(lame, candidates_of(w, table), run=w.run)
    assert checklist.filter(~pl.col("is_passed"))["gate"].to_list() == ["evidence_finite"]
    assert set(checklist["decision"]) == {"ERROR"}


def test_every_test_delay_and_neighbour_of_tested_hypotheses_is_a_trial():
    w, table = planted_world()
    ledger = list_trials(table, "d1", run=w.run)
    tested = table.filter("is_eligible")
    assert tested.height == 1984
    assert dict(ledger["kind"].value_counts().iter_rows()) == {
        "hypothesis": tested.height,
        "delay": tested.height * 5,
        "neighbour": tested.height * 4 + 2 * tested.filter(pl.col("condition").str.contains("[<>]")).height,
    }
    row = tested.row(0, named=True)
    own = ledger.filter(pl.col("hypothesis_id") == row["hypothesis_id"])
    assert own.height == len(json.loads(row["delay_means_json"])) + len(json.loads(row["curvature_means_json"])) - 1


def test_untested_hypotheses_are_no_trials():
    w, table = planted_world()
    assert list_trials(table.with_columns(is_eligible=pl.lit(value=False)), "d1", run=w.run).is_empty()


def test_the_ledger_grows_with_other_data_or_settings_and_only_then():
    w, table = planted_world()
    first = list_trials(table, "d1", run=w.run)
    assert_frame_equal(first, list_trials(table, "d1", run=w.run, previous=first))
    other_data = list_trials(table, "d2", run=w.run, previous=first)
    assert other_data.height == 2 * first.height
    other_settings = list_trials(table, "d1", run=make_run(500, fees_bps=5.0), previous=other_data)
    assert other_settings.height == 3 * first.height
    assert first.join(other_settings, on=first.columns, how="anti", nulls_equal=True).is_empty()

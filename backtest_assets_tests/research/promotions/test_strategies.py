"""Strategy candidates: who goes before whom, what is left out and said so, and a command that is this project's own."""

import shlex
from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.cli.flags import take_market_flags
from backtest_assets.cli.run import run as run_command
from backtest_assets.domain.blueprint import Overlay
from backtest_assets.domain.run import run_from_dict
from backtest_assets.errors import TableError
from backtest_assets.research.promotions.strategies import (
    StrategySources,
    backtest_command,
    describe_strategies,
    list_strategies,
)
from backtest_assets.tables.promotions import STRATEGY_CANDIDATES
from backtest_assets_tests.research.promotions.candidates import KEPT, PROMOTED, VACUUM, Scene, edge
from backtest_assets_tests.research.simulation.market import SHOCK, A, B, a_run, blueprint


def listed(scene: Scene) -> pl.DataFrame:
    return list_strategies(scene.sources, run=scene.run)


def ids(scene: Scene) -> list[str]:
    return listed(scene)["strategy_candidate_id"].to_list()


def row(scene: Scene, name: str) -> dict[str, object]:
    return listed(scene).row(by_predicate=pl.col("strategy_candidate_id") == name, named=True)


def told(scene: Scene) -> dict[str, str]:
    return dict(describe_strategies(listed(scene), scene.sources, run=scene.run))


def test_r73_promoted_blueprints_go_before_edge_candidates_whatever_their_scores_and_a_hypothesis_is_there_once():
    assert ["blueprint/bp_won", "edge/h1", "edge/h3", "edge/h2"] == ids(PROMOTED)
    assert [1, 2, 3, 4] == listed(PROMOTED)["rank"].to_list()
    assert STRATEGY_CANDIDATES.violations(listed(PROMOTED)).is_empty()


def test_r72_the_best_of_a_family_by_score_and_a_place_that_a_duplicate_loses_the_next_takes():
    assert ["blueprint/bp_won", "edge/h1", "edge/h3"] == ids(PROMOTED.having(strategy_builder_top_k_per_event=1))
    many = ids(PROMOTED.having(strategy_builder_top_k_per_event=9))
    assert ["blueprint/bp_won", "edge/h1", "edge/h3", "edge/h2", "edge/h4"] == many


def test_r73_the_cap_is_over_both_sources():
    assert ["blueprint/bp_won", "edge/h1"] == ids(PROMOTED.having(strategy_builder_max_candidates=2))


def test_r73_equal_scores_are_ordered_by_id_and_unknown_ones_come_last():
    edges = tuple(
        edge(name, profit_density_score=score) for name, score in {"h3": 1.0, "h1": 1.0, "h2": None, "h4": -5.0}.items()
    )
    scene = Scene(edges=edges).having(strategy_builder_top_k_per_event=9)
    assert ["edge/h1", "edge/h3", "edge/h4", "edge/h2"] == ids(scene)
    assert row(scene, "edge/h2")["score"] is None


def test_r73_two_hypotheses_that_enter_and_leave_alike_are_one_candidate():
    twins = (
        edge("h1", condition=f"symbol_{A}", candidate_symbol=A, hold_bars=16, profit_density_score=2.0),
        edge("h2", condition="all", candidate_symbol=A, hold_bars=16),
        edge("h3", condition="all", candidate_symbol=A, hold_bars=48),
    )
    scene = Scene(run=a_run(symbols=A), edges=twins)
    assert ["edge/h1", "edge/h3"] == ids(scene)
    assert "same_behaviour 1" in told(scene)["left_out"]
    two = Scene(edges=(edge("h1", hold_bars=16), edge("h2", hold_bars=16, condition=f"symbol_{A}", candidate_symbol=A)))
    assert ["edge/h1", "edge/h2"] == ids(two)


@pytest.mark.parametrize(
    ("nets", "score", "kind"),
    [
        ((0.01, 0.02), 0.01, "stressed_net_validation"),
        ((-0.01, 0.02), -0.01, "stressed_net_validation"),
        ((None, 0.02), 0.02, "net_validation"),
        ((None, None), None, "net_validation"),
    ],
)
def test_r71_a_blueprint_is_scored_by_its_stressed_validation_net_else_by_the_plain_one_else_not(nets, score, kind):
    scene = replace(PROMOTED, promoted={"bp_won": nets})
    found = row(scene, "blueprint/bp_won")
    assert (score, kind, "fraction of equity") == (found["score"], found["score_kind"], found["score_unit"])
    assert found["n_promotion_gates"] == 2


def test_r72_an_edge_candidate_is_scored_by_profit_density_in_its_own_unit():
    found = row(PROMOTED, "edge/h3")
    assert (8.0, "profit_density", "bps per calendar day") == (found["score"], found["score_kind"], found["score_unit"])
    assert found["n_promotion_gates"] is None


@pytest.mark.parametrize("decision", ["KEEP_RESEARCH", "ERROR", "promote"])
def test_r68_r85_unless_the_checklist_says_promote_there_is_none_and_that_is_a_result(decision):
    closed = replace(KEPT, decision=decision)
    assert listed(closed).is_empty()
    assert listed(closed).schema == STRATEGY_CANDIDATES.schema
    assert "checklist 6" == told(closed)["left_out"]
    open_ = closed.having(strategy_builder_ignore_checklist=1)
    assert ["edge/h1", "edge/h3", "edge/h2"] == ids(open_)
    assert {"execution_closed"} == set(listed(open_)["not_ready_reason"])
    assert open_.run.run_class == "diagnostic"


def test_r69_a_draft_is_left_out_unless_it_is_let_in():
    assert "edge/h5" not in ids(PROMOTED)
    assert "not_promoted 1" in told(PROMOTED)["left_out"]
    found = row(PROMOTED.having(strategy_builder_allow_non_promoted=1), "edge/h5")
    assert (2, "DRAFT", "trap:tails") == (found["rank"], found["edge_status"], found["fail_reasons"])


def test_r70_what_lacks_its_detail_is_left_out_counted_and_named():
    scene = replace(PROMOTED, without_detail=frozenset({"h0", "h3", "h5"}))
    assert ["edge/h1", "edge/h2"] == ids(scene)
    assert "3: blueprint/bp_won, edge/h0, edge/h3" == told(scene)["missing_detail"]


def test_r50_what_was_seen_and_what_was_selected_is_counted_by_source():
    expected = {
        "promoted_blueprints_seen": "1",
        "edge_rows_seen": "6",
        "source_counts": "promoted_blueprint 1, edge_candidate 3",
        "left_out": "not_promoted 1, same_hypothesis 1, strategy_builder_top_k_per_event 1",
        "missing_detail": "0: none",
    }
    assert expected == told(PROMOTED)


def test_x8_an_event_that_execution_does_not_know_is_unmapped_and_never_ready():
    found = row(Scene(edges=(edge("h1", event="moon_phase"),)), "edge/h1")
    assert ("unmapped", "moon_phase", False) == tuple(
        found[name] for name in ("execution_family", "event", "is_backtest_ready")
    )
    assert ("unmapped_family", "") == (found["not_ready_reason"], found["manual_backtest_command"])


@pytest.mark.parametrize(
    ("symbol", "kind", "symbols"),
    [("ALL", "multi_symbol", f"{A},{B}"), (B, "single_symbol", B), ("MOONUSDT", "none", "")],
)
def test_what_was_tested_is_deployed_never_the_best_symbol_and_never_a_stand_in(symbol, kind, symbols):
    scores = '{"AAAUSDT": {"n": 9, "net_mean_train_bps": 99.0}, "BBBUSDT": {"n": 9, "net_mean_train_bps": 1.0}}'
    scene = Scene(edges=(edge("h1", candidate_symbol=symbol, symbol_scores_json=scores, is_rollout_eligible=False),))
    found = row(scene, "edge/h1")
    assert (kind, symbols) == (found["deployment_type"], found["deployment_symbols"])
    assert (found["not_ready_reason"] == "unknown_symbol") is (symbol == "MOONUSDT")


def test_risk_controls_are_those_of_the_blueprint_and_without_one_nothing_is_entered():
    won, lost, none = (row(PROMOTED, name) for name in ("blueprint/bp_won", "edge/h1", "edge/h2"))
    controls = ("entry_delay_bars", "size_scale", "is_blocked", "is_backtest_ready", "not_ready_reason")
    assert (2, 0.5, False, True, "") == tuple(won[name] for name in controls)
    assert (3, 1.0, False, True, "") == tuple(lost[name] for name in controls)
    assert (0, None, True, False, "not_compiled: near_copy") == tuple(none[name] for name in controls)


def test_a_blueprint_that_skips_every_entry_is_blocked():
    skips = blueprint("bp_won", overlays=[Overlay("entry_gate_skip")])
    found = row(replace(PROMOTED, specs={"h0": skips}), "blueprint/bp_won")
    assert (0.0, True, "blocked") == (found["size_scale"], found["is_blocked"], found["not_ready_reason"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fees_bps": 3.25, "naive_min_trades": 120, "phase2_delay_grid_bars": "0,4", "run_id": "R" * 64},
        {"source": "files:/tmp/a market's folder", "strategy_builder_top_k_per_event": 1},
    ],
)
def test_the_manual_backtest_is_a_command_of_this_project_with_the_runs_settings(changes):
    run = replace(a_run(), cost_bps=None, **changes)
    words = shlex.split(backtest_command(VACUUM, run=run))
    assert ["backtest-assets", "run"] == words[:2]
    flags = run_command.make_context("run", words[2:]).params
    take_market_flags(flags)
    asked = run_from_dict(flags)
    assert replace(run, run_id=asked.run_id, blueprints_filter_event_type=VACUUM) == asked
    assert asked.run_id.endswith(f"-{VACUUM}")
    assert len(asked.run_id) <= 64


def test_only_what_is_ready_has_a_command():
    found = listed(PROMOTED)
    assert (found["manual_backtest_command"] != "").to_list() == found["is_backtest_ready"].to_list()
    assert f"--blueprints_filter_event_type {SHOCK.value}" in found["manual_backtest_command"][0]


def test_a_promoted_run_without_its_promotions_is_refused_and_a_kept_one_has_none():
    frames = PROMOTED.frames
    with pytest.raises(TableError, match="promotions"):
        StrategySources.of({name: frame for name, frame in frames.items() if name != "promotions"})
    assert KEPT.sources.promotions.is_empty()


def test_rows_in_another_order_give_the_same_candidates():
    shuffled = {name: frame.reverse() for name, frame in PROMOTED.frames.items()}
    assert listed(PROMOTED).equals(list_strategies(StrategySources.of(shuffled), run=PROMOTED.run))

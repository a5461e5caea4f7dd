from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.strategies import GATES_STRATEGY_CANDIDATES
from backtest_assets.research.promotions.strategies import list_strategies
from backtest_assets.tables.promotions import STRATEGY_CANDIDATES
from backtest_assets_tests.research.promotions.candidates import KEPT, PROMOTED, Scene, edge
from backtest_assets_tests.research.simulation.asking import all_null, spoil
from backtest_assets_tests.research.simulation.market import A

LISTED = list_strategies(PROMOTED.sources, run=PROMOTED.run)
ERRORS = {gate.name for gate in GATES_STRATEGY_CANDIDATES if gate.severity == "ERROR"}


def evidence(scene: Scene, frame: pl.DataFrame | None = None) -> Evidence:
    rows = list_strategies(scene.sources, run=scene.run) if frame is None else frame
    as_of = datetime(2026, 1, 1, tzinfo=UTC)
    return Evidence(STRATEGY_CANDIDATES, Partition.of_run("t"), rows, as_of, scene.run, scene.frames)


def red(asked: Evidence) -> set[str]:
    return {answer.verdict.gate for answer in ask_all(GATES_STRATEGY_CANDIDATES, asked) if not answer.verdict.passed}


def detail(asked: Evidence, gate: str) -> str:
    (said,) = (a.verdict.detail for a in ask_all(GATES_STRATEGY_CANDIDATES, asked) if a.verdict.gate == gate)
    return said


@pytest.mark.parametrize(
    "scene",
    [
        PROMOTED,
        PROMOTED.having(strategy_builder_allow_non_promoted=1),
        PROMOTED.having(strategy_builder_max_candidates=2, strategy_builder_top_k_per_event=1),
        replace(PROMOTED, promoted={"bp_won": (None, None)}),
        KEPT.having(strategy_builder_ignore_checklist=1),
        Scene(edges=(edge("h1", event="moon_phase"), edge("h2", candidate_symbol="MOONUSDT"))),
        Scene(edges=(edge("h1", hold_bars=16, condition=f"symbol_{A}", candidate_symbol=A), edge("h2", hold_bars=16))),
        Scene(edges=tuple(edge(f"h{n}", profit_density_score=None if n % 3 else float(n)) for n in range(9))),
    ],
)
def test_the_truth_is_green(scene: Scene):
    assert set() == red(evidence(scene))


def test_nothing_null_empty_or_blind_is_green():
    for frame in (LISTED.clear(), all_null(LISTED)):
        assert ERRORS <= red(evidence(PROMOTED, frame))
    assert ERRORS <= red(replace(evidence(PROMOTED), inputs={}, run=None))
    assert ERRORS <= red(evidence(PROMOTED, LISTED.select("rank")))


def test_r85_a_run_that_was_kept_lists_none_and_only_a_remark_says_why():
    asked = evidence(KEPT)
    assert {"candidates_nonzero"} == red(asked)
    assert not any(answer.blocks for answer in ask_all(GATES_STRATEGY_CANDIDATES, asked))
    assert "merged_by_precedence" in red(evidence(KEPT, LISTED))


def test_r50_the_remark_counts_what_was_upstream_and_names_the_first_failing_gate():
    said = detail(evidence(KEPT), "candidates_nonzero")
    assert "edge candidates 6, PROMOTED 5; promoted blueprints 0 of 0 compiled" in said
    assert "first failing gate multiplicity_survivors: none survives" in said
    said = detail(evidence(replace(PROMOTED, promoted={})), "candidates_nonzero")
    assert "first failing promotion gate stressed_net, of 2 blueprints" in said


def test_r70_missing_detail_is_red_with_up_to_ten_names_and_counted_if_it_is_allowed():
    edges = tuple(edge(f"h{n}") for n in range(12))
    scene = Scene(edges=edges, without_detail=frozenset(f"h{n}" for n in range(12)))
    assert "details_present" in red(evidence(scene))
    said = detail(evidence(scene), "details_present")
    assert said.startswith("12 candidates lack")
    assert "h0, h1, h10, h11, h2, h3, h4, h5, h6, h7 and more" in said
    allowed = evidence(scene.having(strategy_builder_allow_missing_candidate_detail=1))
    assert "details_present" not in red(allowed)
    assert "12 candidates lack" in detail(allowed, "details_present")
    lost = replace(PROMOTED, without_detail=frozenset({"h0"}))
    assert {"details_present"} == red(evidence(lost))


SPOILT = {
    "an edge before a blueprint": ("merged_by_precedence", LISTED.with_columns(rank=5 - pl.col("rank"))),
    "the last one cut": ("merged_by_precedence", LISTED.head(-1)),
    "another hypothesis": ("merged_by_precedence", spoil(LISTED, 3, hypothesis_id="h4")),
    "another source": ("merged_by_precedence", spoil(LISTED, 1, source="promoted_blueprint")),
    "a score made up": ("merged_by_precedence", spoil(LISTED, 0, score=0.65)),
    "a score unknown": ("merged_by_precedence", spoil(LISTED, 0, score=pl.lit(None))),
    "a score in another unit": ("merged_by_precedence", spoil(LISTED, 0, score_unit="bps per calendar day")),
    "a score of another kind": ("merged_by_precedence", spoil(LISTED, 1, score_kind="net_validation")),
    "a better expectancy": ("numbers_gathered", spoil(LISTED, 1, expectancy_per_trade=99.0)),
    "another robustness": ("numbers_gathered", spoil(LISTED, 1, robustness_score=1.0)),
    "another p": ("numbers_gathered", spoil(LISTED, 1, p_rw=pl.lit(None))),
    "a floor made up": ("numbers_gathered", spoil(LISTED, 1, expectancy_after_multiplicity_bps=9.0)),
    "another status": ("numbers_gathered", spoil(LISTED, 1, edge_status="DRAFT")),
    "another family": ("numbers_gathered", spoil(LISTED, 1, event="liquidity_vacuum")),
    "one symbol of two": ("deployed_as_tested", spoil(LISTED, 0, deployment_symbols=A)),
    "another kind of deployment": ("deployed_as_tested", spoil(LISTED, 0, deployment_type="single_symbol")),
    "a throttle forgotten": ("deployed_as_tested", spoil(LISTED, 0, size_scale=1.0)),
    "no delay": ("deployed_as_tested", spoil(LISTED, 0, entry_delay_bars=0)),
    "a size without a blueprint": ("deployed_as_tested", spoil(LISTED, 2, size_scale=1.0, is_blocked=False)),
    "ready without a blueprint": ("ready_for_cause", spoil(LISTED, 2, is_backtest_ready=True, not_ready_reason="")),
    "not ready for no cause": ("ready_for_cause", spoil(LISTED, 0, is_backtest_ready=False, not_ready_reason="x")),
    "another execution": ("ready_for_cause", spoil(LISTED, 0, execution_family="unmapped")),
    "no command": ("commands_are_the_run", spoil(LISTED, 0, manual_backtest_command="")),
    "a command of something not ready": ("commands_are_the_run", spoil(LISTED, 2, manual_backtest_command="rm")),
    "a command of another program": (
        "commands_are_the_run",
        LISTED.with_columns(pl.col("manual_backtest_command").str.replace("backtest-assets", "backtest")),
    ),
    "a command with other costs": (
        "commands_are_the_run",
        LISTED.with_columns(pl.col("manual_backtest_command") + " --fees_bps 1.0"),
    ),
    "a command of every family": (
        "commands_are_the_run",
        LISTED.with_columns(pl.col("manual_backtest_command").str.replace(r"event_type \w+", "event_type all")),
    ),
    "a command that cannot be run": (
        "commands_are_the_run",
        LISTED.with_columns(pl.col("manual_backtest_command") + " --naive_min_trades -3"),
    ),
    "nothing listed": ("candidates_nonzero", LISTED.clear()),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_table_is_caught(case: str):
    gate, frame = SPOILT[case]
    assert gate in red(evidence(PROMOTED, frame))


def test_a_blueprint_that_was_not_promoted_is_not_listed_as_such():
    asked = replace(evidence(PROMOTED), inputs={**PROMOTED.frames, "promotions": PROMOTED.frames["promotions"].clear()})
    assert "merged_by_precedence" in red(asked)

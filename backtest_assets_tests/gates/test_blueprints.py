import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import run_from_dict
from backtest_assets.gates.blueprints import GATES_BLUEPRINTS
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.redone import redo
from backtest_assets.gates.rejections import GATES_BLUEPRINT_REJECTIONS
from backtest_assets.research.blueprints.compile import compile_blueprints, reject_hypotheses
from backtest_assets.research.blueprints.fit import TrainMarket, _leaving
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.tables.blueprints import BLUEPRINT_REJECTIONS, BLUEPRINTS
from backtest_assets.tables.features import FEATURES
from backtest_assets_tests.research.hypotheses.shown import examined_of
from backtest_assets_tests.research.hypotheses.world import planted_world

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
PARSING = {"spec_readable", "fitted_on_train", "of_this_run", "flags_are_met", "executable"}


@cache
def compiled():
    w, hypotheses = planted_world()
    examined = examined_of(w, hypotheses)
    checklist = decide(hypotheses, examined["edge_candidates"], run=w.run)
    inputs = {
        "hypotheses": hypotheses, "research_checklist": checklist, "event_registry": w.events, "market_context": w.context,
        "bars_um": w.bars, "features": FEATURES.empty(), "edge_candidates": examined["edge_candidates"],
        "naive_entry": examined["naive"],
    }  # fmt: skip
    frames = (hypotheses, checklist, w.events, w.context, w.bars)
    made = compile_blueprints(*frames, features=FEATURES.empty(), **examined, run=w.run)
    lost = reject_hypotheses(*frames, features=FEATURES.empty(), **examined, run=w.run)
    return w.run, inputs, with_another(made), lost


def with_another(made):
    """The one blueprint that one planted edge gives, and a second of half its size, so that ranks and duplicates say something."""
    first = made.row(0, named=True)
    spec = json.loads(first["spec_json"])
    spec["blueprint_id"] += "_twin"
    spec["sizing"]["position_scale"] /= 2
    twin = blueprint_from_json(json.dumps(spec))
    changed = {
        "rank": 2, "blueprint_id": twin.blueprint_id, "behaviour_digest": twin.behaviour_digest, "spec_json": twin.to_json(),
    }  # fmt: skip
    return BLUEPRINTS.conform(pl.concat([made, pl.DataFrame([first | changed], schema=made.schema)]))


def red(frame, **inputs: pl.DataFrame):
    run, given, _, _ = compiled()
    asked = Evidence(BLUEPRINTS, Partition.of_run("w"), frame, AS_OF, run=run, inputs=given | inputs)
    return {a.verdict.gate for a in ask_all(GATES_BLUEPRINTS, asked) if not a.verdict.passed}


def with_spec(change):
    """Return the compiled table with `change` applied to every parsed spec."""
    frame = compiled()[2]
    specs = [json.loads(text) for text in frame["spec_json"]]
    for spec in specs:
        change(spec)
    texts = [json.dumps(spec, sort_keys=True, separators=(",", ":")) for spec in specs]
    return frame.with_columns(spec_json=pl.Series(texts))


def test_compiled_blueprints_keep_every_gate():
    assert compiled()[2].height == 2
    assert red(compiled()[2]) == set()


def test_an_empty_table_is_red_where_the_run_is_promoted_and_a_remark_where_not():
    empty = BLUEPRINTS.empty()
    _, inputs, _, _ = compiled()
    assert red(empty) == {
        "enters_on_train",
        "quality_floor",
        "exits_keep_the_edge",
        "traded_again",
        "empty_iff_not_promoted",
        "blueprints_present",
    }
    kept = inputs["research_checklist"].with_columns(decision=pl.lit("KEEP_RESEARCH"))
    assert red(empty, research_checklist=kept) == {"blueprints_present"}
    none = inputs["hypotheses"].with_columns(status=pl.lit("rejected"))
    assert red(empty, hypotheses=none) == {"blueprints_present"}


def test_blueprints_of_a_run_that_is_not_promoted_are_red():
    kept = compiled()[1]["research_checklist"].with_columns(decision=pl.lit("KEEP_RESEARCH"))
    assert red(compiled()[2], research_checklist=kept) == {"empty_iff_not_promoted"}


def test_unknown_values_and_missing_inputs_are_red():
    frame = compiled()[2]
    nothing = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())
    assert red(nothing) == {gate.name for gate in GATES_BLUEPRINTS} - {"empty_iff_not_promoted"}
    blind = Evidence(BLUEPRINTS, Partition.of_run("w"), frame, AS_OF, run=compiled()[0])
    crashed = {a.verdict.gate for a in ask_all(GATES_BLUEPRINTS, blind) if not a.verdict.passed}
    assert crashed >= {"enters_on_train", "empty_iff_not_promoted"}


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        (lambda f: f.with_columns(rank=pl.lit(1, pl.Int32)), {"ranks_and_ids"}),
        (lambda f: f.with_columns(t_train=-pl.col("t_train")), {"ranks_and_ids"}),
        (lambda f: pl.concat([f, f.head(1).with_columns(rank=pl.lit(3, pl.Int32))]), {"ranks_and_ids"}),
        (
            lambda f: f.with_columns(is_executed=pl.lit(value=False)),
            {"executed_by_rank", "something_executed", "blueprints_present"},
        ),
        (lambda f: f.with_columns(stop_frac=pl.col("stop_frac") * 2), {"spec_readable"}),
        (lambda f: f.with_columns(n_entries_train=pl.lit(0)), {"enters_on_train"}),
        (lambda f: f.with_columns(is_fallback=pl.lit(value=True)), {"enters_on_train"}),
        (lambda f: f.with_columns(time_exit_train_bps=pl.col("time_exit_train_bps") + 1), {"exits_keep_the_edge"}),
        (lambda f: f.with_columns(with_exits_train_bps=pl.col("with_exits_train_bps") - 3), {"exits_keep_the_edge"}),
        (lambda f: f.with_columns(hypothesis_id=pl.lit("x")), {"spec_readable", "enters_on_train"}),
        (lambda f: f.with_columns(spec_json=pl.lit("{}")), PARSING),
    ],
)
def test_every_corruption_of_a_row_is_caught(change, gates):
    assert red(change(compiled()[2])) >= gates


@pytest.mark.parametrize(
    "change",
    [
        {"with_exits_train_bps": pl.col("with_exits_train_bps") * 10},
        {"with_exits_train_bps": pl.col("time_exit_train_bps")},
        {"n_entries_train": pl.lit(1)},
        {"n_entries_train": pl.col("n_entries_train") - 1},
    ],
)
def test_what_a_blueprint_did_on_train_is_traded_again(change):
    assert red(compiled()[2].with_columns(**change)) == {"traded_again"}


def test_a_rank_by_another_t_than_the_hypothesis_has_is_red():
    assert red(compiled()[2].with_columns(t_train=pl.col("t_train") + 1)) == {"ranks_and_ids"}


@pytest.mark.parametrize(
    ("exits", "overlays"),
    [
        ({"break_even_r": 1.0}, []),
        ({"trailing_stop_type": "percent", "trailing_stop_value": 0.006}, []),
        ({"stop_value": 0.004, "target_value": 0.005, "break_even_r": 0.5}, []),
        ({"stop_value": 0.003}, [{"name": "liquidity_guard", "params": {"min_notional": 1.0}}]),
        ({"time_stop_bars": 90, "target_value": 0.02}, [{"name": "liquidity_guard", "params": {"min_notional": 2.0}}]),
    ],
)
def test_trading_again_agrees_with_the_compiler_on_other_exits_and_guards(exits, overlays):
    run, inputs, made, _ = compiled()
    w, _ = planted_world()
    text = json.loads(made["spec_json"][0])
    text["exit"] |= exits
    text["overlays"] = overlays
    text["sizing"]["max_gross_leverage"] = 0.6
    spec = blueprint_from_json(json.dumps(text))
    market = TrainMarket.of(w.events, w.context, FEATURES.empty(), w.bars, run=run)
    plain = market._alone(_leaving(replace(spec, overlays=()), 1.0 - 1e-9, 1e9))
    held = market._alone(spec)
    asked = Evidence(BLUEPRINTS, Partition.of_run("w"), made, AS_OF, run=run, inputs=inputs)
    (again,) = redo(asked, [spec])
    assert again.n_entries == market._dry_run(held)
    assert again.with_exits_bps == pytest.approx(1e4 * held.moves.sum() / plain.n, abs=1e-9)
    assert again.time_exit_bps == pytest.approx(1e4 * plain.mean(plain.n), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda s: s["lineage"].update(fitted_to="2022-05-01T00:00:00+00:00"), "fitted_on_train"),
        (lambda s: s["evaluation"].update(fees_bps=0.0), "of_this_run"),
        (lambda s: s["symbol_scope"].update(symbols=["DOGEUSDT"]), "of_this_run"),
        (lambda s: s.update(run_id="other"), "of_this_run"),
        (lambda s: s["entry"].update(conditions=["moon_full"]), "executable"),
        (lambda s: s["exit"].update(invalidation={"metric": "tea", "operator": ">", "value": 1.0}), "executable"),
        (lambda s: s["evaluation"]["robustness_flags"].update(oos_required=False), "flags_are_met"),
        (lambda s: s["exit"].update(time_stop_bars=5), "spec_readable"),
        (lambda s: s["evaluation"].update(min_trades=1), "traded_again"),
    ],
)
def test_every_corruption_of_a_spec_is_caught(change, gate):
    assert gate in red(with_spec(change))


def test_a_blueprint_of_a_hypothesis_without_train_events_is_red():
    none = compiled()[1]["hypotheses"].with_columns(n_train=pl.lit(0))
    assert "enters_on_train" in red(compiled()[2], hypotheses=none)


def test_r65_a_blueprint_below_the_floor_or_without_its_evidence_is_red():
    hypotheses = compiled()[1]["hypotheses"]
    for change, gate in (
        ({"n_run": pl.lit(99)}, "quality_floor"),
        ({"cost_ratio_train": pl.lit(None, pl.Float64)}, "quality_floor"),
        ({"gate_validation": pl.lit(value=False)}, "flags_are_met"),
    ):
        assert gate in red(compiled()[2], hypotheses=hypotheses.with_columns(**change))


def told_of_first(table: str, key: str, **values: object) -> dict[str, pl.DataFrame]:
    """Return an input in which the first blueprint's hypothesis says something else."""
    frame, own = compiled()[1][table], pl.col(key) == compiled()[2]["hypothesis_id"][0]
    changed = {name: pl.when(own).then(pl.lit(value)).otherwise(name) for name, value in values.items()}
    return {table: frame.with_columns(**changed)}


@pytest.mark.parametrize(
    ("inputs", "gates"),
    [
        (lambda: told_of_first("naive_entry", "hypothesis_id", status="FAIL", is_passed=False), {"enters_on_train"}),
        (lambda: told_of_first("naive_entry", "hypothesis_id", is_passed=False), {"enters_on_train"}),
        (lambda: told_of_first("edge_candidates", "candidate_id", status="DRAFT"), {"enters_on_train"}),
        (lambda: {"naive_entry": compiled()[1]["naive_entry"].clear()}, {"enters_on_train"}),
    ],
)
def test_r67_a_blueprint_that_fails_naive_entry_or_is_a_draft_is_red(inputs, gates):
    assert red(compiled()[2], **inputs()) == gates


def test_r67_naive_entry_is_not_asked_where_it_is_waived():
    lenient = run_from_dict(compiled()[0].to_dict() | {"strategy_blueprint_allow_naive_entry_fail": 1})
    failed = told_of_first("naive_entry", "hypothesis_id", status="FAIL", is_passed=False)
    draft = told_of_first("edge_candidates", "candidate_id", status="DRAFT")
    inputs = compiled()[1] | failed | draft
    asked = Evidence(BLUEPRINTS, Partition.of_run("w"), compiled()[2], AS_OF, run=lenient, inputs=inputs)
    assert {a.verdict.gate for a in ask_all(GATES_BLUEPRINTS, asked) if not a.verdict.passed} == set()


def test_a_rejection_for_naive_entry_of_what_passed_it_is_red():
    forged = compiled()[3].with_columns(
        reason=pl.when(pl.col("reason") == "near_copy").then(pl.lit("naive_entry")).otherwise("reason"),
        kept_hypothesis_id=pl.lit(None, pl.String),
    )
    assert "reasons_hold" in rejections(forged)


def rejections(frame, run=None, **inputs: pl.DataFrame):
    frozen, given, _, _ = compiled()
    asked = Evidence(
        BLUEPRINT_REJECTIONS, Partition.of_run("w"), frame, AS_OF, run=run or frozen, inputs=given | inputs
    )
    return {a.verdict.gate for a in ask_all(GATES_BLUEPRINT_REJECTIONS, asked) if not a.verdict.passed}


def test_what_the_compiler_rejects_keeps_every_gate():
    assert rejections(compiled()[3]) == set()


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.clear(), "every_tested_accounted"),
        (lambda f: f.filter(pl.col("reason") != "near_copy"), "every_tested_accounted"),
        (lambda f: f.slice(1), "every_tested_accounted"),
        (lambda f: f.with_columns(hypothesis_id=pl.lit("x")), "every_tested_accounted"),
        (lambda f: f.with_columns(reason=pl.lit("mood")), "reasons_hold"),
        (lambda f: f.with_columns(reason=pl.lit("quality_floor")), "reasons_hold"),
        (lambda f: f.with_columns(reason=pl.lit("checklist")), "reasons_hold"),
        (lambda f: f.with_columns(is_selected=~pl.col("is_selected")), "reasons_hold"),
        (lambda f: f.with_columns(kept_hypothesis_id=pl.lit(None, pl.String)), "reasons_hold"),
        (lambda f: f.with_columns(kept_hypothesis_id=pl.col("hypothesis_id")), "reasons_hold"),
        (lambda f: f.with_columns(reason=pl.lit(None, pl.String)), "reasons_hold"),
    ],
)
def test_every_corruption_of_a_rejection_is_caught(change, gate):
    assert gate in rejections(change(compiled()[3]))


def test_r66_a_family_lost_to_its_conditions_is_red_unless_overridden():
    lost = compiled()[3].with_columns(
        reason=pl.when("is_selected").then(pl.lit("non_executable_condition")).otherwise("reason")
    )
    assert "conditions_executable" in rejections(lost)
    lenient = run_from_dict(compiled()[0].to_dict() | {"strategy_blueprint_allow_non_executable_conditions": 1})
    assert "conditions_executable" not in rejections(lost, run=lenient)


def test_r64_blueprints_in_spite_of_the_checklist_are_red_unless_overridden():
    kept = {"research_checklist": compiled()[1]["research_checklist"].with_columns(decision=pl.lit("KEEP_RESEARCH"))}
    anyway = run_from_dict(compiled()[0].to_dict() | {"strategy_blueprint_ignore_checklist": 1})
    asked = Evidence(BLUEPRINTS, Partition.of_run("w"), compiled()[2], AS_OF, run=anyway, inputs=compiled()[1] | kept)
    assert {a.verdict.gate for a in ask_all(GATES_BLUEPRINTS, asked) if not a.verdict.passed} == set()

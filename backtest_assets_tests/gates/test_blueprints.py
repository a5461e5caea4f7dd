import json
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.blueprints import GATES_BLUEPRINTS
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.research.blueprints.compile import compile_blueprints
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.tables.blueprints import BLUEPRINTS
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import Plant, make_world

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
PARSING = {"spec_readable", "fitted_on_train", "of_this_run"}


@cache
def compiled():
    w = make_world(1, plant=Plant(bps=45))
    hypotheses = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)
    checklist = decide(hypotheses, candidates_of(w, hypotheses), run=w.run)
    # One planted edge selects near-copies on one side, which compile to one blueprint; the last of them becomes another
    # family, so that ranks, caps and duplicates have something to say.
    last = hypotheses.filter(pl.col("status") == "selected").sort("t_train")["hypothesis_id"][0]
    is_last = pl.col("hypothesis_id") == last
    hypotheses = hypotheses.with_columns(
        event_type=pl.when(is_last).then(pl.lit("range_compression_breakout_window")).otherwise("event_type"),
        side_rule=pl.when(is_last).then(pl.lit("with_event")).otherwise("side_rule"),
        condition=pl.when(is_last).then(pl.lit("all")).otherwise("condition"),
    )
    inputs = {"hypotheses": hypotheses, "research_checklist": checklist}
    return w.run, inputs, compile_blueprints(hypotheses, checklist, run=w.run)


def red(frame, **inputs: pl.DataFrame):
    run, given, _ = compiled()
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
    _, inputs, _ = compiled()
    assert red(empty) == {"enters_on_train", "empty_iff_not_promoted", "blueprints_present"}
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
        (lambda f: f.with_columns(hypothesis_id=pl.lit("x")), {"spec_readable", "enters_on_train"}),
        (lambda f: f.with_columns(spec_json=pl.lit("{}")), PARSING),
    ],
)
def test_every_corruption_of_a_row_is_caught(change, gates):
    assert red(change(compiled()[2])) >= gates


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda s: s["lineage"].update(fitted_to="2022-05-01T00:00:00+00:00"), "fitted_on_train"),
        (lambda s: s["evaluation"].update(fees_bps=0.0), "of_this_run"),
        (lambda s: s["symbol_scope"].update(symbols=["DOGEUSDT"]), "of_this_run"),
        (lambda s: s.update(run_id="other"), "of_this_run"),
        (lambda s: s["exit"].update(time_stop_bars=5), "spec_readable"),
    ],
)
def test_every_corruption_of_a_spec_is_caught(change, gate):
    assert gate in red(with_spec(change))


def test_a_blueprint_of_a_hypothesis_without_train_events_is_red():
    none = compiled()[1]["hypotheses"].with_columns(n_train=pl.lit(0))
    assert "enters_on_train" in red(compiled()[2], hypotheses=none)

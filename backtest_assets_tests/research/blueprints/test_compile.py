from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.blueprints.compile import compile_blueprints, reject_hypotheses
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.tables.features import FEATURES
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets_tests.research.hypotheses.shown import examined_of
from backtest_assets_tests.research.hypotheses.world import make_run, planted_world

WORLD = planted_world()[0]
RUN = WORLD.run
SHOCK, BREAKOUT, FUNDING = (
    "vol_shock_relaxation", "range_compression_breakout_window", "funding_extreme_reversal_window",
)  # fmt: skip


def selected(*rows: tuple[object, ...]):
    """Selected hypotheses from (id, family, condition, side rule, hold, t) tuples."""
    sample = HYPOTHESES.sample(0, len(rows))
    names = ("hypothesis_id", "event_type", "condition", "side_rule", "hold_bars", "t_train")
    columns = dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))
    given = {name: pl.Series(name, values, HYPOTHESES.schema[name]) for name, values in columns.items()}
    numbers = {
        "adverse_q95_train_bps": 120.0, "favourable_q95_train_bps": 80.0, "status": "selected", "is_eligible": True,
        "n_run": 500, "delay_robustness_score": 0.9, "net_mean_train_bps": 1e5, "stressed_mean_train_bps": 5.0,
        "cost_ratio_train": 0.2, "gate_validation": True, "gate_multiplicity": True, "delay_bars": 0,
    }  # fmt: skip
    return HYPOTHESES.conform(sample.with_columns(**given, **{k: pl.lit(v) for k, v in numbers.items()}))


def inputs(world):
    return world.events, world.context, world.bars


def standing(hypotheses, **against: str):
    """Candidates of all that is selected; nothing speaks against them but what is said."""
    selected = hypotheses.filter(pl.col("status") == "selected")
    reasons = [against.get(name, "") for name in selected["hypothesis_id"]]
    return selected.select(candidate_id="hypothesis_id", is_selected=pl.lit(value=True), is_evidence=pl.lit(value=True)).with_columns(
        is_robust=pl.Series([reason == "" for reason in reasons], dtype=pl.Boolean),
        fail_reasons=pl.Series(reasons, dtype=pl.String),
    )  # fmt: skip


def examined(hypotheses, naive=None, candidates=None):
    passed = hypotheses.select("hypothesis_id", is_passed=pl.lit(value=True))
    told = standing(hypotheses) if candidates is None else candidates
    return {"naive": passed if naive is None else naive, "edge_candidates": told}


def compiled(hypotheses, checklist, *, run=RUN, features=None, **told: Any):  # noqa: ANN401  # as of examined
    seen = FEATURES.empty() if features is None else features
    known = examined(hypotheses, **told)
    return compile_blueprints(hypotheses, checklist, *inputs(WORLD), features=seen, run=run, **known)


def rejected(hypotheses, checklist, *, run=RUN, **told: Any):  # noqa: ANN401  # as of examined
    known = examined(hypotheses, **told)
    return reject_hypotheses(hypotheses, checklist, *inputs(WORLD), features=FEATURES.empty(), run=run, **known)


def reasons(hypotheses, checklist, **given: Any):  # noqa: ANN401  # as of rejected
    return dict(rejected(hypotheses, checklist, **given).select("hypothesis_id", "reason").iter_rows())


def checklist(decision="PROMOTE", *, is_passed=True):
    row = {"gate": "g", "observed": 1.0, "limit": 1.0, "unit": "u", "detail": "d", "decision": decision}
    return RESEARCH_CHECKLIST.conform(pl.DataFrame([row | {"is_passed": is_passed}]))


MANY = selected(
    ("a", SHOCK, "all", "long", 16, 7.0),
    ("b", SHOCK, "session_us", "long", 16, 6.0),
    ("c", SHOCK, "vol_regime_low", "long", 48, 5.5),
    ("d", SHOCK, "all", "short", 96, 4.0),
    ("e", BREAKOUT, "symbol_BTCUSDT", "against_event", 4, 6.5),
    ("f", FUNDING, "event_side_up", "with_event", 4, 5.0),
)


def test_a_selected_hypothesis_that_falls_into_a_trap_is_no_blueprint_and_says_so():
    fallen = standing(MANY, a="trap:tails")
    assert "a" not in compiled(MANY, checklist(), candidates=fallen)["hypothesis_id"].to_list()
    lost = rejected(MANY, checklist(), candidates=fallen).filter(hypothesis_id="a").row(0, named=True)
    assert (lost["reason"], lost["detail"], lost["is_selected"]) == ("not_promoted", "trap:tails", True)
    assert compiled(MANY, checklist(), candidates=standing(MANY).clear()).is_empty()


def test_the_best_of_each_family_and_side_stands_for_its_near_copies():
    table = compiled(MANY, checklist(), run=RUN)
    assert table.select("rank", "hypothesis_id").rows() == [(1, "a"), (2, "e"), (3, "f"), (4, "d")]


def test_r65_the_family_maximum_cuts_by_t():
    narrow = make_run(500, strategy_blueprint_max_per_event=1)
    assert compiled(MANY, checklist(), run=narrow)["hypothesis_id"].to_list() == ["a", "e", "f"]


def test_only_the_first_of_the_family_filter_are_executed():
    top = compiled(MANY, checklist(), run=make_run(500, blueprints_top_k=2))
    assert top["is_executed"].to_list() == [True, True, False, False]
    shocks = compiled(MANY, checklist(), run=make_run(500, blueprints_filter_event_type=SHOCK, blueprints_top_k=1))
    assert shocks["is_executed"].to_list() == [True, False, False, False]


def test_a_blueprint_says_everything_execution_needs():
    table = compiled(MANY, checklist(), run=RUN)
    row = table.filter(pl.col("hypothesis_id") == "e").row(0, named=True)
    blueprint = blueprint_from_json(row["spec_json"])
    assert blueprint.blueprint_id == f"bp_{BREAKOUT}_symbol_btcusdt_against_event_h4"
    assert (blueprint.direction, blueprint.symbol_scope.mode, blueprint.symbol_scope.symbols) == (
        "conditional", "single_symbol", ("BTCUSDT",),
    )  # fmt: skip
    assert (blueprint.exit.stop_value, blueprint.exit.target_value, blueprint.exit.time_stop_bars) == (
        pytest.approx(0.012), pytest.approx(0.008), 4,
    )  # fmt: skip
    assert (blueprint.sizing.position_scale, blueprint.entry.cooldown_bars) == (0.5, 0)
    assert (blueprint.symbol_scope.candidate_symbol, blueprint.overlays) == ("BTCUSDT", ())
    assert (blueprint.lineage.fitted_from, blueprint.lineage.fitted_to) == (
        "2021-01-01T00:00:00+00:00", "2021-10-28T00:00:00+00:00",
    )  # fmt: skip
    everything = blueprint_from_json(table.filter(pl.col("hypothesis_id") == "a")["spec_json"][0])
    assert (everything.symbol_scope.mode, everything.symbol_scope.symbols) == ("all", ("BTCUSDT", "ETHUSDT"))


def test_exits_are_kept_between_floor_and_cap():
    wild = MANY.filter(pl.col("hypothesis_id").is_in(["a", "e"])).with_columns(
        adverse_q95_train_bps=pl.Series([1.0, 9000.0]), favourable_q95_train_bps=pl.Series([0.0, 9000.0])
    )
    table = compiled(wild, checklist(), run=RUN)
    assert sorted(table.select("stop_frac", "target_frac").rows()) == [(0.0005, 0.0005), (0.5, pytest.approx(0.9))]


@pytest.mark.parametrize(
    "closed",
    [
        checklist("KEEP_RESEARCH"),
        checklist("ERROR"),
        checklist(is_passed=False),
        checklist().clear(),
        pl.concat([checklist(), checklist("KEEP_RESEARCH")]),
    ],
)
def test_anything_but_promote_compiles_nothing(closed):
    table = compiled(MANY, closed, run=RUN)
    assert table.is_empty()
    assert table.schema == compiled(MANY, checklist(), run=RUN).schema


def test_nothing_selected_compiles_nothing():
    assert compiled(MANY.with_columns(status=pl.lit("rejected")), checklist(), run=RUN).is_empty()


def test_the_bytes_do_not_depend_on_the_order_of_rows():
    first = compiled(MANY, checklist(), run=RUN)
    for seed in range(5):
        mixed = MANY.sample(fraction=1, shuffle=True, seed=seed)
        again = compiled(mixed, checklist(), run=RUN)
        assert first["spec_json"].to_list() == again["spec_json"].to_list()
        assert first.equals(again)


def test_rules_that_trade_alike_are_compiled_once():
    twins = selected(("a", SHOCK, "all", "long", 16, 7.0), ("z", SHOCK, "all", "long", 16, 7.0))
    assert compiled(twins, checklist(), run=RUN)["hypothesis_id"].to_list() == ["a"]


def test_a_selected_hypothesis_without_its_excursions_is_refused():
    lame = MANY.with_columns(adverse_q95_train_bps=pl.lit(None, pl.Float64))
    with pytest.raises(TableError, match="selected hypothesis a lacks"):
        compiled(lame, checklist(), run=RUN)


def test_stop_and_target_are_train_quantiles_of_the_excursions_of_the_hypothesis():
    w, hypotheses = planted_world()
    known = examined_of(w, hypotheses)
    decided = decide(hypotheses, known["edge_candidates"], run=w.run)
    best = compile_blueprints(hypotheses, decided, *inputs(w), features=FEATURES.empty(), **known, run=w.run).row(
        0, named=True
    )
    assert (best["condition"], best["side_rule"], best["time_stop_bars"]) == ("all", "long", 16)
    own = w.outcomes.filter(
        pl.col("control_no") == 0, pl.col("variant") == "centre", pl.col("event_type") == SHOCK,
        pl.col("split") == "train", pl.col("delay_bars") == 0, pl.col("hold_bars") == 16,
    )  # fmt: skip
    assert best["stop_frac"] == pytest.approx(np.quantile(-own["lowest_bps"].to_numpy(), 0.95) / 1e4)
    assert best["exit_quantile"] == 0.95
    assert best["time_exit_train_bps"] == pytest.approx(own["gross_bps"].mean())
    net = hypotheses.filter(hypothesis_id=best["hypothesis_id"])["net_mean_train_bps"][0]
    assert best["time_exit_train_bps"] - best["with_exits_train_bps"] <= 0.05 * net
    assert best["target_frac"] == pytest.approx(np.quantile(own["highest_bps"].to_numpy(), 0.95) / 1e4)


def changed(name, **values: Any):  # noqa: ANN401  # any number of a hypothesis
    own = pl.col("hypothesis_id") == name
    given = {k: pl.when(own).then(pl.lit(v, HYPOTHESES.schema[k])).otherwise(pl.col(k)) for k, v in values.items()}
    return MANY.with_columns(**given)


@pytest.mark.parametrize(
    "low",
    [
        {"delay_robustness_score": 0.59}, {"n_run": 99}, {"net_mean_train_bps": 0.0}, {"stressed_mean_train_bps": 0.0},
        {"cost_ratio_train": 0.6}, {"cost_ratio_train": None}, {"delay_robustness_score": None},
    ],
)  # fmt: skip
def test_r65_below_the_quality_floor_the_next_of_its_kind_takes_the_place(low):
    hypotheses = changed("a", **low)
    assert compiled(hypotheses, checklist())["hypothesis_id"].to_list() == ["e", "b", "f", "d"]
    assert reasons(hypotheses, checklist()) == {"a": "quality_floor", "c": "near_copy"}


def test_r67_the_naive_entry_is_asked_before_the_places_are_given():
    naive = pl.DataFrame({"hypothesis_id": ["a", "b", "d", "e"], "is_passed": [False, True, True, True]})
    assert compiled(MANY, checklist(), naive=naive)["hypothesis_id"].to_list() == ["e", "b", "d"]
    assert reasons(MANY, checklist(), naive=naive) == {"a": "naive_entry", "c": "naive_entry", "f": "naive_entry"}
    lenient = make_run(500, strategy_blueprint_allow_naive_entry_fail=1)
    assert reasons(MANY, checklist(), naive=naive, run=lenient) == {"b": "near_copy", "c": "near_copy"}


def test_r66_a_condition_nobody_can_execute_is_skipped_and_recorded():
    hypotheses = changed("a", condition="moon_full")
    assert compiled(hypotheses, checklist())["hypothesis_id"].to_list() == ["e", "b", "f", "d"]
    assert reasons(hypotheses, checklist())["a"] == "non_executable_condition"


def test_r64_the_checklist_is_not_asked_where_it_is_overridden():
    assert set(reasons(MANY, checklist("KEEP_RESEARCH")).values()) == {"checklist"}
    anyway = make_run(500, strategy_blueprint_ignore_checklist=1)
    assert compiled(MANY, checklist("KEEP_RESEARCH"), run=anyway).height == 4


def test_r65_only_with_a_fallback_may_a_family_without_a_selected_hypothesis_compile_tested_ones():
    hypotheses = changed("f", status="rejected", gate_multiplicity=False)
    assert "f" not in compiled(hypotheses, checklist())["hypothesis_id"].to_list()
    assert reasons(hypotheses, checklist())["f"] == "not_selected"
    table = compiled(hypotheses, checklist(), run=make_run(500, strategy_blueprint_allow_fallback=1))
    assert table.select("hypothesis_id", "is_fallback").rows()[-1] == ("f", True)
    flags = blueprint_from_json(table["spec_json"][-1]).evaluation.robustness_flags
    assert (flags.oos_required, flags.multiplicity_required) == (True, False)
    served = changed("d", status="rejected")
    assert (
        "d"
        not in compiled(served, checklist(), run=make_run(500, strategy_blueprint_allow_fallback=1))["hypothesis_id"]
    )


def test_every_tested_hypothesis_is_a_blueprint_or_rejected_and_copies_say_who_stands_for_them():
    table, lost = compiled(MANY, checklist()), rejected(MANY, checklist())
    assert set(table["hypothesis_id"]) | set(lost["hypothesis_id"]) == set("abcdef")
    assert lost.select("hypothesis_id", "reason", "kept_hypothesis_id").rows() == [
        ("b", "near_copy", "a"),
        ("c", "near_copy", "a"),
    ]
    assert rejected(MANY.with_columns(is_eligible=pl.lit(value=False)), checklist()).is_empty()


def test_x11_a_hypothesis_whose_events_the_market_does_not_have_never_enters():
    bare = WORLD.events.filter(pl.col("event_type") != FUNDING)
    lost = reject_hypotheses(
        MANY, checklist(), bare, WORLD.context, WORLD.bars, features=FEATURES.empty(), **examined(MANY), run=RUN
    )
    assert lost.filter(hypothesis_id="f")["reason"].to_list() == ["loses_its_edge"]


def test_exits_that_cost_the_edge_are_moved_out_until_they_do_not():
    close = changed("a", adverse_q95_train_bps=5.0, favourable_q95_train_bps=5.0, net_mean_train_bps=30.0)
    row = compiled(close, checklist()).filter(hypothesis_id="a").row(0, named=True)
    assert row["exit_quantile"] > 0.95
    assert row["time_exit_train_bps"] - row["with_exits_train_bps"] <= 0.05 * 30.0


def test_break_even_and_trailing_are_none_where_they_cost_the_edge():
    leave = blueprint_from_json(compiled(MANY, checklist()).filter(hypothesis_id="a")["spec_json"][0]).exit
    assert (leave.trailing_stop_type, leave.break_even_r, leave.invalidation) == ("none", 0.0, None)


@pytest.mark.parametrize(("score", "scale"), [(0.8, 1.0), (0.79, 0.5), (0.6, 0.5)])
def test_a_less_robust_edge_is_traded_smaller(score, scale):
    table = compiled(changed("a", delay_robustness_score=score), checklist()).filter(hypothesis_id="a")
    assert blueprint_from_json(table["spec_json"][0]).size_scale == scale


def test_a_guard_is_compiled_only_where_it_would_have_let_train_entries_pass():
    bars = WORLD.bars.with_columns(volume_quote=pl.lit(2e5))
    for value, names in ((2e5, ["liquidity_guard"]), (9e4, []), (None, [])):
        seen = bars.with_columns(volume_quote=pl.lit(value, pl.Float64))
        table = compile_blueprints(
            MANY, checklist(), WORLD.events, WORLD.context, seen, features=FEATURES.empty(), **examined(MANY), run=RUN
        )
        blueprint = blueprint_from_json(table.filter(hypothesis_id="a")["spec_json"][0])
        assert [one.name for one in blueprint.overlays] == names


def test_nothing_after_train_moves_a_fit():
    first, end = compiled(MANY, checklist()), RUN.splits[Split.TRAIN].end
    later = pl.col("known_at") > end
    other = WORLD.bars.with_columns(
        pl.when(later).then(pl.col(name) * 3).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    )
    fewer = WORLD.events.filter(~later)
    again = compile_blueprints(
        MANY, checklist(), fewer, WORLD.context, other, features=FEATURES.empty(), **examined(MANY), run=RUN
    )
    assert first.equals(again)

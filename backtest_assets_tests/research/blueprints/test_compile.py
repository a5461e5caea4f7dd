import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.errors import TableError
from backtest_assets.research.blueprints.compile import compile_blueprints
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import Plant, make_run, make_world

RUN = make_run(500)
SHOCK, BREAKOUT, FUNDING = (
    "vol_shock_relaxation", "range_compression_breakout_window", "funding_extreme_reversal_window",
)  # fmt: skip


def selected(*rows: tuple[object, ...]):
    """Selected hypotheses from (id, family, condition, side rule, hold, t) tuples."""
    sample = HYPOTHESES.sample(0, len(rows))
    names = ("hypothesis_id", "event_type", "condition", "side_rule", "hold_bars", "t_train")
    columns = dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))
    given = {name: pl.Series(name, values, HYPOTHESES.schema[name]) for name, values in columns.items()}
    moves = {"adverse_q95_train_bps": 120.0, "favourable_q95_train_bps": 80.0, "status": "selected"}
    return HYPOTHESES.conform(sample.with_columns(**given, **{k: pl.lit(v) for k, v in moves.items()}))


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


def test_the_best_of_each_family_and_side_stands_for_its_near_copies():
    table = compile_blueprints(MANY, checklist(), run=RUN)
    assert table.select("rank", "hypothesis_id").rows() == [(1, "a"), (2, "e"), (3, "f"), (4, "d")]


def test_r65_the_family_maximum_cuts_by_t():
    narrow = make_run(500, strategy_blueprint_max_per_event=1)
    assert compile_blueprints(MANY, checklist(), run=narrow)["hypothesis_id"].to_list() == ["a", "e", "f"]


def test_only_the_first_of_the_family_filter_are_executed():
    top = compile_blueprints(MANY, checklist(), run=make_run(500, blueprints_top_k=2))
    assert top["is_executed"].to_list() == [True, True, False, False]
    shocks = compile_blueprints(
        MANY, checklist(), run=make_run(500, blueprints_filter_event_type=SHOCK, blueprints_top_k=1)
    )
    assert shocks["is_executed"].to_list() == [True, False, False, False]


def test_a_blueprint_says_everything_execution_needs():
    table = compile_blueprints(MANY, checklist(), run=RUN)
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
    assert (blueprint.lineage.fitted_from, blueprint.lineage.fitted_to) == (
        "2021-01-01T00:00:00+00:00", "2021-10-28T00:00:00+00:00",
    )  # fmt: skip
    everything = blueprint_from_json(table.filter(pl.col("hypothesis_id") == "a")["spec_json"][0])
    assert everything.symbol_scope.symbols == ("BTCUSDT", "ETHUSDT")


def test_exits_are_kept_between_floor_and_cap():
    wild = MANY.filter(pl.col("hypothesis_id").is_in(["a", "e"])).with_columns(
        adverse_q95_train_bps=pl.Series([1.0, 9000.0]), favourable_q95_train_bps=pl.Series([0.0, 9000.0])
    )
    table = compile_blueprints(wild, checklist(), run=RUN)
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
    table = compile_blueprints(MANY, closed, run=RUN)
    assert table.is_empty()
    assert table.schema == compile_blueprints(MANY, checklist(), run=RUN).schema


def test_nothing_selected_compiles_nothing():
    assert compile_blueprints(MANY.with_columns(status=pl.lit("rejected")), checklist(), run=RUN).is_empty()


def test_the_bytes_do_not_depend_on_the_order_of_rows():
    first = compile_blueprints(MANY, checklist(), run=RUN)
    for seed in range(5):
        mixed = MANY.sample(fraction=1, shuffle=True, seed=seed)
        again = compile_blueprints(mixed, checklist(), run=RUN)
        assert first["spec_json"].to_list() == again["spec_json"].to_list()
        assert first.equals(again)


def test_rules_that_trade_alike_are_compiled_once():
    twins = selected(("a", SHOCK, "all", "long", 16, 7.0), ("z", SHOCK, "all", "long", 16, 7.0))
    assert compile_blueprints(twins, checklist(), run=RUN)["hypothesis_id"].to_list() == ["a"]


def test_a_selected_hypothesis_without_its_excursions_is_refused():
    lame = MANY.with_columns(adverse_q95_train_bps=pl.lit(None, pl.Float64))
    with pytest.raises(TableError, match="selected hypothesis a lacks"):
        compile_blueprints(lame, checklist(), run=RUN)


def test_stop_and_target_are_train_quantiles_of_the_excursions_of_the_hypothesis():
    w = make_world(1, plant=Plant(bps=45))
    hypotheses = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)
    best = compile_blueprints(hypotheses, decide(hypotheses, candidates_of(w, hypotheses), run=w.run), run=w.run).row(
        0, named=True
    )
    assert (best["condition"], best["side_rule"], best["time_stop_bars"]) == ("all", "long", 16)
    own = w.outcomes.filter(
        pl.col("control_no") == 0, pl.col("variant") == "centre", pl.col("event_type") == SHOCK,
        pl.col("split") == "train", pl.col("delay_bars") == 0, pl.col("hold_bars") == 16,
    )  # fmt: skip
    assert best["stop_frac"] == pytest.approx(np.quantile(-own["lowest_bps"].to_numpy(), 0.95) / 1e4)
    assert best["target_frac"] == pytest.approx(np.quantile(own["highest_bps"].to_numpy(), 0.95) / 1e4)

import polars as pl
import pytest

from backtest_assets.domain.run import run_from_dict
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError, SettingsError
from backtest_assets.gates.promotions import GATES_BLUEPRINT_NEIGHBOURS, GATES_PROMOTIONS
from backtest_assets.gates.simulation import GATES_TRADES
from backtest_assets.gates.walkforward import GATES_WALKFORWARD_TRAIN
from backtest_assets.research.promotions.criteria import DIVERSIFICATION, MEASURED
from backtest_assets.research.promotions.neighbours import simulate_neighbours
from backtest_assets.research.walkforward.splits import summarise
from backtest_assets_tests.research.hypotheses.listed import ledger_of
from backtest_assets_tests.research.simulation.asking import all_null, answers, red, spoil
from backtest_assets_tests.research.simulation.market import a_run, blueprint, blueprints_of
from backtest_assets_tests.research.simulation.results import every_field, random_results

DONE = random_results()
DECIDED = DONE.frames["promotions"]


def blocking(frame, **inputs: pl.DataFrame):
    return red(DONE, "promotions", GATES_PROMOTIONS, frame, {**DONE.frames, **inputs})


def first(**columns: object):
    return DECIDED.with_row_index().filter(**columns)["index"][0]


def test_the_decision_passes():
    assert set() == blocking(DECIDED)


@pytest.mark.parametrize("gate", GATES_PROMOTIONS, ids=lambda gate: gate.name)
def test_every_gate_is_red_on_an_empty_frame_nulls_and_a_crash(gate):
    for frame in (DECIDED.clear(), all_null(DECIDED)):
        (answer,) = answers(DONE, "promotions", (gate,), frame)
        assert not answer.verdict.passed
    (crash,) = answers(DONE, "promotions", (gate,), DECIDED.select("blueprint_id"))
    assert crash.blocks


RICH = random_results(11, specs=every_field)
"""Every exit, size, guard and confirmation there is."""


def red_neighbours(done, frame, **inputs: pl.DataFrame):
    return red(done, "blueprint_neighbours", GATES_BLUEPRINT_NEIGHBOURS, frame, {**done.frames, **inputs})


@pytest.mark.parametrize("done", [DONE, RICH], ids=["plain", "every field"])
def test_d36_neighbours_of_every_kind_of_blueprint_are_what_another_simulation_gives(done):
    assert set() == red_neighbours(done, done.frames["blueprint_neighbours"])
    assert set() == red(done, "promotions", GATES_PROMOTIONS, done.frames["promotions"])


@pytest.mark.parametrize("gate", GATES_BLUEPRINT_NEIGHBOURS, ids=lambda gate: gate.name)
def test_every_gate_of_the_neighbours_is_red_on_an_empty_frame_nulls_and_a_crash(gate):
    beside = DONE.frames["blueprint_neighbours"]
    for frame in (beside.clear(), all_null(beside)):
        (answer,) = answers(DONE, "blueprint_neighbours", (gate,), frame)
        assert not answer.verdict.passed
    (crash,) = answers(DONE, "blueprint_neighbours", (gate,), beside.select("blueprint_id"))
    assert crash.blocks


BESIDE = DONE.frames["blueprint_neighbours"]
FORGED = {
    "a neighbour left out": ("traded_again", BESIDE.filter(pl.col("neighbour") != "stop_plus")),
    "a neighbour nobody asked for": ("traded_again", spoil(BESIDE, 0, neighbour="luck_plus")),
    "a better neighbour": ("traded_again", spoil(BESIDE, 3, net_per_day=pl.col("net_per_day") + 1e-6)),
    "a better sum": ("traded_again", spoil(BESIDE, 3, net_pnl=pl.col("net_pnl") + 1e-6)),
    "a trade more": ("traded_again", spoil(BESIDE, 3, n_trades=pl.col("n_trades") + 1)),
    "fewer days": ("traded_again", spoil(BESIDE, 3, n_days=1)),
    "a change untold": ("change_is_told", spoil(BESIDE, 3, change="")),
}


@pytest.mark.parametrize("case", FORGED)
def test_d36_a_forged_neighbour_is_caught(case):
    gate, frame = FORGED[case]
    assert gate in red_neighbours(DONE, frame)


@pytest.mark.parametrize("gate", [one.gate for one in (*MEASURED, DIVERSIFICATION)])
def test_every_number_that_is_measured_beside_the_summary_is_counted_again(gate):
    row = first(gate=gate, blueprint_id="b")
    for value in (0.123456, None):
        if DECIDED["observed"][row] != value:
            assert "answers_follow_evidence" in blocking(spoil(DECIDED, row, observed=value))
    assert "answers_follow_evidence" in blocking(spoil(DECIDED, row, is_passed=~pl.col("is_passed")))


def test_r91_to_r93_evidence_of_another_run_or_market_is_caught():
    other = random_results(8).frames
    for name in ("walkforward_summary", "simulation_ledger", "trades", "event_outcomes"):
        lent = {name: other[name], **({"event_registry": other["event_registry"]} if name == "event_outcomes" else {})}
        assert "answers_follow_evidence" in blocking(DECIDED, **lent), name
    better = BESIDE.with_columns(net_per_day=pl.lit(1e-3))
    assert "answers_follow_evidence" in blocking(DECIDED, blueprint_neighbours=better)
    assert red_neighbours(DONE, other["blueprint_neighbours"]) == {"traded_again"}


def test_r91_to_r93_evidence_of_another_window_is_caught():
    longer = random_results(n_days=80, n_events=300).frames
    asked = ("walkforward_train", GATES_WALKFORWARD_TRAIN, longer["walkforward_train"], DONE.frames)
    assert "window_is_planned" in red(DONE, *asked)
    assert red_neighbours(DONE, longer["blueprint_neighbours"]) == {"traded_again"}


def test_r91_to_r93_evidence_at_other_costs_is_caught_and_other_costs_refuse_to_trade():
    cheap = random_results(run=a_run(60, fees_bps=1.0))
    assert "pnl_from_fills" in red(DONE, "trades", GATES_TRADES, cheap.frames["trades"], DONE.frames)
    assert red_neighbours(DONE, cheap.frames["blueprint_neighbours"]) == {"traded_again"}
    made = [DONE.frames[n] for n in ("bars_um", "settlements_um", "event_registry", "market_context", "blueprints")]
    with pytest.raises(RefusedError, match="was judged with fees and slippage"):
        simulate_neighbours(*made, features=DONE.frames["features"], run=cheap.run)


def test_r91_to_r93_evidence_of_another_blueprint_is_caught_though_it_has_the_name():
    specs = [blueprint(name, time_stop=12, cost=DONE.run.cost) for name in "abc"]
    assert red_neighbours(DONE, BESIDE, blueprints=blueprints_of(*specs)) == {"traded_again"}
    train, validation = (DONE.frames[f"walkforward_{split.value}"] for split in (Split.TRAIN, Split.VALIDATION))
    with pytest.raises(RefusedError, match="R92"):
        summarise(train, validation.filter(pl.col("blueprint_id") != "b"))


def test_r100_there_is_no_fallback_evidence():
    with pytest.raises(SettingsError, match="promotion_allow_fallback_evidence"):
        run_from_dict(DONE.run.to_dict() | {"promotion_allow_fallback_evidence": 1})


SPOILT = {
    "a gate not answered": ("every_gate_answered", DECIDED.head(-1)),
    "a blueprint not judged": ("every_gate_answered", DECIDED.filter(pl.col("blueprint_id") != "a")),
    "a gate of its own": ("every_gate_answered", spoil(DECIDED, 0, gate="feeling")),
    "a softer limit": ("limits_are_the_runs", spoil(DECIDED, first(gate="regime_share"), limit=0.99)),
    "another source": ("limits_are_the_runs", spoil(DECIDED, first(gate="stressed_net"), evidence="a feeling")),
    "another comparator": ("limits_are_the_runs", spoil(DECIDED, first(gate="stressed_net"), comparator=">=")),
    "a failed gate that passed": ("answers_follow_evidence", spoil(DECIDED, first(is_passed=False), is_passed=True)),
    "another observation": ("answers_follow_evidence", spoil(DECIDED, first(gate="evidence"), observed=11.5)),
    "an unknown made known": (
        "answers_follow_evidence",
        spoil(DECIDED, DECIDED.with_row_index().filter(pl.col("observed").is_null())["index"][0], observed=0.0),
    ),
    "promoted against its gates": (
        "promoted_only_if_all_passed",
        DECIDED.with_columns(is_promoted=~pl.col("is_promoted")),
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_decision_is_caught(case):
    gate, frame = SPOILT[case]
    assert gate in blocking(frame)


def test_r93_other_evidence_than_was_decided_on_is_caught():
    summary = DONE.frames["walkforward_summary"].with_columns(pl.col("value") + 1)
    assert "answers_follow_evidence" in blocking(DECIDED, walkforward_summary=summary)


def test_r51_nothing_promoted_is_a_remark_with_the_failing_gates_counted():
    none = DECIDED.with_columns(is_promoted=pl.lit(value=False))
    (answer,) = answers(DONE, "promotions", GATES_PROMOTIONS[-1:], none)
    failing = none.filter(~pl.col("is_passed"), gate="stressed_net").height
    assert (answer.verdict.passed, answer.blocks) == (False, False)
    assert failing
    assert f"stressed_net {failing}" in answer.verdict.detail


LEDGERS, COUNTS = DONE.frames["trial_ledger"], DONE.frames["trial_counts"]


DEFLATED = "answers_follow_evidence"
"""The deflated Sharpe ratio rests on the effective number: where that is lost, its answer cannot be counted again either."""


@pytest.mark.parametrize(
    ("changed", "says", "also"),
    [
        ({"trial_ledger": pl.concat([LEDGERS, ledger_of("later", ["h9"])])}, "of runs later", set()),
        ({"trial_ledger": pl.concat([LEDGERS, ledger_of("again", ["h1"], "d2")])}, "of runs again", set()),
        ({"trial_ledger": LEDGERS.filter(of_run_id="t")}, "trials not counted", set()),
        ({"trial_counts": COUNTS.filter(of_run_id="t")}, "of runs other", set()),
        ({"trial_counts": COUNTS.clear()}, "has no count", {DEFLATED}),
        ({"trial_counts": COUNTS.with_columns(n_trials_all=pl.lit(None, pl.Int64))}, "has no count", set()),
        ({"trial_counts": COUNTS.with_columns(effective_trials_all=pl.lit(float("nan")))}, "has no count", {DEFLATED}),
        ({"trial_counts": COUNTS.with_columns(n_trials_all=pl.col("n_trials_all") - 1)}, "trials not counted", set()),
    ],
)
def test_nothing_is_promoted_unless_the_trials_of_all_runs_are_counted_as_they_are_now(changed, says, also):
    assert {"trials_counted", *also} == blocking(DECIDED, **changed)
    found = answers(DONE, "promotions", GATES_PROMOTIONS, DECIDED, {**DONE.frames, **changed})
    (detail,) = (a.verdict.detail for a in found if a.verdict.gate == "trials_counted")
    assert says in detail


def test_without_a_count_or_the_ledgers_the_gate_crashes_and_blocks():
    for lost, also in (("trial_counts", {DEFLATED}), ("trial_ledger", set[str]())):
        rest = {name: frame for name, frame in DONE.frames.items() if name != lost}
        found = answers(DONE, "promotions", GATES_PROMOTIONS, DECIDED, rest)
        assert {"trials_counted", *also} == {a.verdict.gate for a in found if a.blocks}

"""Rule R7 through the whole chain: switched off the queue changes nothing, switched on it is exactly what is tested."""

from functools import cache

import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.promotions import GATES_BLUEPRINT_NEIGHBOURS, GATES_PROMOTIONS
from backtest_assets.research.hypotheses.queue.select import rank_rules
from backtest_assets.sources.synthetic.market import generate_market
from backtest_assets.sources.synthetic.plant import Plant
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.chain import SYMBOLS, Chain, chain_of
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of

BREAKOUT, SHOCK, PERSISTENCE = (
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
    EventType.VOL_SHOCK_RELAXATION,
    EventType.FUNDING_PERSISTENCE_WINDOW,
)
PHASE1 = {
    SHOCK.value: {"decision": "freeze", "reason": "no metric differs"},
    PERSISTENCE.value: {"p_placebo": 0.0005},
}
CELL = ["event_type", "condition", "side_rule", "hold_bars"]


@cache
def chain(obeys: int) -> Chain:
    run = ResearchRun(
        run_id="R7", symbols=",".join(SYMBOLS), start="2020-01-01", end="2023-12-31", source="synthetic:7",
        run_hypothesis_generator=obeys,
    )  # fmt: skip
    market = generate_market(7, SYMBOLS, *run.window, planted=Plant(BREAKOUT, 16, 60.0))
    return chain_of(run, market, phase1=phase1_of(changed=PHASE1))


def test_r7_switched_off_every_declared_hypothesis_is_tested():
    off = chain(0)
    assert 2104 == off.frames["hypotheses"].height == off.frames["hypotheses"]["queue_rank"].null_count()
    assert_frame_equal(off.frames["hypothesis_queue"], chain(1).frames["hypothesis_queue"])


def test_r7_switched_on_what_is_tested_is_what_the_queue_asks_for_in_its_order():
    on = chain(1)
    ranks = rank_rules(on.run, on.frames["hypothesis_queue"])
    expected = [
        (r.event_type.value, r.condition.name, r.side_rule.value, r.hold_bars, rank) for r, rank in ranks.items()
    ]
    tested = on.frames["hypotheses"].sort("queue_rank").select(*CELL, "queue_rank").rows()
    assert sorted(expected) == sorted(tested)
    assert [rank for *_, rank in expected] == [rank for *_, rank in tested]
    assert 0 < len(tested) < 2104
    declared = chain(0).frames["hypotheses"].select(CELL)
    assert on.frames["hypotheses"].join(declared, on=CELL, how="anti").is_empty()


def test_a_frozen_family_stays_in_the_adjustment_and_one_with_an_effective_placebo_leaves():
    tested = set(chain(1).frames["hypotheses"].filter("is_eligible")["event_type"])
    assert SHOCK.value in tested
    assert PERSISTENCE.value not in set(chain(1).frames["hypotheses"]["event_type"])
    rows = chain(1).frames["hypothesis_queue"]
    assert {"QUEUED"}.isdisjoint(rows.filter(pl.col("event_type").is_in([SHOCK.value, PERSISTENCE.value]))["status"])


def test_a_planted_edge_is_promoted_through_the_queue():
    on = chain(1)
    best = on.selected.sort("t_train", descending=True).row(0, named=True)
    assert (BREAKOUT.value, "with_event", "PROMOTE") == (best["event_type"], best["side_rule"], on.decision)
    assert on.promoted


def test_r91_the_planted_edge_keeps_every_promotion_gate_and_all_are_counted_again():
    on = chain(1)
    named = on.frames["trial_ledger"].with_columns(of_run_id=pl.lit("R7"), ledger_digest=pl.lit("ledger"))
    inputs = {**on.frames, "trial_ledger": named}
    for name, gates in (("blueprint_neighbours", GATES_BLUEPRINT_NEIGHBOURS), ("promotions", GATES_PROMOTIONS)):
        asked = Evidence(TABLES[name], Partition.of_run("R7"), on.frames[name], on.run.window[1], on.run, inputs)
        assert [] == [a.verdict.detail for a in ask_all(gates, asked) if not a.verdict.passed]
    best = on.frames["blueprints"].filter("is_executed").sort("rank")["blueprint_id"][0]
    observed = dict(on.frames["promotions"].filter(blueprint_id=best).select("gate", "observed").iter_rows())
    assert observed["cross_symbol_pass_rate"] == 1.0
    assert observed["deflated_sharpe"] > 0.99
    assert observed["overfitting_probability"] < 0.05
    assert observed["parameter_neighbourhood"] > 0.5
    assert observed["positive_neighbours"] == 1.0

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.research.hypotheses.queue.select import queued_rules, rank_rules
from backtest_assets.research.hypotheses.rules import declared_rules
from backtest_assets.research.hypotheses.trials import list_trials
from backtest_assets.tables.hypotheses import HYPOTHESES, HYPOTHESIS_QUEUE
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import make_run, planted_world

RUN = make_run(500, run_hypothesis_generator=1)
SHOCK, DESYNC = EventType.VOL_SHOCK_RELAXATION, EventType.CROSS_VENUE_DESYNC
CELL = ["event_type", "condition", "side_rule", "hold_bars"]


def row(rank, family, bucket, condition="", *, is_tested=True):
    return {
        "hypothesis_id": f"m{rank}", "source_kind": "template" if bucket else "family", "template_id": "T1",
        "event_type": family.value, "horizon_bucket": bucket, "condition": condition, "rank": rank,
        "status": "QUEUED" if is_tested else "SKIPPED", "is_tested": is_tested, "reason": "" if is_tested else "no",
    }  # fmt: skip


def queue_of(*rows: dict[str, object]):
    """These rows, and the record of every family that they leave out."""
    told = {one["event_type"] for one in rows}
    rest = [family for family in EventType if family.value not in told]
    records = [row(len(rows) + 1 + i, family, "", is_tested=False) for i, family in enumerate(rest)]
    nothing = dict.fromkeys(HYPOTHESIS_QUEUE.schema, "") | {"negative_controls_json": "{}"}
    nothing |= dict.fromkeys(["mechanism_coherence", "observability", "testability", "priority"])
    return HYPOTHESIS_QUEUE.conform(
        pl.DataFrame([nothing | one for one in (*rows, *records)], schema=HYPOTHESIS_QUEUE.schema)
    )


QUEUE = queue_of(
    row(1, DESYNC, "medium", "session_us"),
    row(2, SHOCK, "short"),
    row(3, SHOCK, "short", "vol_regime_high"),
    row(4, SHOCK, "medium", "bull_bear_bull"),
    row(5, DESYNC, "short", is_tested=False),
)


def planted():
    return planted_world()[0]


def scored(queue, run=RUN):
    w = planted()
    return study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=run, queue=queue)


def test_r7_the_queue_asks_for_both_sides_of_its_family_hold_and_condition_in_its_order():
    asked = [(r.event_type, r.condition.name, r.hold_bars, r.sign) for r in queued_rules(RUN, QUEUE)]
    first = [(DESYNC, "session_us", hold, sign) for sign in (1, -1) for hold in (48, 96)]
    assert first == asked[:4]
    shock = [c for c in asked if c[0] is SHOCK]
    assert shock == asked[4:]
    assert [(SHOCK, "all", 4, 1), (SHOCK, "all", 16, 1), (SHOCK, "all", 4, -1)] == shock[:3]
    assert 19 * 2 * 2 == len([c for c in shock if c[2] in (4, 16)])
    assert [(SHOCK, "bull_bear_bull", hold, sign) for sign in (1, -1) for hold in (48, 96)] == shock[-4:]


def test_a_hypothesis_asked_for_twice_has_the_better_rank_and_comes_once():
    ranks = rank_rules(RUN, QUEUE)
    high = {rank for rule, rank in ranks.items() if rule.condition.name == "vol_regime_high"}
    assert {2} == high
    assert list(ranks.values()) == sorted(ranks.values())
    assert {1, 2, 4} == set(ranks.values())


def test_what_is_asked_for_is_declared_and_what_is_not_tested_is_not_asked_for():
    assert set(queued_rules(RUN, QUEUE)) <= set(declared_rules(RUN))
    assert () == queued_rules(RUN, queue_of())
    skipped = QUEUE.with_columns(is_tested=pl.lit(value=False))
    assert () == queued_rules(RUN, skipped)


def test_a_queue_that_is_silent_on_a_family_of_the_run_is_refused():
    with pytest.raises(TableError, match="no row of vol_shock_relaxation; make hypothesis_queue again"):
        rank_rules(RUN, QUEUE.filter(pl.col("event_type") != SHOCK.value))


def test_r7_phase_2_tests_exactly_what_the_queue_asks_for_in_its_order():
    table = scored(QUEUE)
    ranks = rank_rules(RUN, QUEUE)
    tested = table.sort("queue_rank").select(*CELL, "queue_rank").rows()
    expected = [
        (r.event_type.value, r.condition.name, r.side_rule.value, r.hold_bars, rank) for r, rank in ranks.items()
    ]
    assert sorted(expected) == sorted(tested)
    assert [rank for *_, rank in expected] == [rank for *_, rank in tested]
    assert (19 * 2 * 2 + 4 + 4) == table.height


def test_what_is_tested_has_the_same_means_and_is_adjusted_for_less():
    every = scored(None, run=replace(RUN, run_hypothesis_generator=0)).filter("is_eligible")
    some = scored(QUEUE).filter("is_eligible")
    both = some.join(every, on="hypothesis_id", suffix="_every")
    assert some.height == both.height > 40
    same = ["net_mean_train_bps", "t_train", "p_train", "ess_run", "p_validation"]
    assert_frame_equal(
        both.select(same), both.select(f"{name}_every" for name in same).rename(lambda n: n.removesuffix("_every"))
    )
    assert (both["multiplicity_penalty_bps"] < both["multiplicity_penalty_bps_every"]).all()


def test_a_planted_edge_is_found_through_the_queue():
    table = scored(QUEUE)
    assert "PROMOTE" == decide(table, candidates_of(planted(), table, RUN), run=RUN)["decision"][0]
    assert {SHOCK.value} == set(table.filter(pl.col("status") == "selected")["event_type"])


def test_without_obedience_the_queue_is_not_looked_at_and_nothing_has_a_rank():
    run = replace(RUN, run_hypothesis_generator=0)
    table = scored(HYPOTHESIS_QUEUE.empty(), run=run)
    assert len(declared_rules(run)) == table.height == table["queue_rank"].null_count()


def test_obedience_without_a_queue_is_refused():
    with pytest.raises(TableError, match="obeys the hypothesis queue, but there is none"):
        scored(None)


def test_r7_a_queue_that_asks_for_nothing_keeps_research_with_a_reason_and_is_no_crash():
    table = scored(queue_of())
    assert_frame_equal(HYPOTHESES.empty(), table)
    checklist = decide(table, candidates_of(planted(), table, RUN), run=RUN)
    assert {"KEEP_RESEARCH"} == set(checklist["decision"])
    assert not checklist["is_passed"].any()
    detail = checklist.filter(pl.col("gate") == "hypotheses_enumerated")["detail"][0]
    assert "the hypothesis queue of run w asks for 0 hypotheses over 13 families" == detail
    assert list_trials(table, "digest", run=RUN).is_empty()

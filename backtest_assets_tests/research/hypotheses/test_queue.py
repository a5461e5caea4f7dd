import json
from dataclasses import replace
from datetime import timedelta
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.domain.sensor import SENSING, Bucket, Role, Sensor, SensorDataset
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.queue import datasets, fusion, scores
from backtest_assets.research.hypotheses.queue.build import UNMAPPED, build_queue, describe_queue
from backtest_assets.research.hypotheses.queue.leaks import find_leaks
from backtest_assets.research.hypotheses.queue.mechanism import BUCKET_HOLDS, NegativeControl
from backtest_assets.research.hypotheses.queue.placebos import PHASE1_SCHEMA, read_phase1
from backtest_assets.research.hypotheses.queue.templates import TEMPLATES
from backtest_assets.tables.hypotheses import HYPOTHESIS_QUEUE
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of

MARKET = random_market(7)
RUN = MARKET.run
SHOCK, DESYNC = EventType.VOL_SHOCK_RELAXATION.value, EventType.CROSS_VENUE_DESYNC.value
NEVER = {SensorDataset.UM_L1_QUOTES, SensorDataset.UM_L1_TRADES, SensorDataset.EVENT_CALENDAR}


@cache
def queue():
    return build_queue(MARKET.features, phase1_of(), run=RUN)


def made(*, features=None, phase1=None, run=RUN, templates=TEMPLATES):
    phase1 = phase1_of() if phase1 is None else phase1
    return build_queue(MARKET.features if features is None else features, phase1, run=run, templates=templates)


def of(rows, family, **columns: str):
    return rows.filter(pl.col("event_type") == family, *(pl.col(name) == value for name, value in columns.items()))


def unknown(names, symbol=None):
    lost = pl.lit(value=True) if symbol is None else pl.col("symbol") == symbol
    return MARKET.features.with_columns(pl.when(~lost).then(name).alias(name) for name in names)


def test_every_template_and_family_has_a_row_and_every_family_something_queued():
    told = queue().filter(pl.col("source_kind") == "template").select("hypothesis_id", "event_type").rows()
    assert sorted(told) == sorted((one.id, family.value) for one in TEMPLATES for family in one.families)
    assert {family.value for family in EventType} == set(queue().filter(pl.col("status") == "QUEUED")["event_type"])
    assert queue().filter(pl.col("source_kind") == "family").is_empty()
    assert [] == HYPOTHESIS_QUEUE.violations(queue())["rule"].to_list()


def test_the_buckets_share_out_the_grid_of_holds():
    assert sorted(HOLD_GRID_BARS) == sorted(hold for bucket in Bucket for hold in BUCKET_HOLDS[bucket])


def test_the_declared_mechanisms_say_nothing_they_may_not_and_differ():
    leaks = {(one.sentence, family): find_leaks(one, family, run=RUN) for one in TEMPLATES for family in one.families}
    assert {(): len(leaks)} == {reason: list(leaks.values()).count(reason) for reason in leaks.values()}
    assert len({one.id for one in TEMPLATES}) == len(TEMPLATES) == len({one.sentence for one in TEMPLATES})
    assert {"T1", "T2", "T3", "T4", "T5"} == {one.name for one in TEMPLATES}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sentence": "Prices that fall far give a profit."}, "speaks of an outcome (profit)"),
        ({"consequence": "drawdown"}, "speaks of an outcome (drawdown)"),
        ({"sentence": "The um_funding of a crowd."}, "names a data set (um_funding)"),
        ({"controls": (NegativeControl.TIME_SHIFTED,)}, "fewer than 2 negative controls"),
        ({"controls": (NegativeControl.TIME_SHIFTED,) * 2}, "fewer than 2 negative controls"),
        ({"condition": "event_side_up"}, "condition event_side_up is none of vol_shock_relaxation"),
        ({"condition": "tomorrow"}, "condition tomorrow is none of"),
    ],
)
def test_a_mechanism_that_leaks_is_rejected_whatever_the_data(change, says):
    honest = next(one for one in TEMPLATES if one.families == (EventType.VOL_SHOCK_RELAXATION,))
    rows = made(templates=[replace(honest, **change)])
    (row,) = of(rows, SHOCK, source_kind="template").to_dicts()
    assert ("REJECTED", False) == (row["status"], row["is_tested"])
    assert says in row["reason"]


def test_an_outcome_is_a_whole_word():
    honest = next(one for one in TEMPLATES if one.families == (EventType.VOL_SHOCK_RELAXATION,))
    odd = replace(honest, sentence="In alphabetical order, lossless and regained.")
    assert () == find_leaks(odd, EventType.VOL_SHOCK_RELAXATION, run=RUN)


def test_content_is_the_share_of_bars_of_train_and_validation_on_which_a_value_is_known():
    start, end = RUN.splits[Split.TRAIN].start, RUN.splits[Split.VALIDATION].end
    inside = MARKET.features.filter(pl.col("known_at") > start, pl.col("known_at") <= end)
    n_bars = (end - start) // timedelta(minutes=15)
    found = datasets.measure_datasets(MARKET.features, run=RUN)
    columns = {"um_takers": "taker_imbalance", "spot_ohlcv": "basis_bps", "um_funding": "funding_rate"}
    for name, column in columns.items():
        shares = [inside.filter(pl.col("symbol") == s)[column].count() / n_bars for s in SYMBOLS]
        assert found[SensorDataset(name)].content == pytest.approx(sum(shares) / 2)
        assert (1.0, "") == (found[SensorDataset(name)].coverage, found[SensorDataset(name)].lack)
    assert NEVER == {name for name, one in found.items() if not one.is_available}


def test_what_lies_in_test_or_before_train_is_not_content():
    start, end = RUN.splits[Split.TRAIN].start, RUN.splits[Split.VALIDATION].end
    seen = pl.col("known_at").is_between(start, end, closed="right")
    blind = MARKET.features.with_columns(pl.when(~seen).then("basis_bps").alias("basis_bps"))
    assert blind["basis_bps"].count() > 0
    assert 0.0 == datasets.measure_datasets(blind, run=RUN)[SensorDataset.SPOT_OHLCV].content


def test_r7_a_data_set_of_half_the_symbols_counts_only_if_half_is_enough():
    features = unknown(["basis_bps"], symbol=SYMBOLS[1])
    assert {"NOT_RUN"} == set(of(made(features=features), DESYNC, source_kind="template")["status"])
    half = made(features=features, run=replace(RUN, hypothesis_min_symbol_coverage=0.5))
    assert {"QUEUED"} == set(of(half, DESYNC, source_kind="template")["status"])


def test_rows_that_are_missing_are_not_known():
    half = MARKET.features.filter(pl.col("symbol") == SYMBOLS[0])
    found = datasets.measure_datasets(half, run=RUN)
    assert 0.5 == found[SensorDataset.UM_OHLCV].coverage
    assert "1 of 2 symbols, 100% needed" in found[SensorDataset.UM_OHLCV].lack


def test_data_that_are_not_there_are_not_run_and_say_what_is_lacking():
    rows = made(features=unknown(["basis_bps"]))
    prices = datasets.measure_datasets(MARKET.features, run=RUN)[SensorDataset.UM_OHLCV].content
    for row in of(rows, DESYNC, source_kind="template").to_dicts():
        assert ("NOT_RUN", False) == (row["status"], row["is_tested"])
        assert 0.7 * prices / 2 == pytest.approx(row["observability"], abs=1e-4)
        assert "spot_ohlcv: known on at least 50% of the bars for 0 of 2 symbols" in row["reason"]
    (record,) = of(rows, DESYNC, source_kind="family").to_dicts()
    assert ("SKIPPED", False) == (record["status"], record["is_tested"])
    assert record["reason"].startswith("nothing queued: NOT_RUN spot_ohlcv")


def test_one_of_two_alternatives_is_enough_and_the_score_says_which():
    both, takers = queue(), made(features=unknown(["liquidated_long_quote", "liquidated_short_quote"]))
    mine = {"event_type": "vol_aftershock_window", "template_id": "T1"}
    (before,), (after,) = (r.filter(pl.col(k) == v for k, v in mine.items()).to_dicts() for r in (both, takers))
    assert "um_liquidations,um_takers,um_ohlcv" == before["required_datasets"]
    assert "um_takers,um_ohlcv" == after["required_datasets"]
    assert "QUEUED" == before["status"] == after["status"]
    assert after["observability"] < before["observability"]


def test_an_order_book_and_a_calendar_are_listed_and_never_run():
    rows = queue().filter(pl.col("status") == "NOT_RUN")
    assert {"T3", "T5"} == set(rows["template_id"])
    assert {"no source of this system has it"} == {reason.split(": ")[1] for reason in rows["reason"]}


def test_r7_data_sets_left_out_by_the_run_are_not_used():
    run = replace(RUN, hypothesis_datasets="um_ohlcv, um_funding")
    rows = made(run=run)
    queued = rows.filter(pl.col("status") == "QUEUED")
    assert {"um_ohlcv", "um_funding"} == {name for names in queued["required_datasets"] for name in names.split(",")}
    assert rows.filter(pl.col("source_kind") == "fusion").is_empty()  # nothing sets anything off
    (record,) = of(rows, DESYNC, source_kind="family").to_dicts()
    assert "left out by hypothesis_datasets um_ohlcv, um_funding" in record["reason"]


def test_fusions_are_every_fitting_choice_of_different_data_sets():
    present = [name for name in SensorDataset if name not in NEVER]
    fused = fusion.fuse_datasets(present)
    assert {"F1": 9, "F2": 7, "F3": 9, "F4": 2, "F5": 6} == {
        f.name: [m.name for m in fused].count(f.name) for f in fusion.FUSIONS
    }
    for one in fused:
        members = [name for (name,) in one.needs]
        assert len(set(members)) == len(members)
        assert not find_leaks(one, one.families[0], run=RUN)
    across = [one for one in fused if one.name == "F2"]
    assert all(len({SENSING[name].sensor for (name,) in one.needs}) == 2 for one in across)
    assert {Sensor.SYNCHRONIZATION, Sensor.FORCED_FLOW} == {
        SENSING[name].sensor for one in fused if one.name == "F4" for (name,) in one.needs
    }
    assert () == fusion.fuse_datasets([])


@pytest.mark.parametrize("most", [0, 5, 24, 1000])
def test_r7_no_more_are_fused_than_allowed_and_those_are_the_best(most):
    rows = made(run=replace(RUN, hypothesis_max_fused=most)).filter(pl.col("source_kind") == "fusion")
    kept, low = (rows.filter(pl.col("is_tested") == is_tested) for is_tested in (True, False))
    assert min(most, 33) == kept["hypothesis_id"].n_unique()
    assert {f"beyond the first {most} fused mechanisms (hypothesis_max_fused)"} >= set(low["reason"])
    if 0 < most < 33:
        assert min(kept["priority"].to_list()) >= max(low["priority"].to_list())


def test_a_freeze_lets_no_other_fused_mechanism_in():
    frozen = made(phase1=phase1_of(changed={"vol_aftershock_window": {"decision": "freeze"}}))
    for kind in ("fusion", "template"):
        tested = [rows.filter(pl.col("source_kind") == kind, "is_tested") for rows in (queue(), frozen)]
        first, second = (rows.select("hypothesis_id", "event_type") for rows in tested)
        assert_frame_equal(first, second, check_row_order=False)


def test_scores_are_roles_resolution_and_what_could_be_tested():
    assert 1.0 == scores.mechanism_coherence([SensorDataset.UM_TAKERS, SensorDataset.UM_OHLCV])
    assert 0.2 == scores.mechanism_coherence([SensorDataset.UM_FUNDING])
    assert 0.6 == scores.mechanism_coherence([SensorDataset.EVENT_CALENDAR])
    assert 0.0 == scores.mechanism_coherence([])
    assert 1.0 == sum(scores.ROLE_WEIGHTS[role] for role in Role)
    of_data = {
        name: datasets.Availability(name, content, 1.0, lack)
        for name, content, lack in ((SensorDataset.UM_TAKERS, 0.5, ""), (SensorDataset.UM_FUNDING, 1.0, "left out"))
    }
    assert 0.35 == scores.observability([SensorDataset.UM_TAKERS], of_data)
    assert 0.175 == scores.observability(list(of_data), of_data)
    assert 0.0 == scores.observability([], of_data)
    seen = [((True, True), 150), ((True, True), 900), ((True, False), 75), ((False, False), 0), ((), 150)]
    assert [1.0, 1.0, 0.5, 0.0, 0.5] == [scores.testability(run, n, enough=150.0) for run, n in seen]


def test_testability_differs_with_what_phase_1_could_run():
    few = made(phase1=phase1_of(changed={SHOCK: {"n_matched": 30}, DESYNC: {"shuffled_rejection_share": None}}))
    shown = {family: of(few, family, template_id=t)["testability"][0] for family, t in ((SHOCK, "T5"), (DESYNC, "T2"))}
    assert {SHOCK: 0.5 + 0.5 * 30 / 150, DESYNC: 0.75} == pytest.approx(shown)


def test_priority_is_the_mean_and_ranks_follow_it():
    for row in queue().to_dicts():
        parts = (row["mechanism_coherence"], row["observability"], row["testability"])
        assert row["priority"] == round(sum(parts) / 3, 4)
    ranked = queue().sort("rank")
    assert list(range(1, queue().height + 1)) == ranked["rank"].to_list()
    queued = ranked.filter(pl.col("status") == "QUEUED")
    assert queued["rank"].to_list() == list(range(1, queued.height + 1))
    assert queued["priority"].is_sorted(descending=True)


@pytest.mark.parametrize(
    ("changed", "status", "says", "is_tested"),
    [
        ({"p_placebo": 0.01}, "REJECTED", "time_shifted shows an effect: p 0.01, limit 0.01", False),
        ({"shuffled_rejection_share": 22 / 199}, "REJECTED", "label_shuffled shows an effect: p 0.0004491, limit 0.001", False),
        ({"p_placebo": 0.001, "decision": "freeze"}, "REJECTED", "time_shifted shows an effect", False),
        ({"p_placebo": None}, "NOT_RUN", "time_shifted not run on every ", False),
        ({"shuffled_rejection_share": None, "decision": "freeze"}, "NOT_RUN", "label_shuffled not run on every ", False),
        ({"decision": "freeze", "reason": "no metric differs"}, "SKIPPED", "phase 1 froze vol_shock_relaxation: no metric differs", True),
        ({"decision": "not_run", "reason": "12 events", "p_placebo": None, "shuffled_rejection_share": None}, "SKIPPED", "phase 1 did not run vol_shock_relaxation: 12 events", True),
        ({"p_placebo": 0.011}, "QUEUED", "", True),
        ({"shuffled_rejection_share": 21 / 199}, "QUEUED", "", True),
        ({"shuffled_rejection_share": 0.0}, "QUEUED", "", True),
    ],
)  # fmt: skip
def test_a_mechanism_is_queued_only_if_its_negative_controls_were_run_and_show_nothing(
    changed, status, says, is_tested
):
    rows = made(phase1=phase1_of(changed={SHOCK: changed}))
    mine = of(rows, SHOCK)
    out = pl.col("reason").str.contains("event_calendar|max_fused")
    claims = mine.filter(pl.col("source_kind") != "family", ~out)
    assert claims.height > 5
    assert {(status, is_tested)} == set(claims.select("status", "is_tested").rows())
    assert all(says in reason for reason in claims["reason"])
    assert (status != "QUEUED") == (mine.filter(pl.col("source_kind") == "family").height == 1)
    others = rows.filter(pl.col("event_type") != SHOCK).select("hypothesis_id", "event_type", "status")
    before = queue().filter(pl.col("event_type") != SHOCK).select("hypothesis_id", "event_type", "status")
    if is_tested:
        assert_frame_equal(before, others)


def with_one(metric, **numbers: float):
    """Phase 1 with other numbers of one metric of the volatility shocks."""
    hit = (pl.col("event_type") == SHOCK) & (pl.col("metric") == metric)
    return phase1_of().with_columns(
        pl.when(hit).then(value).otherwise(name).alias(name) for name, value in numbers.items()
    )


@pytest.mark.parametrize(
    ("metric", "rejected"),
    [
        ("realized_vol_sigmas", set()),
        ("tail_hit", set()),
        ("move_4_bars_bps", {"short"}),
        ("move_16_bars_bps", {"short"}),
        ("move_48_bars_bps", {"medium"}),
        ("move_96_bars_bps", {"medium"}),
    ],
)
def test_a_control_is_asked_of_the_moves_that_phase_2_would_trade(metric, rejected):
    for numbers in ({"p_placebo": 0.002}, {"shuffled_rejection_share": 0.2}):
        rows = of(made(phase1=with_one(metric, **numbers)), SHOCK)
        assert rejected == set(rows.filter(pl.col("status") == "REJECTED")["horizon_bucket"])
        assert {"short", "medium"} - rejected == set(rows.filter(pl.col("status") == "QUEUED")["horizon_bucket"])


def test_a_move_that_phase_1_does_not_have_is_a_control_not_run():
    phase1 = phase1_of().filter(pl.col("metric") != "move_16_bars_bps")
    rows = made(phase1=phase1)
    assert {"medium"} == set(rows.filter(pl.col("status") == "QUEUED")["horizon_bucket"])


def test_one_move_is_enough_to_reject_and_the_row_keeps_the_numbers():
    phase1 = with_one("move_16_bars_bps", p_placebo=0.002)
    row = of(made(phase1=phase1), SHOCK, template_id="T5").filter(pl.col("status") == "REJECTED").row(0, named=True)
    assert {
        "label_shuffled": {"limit": 0.001, "p": pytest.approx(stats.binom.sf(9, 199, 0.05)), "passed": True},
        "time_shifted": {"limit": 0.01, "p": 0.002, "passed": False},
    } == json.loads(row["negative_controls_json"])


def test_r7_a_family_that_no_mechanism_speaks_of_is_a_recorded_skip():
    without = [one for one in TEMPLATES if EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW not in one.families]
    (row,) = of(made(templates=without), "range_compression_breakout_window").to_dicts()
    assert ("family", "SKIPPED", False) == (row["source_kind"], row["status"], row["is_tested"])
    assert f"{UNMAPPED}: no mechanism speaks of it" == row["reason"]
    assert row["priority"] is None


def test_x8_an_unknown_event_family_is_unmapped_and_never_tested():
    rows = made(phase1=phase1_of([*EventType, "moon_phase"]))
    (row,) = of(rows, "moon_phase").to_dicts()
    assert ("SKIPPED", False, f"{UNMAPPED}: the run has no family of this name") == (
        row["status"], row["is_tested"], row["reason"]
    )  # fmt: skip


def test_without_phase_1_nothing_is_queued_and_every_family_is_recorded():
    rows = made(phase1=pl.DataFrame(schema=PHASE1_SCHEMA))
    assert not rows["is_tested"].any()
    assert len(EventType) == rows.filter(pl.col("source_kind") == "family").height
    assert "no negative control was run" in of(rows, SHOCK, source_kind="family")["reason"][0]


def test_a_run_that_enumerates_one_family_has_the_queue_of_all():
    assert_frame_equal(queue(), made(run=replace(RUN, phase2_event_type=DESYNC)), check_exact=True)


@pytest.mark.parametrize("decisions", [["pass", "freeze"], ["maybe"], [None]])
def test_phase_1_of_two_minds_is_refused(decisions):
    rows = pl.concat([phase1_of([SHOCK], {SHOCK: {"decision": decision}}) for decision in decisions])
    with pytest.raises(TableError, match="vol_shock_relaxation is decided"):
        read_phase1(rows)


def test_the_order_of_the_inputs_changes_nothing():
    mixed = (frame.sample(fraction=1, shuffle=True, seed=3) for frame in (MARKET.features, phase1_of()))
    assert_frame_equal(queue(), build_queue(*mixed, run=RUN))


def test_ids_are_of_the_content_and_not_of_the_run():
    other = made(run=replace(RUN, run_id="other", phase2_min_ess=10.0))
    assert set(queue()["hypothesis_id"]) == set(other["hypothesis_id"])
    one = TEMPLATES[0]
    assert one.id != replace(one, condition=None).id
    assert one.id != replace(one, bucket=Bucket.MEDIUM).id


def test_the_operator_is_told_whether_the_queue_is_obeyed_and_what_leads_it():
    told = describe_queue(queue(), run=RUN)
    assert "not obeyed: run_hypothesis_generator 0" == told["obeyed"]
    assert "QUEUED 74, REJECTED 0, SKIPPED 11, NOT_RUN 4" == told["by_status"]
    assert told["top"].startswith("1. F5 liquidity_absence_window short vol_regime_high (0.9")
    assert (
        "yes: run_hypothesis_generator 1"
        == describe_queue(queue(), run=replace(RUN, run_hypothesis_generator=1))["obeyed"]
    )
    assert "nothing is queued" == describe_queue(HYPOTHESIS_QUEUE.empty(), run=RUN)["top"]


def test_conditions_of_mechanisms_are_asked_of_families_that_have_them():
    for one in TEMPLATES:
        if one.condition:
            assert all(Condition(one.condition) in Condition.declared(family, SYMBOLS) for family in one.families)

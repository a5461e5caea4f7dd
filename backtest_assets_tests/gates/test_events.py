from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.domain.split import Split
from backtest_assets.gates.detected import unlike_detected
from backtest_assets.gates.events import (
    FEW_EVENTS,
    GATES_EVENT_CANDIDATES,
    GATES_EVENT_CONTROLS,
    GATES_EVENT_FAMILIES,
)
from backtest_assets.gates.exceeded import unlike_thresholds
from backtest_assets.gates.matched import unlike_matches
from backtest_assets.gates.triggers import untrue_triggers
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.phase1.criteria import MIN_MATCHED
from backtest_assets.tables.contract import INSTANT
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, verdict, with_inputs

EVENTS = honest("event_candidates", market().candidates)
CONTROLS = honest("event_controls", market().controls)
FUNNEL = honest("event_families", summarise_families(market().candidates, market().features, run=market().run))
CENTRE = pl.col("variant") == "centre"
SATURDAY = pl.col("event_known_at").dt.weekday() == 6
TRAIN, VALIDATION = (market().run.splits[split] for split in (Split.TRAIN, Split.VALIDATION))


def events(**columns: pl.Expr):
    return replace(EVENTS, frame=EVENTS.frame.with_columns(**columns))


def controls(**columns: pl.Expr):
    return replace(CONTROLS, frame=CONTROLS.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_events_but_for_the_remarks_that_a_young_market_deserves():
    assert {"few_events"} == red(GATES_EVENT_CANDIDATES, EVENTS)
    assert set() == red(GATES_EVENT_FAMILIES, FUNNEL)
    assert {"without_control"} == red(GATES_EVENT_CONTROLS, CONTROLS)


@pytest.mark.parametrize("gate", GATES_EVENT_CANDIDATES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_events_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVENTS)[case]).verdict.passed


@pytest.mark.parametrize("gate", GATES_EVENT_CONTROLS, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_controls_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(CONTROLS)[case]).verdict.passed


def test_no_controls_are_legal_only_where_there_is_no_event():
    none = with_inputs(
        replace(CONTROLS, frame=CONTROLS.frame.clear()),
        event_registry=market().events.clear(),
    )
    assert set() == red(GATES_EVENT_CONTROLS, none)


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"known_at": pl.col("known_at") + timedelta(days=200)}, "known_in_data"),
        ({"exit_at": pl.col("known_at") - BAR}, "known_in_data"),
        ({"event_id": pl.lit("0123456789abcdef")}, "ids_reproducible"),
        ({"symbol": pl.lit("SYNAUSDT")}, "ids_reproducible"),
        ({"threshold": -pl.col("threshold")}, "values_sane"),
        ({"severity": pl.lit(float("nan"))}, "values_sane"),
        ({"status": pl.lit("fine")}, "values_sane"),
        ({"quality": pl.lit(0.1)}, "values_sane"),
        ({"measure": pl.lit("volume")}, "measure_declared"),
        ({"measure": pl.lit("range")}, "measure_declared"),
        ({"measure": pl.lit(None, pl.String)}, "measure_declared"),
        ({"severity": pl.col("severity") * 1.01}, "triggers_true"),
        ({"side": -pl.col("side")}, "triggers_true"),
        ({"onset_at": pl.col("onset_at") - BAR}, "shocks_recounted"),
        ({"threshold": pl.col("threshold") * 1.001}, "thresholds_recounted"),
        ({"threshold": pl.lit(None, pl.Float64)}, "thresholds_recounted"),
        ({"variant": pl.lit("rate_plus")}, "thresholds_recounted"),
        ({"status": pl.lit("accepted")}, "spaced"),
        ({"threshold": pl.col("threshold") * 1.01}, "prefix_invariant"),
    ],
)
def test_each_falsehood_about_events_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_CANDIDATES, events(**columns))


def test_a_red_check_shows_the_event_the_column_and_both_values():
    row = EVENTS.frame.row(7, named=True)
    hit = pl.col("event_id") == row["event_id"]
    wrong = events(threshold=pl.when(hit).then(pl.col("threshold") * 2).otherwise("threshold"))
    (trigger,) = verdict(GATES_EVENT_CANDIDATES, wrong, "triggers_true").examples
    assert (row["event_id"], row["symbol"], 2 * row["threshold"]) == (
        trigger["event_id"],
        trigger["symbol"],
        trigger["threshold"],
    )
    doubled = verdict(GATES_EVENT_CANDIDATES, events(threshold=pl.col("threshold") * 2), "prefix_invariant")
    (shocks,) = (line for line in doubled.examples if line["family"] == "vol_shock_relaxation")
    stored, again = str(shocks["example"]).rpartition("threshold ")[2].split(" -> ")
    assert float(stored) == 2 * float(again)


def test_a_red_check_says_whether_a_candidate_is_stored_only_or_made_again_only():
    row = EVENTS.frame.filter(CENTRE, pl.col("event_type") == "vol_shock_relaxation").row(0, named=True)
    lost = replace(EVENTS, frame=EVENTS.frame.filter(pl.col("event_id") != row["event_id"]))
    renamed = events(event_id=pl.col("event_id").replace(row["event_id"], "stranger"))
    (example, *_) = verdict(GATES_EVENT_CANDIDATES, lost, "shocks_recounted").examples
    assert ("only when made again", row["symbol"]) == (example["differs"], example["symbol"])
    (stranger,) = verdict(GATES_EVENT_CANDIDATES, renamed, "ids_reproducible").examples
    assert "stranger" == stranger["event_id"]


def test_a_candidate_that_was_left_out_is_missed():
    half = EVENTS.frame.filter(pl.col("event_type") == "vol_shock_relaxation").head(1)
    lost = replace(EVENTS, frame=EVENTS.frame.join(half, on="event_id", how="anti"))
    assert {"shocks_recounted"} <= red(GATES_EVENT_CANDIDATES, lost)


def of_family(family: EventType):
    return replace(EVENTS, frame=EVENTS.frame.filter(pl.col("event_type") == family.value))


@pytest.mark.parametrize("family", list(EventType))
def test_every_trigger_of_every_family_is_true(family):
    own = of_family(family) if family is not EventType.VOL_AFTERSHOCK_WINDOW else EVENTS
    assert {family.value} <= set(own.frame["event_type"])
    assert 0 == untrue_triggers(own).height


FALSE = {
    "severity": pl.col("severity") * 1.01,
    "threshold": pl.col("threshold") * 1.01,
    "onset a bar early": pl.col("onset_at") - BAR,
    "known a bar late": pl.col("known_at") + BAR,
    "side": -pl.col("side"),
}


LIES = [
    (family, lie)
    for family in EventType
    for lie in FALSE
    # a breakout's severity is in rv_96: what its threshold was is asked by prefix_invariant
    if (family, lie) != (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, "threshold")
]


@pytest.mark.parametrize(("family", "lie"), LIES)
def test_no_tampered_candidate_of_any_family_passes_for_true(family, lie):
    own = of_family(family)
    tampered = own.frame.with_columns(FALSE[lie])
    n_false = 0 if lie == "side" and not family.is_sided else tampered.height
    told = untrue_triggers(replace(own, frame=tampered)).height
    assert n_false == told


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (EventType.LIQUIDITY_ABSENCE_WINDOW, "base_x_close"),
        (EventType.LIQUIDITY_ABSENCE_WINDOW, "volatility"),
        (EventType.LIQUIDITY_VACUUM, "base_x_close"),
        (EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW, "log_return"),
    ],
)
def test_a_declared_measure_that_is_not_the_one_the_bar_has_is_untrue(family, said):
    own = of_family(family).frame
    n_of_others = own.filter(pl.col("measure") != said).height
    lied = own.with_columns(measure=pl.lit(said))
    assert 0 < n_of_others == untrue_triggers(replace(EVENTS, frame=lied)).height


RECOUNTED = [f for f in EventType if f not in (EventType.VOL_SHOCK_RELAXATION, EventType.VOL_AFTERSHOCK_WINDOW)]


@pytest.mark.parametrize("family", RECOUNTED)
def test_a_threshold_of_any_family_that_its_past_does_not_give_is_found(family):
    assert 0 == unlike_thresholds(EVENTS).height
    of_it = pl.col("event_type") == family.value
    wrong = events(threshold=pl.col("threshold") * pl.when(of_it).then(1 + 1e-6).otherwise(1.0))
    sampled = unlike_thresholds(wrong).filter(pl.col("threshold").is_not_null())
    assert {family.value} == set(sampled["event_type"])
    assert min(64, EVENTS.frame.filter(of_it).height) == sampled.height


@pytest.mark.parametrize(
    "family",
    [
        EventType.LIQUIDITY_ABSENCE_WINDOW, EventType.LIQUIDITY_REFILL_LAG_WINDOW, EventType.CROSS_VENUE_DESYNC,
        EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
    ],
)  # fmt: skip
def test_a_family_that_passes_its_bars_over_is_found(family):
    lost = replace(EVENTS, frame=EVENTS.frame.filter(pl.col("event_type") != family.value))
    missed = unlike_thresholds(lost)
    assert {family.value} == set(missed["event_type"])
    known = EVENTS.frame.filter(CENTRE, pl.col("event_type") == family.value)
    assert missed.height == missed.join(known, on=["symbol", "onset_at"], how="semi").height


def without_last(family: EventType):
    own = EVENTS.frame.filter(CENTRE, pl.col("event_type") == family.value)
    return replace(EVENTS, frame=EVENTS.frame.filter(~CENTRE | (pl.col("event_id") != own["event_id"][-1])))


@pytest.mark.parametrize(
    "family",
    [
        EventType.VOL_AFTERSHOCK_WINDOW, EventType.FUNDING_EXTREME_ONSET, EventType.FUNDING_ACCELERATION,
        EventType.LIQUIDITY_REFILL_LAG_WINDOW, EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW,
    ],
)  # fmt: skip
def test_a_candidate_left_out_of_a_family_whose_bars_nobody_samples_is_found_by_detecting_again(family):
    assert {"detected_again"} == red(GATES_EVENT_CANDIDATES, without_last(family)) - {"few_events"}


@pytest.mark.parametrize("family", list(EventType))
def test_a_single_candidate_left_out_of_any_family_is_named(family):
    (lost,) = unlike_detected(without_last(family)).to_dicts()
    assert (family.value, "centre", "only when made again") == (lost["event_type"], lost["variant"], lost["differs"])


def test_candidates_of_the_rate_that_is_drawn_are_compared_too_and_all_that_decides_of_them():
    assert 0 == unlike_detected(EVENTS).height
    for variant in ("rate_minus", "rate_plus"):
        fewer = replace(EVENTS, frame=EVENTS.frame.filter(pl.col("variant") != variant))
        found = unlike_detected(fewer)
        assert {variant} == set(found["variant"])
        assert 0 < found["event_type"].n_unique() < len(EventType)
    for name, lie in {
        "known_at": pl.col("known_at") + BAR, "exit_at": pl.col("exit_at") + BAR, "quality": pl.col("quality") - 1e-6,
        "status": pl.lit("cooldown"), "severity": pl.col("severity") * (1 + 1e-6),
    }.items():  # fmt: skip
        hit = (pl.col("event_type") == "funding_acceleration") & CENTRE & (pl.col("status") == "accepted")
        altered = unlike_detected(events(**{name: pl.when(hit).then(lie).otherwise(pl.col(name))}))
        n_altered = EVENTS.frame.filter(hit, pl.col(name).is_not_null()).height
        assert n_altered == altered.filter(pl.col("differs").str.starts_with(name)).height == altered.height


def test_a_candidate_that_nothing_gives_is_found():
    row = EVENTS.frame.filter(CENTRE, pl.col("event_type") == "funding_acceleration").head(1)
    invented = row.with_columns(onset_at=pl.col("onset_at") + BAR, event_id=pl.lit("0123456789abcdef"))
    (found,) = unlike_detected(replace(EVENTS, frame=pl.concat([EVENTS.frame, invented]))).to_dicts()
    assert ("only stored", invented["onset_at"][0]) == (found["differs"], found["onset_at"])


def test_few_events_are_a_remark_that_names_the_family_and_its_count():
    verdict = answer(GATES_EVENT_CANDIDATES[-1], EVENTS)
    assert (11, False) == (verdict.verdict.observed, verdict.blocks)
    counts = EVENTS.frame.filter(CENTRE, pl.col("status") == "accepted").group_by("event_type").len()
    shocks = counts.filter(pl.col("event_type") == "vol_shock_relaxation")["len"][0]
    assert shocks < FEW_EVENTS
    assert f"vol_shock_relaxation has {shocks}" in verdict.verdict.detail


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"known_at": pl.col("known_at") - timedelta(days=273)}, "of_the_past"),
        ({"known_at": pl.col("event_known_at")}, "of_the_past"),
        ({"known_at": pl.col("known_at") + timedelta(hours=1)}, "of_the_past"),
        ({"known_at": pl.col("known_at") - timedelta(days=2)}, "of_the_past"),
        ({"event_id": pl.lit("0123456789abcdef")}, "of_the_past"),
        ({"known_at": pl.col("event_known_at") - 4 * BAR}, "outside_events"),
        ({"known_at": pl.col("known_at").first().over("symbol")}, "not_overused"),
        ({"known_at": pl.col("known_at").first().over("symbol") + BAR * (pl.int_range(pl.len()) % 8)}, "not_overused"),
        ({"control_no": pl.lit(2, pl.Int16)}, "not_overused"),
        ({"control_rv_pct": pl.col("event_rv_pct")}, "comparable"),
        ({"event_rv_pct": pl.col("event_rv_pct") + 0.01}, "comparable"),
        ({"event_rv_pct": pl.lit(float("nan"))}, "comparable"),
        ({"control_rv_pct": pl.col("event_rv_pct") + 0.2}, "comparable"),
        ({"control_rv_pct": pl.lit(float("nan"))}, "balanced"),
    ],
)
def test_each_falsehood_about_controls_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_CONTROLS, controls(**columns))


def test_a_control_in_the_life_of_another_familys_event_or_in_the_days_around_one_of_its_own_is_found():
    (outside,) = (gate for gate in GATES_EVENT_CONTROLS if gate.name == "outside_events")
    event = CONTROLS.frame.row(0, named=True)
    known = CONTROLS.inputs["event_registry"].filter(
        CENTRE, pl.col("symbol") == event["symbol"], pl.col("known_at") <= event["event_known_at"]
    )
    other = known.filter(pl.col("event_type") != event["event_type"], pl.col("exit_at") < event["event_known_at"])
    own = known.filter(pl.col("event_type") == event["event_type"])
    moved = [
        other["onset_at"][-1],
        other["exit_at"][-1] + 16 * BAR,
        own["onset_at"][-1] - 95 * BAR,
    ]
    for at in moved:
        one = CONTROLS.frame.head(1).with_columns(known_at=pl.lit(at))
        assert not answer(outside, replace(CONTROLS, frame=one)).verdict.passed
    later = replace(CONTROLS, frame=CONTROLS.frame.head(1).with_columns(event_known_at=known["known_at"].min()))
    assert answer(outside, later).verdict.passed  # what was not known when it was matched binds nobody


LAST = pl.col("control_no") == pl.col("control_no").max().over("event_id")
LEFT_OUT = {
    "one control of one event": pl.col("event_id") == CONTROLS.frame.filter(LAST)["event_id"][5],
    "a tenth of them": pl.struct("event_id").hash(3) % 10 == 0,
    "those of a family": pl.col("event_type") == "vol_shock_relaxation",
}


@pytest.mark.parametrize("lie", LEFT_OUT)
def test_controls_left_out_are_found_however_few(lie):
    fewer = CONTROLS.frame.filter(~(LAST & LEFT_OUT[lie]))
    n_events = CONTROLS.frame["event_id"].n_unique()
    assert 0 < CONTROLS.frame.height - fewer.height < 0.3 * n_events
    left = replace(CONTROLS, frame=fewer)
    assert {"matched_again"} == red(GATES_EVENT_CONTROLS, left) - {"without_control"}
    told = unlike_matches(left)
    lost = CONTROLS.frame.join(fewer, on=["event_id", "control_no"], how="anti")
    assert set(lost["event_id"]) <= set(told["event_id"])  # what they used is free for others


def test_a_control_that_is_as_good_as_another_but_not_the_nearest_is_found():
    for row in CONTROLS.frame.filter(pl.col("control_no") == 1).sample(5, seed=1).iter_rows(named=True):
        others = CONTROLS.frame.filter(pl.col("event_id") == row["event_id"])
        (own,) = market().events.filter(pl.col("event_id") == row["event_id"], CENTRE).iter_rows(named=True)
        lag = own["known_at"] - own["onset_at"].replace(
            minute=own["onset_at"].minute // 15 * 15, second=0, microsecond=0
        )
        ranks = (
            market()
            .features.filter(pl.col("symbol") == row["symbol"])
            .select(known_at=pl.col("known_at") + lag, rank="rv_pct_2880")
        )
        elsewhere = ranks.filter(pl.col("known_at") == row["known_at"] - BAR)
        moved = others.with_columns(
            known_at=pl.when(pl.col("control_no") == 1).then(pl.col("known_at") - BAR).otherwise("known_at"),
            control_rv_pct=pl.when(pl.col("control_no") == 1).then(elsewhere["rank"][0]).otherwise("control_rv_pct"),
        )
        rest = CONTROLS.frame.filter(pl.col("event_id") != row["event_id"])
        told = unlike_matches(replace(CONTROLS, frame=CONTROLS.table.conform(pl.concat([rest, moved]))))
        assert row["event_id"] in set(told["event_id"])


def test_controls_of_no_event_are_found():
    stranger = CONTROLS.frame.head(1).with_columns(event_id=pl.lit("nobody"))
    told = unlike_matches(replace(CONTROLS, frame=pl.concat([CONTROLS.frame, stranger])))
    assert ["nobody"] == told["event_id"].to_list()


def test_nothing_is_matched_again_on_a_grid_with_holes():
    (gate,) = (gate for gate in GATES_EVENT_CONTROLS if gate.name == "matched_again")
    holed = with_inputs(CONTROLS, bars_um=market().bars.filter(pl.col("open_at").dt.day() != 20))
    verdict = answer(gate, holed).verdict
    assert not verdict.passed
    assert "leave out an instant" in verdict.detail


def matched(family: str, n: int, *, apart: float, first=TRAIN.start, **columns: pl.Expr) -> pl.DataFrame:
    """Sets of one control each, of ranks from 0.2 to 0.8, at another hour of another day each."""
    rows = pl.DataFrame({"i": range(n)}).with_columns(
        event_id=pl.format("{}-{}-{}", pl.lit(family), pl.lit(f"{first:%j}"), "i"), control_no=pl.lit(1, pl.Int16), event_type=pl.lit(family),
        symbol=pl.lit("SYNAUSDT"), side=pl.lit(0, pl.Int8),
        event_known_at=pl.lit(first) + (timedelta(hours=5) * pl.col("i")),
        event_rv_pct=0.2 + 0.6 * pl.col("i") / max(n - 1, 1),
    )  # fmt: skip
    told = rows.with_columns(
        known_at=pl.col("event_known_at") - timedelta(days=7), control_rv_pct=pl.col("event_rv_pct") - apart
    )
    return CONTROLS.table.conform(told.with_columns(**columns).drop("i"))


def balance(*frames: pl.DataFrame):
    return verdict(GATES_EVENT_CONTROLS, replace(CONTROLS, frame=pl.concat(frames)), "balanced")


def test_balance_is_judged_on_train_even_if_validation_makes_up_for_it():
    fair = matched("fair", 40, apart=0.0)
    after = matched("biased", 40, apart=-0.1, first=VALIDATION.start)
    told = balance(fair, matched("biased", 40, apart=0.1), after)
    sd = float(np.std(0.2 + 0.6 * np.arange(40) / 39, ddof=1))
    assert told.observed == pytest.approx(0.1 / sd)
    assert not told.passed
    assert "biased, volatility rank on train, 40 matched events" in told.detail


def test_balance_is_judged_on_all_splits_too_and_of_every_family():
    after = matched("late", 80, apart=0.2, first=VALIDATION.start)
    assert "late, volatility rank on all splits, 110 matched" in balance(after, matched("late", 30, apart=0)).detail
    assert not balance(*(matched(f"fair_{i}", 200, apart=0.0) for i in range(3)), matched("few", 30, apart=0.1)).passed


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"known_at": pl.col("known_at").dt.offset_by("-5h")}, "hour"),
        (
            {"known_at": pl.col("known_at") - pl.when(SATURDAY).then(timedelta(days=1)).otherwise(timedelta(0))},
            "weekend",
        ),
        ({"known_at": pl.lit(None, INSTANT)}, "unknown"),
        ({"control_rv_pct": pl.lit(float("nan"))}, "unknown"),
    ],
)
def test_balance_is_of_whatever_is_matched_and_closed_where_it_is_unknown(columns, named):
    told = balance(matched("family", 60, apart=0.0, **columns))
    assert not told.passed
    assert named in told.detail


def test_a_family_that_phase_1_cannot_run_is_not_judged_and_one_that_it_can_is():
    few, enough = (matched("family", n, apart=0.2) for n in (MIN_MATCHED - 1, MIN_MATCHED))
    told = balance(few)
    assert (told.observed, told.passed) == (0.0, True)
    assert "so phase 1 runs none" in told.detail
    assert not balance(few, enough.with_columns(event_type=pl.lit("other"))).passed
    assert not balance(matched("alike", 40, apart=0.1, event_rv_pct=pl.lit(0.5))).passed
    assert balance(matched("alike", 40, apart=0.0, event_rv_pct=pl.lit(0.5), control_rv_pct=pl.lit(0.5))).passed


def test_events_without_control_are_a_remark_with_their_share():
    centre = market().events.filter(CENTRE)
    alone = centre.height - CONTROLS.frame["event_id"].n_unique()
    found = answer(GATES_EVENT_CONTROLS[-1], CONTROLS)
    assert (alone / centre.height, False) == (found.verdict.observed, found.blocks)
    bare = centre.join(CONTROLS.frame, on="event_id", how="anti").sort("known_at", descending=True)
    told = [(row["event_type"], row["symbol"], row["known_at"]) for row in found.verdict.examples]
    assert 5 == len(set(told))
    assert [one.isoformat() for one in bare["known_at"].head(5)] == [at for *_, at in told]
    every = bare.select("event_type", "symbol", pl.col("known_at")).rows()
    assert set(told) <= {(family, symbol, at.isoformat()) for family, symbol, at in every}
    served = with_inputs(CONTROLS, event_registry=market().events.join(CONTROLS.frame, on="event_id", how="semi"))
    assert answer(GATES_EVENT_CONTROLS[-1], served).verdict.passed


def funnel(**columns: pl.Expr):
    return replace(FUNNEL, frame=FUNNEL.frame.with_columns(**columns))


@pytest.mark.parametrize("gate", GATES_EVENT_FAMILIES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_the_funnel_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(FUNNEL)[case]).verdict.passed


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"event_type": pl.lit("vol_shock_relaxation")}, "every_family_told"),
        ({"symbol": pl.lit("SYNAUSDT")}, "every_family_told"),
        ({"n_candidates": pl.col("n_candidates") + 1}, "fates_add_up"),
        ({"n_accepted": pl.col("n_cooldown"), "n_cooldown": pl.col("n_accepted")}, "fates_add_up"),
        ({"n_accepted": pl.lit(None, pl.Int64)}, "fates_add_up"),
        ({"status": pl.lit("NOT_RUN")}, "every_family_run"),
        ({"status": pl.lit("NOT_RUN")}, "known_recounted"),
        ({"known_frac": pl.col("known_frac") * 0.999}, "known_recounted"),
        ({"known_frac": pl.lit(None, pl.Float64)}, "known_recounted"),
        ({"measure": pl.lit("range")}, "known_recounted"),
        ({"measure": pl.lit(None, pl.String)}, "known_recounted"),
        ({"measure_frac": pl.col("measure_frac") - 0.001}, "known_recounted"),
        ({"status": pl.lit("fine")}, "every_family_run"),
    ],
)
def test_each_falsehood_about_the_funnel_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_FAMILIES, funnel(**columns))


def test_what_is_known_after_train_is_no_part_of_the_recount_and_what_train_lacks_is():
    (known,) = (gate for gate in GATES_EVENT_FAMILIES if gate.name == "known_recounted")
    for since, until, passed in ((TRAIN.end, market().run.window[1], True), (TRAIN.start, TRAIN.end, False)):
        lacks = pl.col("known_at").is_between(since, until, closed="left")
        features = market().features.with_columns(basis_z_96=pl.when(~lacks).then("basis_z_96"))
        assert passed == answer(known, with_inputs(FUNNEL, features=features)).verdict.passed


def test_a_family_left_out_or_told_twice_is_found():
    for frame in (FUNNEL.frame.head(-1), pl.concat([FUNNEL.frame, FUNNEL.frame.head(1)])):
        assert "every_family_told" in red(GATES_EVENT_FAMILIES, replace(FUNNEL, frame=frame))


def test_a_family_that_is_not_run_is_a_remark_with_its_reason():
    without_basis = market().features.with_columns(basis_z_96=pl.lit(None, pl.Float64))
    rest = EVENTS.frame.filter(pl.col("event_type") != EventType.CROSS_VENUE_DESYNC.value)
    told = summarise_families(rest, without_basis, run=market().run)
    evidence = with_inputs(replace(FUNNEL, frame=told), event_candidates=rest, features=without_basis)
    assert {"every_family_run"} == red(GATES_EVENT_FAMILIES, evidence)
    remark = answer(GATES_EVENT_FAMILIES[-1], evidence)
    assert (2, False) == (remark.verdict.observed, remark.blocks)
    assert "cross_venue_desync on SYNBUSDT: basis_z_96 known on 0.0%" in remark.verdict.detail

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.domain.split import Split
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.phase1.criteria import METRICS, MIN_PLACEBOS, PLACEBO_WEEKS
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.placebo import placebo_sets, train_events, train_view
from backtest_assets.research.phase1.sets import Measured, matched_sets
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(7, 900)  # long enough for placebos apart from true events
SHORT = random_market(7, 420)
TRAIN = MARKET.run.splits[Split.TRAIN]
MEASURED = Measured(MARKET.outcomes, MARKET.barriers, MARKET.controls)
FAMILIES = summarise_families(MARKET.candidates, MARKET.features, run=MARKET.run)


@cache
def evidence() -> pl.DataFrame:
    return weigh_families(MEASURED, MARKET.events, FAMILIES, MARKET.view, run=MARKET.run)


def slow_values(event: dict[str, object], number: int) -> list[float | None]:
    """The seven numbers of one event or control, from its rows alone."""
    own = (pl.col("event_id") == event["event_id"]) & (pl.col("control_no") == number)
    rows = {
        row["hold_bars"]: row
        for row in MARKET.outcomes.filter(own, pl.col("delay_bars") == 0, pl.col("variant") == "centre").to_dicts()
    }
    (tail,) = MARKET.barriers.filter(own).to_dicts() or [None]
    day = rows.get(96)
    side = event["side"] if EventType(event["event_type"]).is_sided else 1
    hit = (
        None
        if tail is None or tail["ends_early"]
        else float(tail["up_bars"] is not None or tail["down_bars"] is not None)
    )
    moves = [
        side * (rows[hold]["gross_bps"] - rows[hold]["funding_bps"]) if hold in rows else None
        for hold in (4, 16, 48, 96)
    ]
    if day is None:
        return [None, None, None, *moves]
    sigma = None if tail is None else tail["barrier_bps"]
    vol = None if sigma is None or day["realized_vol_bps"] is None else day["realized_vol_bps"] * 96**0.5 / sigma
    return [vol, None if sigma is None else (day["highest_bps"] - day["lowest_bps"]) / sigma, hit, *moves]


def test_matched_sets_hold_what_a_slow_reader_finds():
    sets = matched_sets(MEASURED)
    known = MARKET.outcomes.filter(
        pl.col("split") == "train", pl.col("control_no") == 0, pl.col("variant") == "centre",
        pl.col("delay_bars") == 0, pl.col("hold_bars").is_in([4, 16, 48, 96]),
    )  # fmt: skip
    assert set(known["event_type"]) == set(sets)
    controls = MARKET.controls.group_by("event_id").agg("control_no", rank=pl.col("event_rv_pct").first())
    numbers = {row["event_id"]: row for row in controls.to_dicts()}
    for family in ("liquidity_absence_window", "funding_extreme_onset"):
        events = train_events(MARKET.events, run=MARKET.run).filter(pl.col("event_type") == family)
        events = events.join(known, on="event_id", how="semi").sort("known_at", "symbol", "event_id")
        assert events.height > 10
        assert events.height == sets[family].days.size
        for i, event in enumerate(events.iter_rows(named=True)):
            has = numbers.get(event["event_id"], {"control_no": [], "rank": None})
            expected = [slow_values(event, k) if k in (0, *has["control_no"]) else [None] * 7 for k in range(4)]
            found = [[None if np.isnan(x) else x for x in member] for member in sets[family].values[i]]
            assert [pytest.approx(member) for member in expected] == found
            assert (event["known_at"] - event["known_at"].replace(1970, 1, 1, 0, 0)).days == sets[family].days[i]
            assert event["known_at"].year == sets[family].years[i]
            monday = event["known_at"].date() - timedelta(days=event["known_at"].weekday())
            assert monday == date(1970, 1, 1) + timedelta(days=-7 * int(sets[family].clusters[i, 0] + 1) - 3)
            assert 3 * [sets[family].clusters[i, 0]] + 4 * [sets[family].days[i]] == sets[family].clusters[i].tolist()
            third = -1 if has["rank"] is None else int(has["rank"] > 1 / 3) + int(has["rank"] > 2 / 3)
            assert third == sets[family].regimes[i]


def test_every_family_and_metric_has_a_row_and_one_decision():
    table = evidence()
    assert table.height == len(MARKET.run.event_types) * len(METRICS)
    assert table.group_by("event_type").agg(pl.col("decision").n_unique())["decision"].max() == 1
    assert {"not_run", "freeze", "pass"} >= set(table["decision"])
    judged = table.filter(pl.col("decision") != "not_run")
    assert judged.height > 0
    assert judged.null_count().sum_horizontal().item() == 0
    assert judged["n_placebos"].is_between(MIN_PLACEBOS, len(PLACEBO_WEEKS)).all()
    assert (judged["placebo_clusters_effective"] > 1).all()
    unjudged = table.filter(pl.col("decision") == "not_run")
    assert unjudged["z"].null_count() == unjudged.height > 0
    few = table["ground"].is_in(["unsupported", "few_matched"])
    assert table["n_placebos"].is_null().equals(few)


def test_a_family_with_too_few_placebos_says_how_many_there_were(monkeypatch):
    monkeypatch.setattr("backtest_assets.research.phase1.criteria.MIN_PLACEBOS", 9)
    table = weigh_families(MEASURED, MARKET.events, FAMILIES, MARKET.view, run=MARKET.run)
    weighed = table.filter(pl.col("ground") == "few_placebos")
    assert {"not_run"} == set(weighed["decision"])
    assert weighed["z"].null_count() == weighed.height > 0
    for n, reason in weighed.select("n_placebos", "reason").iter_rows():
        assert f"{n} of 8 shifts could be compared and tested, 9 are needed" == reason


def test_the_same_seed_gives_the_same_table_whatever_the_order_of_rows_and_the_other_families():
    mixed = Measured(
        *(f.sample(fraction=1, shuffle=True, seed=5) for f in (MARKET.outcomes, MARKET.barriers, MARKET.controls))
    )
    events = MARKET.events.sample(fraction=1, shuffle=True, seed=6)
    assert_frame_equal(evidence(), weigh_families(mixed, events, FAMILIES, MARKET.view, run=MARKET.run), rel_tol=1e-9)


def test_nothing_after_train_is_looked_at():
    before = pl.col("open_at") < TRAIN.end
    view = MarketView(
        MARKET.bars.filter(before),
        MARKET.features.filter(before),
        MARKET.funding.filter(pl.col("settled_at") <= TRAIN.end),
    )
    train = pl.col("split") == "train"
    measured = Measured(MARKET.outcomes.filter(train), MARKET.barriers.filter(train), MARKET.controls)
    events = MARKET.events.filter(pl.col("known_at") < TRAIN.end)
    again = weigh_families(measured, events, FAMILIES, view, run=MARKET.run)
    assert_frame_equal(evidence(), again, check_exact=True)
    sealed = train_view(MARKET.view, run=MARKET.run)
    for frame in (sealed.bars, sealed.features):
        assert (frame["open_at"] < TRAIN.end).all()
    assert (sealed.funding["settled_at"] <= TRAIN.end).all()


def test_placebos_are_the_events_moved_back_matched_and_measured_alike():
    own, view = train_events(MARKET.events, run=MARKET.run), train_view(MARKET.view, run=MARKET.run)
    moved = own.with_columns(pl.col("onset_at", "known_at", "exit_at") - timedelta(weeks=1)).filter(
        pl.col("onset_at") >= TRAIN.start
    )
    assert 0 < moved.height < own.height
    found = placebo_sets(view, own, weeks=1, run=MARKET.run)
    apart = moved.filter(pl.Series([is_apart(row, own) for row in moved.iter_rows(named=True)]))
    assert 0 < apart.height < moved.height
    for family, sets in found.items():
        shifted = apart.filter(pl.col("event_type") == family)
        assert set(sets.days) <= set(shifted["known_at"].dt.epoch("d"))
    matched = match_controls(view.bars, view.features, apart, run=MARKET.run)
    controls = matched.filter(pl.Series([is_apart(row, own) for row in matched.iter_rows(named=True)]))
    n_members = sum(int((~np.isnan(sets.values[:, 1:, 3])).sum()) for sets in found.values())
    assert controls.height * 0.9 < n_members <= controls.height < matched.height


def is_apart(instant, events) -> bool:
    """No true event of the same family and symbol was known within a day before or after."""
    same = events.filter(event_type=instant["event_type"], symbol=instant["symbol"])["known_at"]
    return all(abs(at - instant["known_at"]) >= timedelta(days=1) for at in same)


def test_a_shift_of_nothing_gives_the_true_sets(monkeypatch):
    monkeypatch.setattr("backtest_assets.research.phase1.placebo._apart", lambda instants, _: instants)
    train = SHORT.run.splits[Split.TRAIN]
    own = train_events(SHORT.events, run=SHORT.run).filter(pl.col("onset_at") >= train.start)
    view = train_view(SHORT.view, run=SHORT.run)
    controls = match_controls(view.bars, view.features, own, run=SHORT.run)
    same = SHORT.controls.join(own, on="event_id", how="semi")
    assert_frame_equal(controls, same.filter(pl.col("event_known_at") < train.end))
    sets, true = (
        placebo_sets(view, own, weeks=0, run=SHORT.run),
        matched_sets(Measured(SHORT.outcomes, SHORT.barriers, SHORT.controls)),
    )
    for family, found in sets.items():
        if found.days.size == true[family].days.size:
            np.testing.assert_allclose(found.values, true[family].values, rtol=1e-12)
    assert any(found.days.size == true[family].days.size for family, found in sets.items())


def test_families_that_the_data_do_not_support_or_nobody_saw_are_not_run_and_say_so():
    lacking = FAMILIES.with_columns(
        status=pl.lit("NOT_RUN"), reason=pl.lit("volume_base unknown throughout the window"), n_accepted=pl.lit(0)
    )
    table = weigh_families(MEASURED, MARKET.events, lacking, MARKET.view, run=MARKET.run)
    assert {"not_run"} == set(table["decision"])
    assert table["reason"].str.contains("volume_base unknown").all()
    none = Measured(MARKET.outcomes.clear(), MARKET.barriers.clear(), MARKET.controls.clear())
    table = weigh_families(none, MARKET.events.clear(), FAMILIES, MARKET.view, run=MARKET.run)
    assert {("not_run", 0, 0)} == set(table.select("decision", "n_events", "n_matched").rows())


def remade(features: pl.DataFrame) -> pl.DataFrame:
    """Phase 1 with everything before it made again from these features."""
    m = replace(MARKET)
    m.__dict__["features"] = features
    families = summarise_families(m.candidates, features, run=m.run)
    measured = Measured(m.outcomes, m.barriers, m.controls)
    return weigh_families(measured, m.events, families, m.view, run=m.run)


def test_what_the_data_have_or_lack_after_train_decides_on_no_family():
    until = TRAIN.start + (TRAIN.end - TRAIN.start) / 3
    funding = pl.col("^funding.*$")
    early = MARKET.features.with_columns(pl.when(pl.col("known_at") >= until).then(funding).name.keep())
    kept = ("symbol", "open_at", "known_at", "is_gap")
    lost = pl.when(pl.col("known_at") <= TRAIN.end).then(pl.exclude(kept)).name.keep()
    there, gone = remade(early), remade(early.with_columns(lost))
    assert_frame_equal(there, gone)
    assert (there.filter(pl.col("event_type") == "funding_extreme_onset")["n_matched"] > 0).all()
    assert "unsupported" not in set(there["ground"])


def test_placebos_cover_whole_weeks_once():
    assert list(range(1, len(PLACEBO_WEEKS) + 1)) == list(PLACEBO_WEEKS)


def test_hazards_are_kaplan_meier_of_every_cohort_on_train():
    table = build_hazards(MARKET.barriers, run=MARKET.run)
    assert table.height == len(MARKET.run.event_types) * 2 * 3 * 96
    family, train = "liquidity_absence_window", MARKET.barriers.filter(pl.col("split") == "train")
    rows = train.filter(pl.col("event_type") == family, pl.col("control_no") > 0).to_dicts()
    assert any(row["ends_early"] for row in rows)
    hits = {
        "up": [r["up_bars"] for r in rows],
        "down": [r["down_bars"] for r in rows],
        "either": [min((x for x in (r["up_bars"], r["down_bars"]) if x is not None), default=None) for r in rows],
    }
    for outcome, ages in hits.items():
        own = table.filter(pl.col("event_type") == family, pl.col("cohort") == "controls", pl.col("outcome") == outcome)
        survival: float | None = 1.0
        for row in own.sort("age_bars").iter_rows(named=True):
            age = row["age_bars"]
            at_risk = sum(r["bars_watched"] >= age and (h is None or h >= age) for r, h in zip(rows, ages, strict=True))
            n_hits = sum(h == age for h in ages)
            survival = survival * (1 - n_hits / at_risk) if at_risk and survival is not None else None
            assert (at_risk, n_hits, pytest.approx(survival)) == (row["n_at_risk"], row["n_hits"], row["survival"])
    nobody = build_hazards(MARKET.barriers.clear(), run=MARKET.run)
    assert nobody["survival"].null_count() == nobody.height == table.height

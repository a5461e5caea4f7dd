"""Expectancy, traps, edge candidates and the questions to them (R18, R79, R86)."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import SettingsError
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.candidates import list_candidates, with_standing
from backtest_assets.research.hypotheses.checklist import CHECKLIST, FUNNEL, QUESTIONS, decide
from backtest_assets.research.hypotheses.expectancy import N_BEST, measure_expectancy
from backtest_assets.research.hypotheses.traps import (
    LIMITS,
    MIN_REGIME_P,
    Trap,
    _regime_p,
    _trade_numbers,
    _weaker_side,
    judge_traps,
)
from backtest_assets_tests.research.hypotheses.shown import shown
from backtest_assets_tests.research.hypotheses.world import Plant, make_run, make_world, planted_world

BEST = {"event_type": "vol_shock_relaxation", "condition": "all", "side_rule": "long", "hold_bars": 16}


@cache
def made():
    return shown(*planted_world())


@cache
def best_id():
    return planted_world()[1].filter(*(pl.col(name) == value for name, value in BEST.items()))["hypothesis_id"][0]


def own(outcomes, split="train"):
    """The trades of the planted rule in the order of known_at."""
    return outcomes.filter(
        pl.col("event_type") == BEST["event_type"], pl.col("variant") == "centre", pl.col("control_no") == 0,
        pl.col("delay_bars") == 0, pl.col("hold_bars") == 16, pl.col("split") == split,
    ).sort("known_at", "symbol")  # fmt: skip


def trap(name, *, outcomes=None, hypotheses=None, events=None, run=None):
    """The verdict of one trap on the planted rule, on a changed world."""
    w, table = planted_world()
    table = table if hypotheses is None else hypotheses
    tables = (w.outcomes if outcomes is None else outcomes, w.events if events is None else events, w.context)
    rule = table.filter(pl.col("hypothesis_id") == best_id())
    judged = judge_traps(rule, *tables, w.bars, run=run or w.run)
    return judged.filter(pl.col("trap") == name.value).row(0, named=True)


def paid(extra):
    """Outcomes whose trades on train of the planted rule's events earn `extra` more, booked on their last day."""
    w, _ = planted_world()
    hit = (pl.col("event_type") == BEST["event_type"]) & (pl.col("split") == "train")
    more = pl.when(hit).then(extra).otherwise(0.0)
    lists = pl.concat_list(
        pl.col("accrual_bps").list.head(pl.col("accrual_bps").list.len() - 1), pl.col("accrual_bps").list.last() + more
    )
    held = pl.col("accrual_bps").list.len() > 0
    return w.outcomes.with_columns(
        gross_bps=pl.col("gross_bps") + more, accrual_bps=pl.when(held).then(lists).otherwise("accrual_bps")
    )


def test_the_survivors_and_the_best_are_examined_and_described_by_their_trades():
    w, table = planted_world()
    expectancy = made()["expectancy"]
    survivors = set(table.filter("is_eligible", "gate_multiplicity")["hypothesis_id"])
    best = set(table.filter("is_eligible").sort("t_train", descending=True).head(N_BEST)["hypothesis_id"])
    assert survivors | best == set(expectancy["hypothesis_id"])
    row = expectancy.filter(pl.col("hypothesis_id") == best_id()).row(0, named=True)
    nets = (own(w.outcomes)["gross_bps"] - own(w.outcomes)["funding_bps"] - 12.0).to_numpy()
    assert pytest.approx(np.median(nets)) == row["median_train_bps"]
    assert pytest.approx(nets.std(ddof=1)) == row["sd_train_bps"]
    assert pytest.approx((nets > 0).mean()) == row["win_rate_train"]
    assert pytest.approx(np.quantile(nets, 0.05)) == row["p05_train_bps"]
    top = np.sort(nets)[::-1][: int(np.ceil(0.05 * len(nets)))]
    assert pytest.approx(top.sum() / nets.sum()) == row["top_5pct_share_train"]
    scores = json.loads(row["symbol_scores_json"])
    for symbol, score in scores.items():
        mine = own(w.outcomes).filter(pl.col("symbol") == symbol)
        assert mine.height == score["n"]
        assert (
            pytest.approx((mine["gross_bps"] - mine["funding_bps"]).to_numpy().mean() - 12.0)
            == score["net_mean_train_bps"]
        )
    assert row["is_evidence"]
    assert 0.01 == row["capacity_quote"], "every bar of this world has a quote volume of 1"


def test_nothing_of_the_test_window_is_in_the_expectancy():
    assert not [name for name in made()["expectancy"].columns if "test" in name]


def test_without_volume_the_capacity_is_unknown_and_not_zero():
    w, table = planted_world()
    dry = w.bars.with_columns(volume_quote=pl.lit(None, pl.Float64))
    expectancy = measure_expectancy(table, w.outcomes, w.events, w.context, dry, run=w.run)
    assert expectancy.height == expectancy["capacity_quote"].null_count()


def test_a_planted_edge_passes_every_trap():
    rows = made()["expectancy_traps"].filter(pl.col("hypothesis_id") == best_id())
    assert set(LIMITS) == {Trap(name) for name in rows["trap"]}
    assert [] == rows.filter(~pl.col("is_passed")).rows()


def test_trap_tails_an_edge_that_is_its_best_trades_is_red():
    w, _ = planted_world()
    n = own(w.outcomes).height
    lucky = own(w.outcomes)["event_id"].head(int(np.ceil(0.01 * n))).to_list()
    extra = pl.when(pl.col("event_id").is_in(lucky)).then(20_000.0).otherwise(-60.0)
    row = trap(Trap.TAILS, outcomes=paid(extra))
    nets = own(paid(extra))["gross_bps"] - own(paid(extra))["funding_bps"] - 12.0
    assert nets.to_numpy().mean() > 0
    assert pytest.approx(nets.sort().head(n - len(lucky)).mean()) == row["observed"]
    assert (False, True) == (row["is_passed"], row["observed"] < 0)


def test_trap_stability_an_edge_of_one_fifth_of_train_is_red():
    w, _ = planted_world()
    start = w.run.window[0]
    early = (pl.col("known_at") - pl.lit(start)).dt.total_days() < 60
    row = trap(Trap.STABILITY, outcomes=paid(pl.when(early).then(250.0).otherwise(-40.0)))
    assert (False, True) == (row["is_passed"], row["observed"] < 1.645)


def test_trap_regimes_an_edge_of_one_symbol_is_red_and_named():
    row = trap(Trap.REGIMES, outcomes=paid(pl.when(pl.col("symbol") == "BTCUSDT").then(60.0).otherwise(-60.0)))
    assert (False, True) == (row["is_passed"], row["observed"] < 1e-6)
    assert "most different by symbol of 5 dimensions" in row["detail"]


def test_trap_symmetry_controls_that_earn_as_much_are_red():
    w, _ = planted_world()
    lifted = pl.when(pl.col("control_no") > 0).then(pl.col("gross_bps") + 60.0).otherwise("gross_bps")
    row = trap(Trap.SYMMETRY, outcomes=w.outcomes.with_columns(gross_bps=lifted))
    assert (False, True) == (row["is_passed"], row["observed"] > 3)


def test_trap_symmetry_without_controls_is_unknown_and_red():
    w, _ = planted_world()
    row = trap(Trap.SYMMETRY, outcomes=w.outcomes.filter(pl.col("control_no") == 0))
    assert (None, False) == (row["observed"], row["is_passed"])


def test_trap_symmetry_asks_controls_that_enter_as_late_as_the_hypothesis():
    w = make_world(
        1, n_days=300, n_events=400, plant=Plant(bps=45), phase2_event_type=BEST["event_type"],
        phase2_entry_delays_bars="0,4",
    )  # fmt: skip
    table = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)
    late = table.filter(*(pl.col(name) == value for name, value in {**BEST, "delay_bars": 4}.items()))

    def judged(lifted_delay: int) -> dict[str, Any]:
        hit = (pl.col("control_no") > 0) & (pl.col("delay_bars") == lifted_delay)
        lifted = w.outcomes.with_columns(gross_bps=pl.col("gross_bps") + pl.when(hit).then(90.0).otherwise(0.0))
        rows = judge_traps(late, lifted, w.events, w.context, w.bars, run=w.run)
        return rows.filter(pl.col("trap") == "symmetry").row(0, named=True)

    assert judged(-1)["observed"] == judged(0)["observed"], "no controls enter before they are known"
    assert (False, True) == (judged(4)["is_passed"], judged(4)["observed"] > judged(0)["observed"] + 3)


def test_trap_symmetry_of_a_sided_family_sees_the_side_that_loses():
    w, table = planted_world()
    rule = table.filter(pl.col("event_type") == "range_compression_breakout_window", pl.col("condition") == "all", pl.col("side_rule") == "with_event", pl.col("hold_bars") == 16)  # fmt: skip
    hit = (pl.col("event_type") == "range_compression_breakout_window") & (pl.col("control_no") == 0)
    lists = pl.col("accrual_bps").list.eval(pl.element() + 100.0)
    long_only = w.outcomes.with_columns(  # long earns after every event, so the short side of with_event loses
        gross_bps=pl.when(hit).then(pl.col("gross_bps") + 100.0).otherwise("gross_bps"),
        accrual_bps=pl.when(hit).then(lists).otherwise("accrual_bps"),
    )
    judged = judge_traps(rule, long_only, w.events, w.context, w.bars, run=w.run)
    row = judged.filter(pl.col("trap") == "symmetry").row(0, named=True)
    assert (False, True) == (row["is_passed"], row["observed"] > 5)


def groups_of(*rows: tuple[str, str, float | None, float | None, float | None]) -> pl.DataFrame:
    """Groups of one hypothesis: dimension, label, mean, error, t."""
    schema = {"dimension": pl.String, "label": pl.String, "mean": pl.Float64, "error": pl.Float64, "t": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(hypothesis_id=pl.lit("h"))


def test_trap_regimes_a_dimension_that_cannot_be_asked_is_not_counted():
    # two years 27 bps apart with errors of 6 and 8: Q = 27^2 / (6^2 + 8^2) = 7.29 = 2.7^2, p = 2 (1 - Phi(2.7)) = 0.00693
    years = (("year", "2022", 27.0, 6.0, 4.5), ("year", "2023", 0.0, 8.0, 0.0))
    unknown = (("session", "asia", 5.0, None, None), ("session", "us", 9.0, None, None))
    half = (("session", "asia", 5.0, None, None), ("session", "us", 9.0, 3.0, 3.0))
    alike = (("session", "asia", 5.0, 3.0, 5 / 3), ("session", "us", 5.0, 3.0, 5 / 3))
    for lacking in ((), unknown, half):
        row = _regime_p(groups_of(*years, *lacking)).row(0, named=True)
        assert (pytest.approx(0.0069339, abs=1e-6), "year", 1) == (row["regime_p"], row["regime"], row["n_dimensions"])
        assert row["regime_p"] < MIN_REGIME_P < 2 * row["regime_p"], "counted, it would lift p over the limit"
    both = _regime_p(groups_of(*years, *alike)).row(0, named=True)
    assert (pytest.approx(0.0138678, abs=1e-6), "year", 2) == (both["regime_p"], both["regime"], both["n_dimensions"])
    assert _regime_p(groups_of(*unknown, *half)).is_empty()


@pytest.mark.parametrize(
    ("sides", "n_sides", "side_t"),
    [
        (((-1, 3.0), (1, 2.0)), 2, 2.0),
        (((-1, 3.0), (1, None)), 2, None),
        (((-1, None), (1, None)), 2, None),
        (((1, 3.0),), 1, None),
    ],
)
def test_trap_symmetry_the_weaker_side_is_unknown_if_a_side_is(sides, n_sides, side_t):
    known = groups_of(*(("side", str(side), 5.0, 2.0, t) for side, t in sides))
    assert [("h", n_sides, side_t)] == _weaker_side(known).rows()


def crowded(family, crowd):
    """Outcomes and events where one event of the crowd, held within a day, is told 25 times and the others of it not at all."""
    w, _ = planted_world()
    ours = w.outcomes.filter(
        crowd, pl.col("event_type") == family, pl.col("variant") == "centre", pl.col("control_no") == 0,
        pl.col("delay_bars") == 0, pl.col("hold_bars") == 16, pl.col("split") == "train",
    )  # fmt: skip
    one = ours.filter(pl.col("accrual_bps").list.len() == 1)["event_id"][0]
    told = {}
    for name, frame in {"outcomes": w.outcomes, "events": w.events}.items():
        alone = frame.filter(pl.col("event_id") == one)
        copies = [alone.with_columns(event_id=pl.col("event_id") + f"-{i}") for i in range(25)]
        told[name] = pl.concat([frame.filter(~pl.col("event_id").is_in(ours["event_id"].to_list())), *copies])
    return told


def test_trap_symmetry_of_a_side_whose_error_is_unknown_is_unknown_and_red():
    w, table = planted_world()
    family = "range_compression_breakout_window"
    rule = table.filter(pl.col("event_type") == family, pl.col("condition") == "all", pl.col("side_rule") == "with_event", pl.col("hold_bars") == 16)  # fmt: skip
    told = crowded(family, pl.col("side") == -1)  # 25 trades on one day: enough to be judged, without a day's scatter
    judged = judge_traps(rule, told["outcomes"], told["events"], w.context, w.bars, run=w.run)
    row = judged.filter(pl.col("trap") == "symmetry").row(0, named=True)
    assert (None, False) == (row["observed"], row["is_passed"])
    assert "the weaker of 2 sides with enough trades t unknown" in row["detail"]


def test_trap_symmetry_of_a_family_without_sides_asks_its_controls_alone():
    row = trap(Trap.SYMMETRY)
    assert row["is_passed"]
    assert row["detail"].startswith(f"matched controls traded alike have t {row['observed']:.4f}"[:-1])
    assert "the weaker of 0 sides" in row["detail"]


def test_trap_regimes_a_symbol_whose_error_is_unknown_is_no_dimension():
    told = crowded(BEST["event_type"], pl.col("symbol") == "ETHUSDT")
    row = trap(Trap.REGIMES, outcomes=told["outcomes"], events=told["events"])
    assert "of 4 dimensions that could be asked" in row["detail"]
    assert "of 5 dimensions that could be asked" in trap(Trap.REGIMES)["detail"]


def test_trap_overlap_and_uniqueness_bursts_are_red():
    w, _ = planted_world()
    # Every fifth event is told five times: one day speaks five times, and each moment is held five times over.
    of = own(w.outcomes).gather_every(5)
    sources = {"outcomes": w.outcomes, "events": w.events}
    copies = {}
    for name, frame in sources.items():
        key = frame.filter(pl.col("event_id").is_in(of["event_id"].to_list()))
        others = frame.filter(~pl.col("event_type").is_in([BEST["event_type"]]))
        told = [key.with_columns(event_id=pl.col("event_id") + f"-{i}") for i in range(5)]
        copies[name] = pl.concat([others, *told])
    sums = pl.concat([of] * 5)
    se = 5**0.5 * (sums["gross_bps"].std() / sums.height**0.5)
    table = planted_world()[1].with_columns(se_train_bps=pl.lit(se))
    overlap = trap(Trap.OVERLAP, **copies, hypotheses=table)
    unique = trap(Trap.UNIQUENESS, **copies, hypotheses=table)
    assert (False, True) == (overlap["is_passed"], 2.0 < overlap["observed"] < 2.5)
    assert (False, pytest.approx(0.2)) == (unique["is_passed"], unique["observed"])


def test_trap_uniqueness_is_the_mean_of_the_published_ones_weighted_by_what_is_held():
    """Spans [0, 2], [2, 3], [4, 5] have average uniqueness 5/6, 3/4, 1 (statistics.md, C8)."""
    spans = ((0, 2), (2, 3), (4, 5))
    held = [set(range(first, last + 1)) for first, last in spans]
    own = [np.mean([1 / sum(bar in other for other in held) for bar in bars]) for bars in held]
    assert own == pytest.approx([5 / 6, 3 / 4, 1.0])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    trades = pl.DataFrame({
        "hypothesis_id": "h", "symbol": "A", "net": 0.0, "excess": 0.0,
        "entered_at": [start + first * BAR for first, _ in spans], "exited_at": [start + (last + 1) * BAR for _, last in spans],
    })  # fmt: skip
    (row,) = _trade_numbers(trades).to_dicts()
    assert row["uniqueness"] == pytest.approx(np.average(own, weights=[len(bars) for bars in held]))


def test_trap_capacity_counts_events_per_calendar_day_of_the_run():
    w, table = planted_world()
    n_run = table.filter(pl.col("hypothesis_id") == best_id())["n_run"][0]
    row = trap(Trap.CAPACITY)
    assert pytest.approx(n_run / 500) == row["observed"]
    assert 0.07 == row["limit"]
    demanding = trap(Trap.CAPACITY, run=replace(w.run, expectancy_capacity_min_events_per_day=n_run / 500 + 0.001))
    assert not demanding["is_passed"]


def test_r18_edge_candidates_are_the_survivors_with_everything_that_is_known():
    w, table = planted_world()
    candidates = made()["edge_candidates"]
    assert set(table.filter("is_eligible", "gate_multiplicity")["hypothesis_id"]) == set(candidates["candidate_id"])
    row = candidates.filter(pl.col("candidate_id") == best_id()).row(0, named=True)
    tested = table.filter(pl.col("hypothesis_id") == best_id()).row(0, named=True)
    assert ("PROMOTED", "", "ALL", "PASS") == (
        row["status"],
        row["fail_reasons"],
        row["candidate_symbol"],
        row["naive_status"],
    )
    assert min(tested["net_mean_train_bps"], tested["net_mean_validation_bps"]) == row["expectancy_per_trade"]
    assert pytest.approx(row["expectancy_per_trade"] * tested["n_run"] / 500) == row["profit_density_score"]
    nets = own(w.outcomes)["gross_bps"] - own(w.outcomes)["funding_bps"]
    assert pytest.approx(nets.var()) == row["variance"]
    means = [score["net_mean_train_bps"] for score in json.loads(row["symbol_scores_json"]).values()]
    assert (min(means) >= 0.75 * max(means)) == row["is_rollout_eligible"]
    single = candidates.filter(pl.col("condition") == "symbol_ETHUSDT")
    assert {"ETHUSDT"} == set(single["candidate_symbol"])
    assert not single["is_rollout_eligible"].any()
    unlike = candidates.filter((pl.col("status") == "PROMOTED") != (pl.col("fail_reasons") == ""))
    assert unlike.is_empty()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hypotheses": {"status": pl.lit("rejected"), "fail_reasons": pl.lit("ess")}}, "ess"),
        ({"naive_entry": {"is_passed": pl.lit(value=False), "status": pl.lit("NOT_RUN")}}, "naive_entry"),
        ({"expectancy": {"is_evidence": pl.lit(value=False)}}, "evidence"),
        ({"expectancy_traps": {"is_passed": pl.col("is_passed") & (pl.col("trap") != "tails")}}, "trap:tails"),
    ],
)
def test_one_no_makes_a_draft_and_is_named(change, reason):
    w, table = planted_world()
    tables = {"hypotheses": table, **made()}
    for name, columns in change.items():
        tables[name] = tables[name].with_columns(**columns)
    inputs = [tables[name] for name in ("hypotheses", "naive_entry", "expectancy", "expectancy_traps")]
    row = list_candidates(*inputs, run=w.run).filter(pl.col("candidate_id") == best_id()).row(0, named=True)
    assert ("DRAFT", reason) == (row["status"], row["fail_reasons"])


def test_missing_evidence_is_no_evidence():
    w, table = planted_world()
    nothing = [made()[name].clear() for name in ("naive_entry", "expectancy", "expectancy_traps")]
    candidates = list_candidates(table, *nothing, run=w.run)
    assert made()["edge_candidates"].height == candidates.height
    assert {"DRAFT"} == set(candidates["status"])
    assert not with_standing(table, candidates)["is_promotable"].any()


def test_only_what_nothing_but_naive_entry_speaks_against_may_become_a_blueprint():
    _, table = planted_world()
    candidates = made()["edge_candidates"]
    told = with_standing(table, candidates)
    assert told.drop("is_promotable", "reasons_against").equals(table)
    promotable = set(told.filter("is_promotable")["hypothesis_id"])
    promoted = set(candidates.filter(pl.col("status") == "PROMOTED")["candidate_id"])
    naive = set(candidates.filter(pl.col("fail_reasons") == "naive_entry")["candidate_id"])
    assert promotable == promoted | naive
    assert promoted
    drafts = candidates.filter(pl.col("status") == "DRAFT").select("candidate_id", "fail_reasons")
    said = dict(told.select("hypothesis_id", "reasons_against").iter_rows())
    assert all(said[name] == reasons for name, reasons in drafts.iter_rows())


def decided(table=None, candidates=None, **settings: object):
    w, hypotheses = planted_world()
    known = made()["edge_candidates"] if candidates is None else candidates
    checklist = decide(hypotheses if table is None else table, known, run=replace(w.run, **settings))
    return {row["gate"]: row for row in checklist.to_dicts()}


def test_r79_the_seven_questions_are_asked_of_the_candidates_and_the_funnel_is_kept():
    rows = decided()
    assert set(CHECKLIST) == {*FUNNEL, *QUESTIONS} == set(rows)
    assert {"PROMOTE"} == {row["decision"] for row in rows.values()}
    candidates = made()["edge_candidates"]
    assert candidates.height == rows["edge_candidates_generated"]["observed"]
    assert candidates.filter(pl.col("status") == "PROMOTED").height == rows["promoted_edge_candidates"]["observed"]
    assert candidates["is_evidence"].sum() == rows["expectancy_evidence_count"]["observed"]


@pytest.mark.parametrize(
    ("changes", "red"),
    [
        ({"status": pl.lit("DRAFT"), "fail_reasons": pl.lit("ess")}, {"promoted_edge_candidates"}),
        (
            {"is_evidence": pl.lit(value=False)},
            {
                "expectancy_exists",
                "expectancy_evidence_count",
                "robust_survivor_count",
                "stability_pass",
                "capacity_pass",
            },
        ),
        ({"is_robust": pl.lit(value=False)}, {"robust_survivor_count"}),
        ({"is_stable": pl.lit(value=False)}, {"stability_pass"}),
        ({"has_capacity": pl.lit(value=False)}, {"capacity_pass"}),
    ],
)
def test_r79_each_question_can_be_red_and_keeps_research(changes, red):
    rows = decided(candidates=made()["edge_candidates"].with_columns(**changes))
    assert red == {name for name, row in rows.items() if not row["is_passed"]}
    assert {"KEEP_RESEARCH"} == {row["decision"] for row in rows.values()}


@pytest.mark.parametrize("name", [name for name in QUESTIONS.values() if name.startswith("min_")])
def test_r79_the_limits_are_settings(name):
    rows = decided(**{name: 10_000})
    assert ["KEEP_RESEARCH"] == list({row["decision"] for row in rows.values()})
    assert [10_000.0] == [row["limit"] for row in rows.values() if not row["is_passed"]]


def test_r86_candidates_of_other_hypotheses_are_an_error():
    rows = decided(candidates=made()["edge_candidates"].tail(-1))
    assert {"ERROR"} == {row["decision"] for row in rows.values()}
    assert set(QUESTIONS) == {name for name, row in rows.items() if row["observed"] is None}


def test_r86_a_crash_while_deciding_is_an_error_with_its_text_on_every_row():
    rows = decided(candidates=pl.DataFrame({"x": [1]}))
    assert {("ERROR", None, False)} == {(row["decision"], row["observed"], row["is_passed"]) for row in rows.values()}
    assert all("deciding broke: ColumnNotFoundError" in row["detail"] for row in rows.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_edge_candidates", 0),
        ("min_promoted_candidates", 0),
        ("min_expectancy_evidence", -1),
        ("min_robust_survivors", 0),
        ("require_expectancy_exists", 2),
        ("require_stability_pass", -1),
        ("require_capacity_pass", 2),
        ("expectancy_capacity_min_events_per_day", 0.0),
    ],
)
def test_r79_impossible_limits_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        make_run(500, **{name: value})

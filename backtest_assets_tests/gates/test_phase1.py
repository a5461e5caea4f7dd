from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.phase1 import GATES_PHASE1_EVIDENCE, GATES_PHASE1_HAZARDS
from backtest_assets.gates.sql import ask_sql
from backtest_assets.gates.weighed import family_bounds, placebo_bounds
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.phase1 import evidence as weighing
from backtest_assets.research.phase1.criteria import MAX_EFFECT_P, PLACEBO_LEVEL
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.sets import Measured
from backtest_assets.stats.matched import compare_sets
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.gates.evidence import answer, hopeless, red, verdict, with_inputs
from backtest_assets_tests.properties.random_market import RandomMarket, random_market

GATES = {"phase1_evidence": GATES_PHASE1_EVIDENCE, "phase1_hazards": GATES_PHASE1_HAZARDS}
REMARK = "families_pass"


@cache
def market() -> RandomMarket:
    return random_market(7, 900)  # long enough for families of thirty matched events and their placebos


@cache
def made(name: str):
    m = market()
    families = summarise_families(m.candidates, m.features, run=m.run)
    measured = Measured(m.outcomes, m.barriers, m.controls)
    frame = (
        build_hazards(m.barriers, run=m.run)
        if name == "phase1_hazards"
        else weigh_families(measured, m.events, families, m.view, run=m.run)
    )
    inputs = {
        "event_outcomes": m.outcomes, "event_barriers": m.barriers, "event_families": families, "event_controls": m.controls,
    }  # fmt: skip
    return Evidence(table_named(name), Partition.of_run("random"), frame, m.run.window[1], m.run, inputs)


def changed(name: str, **columns: pl.Expr):
    return replace(made(name), frame=made(name).frame.with_columns(**columns))


@pytest.mark.parametrize("name", GATES)
def test_every_gate_is_green_on_an_honest_table_but_the_remark(name):
    assert red(GATES[name], made(name)) <= {REMARK}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(name, case):
    assert red(GATES[name], hopeless(made(name))[case]) == {gate.name for gate in GATES[name]}


RUN = pl.col("decision") != "not_run"


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"metric": pl.lit("tail_hit")}, "rows_complete"),
        ({"delta": pl.lit(None, pl.Float64)}, "known_if_run"),
        ({"p_placebo": pl.when(RUN).then("p_placebo").otherwise(0.5)}, "known_if_run"),
        ({"n_placebos": pl.when(RUN).then(None).otherwise("n_placebos")}, "known_if_run"),
        ({"n_placebos": pl.when(RUN).then("n_placebos").otherwise(8)}, "known_if_run"),
        ({"delta": pl.col("delta") * 1.001}, "numbers_recounted"),
        ({"mean_control": pl.col("mean_control") + 1e-6}, "numbers_recounted"),
        ({"n_matched": pl.col("n_matched") - 1}, "numbers_recounted"),
        ({"se": pl.col("se") * 1.001, "z": pl.col("z") / 1.001}, "numbers_recounted"),
        ({"ci_low": pl.col("ci_low") - 0.001, "ci_high": pl.col("ci_high") + 0.001}, "numbers_recounted"),
        ({"z": pl.col("z") + 1e-6}, "numbers_recounted"),
        ({"n_clusters": pl.col("n_clusters") - 1}, "contradictions_recounted"),
        ({"n_years": pl.col("n_years") + 1}, "contradictions_recounted"),
        ({"n_years_opposite": (pl.col("n_years_opposite") + 1).clip(0, pl.col("n_years"))}, "contradictions_recounted"),
        ({"n_groups": pl.col("n_groups") + 1}, "contradictions_recounted"),
        ({"n_groups_opposite": pl.lit(1)}, "contradictions_recounted"),
        ({"p_family": pl.col("p_family") * 0.1}, "p_drawn_again"),
        ({"p_family": pl.col("p_family") / 1.5 - 0.05}, "p_drawn_again"),
        ({"p_family": pl.col("p_family") + 0.06}, "p_drawn_again"),
        ({"p_family": pl.lit(0.001)}, "p_drawn_again"),
        ({"z_placebo_max": pl.col("z_placebo_max") + 6.0, "p_placebo": pl.lit(1.0)}, "draws_in_bounds"),
        ({"z_placebo_max": pl.lit(0.0), "p_shifted": 1.0 / (1 + pl.col("n_placebos")), "p_placebo": pl.lit(0.01)}, "draws_in_bounds"),
        ({"p_shifted": pl.lit(0.5)}, "draws_in_bounds"),
        ({"p_shifted": (2 + pl.col("n_placebos") - (1 + pl.col("n_placebos")) * pl.col("p_shifted")) / (1 + pl.col("n_placebos"))},
         "draws_in_bounds"),
        ({"n_placebos": pl.when(RUN).then(9)}, "draws_in_bounds"),
        ({"shuffled_rejection_share": pl.col("shuffled_rejection_share") + 0.002}, "draws_in_bounds"),
        ({"shuffled_rejection_share": pl.when(pl.col("metric") == "tail_hit").then("shuffled_rejection_share").otherwise(0.0)},
         "draws_in_bounds"),
        ({"se": pl.col("se") * 1.001}, "numbers_agree"),
        ({"ci_low": pl.col("ci_low") - 1.0}, "numbers_agree"),
        ({"n_years_opposite": pl.col("n_years") + 1}, "numbers_agree"),
        ({"decision": pl.when(RUN).then(pl.lit("pass")).otherwise("decision"), "p_family": pl.lit(0.9)}, "decision_follows"),
        ({"decision": pl.when(RUN).then(pl.lit("freeze")).otherwise("decision"), "p_family": pl.lit(0.1), "p_placebo": pl.lit(0.5),
          "n_years_opposite": pl.lit(0), "n_groups_opposite": pl.lit(0)}, "decision_follows"),
        ({"decision": pl.when(RUN).then(pl.lit("pass")).otherwise("decision"), "p_family": pl.lit(0.1), "p_placebo": pl.lit(0.5),
          "n_years_opposite": pl.lit(1)}, "decision_follows"),
        ({"decision": pl.when(RUN).then(pl.lit("pass")).otherwise("decision"), "p_family": pl.lit(0.1), "p_placebo": pl.lit(0.01)},
         "decision_follows"),
        ({"decision": pl.lit("pass")}, "decision_follows"),
        ({"ground": pl.when(RUN).then(pl.lit("biased")).otherwise("ground")}, "decision_follows"),
        ({"ground": pl.when(RUN).then("ground").otherwise(pl.lit("no_scatter"))}, "decision_follows"),
        ({"n_placebos": pl.when(RUN).then(3)}, "decision_follows"),
        ({"decision": pl.when(pl.col("metric") == "tail_hit").then(pl.lit("not_run")).otherwise("decision")}, "decision_follows"),
        ({"reason": pl.when(pl.col("metric") == "tail_hit").then(pl.lit("so")).otherwise("reason")}, "decision_follows"),
    ],
)  # fmt: skip
def test_each_falsehood_of_the_evidence_is_found_by_its_gate(columns, gate):
    frame = made("phase1_evidence").frame.with_columns(**columns).cast(made("phase1_evidence").frame.schema)
    assert gate in red(GATES_PHASE1_EVIDENCE, replace(made("phase1_evidence"), frame=frame))


STATISTICS = [name for name in made("phase1_evidence").frame.columns if name not in {
    "event_type", "metric", "n_events", "n_matched", "n_placebos", "decision", "ground", "reason"
}]  # fmt: skip


@pytest.mark.parametrize(
    ("ground", "n_placebos"),
    [
        ("unsupported", None),
        ("few_matched", None),
        ("no_scatter", 8),
        ("few_placebos", 8),
        ("few_placebos", None),
        ("", 8),
    ],
)
def test_a_judged_family_called_not_run_is_found_whatever_the_ground(ground, n_placebos):
    frame = made("phase1_evidence").frame
    hidden = frame.with_columns(pl.when(~RUN).then(name).alias(name) for name in STATISTICS).with_columns(
        decision=pl.lit("not_run"),
        ground=pl.when(RUN).then(pl.lit(ground)).otherwise("ground"),
        n_placebos=pl.when(RUN).then(pl.lit(n_placebos, pl.Int64)).otherwise("n_placebos"),
    )
    assert frame.filter(RUN).height > 0
    found = red(GATES_PHASE1_EVIDENCE, replace(made("phase1_evidence"), frame=hidden))
    hides_count = ground == "few_placebos" and n_placebos is None
    assert ("known_if_run" if hides_count else "decision_follows") in found


def test_a_family_without_scatter_or_with_few_placebos_is_honestly_not_run(monkeypatch):
    m, evidence = market(), made("phase1_evidence")
    still = m.barriers.with_columns(up_bars=pl.lit(1, pl.Int32))  # every event and control hits: a tail without scatter
    frame = weigh_families(
        Measured(m.outcomes, still, m.controls), m.events, evidence.inputs["event_families"], m.view, run=m.run
    )
    honest = with_inputs(replace(evidence, frame=frame), event_barriers=still)
    assert {"no_scatter"} <= set(frame["ground"]) <= {"no_scatter", "few_matched"}
    assert {REMARK} == red(GATES_PHASE1_EVIDENCE, honest)
    assert "decision_follows" in red(GATES_PHASE1_EVIDENCE, with_inputs(honest, event_barriers=m.barriers))
    monkeypatch.setattr("backtest_assets.research.phase1.evidence.PLACEBO_WEEKS", (1, 2, 3))
    measured = Measured(m.outcomes, m.barriers, m.controls)
    few = weigh_families(measured, m.events, evidence.inputs["event_families"], m.view, run=m.run)
    assert "few_placebos" in set(few["ground"])
    assert {REMARK} == red(GATES_PHASE1_EVIDENCE, replace(evidence, frame=few))


def drawn(rng: np.random.Generator, n_clusters: int, share: float) -> pl.DataFrame:
    """What `placebo_bounds` reads of sets of fat tails, a share of which lies in one cluster."""
    n = max(40, 2 * n_clusters)
    rest = np.where(rng.random(n - n_clusters) < share, 0, rng.integers(0, n_clusters, n - n_clusters))
    days = np.concatenate([np.arange(n_clusters), rest])
    values = rng.standard_t(3, (n, 4, 7))
    values[:, :, 6] = rng.random((n, 4)) < 0.05
    values[:, 0] += rng.standard_t(3, (n_clusters, 7))[days] + rng.choice([0.0, 0.5, 1.0, 2.0])
    found = compare_sets(values, days, rng)
    columns = {
        "p_placebo": found.p_family,
        "n_placebos": [1] * 7,
        "z_placebo_max": np.abs(found.t),
        "placebo_clusters_effective": found.n_effective,
    }
    rows = pl.DataFrame(columns).with_columns(event_type=pl.lit("one"))
    return rows.filter(~pl.col("z_placebo_max").is_nan())


@pytest.mark.parametrize("n_clusters", [4, 8, 20, 100])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_what_the_bootstrap_gives_lies_within_its_bounds(n_clusters, share):
    rng = np.random.default_rng([n_clusters, int(10 * share)])
    for _ in range(15):
        found = placebo_bounds(drawn(rng, n_clusters, share))
        assert found["p_placebo"].is_between(found["p_placebo_low"], found["p_placebo_high"]).all()


def test_bounds_close_on_what_decides():
    z = [0.0, 1.5, 2.5, 3.5, 4.5, 6.0, 8.0]
    rows = pl.DataFrame({
        "event_type": ["one"] * 7, "n_placebos": [8] * 7, "z_placebo_max": z, "placebo_clusters_effective": [150.0] * 7,
    })  # fmt: skip
    found = placebo_bounds(rows)
    assert found["p_placebo_high"].is_sorted(descending=True)
    assert found["p_placebo_low"].is_sorted(descending=True)
    # what differs clearly cannot be said not to differ, and the other way round
    assert found["p_placebo_high"][5] < PLACEBO_LEVEL < found["p_placebo_low"][1]


def test_p_drawn_again_is_near_the_stored_one_and_its_bounds_are_narrow():
    evidence = made("phase1_evidence")
    both = evidence.frame.filter(RUN).join(family_bounds(evidence), on=["event_type", "metric"])
    assert both.height > 0
    stored, again, low, high = (
        both[f"p_{name}"].to_numpy() for name in ("family", "again", "family_low", "family_high")
    )
    assert np.abs(stored - again).max() < 0.05
    assert (high - low).max() < 0.13
    assert (high - low)[again <= MAX_EFFECT_P].max() < 0.11


def test_a_frozen_family_turned_to_pass_by_its_p_alone_is_found_at_that_gate_only():
    frame, is_move = made("phase1_evidence").frame, pl.col("metric").str.starts_with("move_")
    moves = frame.filter(is_move, pl.col("ground") == "no_effect").group_by("event_type").agg(
        pl.col("p_family", "p_placebo").min(), pl.col("n_years_opposite", "n_groups_opposite").sum()
    )  # fmt: skip
    could = moves.filter(
        pl.col("p_family") > MAX_EFFECT_P + 0.06, pl.col("p_placebo") > PLACEBO_LEVEL,
        pl.col("n_years_opposite") + pl.col("n_groups_opposite") == 0,
    )  # fmt: skip
    assert could.height > 0
    for family in could["event_type"]:
        own = pl.col("event_type") == family
        forged = frame.with_columns(
            p_family=pl.when(own & is_move).then(pl.min_horizontal("p_family", MAX_EFFECT_P)).otherwise("p_family"),
            decision=pl.when(own).then(pl.lit("pass")).otherwise("decision"),
            ground=pl.when(own).then(pl.lit("effect")).otherwise("ground"),
            reason=pl.when(own).then(pl.lit("moves differ")).otherwise("reason"),
        )
        found = red(GATES_PHASE1_EVIDENCE, replace(made("phase1_evidence"), frame=forged))
        assert {"p_drawn_again"} == found - {REMARK}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_other_draws_of_the_evidence_are_within_what_draws_differ(monkeypatch, seed):
    monkeypatch.setattr(weighing, "SEED", seed)
    m, evidence = market(), made("phase1_evidence")
    measured = Measured(m.outcomes, m.barriers, m.controls)
    frame = weigh_families(measured, m.events, evidence.inputs["event_families"], m.view, run=m.run)
    assert not frame.equals(evidence.frame)
    assert red(GATES_PHASE1_EVIDENCE, replace(evidence, frame=frame)) <= {REMARK}


def test_evidence_of_other_outcomes_or_controls_is_found():
    evidence = made("phase1_evidence")
    for inputs in (
        {"event_outcomes": evidence.inputs["event_outcomes"].with_columns(pl.col("gross_bps") + pl.col("control_no"))},
        {"event_controls": evidence.inputs["event_controls"].filter(pl.col("control_no") == 1)},
        {"event_barriers": evidence.inputs["event_barriers"].with_columns(up_bars=pl.lit(None, pl.Int32))},
    ):
        assert {"numbers_recounted"} <= red(GATES_PHASE1_EVIDENCE, with_inputs(evidence, **inputs))


def test_families_that_do_not_pass_are_a_remark_with_their_reason():
    found = verdict(GATES_PHASE1_EVIDENCE, made("phase1_evidence"), REMARK)
    assert not found.passed
    for row in made("phase1_evidence").frame.filter(pl.col("decision") != "pass").to_dicts():
        assert f"{row['event_type']} {row['decision']}: {row['reason']}" in found.detail
    gate = next(gate for gate in GATES_PHASE1_EVIDENCE if gate.name == REMARK)
    assert not answer(gate, made("phase1_evidence")).blocks
    assert verdict((gate,), changed("phase1_evidence", decision=pl.lit("pass")), REMARK).passed


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"age_bars": pl.lit(1, pl.Int32)}, "ages_complete"),
        ({"cohort": pl.lit("events")}, "ages_complete"),
        ({"n_at_risk": pl.col("n_at_risk") + 1}, "counts_recounted"),
        ({"n_hits": pl.col("n_hits") + 1}, "counts_recounted"),
        ({"hazard": pl.col("hazard") + 0.001}, "curves_follow"),
        ({"survival": pl.col("survival") * 0.999}, "curves_follow"),
        ({"hazard": pl.lit(None, pl.Float64)}, "curves_follow"),
    ],
)
def test_each_falsehood_of_the_hazards_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_PHASE1_HAZARDS, changed("phase1_hazards", **columns))


def test_ages_at_which_nobody_is_at_risk_are_unknown():
    nobody = with_inputs(made("phase1_hazards"), event_barriers=market().barriers.clear())
    honest = replace(nobody, frame=build_hazards(market().barriers.clear(), run=market().run))
    assert red(GATES_PHASE1_HAZARDS, honest) == set()
    for column in ("survival", "hazard"):
        known = replace(honest, frame=honest.frame.with_columns(pl.lit(0.0).alias(column)))
        assert red(GATES_PHASE1_HAZARDS, known) == {"curves_follow"}


def test_sql_sees_the_frames_it_is_given_and_no_file(tmp_path):
    frame = pl.DataFrame({"x": [1, 2, 3]})
    assert [(6,)] == ask_sql("select sum(x)::bigint from t", {"t": frame}).rows()
    file = tmp_path / "a.parquet"
    frame.write_parquet(file)
    with pytest.raises(Exception, match="disabled by configuration"):
        ask_sql(f"from '{file}'", {"t": frame})
    with pytest.raises(Exception, match="does not exist"):
        ask_sql("select * from frame", {"t": frame})

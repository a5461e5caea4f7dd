from dataclasses import replace
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.phase1 import GATES_PHASE1_EVIDENCE, GATES_PHASE1_HAZARDS
from backtest_assets.gates.sql import ask_sql
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.sets import Measured
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.gates.evidence import answer, hopeless, red, verdict, with_inputs
from backtest_assets_tests.properties.random_market import RandomMarket, random_market

GATES = {"phase1_evidence": GATES_PHASE1_EVIDENCE, "phase1_hazards": GATES_PHASE1_HAZARDS}
REMARK = "families_pass"


@cache
def market() -> RandomMarket:
    return random_market(7, 420)  # long enough for families of thirty matched events


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
        ({"p_shuffled": pl.when(RUN).then("p_shuffled").otherwise(0.5)}, "known_if_run"),
        ({"delta": pl.col("delta") * 1.001}, "deltas_recounted"),
        ({"mean_control": pl.col("mean_control") + 1e-6}, "deltas_recounted"),
        ({"n_matched": pl.col("n_matched") - 1}, "deltas_recounted"),
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
        ({"decision": pl.when(pl.col("metric") == "tail_hit").then(pl.lit("not_run")).otherwise("decision")}, "decision_follows"),
        ({"reason": pl.when(pl.col("metric") == "tail_hit").then(pl.lit("so")).otherwise("reason")}, "decision_follows"),
    ],
)  # fmt: skip
def test_each_falsehood_of_the_evidence_is_found_by_its_gate(columns, gate):
    frame = made("phase1_evidence").frame.with_columns(**columns).cast(made("phase1_evidence").frame.schema)
    assert gate in red(GATES_PHASE1_EVIDENCE, replace(made("phase1_evidence"), frame=frame))


def test_evidence_of_other_outcomes_or_controls_is_found():
    evidence = made("phase1_evidence")
    for inputs in (
        {"event_outcomes": evidence.inputs["event_outcomes"].with_columns(pl.col("gross_bps") + pl.col("control_no"))},
        {"event_controls": evidence.inputs["event_controls"].filter(pl.col("control_no") == 1)},
        {"event_barriers": evidence.inputs["event_barriers"].with_columns(up_bars=pl.lit(None, pl.Int32))},
    ):
        assert {"deltas_recounted"} <= red(GATES_PHASE1_EVIDENCE, with_inputs(evidence, **inputs))


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

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.promotions.criteria import (
    ALL_GATES,
    CRITERIA,
    DIVERSIFICATION,
    ENOUGH_TRADES,
    MEASURED,
    MIN_TRADES,
    PRODUCTION,
)
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.promotions.evidence import Found, MeasuredBlueprints
from backtest_assets.tables.walkforward import WALKFORWARD_SUMMARY
from backtest_assets_tests.research.simulation.market import START, a_run, blueprint, blueprints_of

RUN = a_run()
GOOD = {
    "n_trades": 50.0,
    "stressed_net": 0.1,
    "cost_ratio": 0.2,
    "max_regime_share": 0.5,
    "max_loss_cluster_len": 5.0,
    "cluster_loss_concentration": 0.3,
    "tail_conditional_drawdown": -0.1,
}
AT_LIMIT = {
    "n_trades": MIN_TRADES,
    "stressed_net": 1e-12,
    "cost_ratio": 0.6,
    "max_regime_share": 0.8,
    "max_loss_cluster_len": 64.0,
    "cluster_loss_concentration": 0.5,
    "tail_conditional_drawdown": -0.2,
}
BEYOND = {
    "n_trades": MIN_TRADES - 1,
    "stressed_net": 0.0,
    "cost_ratio": 0.6001,
    "max_regime_share": 0.8001,
    "max_loss_cluster_len": 65.0,
    "cluster_loss_concentration": 0.5001,
    "tail_conditional_drawdown": -0.2001,
}
METRICS = list(GOOD)


def summary_of(train=GOOD, validation=GOOD, name="bp"):
    rows = [
        {
            "split": split,
            "blueprint_id": name,
            "metric": metric,
            "value": value,
            "unit": "1",
            "n": 1,
            "start_at": START,
            "end_at": START,
        }
        for split, values in (("train", train), ("validation", validation))
        for metric, value in values.items()
    ]
    return WALKFORWARD_SUMMARY.conform(pl.DataFrame(rows, schema=WALKFORWARD_SUMMARY.schema))


BEYOND_MEASURED = {
    "cross_symbol_pass_rate": 0.5999,
    "deflated_sharpe": 0.9499,
    "overfitting_probability": 0.5001,
    "parameter_neighbourhood": 0.2499,
    "positive_neighbours": 0.5,
}
FINE = {
    "cross_symbol_pass_rate": 0.6,
    "deflated_sharpe": 0.95,
    "overfitting_probability": 0.5,
    "parameter_neighbourhood": 0.25,
    "positive_neighbours": 0.51,
}
DAYS = np.random.default_rng(1).normal(0, 0.01, (3, 200))


def measured(names=("bp",), returns=None, **numbers: float):
    found = {(name, gate): Found(value, "told") for name in names for gate, value in (FINE | numbers).items()}
    return MeasuredBlueprints(found, returns if returns is not None else dict(zip(names, DAYS, strict=False)))


def decided(summary, run=RUN, specs=None, known=None):
    return promote(summary, specs if specs is not None else blueprints_of(blueprint()), known or measured(), run=run)


def failing(summary, run=RUN):
    found = decided(summary, run)
    assert found["is_promoted"].unique().to_list() == [bool(found["is_passed"].all())]
    return found.filter(~pl.col("is_passed"))["gate"].to_list()


def gate_of(metric):
    return next(criterion.gate for criterion in CRITERIA if criterion.metric == metric)


def test_r91_good_evidence_is_promoted_and_every_gate_is_answered():
    found = decided(summary_of())
    assert (len(ALL_GATES), True) == (found.height, found["is_promoted"].all())
    assert set(ALL_GATES) == set(found["gate"])
    assert (found["evidence"].str.len_chars() > 10).all()
    assert set(METRICS) == {criterion.metric for criterion in CRITERIA}


def test_evidence_exactly_at_the_limits_is_promoted_with_margin_zero():
    found = decided(summary_of(AT_LIMIT, AT_LIMIT))
    assert found["is_promoted"].all()
    margins = found.filter(pl.col("gate").is_in([criterion.gate for criterion in CRITERIA]))["margin"].to_list()
    assert pytest.approx([0.0] * len(CRITERIA), abs=1e-9) == margins


@pytest.mark.parametrize("metric", METRICS)
def test_r30_r31_r32_r59_r94_to_r99_one_step_beyond_a_limit_on_either_split_rejects(metric):
    bad = {**GOOD, metric: BEYOND[metric]}
    assert [gate_of(metric)] == failing(summary_of(bad, GOOD)) == failing(summary_of(GOOD, bad))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_number_that_is_not_known_is_insufficient_evidence(metric, value):
    found = decided(summary_of(GOOD, {**GOOD, metric: value})).filter(gate=gate_of(metric))
    (row,) = found.to_dicts()
    assert (row["observed"], row["margin"], row["is_passed"], row["is_promoted"]) == (None, None, False, False)
    assert row["detail"].startswith(f"insufficient evidence: {metric} is unknown on validation")


def test_r92_a_blueprint_without_a_summary_fails_every_gate():
    found = decided(summary_of(name="another"), known=MeasuredBlueprints({}, {}))
    passed = sorted([PRODUCTION, DIVERSIFICATION.gate])
    assert (len(ALL_GATES), passed) == (found.height, found.filter("is_passed")["gate"].to_list())


def test_observed_is_the_worse_split_whichever_it_is():
    worse = {**GOOD, "cost_ratio": 0.5, "tail_conditional_drawdown": -0.15}
    for pair in ((GOOD, worse), (worse, GOOD)):
        observed = dict(decided(summary_of(*pair)).select("gate", "observed").iter_rows())
        assert (observed["cost_ratio"], observed["tail_conditional_drawdown"]) == (0.5, -0.15)


def test_r43_r46_limits_are_the_runs_settings():
    run = a_run(promotion_regime_max_share=0.4, promotion_max_loss_cluster_len=4)
    assert failing(summary_of(), run) == ["loss_cluster_len", "regime_share"]
    limits = dict(decided(summary_of(), run).select("gate", "limit").iter_rows())
    assert (limits["regime_share"], limits["loss_cluster_len"]) == (0.4, 4.0)


def test_the_test_window_is_never_asked():
    poisoned = summary_of().with_columns(split=pl.lit("test"), value=pl.lit(-9.0))
    both = pl.concat([summary_of(), poisoned])
    assert decided(summary_of()).equals(decided(both))


def test_only_executed_blueprints_are_judged_and_none_gives_no_rows():
    idle = blueprints_of(blueprint()).with_columns(is_executed=pl.lit(value=False))
    assert decided(summary_of(), specs=idle).is_empty()


def test_every_criterion_names_its_rule_unit_and_reason():
    assert len(CRITERIA) == len({criterion.gate for criterion in CRITERIA})
    assert all(criterion.rule.startswith("R") and criterion.unit and criterion.reason for criterion in CRITERIA)


def test_a_blueprint_is_held_against_the_trades_it_asks_of_itself():
    own = replace(blueprint(), evaluation=replace(blueprint().evaluation, min_trades=100))
    for trades, is_promoted in ((50.0, True), (49.0, False)):
        table = decided(summary_of(validation=GOOD | {"n_trades": trades}), specs=blueprints_of(own))
        row = table.filter(gate=ENOUGH_TRADES).row(0, named=True)
        assert (row["observed"], row["limit"], row["is_promoted"]) == (50.0 + trades, 100.0, is_promoted)
    unknown = decided(summary_of(validation=GOOD | {"n_trades": None}), specs=blueprints_of(own))
    assert unknown.filter(gate=ENOUGH_TRADES)["is_passed"].to_list() == [False]


def test_r84_nothing_of_a_diagnostic_run_is_promoted():
    table = decided(summary_of(), run=a_run(strategy_blueprint_allow_fallback=1))
    assert table.filter(~pl.col("is_passed"))["gate"].to_list() == [PRODUCTION]
    assert not table["is_promoted"].any()
    assert decided(summary_of())["is_promoted"].all()


@pytest.mark.parametrize("gate", BEYOND_MEASURED)
def test_r91_what_is_measured_beside_the_summary_is_held_against_its_limit(gate):
    assert set(BEYOND_MEASURED) == {one.gate for one in MEASURED}
    for value, observed in ((BEYOND_MEASURED[gate], BEYOND_MEASURED[gate]), (float("nan"), None)):
        found = decided(summary_of(), known=measured(**{gate: value}))
        assert [gate] == found.filter(~pl.col("is_passed"))["gate"].to_list()
        (row,) = found.filter(gate=gate).to_dicts()
        assert (observed, False) == (row["observed"], row["is_promoted"])
        assert row["detail"].startswith("told (R91")


def test_r91_what_was_not_measured_is_insufficient_evidence():
    found = decided(summary_of(), known=MeasuredBlueprints({}, {}))
    failed = found.filter(~pl.col("is_passed"))
    assert sorted(one.gate for one in MEASURED) == failed["gate"].to_list()
    assert failed["detail"].str.starts_with("insufficient evidence").all()


def three(returns):
    """Three blueprints, best first, with the same good summary."""
    names = ("first", "second", "third")
    summary = pl.concat([summary_of(name=name) for name in names])
    found = measured(names, dict(zip(names, returns, strict=True)))
    return summary, blueprints_of(*(blueprint(name) for name in names)), found


def promoted(table):
    return set(table.filter("is_promoted")["blueprint_id"])


def test_a_double_of_a_better_blueprint_is_not_promoted_and_the_better_one_stays():
    summary, specs, known = three([DAYS[0], 3 * DAYS[0] + 0.001, DAYS[1]])
    table = decided(summary, specs=specs, known=known)
    assert {"first", "third"} == promoted(table)
    row = table.filter(blueprint_id="second", gate="diversification").row(0, named=True)
    assert row["observed"] == pytest.approx(1.0)
    assert "with first" in row["detail"]
    third = table.filter(blueprint_id="third", gate="diversification").row(0, named=True)
    assert third["observed"] == pytest.approx(float(np.corrcoef(DAYS[0], DAYS[1])[0, 1]))


def test_a_double_of_one_that_is_not_promoted_is_no_double():
    summary, specs, known = three([DAYS[0], DAYS[0], DAYS[1]])
    lost = {**known.found, ("first", "deflated_sharpe"): Found(0.5, "told")}
    assert {"second", "third"} == promoted(decided(summary, specs=specs, known=MeasuredBlueprints(lost, known.returns)))


def test_the_limit_of_the_correlation_is_the_runs_and_days_that_never_move_are_unknown():
    summary, specs, known = three([DAYS[0], DAYS[0] + DAYS[1], np.zeros(200)])
    assert {"first", "second"} == promoted(decided(summary, specs=specs, known=known))
    strict = a_run(promotion_max_correlation=0.5)
    table = decided(summary, strict, specs=specs, known=known)
    assert {"first"} == promoted(table)
    (flat,) = table.filter(blueprint_id="third", gate="diversification").to_dicts()
    assert flat["observed"] is None
    assert flat["detail"].startswith("insufficient evidence: its daily returns show no scatter")
    without = MeasuredBlueprints(known.found, {"first": DAYS[0]})
    assert {"first"} == promoted(decided(summary, specs=specs, known=without))

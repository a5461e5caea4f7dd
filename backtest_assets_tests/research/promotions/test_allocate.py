from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.research.promotions.allocate import CASH, allocate
from backtest_assets.tables.hypotheses import HYPOTHESES
from backtest_assets_tests.research.simulation.results import random_results

DONE = random_results(n_days=120, n_events=900)
NAMES = ("a", "b", "c")
SPECS = {
    spec.blueprint_id: replace(spec, lineage=replace(spec.lineage, hypothesis_id=f"hypothesis {spec.blueprint_id}"))
    for spec in map(blueprint_from_json, DONE.frames["blueprints"]["spec_json"])
}
BLUEPRINTS = DONE.frames["blueprints"].with_columns(
    spec_json=pl.col("blueprint_id").replace_strict({name: spec.to_json() for name, spec in SPECS.items()})
)


def promoted(*names: str) -> pl.DataFrame:
    return DONE.frames["promotions"].with_columns(is_promoted=pl.col("blueprint_id").is_in(names))


def trusted(**means: tuple[float | None, float | None]) -> pl.DataFrame:
    """Hypotheses with what shrinkage leaves of their net means."""
    rows = HYPOTHESES.sample(1, len(means)).with_columns(
        pl.Series("hypothesis_id", [SPECS[name].lineage.hypothesis_id for name in means]),
        pl.Series("shrunken_excess_mean_train_bps", [one[0] for one in means.values()], pl.Float64),
        pl.Series("net_mean_train_bps", [one[1] for one in means.values()], pl.Float64),
    )
    return HYPOTHESES.conform(rows)


def earning(bps: float) -> pl.DataFrame:
    """The ledger with so much more profit in every row, so that the streams have an expectation."""
    return DONE.frames["simulation_ledger"].with_columns(pl.col("net_pnl") + bps * 1e-4)


def allocated(*names: str, ledger=None, hypotheses=None, **settings: float) -> dict[str, dict[str, Any]]:
    known = trusted(**dict.fromkeys(NAMES, (10.0, 20.0))) if hypotheses is None else hypotheses
    table = allocate(
        promoted(*names), BLUEPRINTS, known, earning(2.0) if ledger is None else ledger, DONE.frames["trades"],
        run=replace(DONE.run, **settings),
    )  # fmt: skip
    return {row["blueprint_id"]: row for row in table.to_dicts()}


def weights(rows):
    return {name: row["weight"] for name, row in rows.items()}


def test_nothing_promoted_is_all_cash():
    rows = allocated()
    assert weights(rows) == {CASH: 1.0}
    assert rows[CASH]["rank"] is None


def test_one_blueprint_gets_no_more_than_the_cap_and_the_rest_is_cash():
    rows = allocated("a", allocation_kelly_fraction=1.0)
    assert weights(rows) == {"a": 0.45, CASH: pytest.approx(0.55)}
    assert (rows["a"]["bound_by"], rows["a"]["parity_weight"]) == ("max_weight", 1.0)


def test_equal_risk_shares_the_capital_and_each_adds_the_same():
    rows = allocated(*NAMES, allocation_kelly_fraction=1.0, allocation_max_weight=1.0)
    assert sum(weights(rows).values()) == pytest.approx(1.0)
    assert rows[CASH]["weight"] == pytest.approx(0.0, abs=1e-12)
    assert [rows[name]["risk_share"] for name in NAMES] == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert [rows[name]["rank"] for name in NAMES] == sorted(rows[name]["rank"] for name in NAMES)


def test_kelly_holds_back_where_little_is_expected():
    full = allocated("a", hypotheses=trusted(a=(20.0, 20.0)))["a"]
    assert full["kelly_weight"] == full["weight"] == 0.45
    little = allocated("a", hypotheses=trusted(a=(0.001, 20.0)), allocation_min_weight=0.0)["a"]
    assert little["bound_by"] == "kelly"
    variance = little["volatility_annual"] ** 2
    assert (
        little["weight"] == little["kelly_weight"] == pytest.approx(0.25 * little["expected_return_annual"] / variance)
    )
    assert little["expected_return_annual"] == pytest.approx(full["expected_return_annual"] * 0.001 / 20)
    assert allocated("a", hypotheses=trusted(a=(0.001, 20.0)))["a"]["bound_by"] == "min_weight"


@pytest.mark.parametrize(
    ("means", "reason"),
    [
        ((None, 20.0), "unknown"),
        ((5.0, None), "unknown"),
        ((-1.0, 20.0), "nothing is left"),
        ((5.0, -2.0), "nothing is left"),
    ],
)
def test_d39_what_has_no_expectation_gets_nothing_and_says_why(means, reason):
    rows = allocated("a", "b", hypotheses=trusted(a=means, b=(10.0, 20.0)))
    assert (rows["a"]["weight"], rows["a"]["bound_by"], rows["a"]["kelly_weight"]) == (0.0, "refused", None)
    assert reason in rows["a"]["reason"]
    assert rows["b"]["weight"] > 0


def test_a_loser_a_flat_stream_and_few_days_get_nothing():
    assert "nothing is left" in allocated("a", ledger=earning(-50.0))["a"]["reason"]
    flat = DONE.frames["simulation_ledger"].with_columns(net_pnl=0.0)
    assert "fewer than 30 days" in allocated("a", ledger=flat)["a"]["reason"]


def test_the_volatility_target_scales_within_the_caps():
    quiet = allocated(*NAMES, allocation_kelly_fraction=1.0, allocation_max_weight=0.3)
    risk = allocated(
        *NAMES, allocation_kelly_fraction=1.0, allocation_max_weight=0.3, allocation_volatility_target=0.01
    )
    assert {row["bound_by"] for name, row in risk.items() if name != CASH} <= {"volatility_target", "min_weight"}
    assert sum(weights(risk)[name] for name in NAMES) < sum(weights(quiet)[name] for name in NAMES)
    loud = allocated(*NAMES, allocation_kelly_fraction=1.0, allocation_max_weight=0.3, allocation_volatility_target=9.0)
    assert max(weights(loud)[name] for name in NAMES) <= 0.3
    assert loud[CASH]["weight"] >= -1e-12


def test_the_volatility_target_never_goes_beyond_kelly():
    little = trusted(**dict.fromkeys(NAMES, (0.002, 20.0)))
    asked = {"hypotheses": little, "allocation_min_weight": 0.0}
    plain = allocated(*NAMES, **asked)
    loud = allocated(*NAMES, **asked, allocation_volatility_target=9.0)
    assert any(row["bound_by"] == "kelly" for row in plain.values())
    for name in NAMES:
        assert loud[name]["weight"] <= loud[name]["kelly_weight"] + 1e-12


@pytest.mark.parametrize("most", [1.0, 1 / 3, 0.45, 0.7])
def test_weights_and_cash_are_shares_that_sum_to_one(most):
    rows = allocated(*NAMES, allocation_kelly_fraction=1.0, allocation_max_weight=most)
    assert all(0.0 <= weight <= 1.0 for weight in weights(rows).values())
    assert sum(weights(rows).values()) == pytest.approx(1.0, abs=1e-12)


def test_the_test_window_changes_nothing():
    late = pl.col("open_at") >= DONE.run.splits.windows[-1].start
    other = earning(2.0).with_columns(pl.when(late).then(pl.col("net_pnl") * -5).otherwise("net_pnl").alias("net_pnl"))
    assert allocated(*NAMES) == allocated(*NAMES, ledger=other)

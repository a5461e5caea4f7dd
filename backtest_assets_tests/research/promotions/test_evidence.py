"""What promotion measures beside the summary: published numbers, cases worked by hand, and what stays unknown."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError, TableError
from backtest_assets.research.promotions.evidence import (
    Benchmark,
    MeasuredBlueprints,
    PromotionSources,
    _deflated,
    _neighbourhood,
    _overfitting,
    _pass_rate,
    correlation,
    daily_returns,
)
from backtest_assets.stats.overfitting import approximate_maximum, overfitting_probability
from backtest_assets.stats.sharpe import annual_sharpe
from backtest_assets.tables.hypotheses import HYPOTHESES, TRIAL_COUNTS
from backtest_assets.tables.promotions import BLUEPRINT_NEIGHBOURS
from backtest_assets_tests.research.simulation.market import A, B, a_run, blueprint
from backtest_assets_tests.research.simulation.results import random_results

DONE = random_results()
SOURCES = PromotionSources.of(DONE.frames)
TRADED = (SOURCES.simulation_ledger, SOURCES.trades, SOURCES.blueprints)
MEASURED = MeasuredBlueprints.of(SOURCES, run=DONE.run)


def trades_of(rows):
    columns = {"blueprint_id": "bp", "symbol": A, "split": "train", "net_pnl": 0.0}
    return pl.DataFrame([columns | dict(zip(("symbol", "split", "net_pnl"), row, strict=True)) for row in rows])


@pytest.mark.parametrize(
    ("symbols", "rows", "expected"),
    [
        ([A, B], [(A, "train", 1.0), (B, "train", 1.0), (A, "validation", 1.0), (B, "validation", 1.0)], 1.0),
        ([A, B], [(A, "train", 1.0), (B, "train", 1.0), (A, "validation", 1.0), (B, "validation", -1.0)], 0.5),
        ([A, B], [(A, "train", 1.0), (B, "train", 1.0), (A, "validation", 1.0)], 0.5),
        ([A, B], [(A, "train", 2.0), (A, "train", -3.0), (B, "train", 1.0), (B, "validation", 1.0)], 0.5),
        ([A], [(A, "train", 1.0), (A, "validation", 1.0)], 1.0),
        ([A], [(A, "train", 1.0), (A, "validation", 0.0)], 0.0),
        ([A], [(A, "train", 1.0), (A, "test", 1.0), (A, "purged", 1.0)], 0.0),
        ([A], [], 0.0),
    ],
)
def test_d27_the_pass_rate_is_of_all_symbols_in_scope_on_the_worse_split_and_never_of_test(symbols, rows, expected):
    trades = trades_of(rows) if rows else trades_of([(A, "train", 0.0)]).clear()
    assert _pass_rate(blueprint(symbols=symbols), trades).observed == expected


def days_with(ratio, skew, kurtosis, n):
    """A series of three values with these population moments, its ratio by ddof 1."""
    # Two-sided tails of unequal weight: solved for skew and kurtosis, then shifted to the ratio.
    root = math.sqrt(4 * kurtosis - 3 * skew * skew)
    up, down = (skew + root) / 2, (skew - root) / 2
    p_up, p_down = 1 / (up * (up - down)), 1 / (down * (down - up))
    n_up, n_down = round(n * p_up), round(n * p_down)
    z = np.repeat([up, down, 0.0], [n_up, n_down, n - n_up - n_down])
    z = (z - z.mean()) / z.std(ddof=1)
    return 0.01 * (z + ratio)


def test_c3_the_deflated_ratio_of_the_published_example_in_the_convention_of_2014():
    # Annual ratio 2.5 over 1250 days of 250 a year, skew -3, kurtosis 10, 100 trials of annual variance 0.5: .9004.
    series = days_with(2.5 / math.sqrt(250), -3.0, 10.0 + 1e-6, 1250)
    shown = annual_sharpe(series)
    assert (shown.skew, shown.kurtosis) == pytest.approx((-3.0, 10.0), abs=0.15)
    held = Benchmark(100.0, math.sqrt(0.5 / 250))
    assert held.ratio == pytest.approx(0.1132, abs=5e-5)
    found = _deflated(series, held)
    assert found.observed == pytest.approx(0.9004, abs=0.004)
    assert "against 0 the probability is 1" in found.detail
    assert "100 independent trials" in found.detail


def test_the_deflated_ratio_is_of_calendar_days_and_unknown_without_trials_or_scatter():
    series = np.random.default_rng(3).normal(0.001, 0.01, 500)
    known = Benchmark(10.0, 1 / math.sqrt(300))
    half = _deflated(np.concatenate([series, np.zeros(500)]), known).observed
    assert half < _deflated(series, known).observed
    for returns, held in (
        (series, Benchmark(math.nan, 0.05)),
        (series, Benchmark(0.0, 0.05)),
        (series, Benchmark(10.0, math.nan)),
        (np.zeros(500), known),
    ):
        found = _deflated(returns, held)
        assert math.isnan(found.observed)
        assert found.detail.startswith("insufficient evidence")


def benchmark_of(t_before_costs, *, trials: float | None = 50.0, run=None):
    run = run or a_run(1000)
    n = len(t_before_costs)
    tested = HYPOTHESES.sample(1, n).with_columns(
        is_eligible=pl.lit(value=True),
        se_train_bps=pl.lit(2.0),
        excess_mean_train_bps=2.0 * pl.Series(t_before_costs, dtype=pl.Float64) - run.cost.round_trip_bps,
    )
    counts = TRIAL_COUNTS.sample(1, 2).with_columns(effective_trials_all=pl.lit(trials, pl.Float64))
    return Benchmark.of(tested, counts, run=run)


def test_the_benchmark_is_what_the_luckiest_of_all_runs_trials_shows_per_day_of_train():
    n_train = a_run(1000).splits[Split.TRAIN].n_days
    normal = np.random.default_rng(5).normal(0, 1, 4001)
    held = benchmark_of(normal)
    assert held.deviation == pytest.approx(1 / math.sqrt(n_train), rel=0.05)
    assert held.ratio == pytest.approx(held.deviation * approximate_maximum(50.0))
    wide = benchmark_of(3 * normal)
    assert wide.deviation == pytest.approx(3 / math.sqrt(n_train), rel=0.05)
    assert benchmark_of(0.1 * normal).deviation == 1 / math.sqrt(n_train)


def test_an_edge_that_was_asked_for_in_many_ways_is_not_taken_for_luck():
    nothing = np.random.default_rng(5).normal(0, 1, 900)
    edge = np.concatenate([nothing, np.full(20, 8.0), np.full(20, -8.0)])
    assert edge.var() > 3
    assert benchmark_of(edge).deviation < 1.15 * benchmark_of(nothing).deviation


def test_without_a_count_or_a_test_the_benchmark_is_unknown():
    assert math.isnan(benchmark_of([1.0, 2.0], trials=None).ratio)
    assert math.isnan(benchmark_of([]).ratio)
    said = TRIAL_COUNTS.sample(1, 2)
    assert math.isnan(Benchmark.of(HYPOTHESES.sample(1, 2), said.clear(), run=a_run(1000)).ratio)


def beside(own, **others: tuple[float | None, float | None]):
    """Neighbours by net per day on train and validation."""
    rows = [
        ("bp", name, split, "", 1, 1, value, value)
        for name, pair in {"centre": own, **others}.items()
        for split, value in zip(("train", "validation"), pair, strict=True)
        if value is not None
    ]
    texts = {name: BLUEPRINT_NEIGHBOURS.schema[name] for name in ("blueprint_id", "neighbour", "split", "change")}
    numbers = {name: BLUEPRINT_NEIGHBOURS.schema[name] for name in ("n_trades", "n_days", "net_pnl", "net_per_day")}
    return BLUEPRINT_NEIGHBOURS.conform(pl.DataFrame(rows, schema=texts | numbers, orient="row"))


@pytest.mark.parametrize(
    ("frame", "share", "positive"),
    [
        (beside((4.0, 2.0), up=(3.0, 1.0), down=(5.0, 2.0)), 0.5, 1.0),
        (beside((4.0, 2.0), up=(1.0, 2.0), down=(5.0, 2.0)), 0.25, 1.0),
        (beside((4.0, 2.0), up=(-1.0, 2.0), down=(5.0, 2.0)), -0.25, 0.5),
        (beside((4.0, -2.0), up=(3.0, -1.0), down=(5.0, -3.0)), None, 0.0),
        (beside((4.0, 0.0), up=(3.0, 1.0)), None, 1.0),
        (beside((4.0, 2.0)), None, None),
        (beside((4.0, None), up=(3.0, 1.0)), None, None),
        (beside((4.0, 2.0), up=(3.0, None), down=(5.0, 2.0)), None, 0.5),
    ],
)
def test_d36_the_worst_neighbour_is_held_per_day_against_the_blueprints_own(frame, share, positive):
    found = dict(_neighbourhood(frame))
    observed = {gate: None if math.isnan(one.observed) else one.observed for gate, one in found.items()}
    assert observed == {"parameter_neighbourhood": share, "positive_neighbours": positive}
    assert all(one.detail.startswith("insufficient evidence") for one in found.values() if math.isnan(one.observed))


def test_c4_the_share_of_halves_is_the_statistics_and_unknown_below_two_hypotheses():
    series = np.random.default_rng(12345).standard_normal((1000, 20)) * 0.01
    series[:, 0] += 0.001
    found = _overfitting(overfitting_probability(series, n_blocks=8))
    assert found.observed == pytest.approx(20 / 70)
    assert "70 halves" in found.detail
    assert math.isnan(_overfitting(overfitting_probability(series[:, :1], n_blocks=8)).observed)


def test_daily_returns_are_the_compounded_bars_of_the_ledger_on_every_day_of_both_splits():
    run, returns = DONE.run, daily_returns(*TRADED, run=DONE.run)
    for name in ("a", "b", "c"):
        expected: list[float] = []
        for split in (Split.TRAIN, Split.VALIDATION):
            window = run.splits[split]
            own = DONE.frames["trades"].filter(blueprint_id=name, split=split.value)["trade_id"].implode()
            rows = DONE.frames["simulation_ledger"].filter(pl.col("trade_id").is_in(own))
            by_bar = dict(rows.group_by("open_at").agg(pl.col("net_pnl").sum()).iter_rows())
            for number in range(window.n_days):
                day = (window.start.date().toordinal() + number,)
                grown = [1 + pnl for at, pnl in by_bar.items() if (at.date().toordinal(),) == day]
                expected.append(math.prod(grown) - 1)
        np.testing.assert_allclose(returns[name], expected, rtol=1e-9, atol=1e-15)
        np.testing.assert_array_equal(MEASURED.returns[name], returns[name])


def test_correlation_is_pearsons_and_unknown_where_a_series_never_moves():
    left, right = np.random.default_rng(2).normal(size=(2, 100))
    assert correlation(left, right) == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert math.isnan(correlation(left, np.ones(100)))


def test_the_test_window_is_never_asked():
    is_test = pl.col("split") == "test"
    trades = DONE.frames["trades"].with_columns(net_pnl=pl.when(is_test).then(9.0).otherwise("net_pnl"))
    late = trades.filter(split="test")["trade_id"].implode()
    hit = pl.col("trade_id").is_in(late)
    ledger = DONE.frames["simulation_ledger"].with_columns(net_pnl=pl.when(hit).then(9.0).otherwise("net_pnl"))
    again = MeasuredBlueprints.of(replace(SOURCES, trades=trades, simulation_ledger=ledger), run=DONE.run)
    assert trades["net_pnl"].max() == 9.0
    assert str(MEASURED.found) == str(again.found)
    for name, own in MEASURED.returns.items():
        np.testing.assert_array_equal(own, again.returns[name])


def test_what_is_missing_or_of_other_costs_is_refused_and_nothing_executed_is_nothing_measured():
    with pytest.raises(TableError, match="blueprint_neighbours are missing"):
        PromotionSources.of({name: f for name, f in DONE.frames.items() if name != "blueprint_neighbours"})
    with pytest.raises(RefusedError, match="was judged with fees"):
        MeasuredBlueprints.of(SOURCES, run=a_run(60, fees_bps=1.0))
    idle = DONE.frames["blueprints"].with_columns(is_executed=pl.lit(value=False))
    assert MeasuredBlueprints({}, {}) == MeasuredBlueprints.of(replace(SOURCES, blueprints=idle), run=DONE.run)

"""The report's test interval: the days on which trades were held are its clusters."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
from scipy import stats

from backtest_assets.errors import RefusedError
from backtest_assets.research.report.inputs import Execution
from backtest_assets.research.report.performance import MIN_DAYS_FOR_INTERVAL, expectancy_grid
from backtest_assets.research.report.verdict import Judgement, Tone
from backtest_assets.tables.simulation import SIMULATION_LEDGER, TRADES
from backtest_assets_tests.research.report.scenes import BAR, a_run, execution_of, inputs_of

START = datetime(2024, 1, 1, tzinfo=UTC)
EXECUTION: Final = execution_of(inputs_of(a_run()))
ONE = Judgement(Tone.NO, "", "", (), (), ("a",))
EXPOSURE = 0.25
N_DAYS, HOLD, PER_DAY, N_WORLDS = 60, 192, 3, 400
NOMINAL = 0.05


def executed(entries, nets, *, step: int = 1) -> Execution:
    """Trades of one blueprint in the test window, entered at rows `entries` with P&L `nets` [share of notional] by bar."""
    entries = np.asarray(entries)
    lengths = np.array([len(net) for net in nets])
    owner = np.repeat(np.arange(lengths.size), lengths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = pl.Series(entries[owner] + place * step) * BAR + pl.lit(START, pl.Datetime("us", "UTC"))
    book = pl.select(
        open_at=at, trade_id=pl.Series(owner).cast(pl.String), net_pnl=pl.Series(np.concatenate(nets)) * EXPOSURE
    ).with_columns(symbol="trade_id", blueprint_id=pl.lit("a"))
    trades = book.group_by("trade_id", "symbol", "blueprint_id", maintain_order=True).agg(
        pl.lit("test").first().alias("split"),
        entered_at=pl.col("open_at").first(),
        exited_at=pl.col("open_at").last(),
        net_pnl=pl.col("net_pnl").sum(),
    )
    return replace(
        EXECUTION,
        simulation_ledger=filled(SIMULATION_LEDGER, book),
        trades=filled(TRADES, trades.with_columns(exposure=pl.lit(EXPOSURE))),
    )


def filled(table, frame: pl.DataFrame) -> pl.DataFrame:
    return table.conform(
        frame.with_columns(pl.lit(1).cast(t).alias(n) for n, t in table.schema.items() if n not in frame.columns)
    )


def told(execution: Execution) -> list[Any]:
    """Mean and both ends of the interval; None where unknown."""
    rows = {row.item: row.observed for row in expectancy_grid(execution, ONE, floors_bps={}).rows()}
    return [rows[f"a/test/{name}"] for name in ("expectancy", "expectancy_low", "expectancy_high")]


def by_hand(entries, nets):
    """Day by day: a trade's P&L on the days of its bars, its exit bar with the bar before."""
    sums: dict[int, float] = {}
    shares: dict[int, float] = {}
    for entry, net in zip(entries, nets, strict=True):
        n_held = max(len(net) - 1, 1)
        for i, part in enumerate(net):
            day = (entry + min(i, n_held - 1)) // 96
            sums[day] = sums.get(day, 0.0) + 1e4 * part
            shares[day] = shares.get(day, 0.0) + (i < n_held) / n_held
    mean, g = sum(sums.values()) / len(nets), len(sums)
    squares = sum((sums[day] - mean * shares[day]) ** 2 for day in sums)
    half = stats.t.ppf(0.975, g - 1) * (squares * g / (g - 1)) ** 0.5 / len(nets)
    return mean, mean - half, mean + half


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_the_one_by_hand(seed):
    rng = np.random.default_rng(seed)
    entries = np.sort(rng.integers(0, 40 * 96, 70))
    nets = [rng.normal(1e-4, 1e-3, rng.integers(1, 300)) for _ in entries]
    np.testing.assert_allclose(by_hand(entries, nets), told(executed(entries, nets)), rtol=1e-9)


def test_holds_that_never_leave_their_day_give_the_interval_of_a_t_test():
    results = np.random.default_rng(3).normal(1e-3, 1e-2, 30)
    nets = [np.array([result, 0.0, -1e-4]) for result in results]
    low, high = stats.ttest_1samp(1e4 * (results - 1e-4), 0.0).confidence_interval()
    np.testing.assert_allclose([float(low), float(high)], told(executed(np.arange(30) * 96, nets))[1:], rtol=1e-9)


@pytest.mark.parametrize("n_days", [MIN_DAYS_FOR_INTERVAL - 1, MIN_DAYS_FOR_INTERVAL])
def test_days_held_are_counted_and_an_exit_at_midnight_holds_no_new_day(n_days):
    nets = list(np.random.default_rng(5).normal(1e-3, 1e-2, (n_days, 5)))
    mean, *interval = told(executed(np.arange(n_days) * 192 + 92, nets))
    assert mean is not None
    assert (n_days < MIN_DAYS_FOR_INTERVAL) is (interval == [None, None])


def test_one_long_hold_has_as_many_days_as_it_was_held():
    net = np.random.default_rng(6).normal(1e-5, 1e-3, 96 * MIN_DAYS_FOR_INTERVAL + 1)
    assert None not in told(executed([0], [net]))
    assert [None, None] == told(executed([0], [net[:-96]]))[1:]


def test_without_scatter_nothing_is_known_of_luck():
    assert [None, None] == told(executed(np.arange(20) * 96, [np.array([1e-3, 0.0])] * 20))[1:]


def test_a_trade_without_a_bar_is_refused():
    made = executed(np.arange(20) * 96, [np.array([1e-3, 0.0])] * 20)
    with pytest.raises(RefusedError, match="1 test trades, 7 first, have no bar in simulation_ledger"):
        told(replace(made, simulation_ledger=made.simulation_ledger.filter(pl.col("trade_id") != "7")))


def test_overlapping_holds_of_a_martingale_are_covered_as_often_as_it_says():
    rng, step = np.random.default_rng(11), 4
    n_missed = n_missed_by_exit_day = 0
    for _ in range(N_WORLDS):
        moves = rng.normal(0.0, 3e-3, (N_DAYS * 96 + HOLD) // step + 1)
        entries = np.sort(rng.integers(0, N_DAYS * 96 // step, PER_DAY * N_DAYS))
        nets = [np.append(moves[e : e + HOLD // step], 0.0) for e in entries]
        _, low, high = told(executed(entries * step, nets, step=step))
        assert low is not None
        assert high is not None
        n_missed += not low <= 0.0 <= high
        n_missed_by_exit_day += not covers_by_exit_day(entries * step + HOLD, np.array([net.sum() for net in nets]))
    slack = 3.0 * (NOMINAL * (1.0 - NOMINAL) / N_WORLDS) ** 0.5
    assert abs(n_missed / N_WORLDS - NOMINAL) < slack
    assert n_missed_by_exit_day / N_WORLDS > NOMINAL + slack


def covers_by_exit_day(exits, results) -> bool:
    sums = np.bincount(exits // 96, weights=results - results.mean())
    g = np.unique(exits // 96).size
    half = stats.t.ppf(0.975, g - 1) * np.sqrt((sums**2).sum() * g / (g - 1)) / results.size
    return bool(abs(results.mean()) <= half)

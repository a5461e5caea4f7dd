"""Growth, Calmar and Sortino."""

import math

import numpy as np
import pytest

from backtest_assets.stats.growth import annual_growth, calmar_ratio, sortino_ratio

ROLLINGER_HOFFMAN = np.array([17.0, 15.0, 23.0, -5.0, 12.0, 9.0, 13.0, -4.0]) / 100
"""Annual returns of "Sortino: a sharper ratio" (2013): target 0, ratio 4.417."""


def test_the_example_of_rollinger_and_hoffman():
    assert 4.417 == pytest.approx(sortino_ratio(ROLLINGER_HOFFMAN, days_per_year=1), abs=5e-4)


def test_sortino_is_annualised_by_the_root_and_counts_all_days_in_its_deviation():
    days = np.array([0.01, -0.02, 0.0, 0.03])
    expected = 0.005 / math.sqrt(0.0004 / 4) * math.sqrt(365)
    assert expected == pytest.approx(sortino_ratio(days), rel=1e-14)


def test_symmetric_returns_around_zero_mean_collapse_to_root_two_of_the_population_sharpe_ratio():
    days = np.random.default_rng(1).normal(0, 0.01, 4000)
    both = np.concatenate([days, -days]) + 1e-5
    sharpe = both.mean() / both.std() * math.sqrt(365)
    assert math.sqrt(2) * sharpe == pytest.approx(sortino_ratio(both), rel=2e-3)


@pytest.mark.parametrize("days", [[], [0.0, 0.0], [0.01, 0.02, 0.0]])
def test_without_a_losing_day_there_is_no_sortino_ratio(days):
    assert math.isnan(sortino_ratio(np.array(days, dtype=np.float64)))


@pytest.mark.parametrize(
    ("ending", "n_days", "expected"), [(1.21, 730, 0.1), (1.1, 365, 0.1), (0.0, 40, -1.0), (1.0, 7, 0.0), (0.81, 730, -0.1)]
)  # fmt: skip
def test_growth_compounds_to_the_ending_equity(ending, n_days, expected):
    assert expected == pytest.approx(annual_growth(ending, n_days), abs=1e-15)


def test_growth_of_no_day_is_unknown_and_beyond_all_numbers_infinite():
    assert math.isnan(annual_growth(1.5, 0))
    assert math.inf == annual_growth(1e300, 1)


@pytest.mark.parametrize("ending", [-0.1, math.nan, math.inf])
def test_an_equity_that_cannot_be_is_refused(ending):
    with pytest.raises(ValueError, match="ending_equity"):
        annual_growth(ending, 30)


def test_calmar_is_growth_per_drawdown_and_unknown_without_one():
    assert 1.2 == calmar_ratio(0.3, -0.25)
    assert -0.5 == calmar_ratio(-0.125, -0.25)
    assert math.isnan(calmar_ratio(0.3, 0.0))
    with pytest.raises(ValueError, match="at most 0"):
        calmar_ratio(0.3, 0.2)

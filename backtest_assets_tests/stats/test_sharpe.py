"""Sharpe ratios."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.sharpe import annual_sharpe, probabilistic_sharpe_ratio

# statistics.md C1, 2012 convention.


@pytest.mark.parametrize(
    ("n", "skew", "kurtosis", "expected"),
    [(24, 0.0, 3.0, 0.9817), (24, -2.448, 10.164, 0.9134), (36, -2.448, 10.164, 0.9535)],
)
def test_the_hedge_fund_of_bailey_and_lopez_de_prado(n, skew, kurtosis, expected):
    assert expected == pytest.approx(probabilistic_sharpe_ratio(0.458, n, skew, kurtosis), abs=5e-5)


# Brute force.


def test_the_estimate_equals_scipys_moments():
    x = np.random.default_rng(1).standard_t(5, 300) * 0.01 + 0.001
    result = annual_sharpe(x, confidence=0.9)
    daily, skew, kurtosis = (
        float(v) for v in (x.mean() / x.std(ddof=1), stats.skew(x), stats.kurtosis(x, fisher=False))
    )
    half = float(stats.norm.ppf(0.95)) * math.sqrt((1 - skew * daily + (kurtosis - 1) / 4 * daily**2) / 299)
    year = math.sqrt(365)
    expected = (daily * year, (daily - half) * year, (daily + half) * year, daily, skew, kurtosis, 300)
    actual = (
        result.annual,
        result.annual_low,
        result.annual_high,
        result.daily,
        result.skew,
        result.kurtosis,
        result.n_days,
    )
    np.testing.assert_allclose(expected, actual, rtol=1e-10)


# Collapse to known cases.


def test_the_lower_end_is_the_benchmark_of_probability_975():
    x = np.random.default_rng(2).standard_t(5, 300) * 0.01 + 0.001
    result = annual_sharpe(x)
    benchmark = result.annual_low / math.sqrt(365)
    actual = probabilistic_sharpe_ratio(result.daily, 300, result.skew, result.kurtosis, benchmark=benchmark)
    assert pytest.approx(actual, abs=1e-12) == 0.975


def test_normal_moments_give_the_error_of_lo():
    # Lo (2002): sqrt((1 + SR^2 / 2) / n), here with n - 1.
    z = (0.3 - 0.1) / math.sqrt((1 + 0.3**2 / 2) / 99)
    assert stats.norm.cdf(z) == pytest.approx(probabilistic_sharpe_ratio(0.3, 100, 0.0, 3.0, benchmark=0.1), abs=1e-14)


def test_at_the_benchmark_the_probability_is_one_half():
    assert probabilistic_sharpe_ratio(0.2, 50, -1.0, 6.0, benchmark=0.2) == 0.5


def test_capital_does_not_matter_and_the_year_scales():
    x = np.random.default_rng(3).normal(0.001, 0.01, 200)
    assert annual_sharpe(x).annual == pytest.approx(annual_sharpe(1e6 * x).annual, rel=1e-12)
    expected = annual_sharpe(x, days_per_year=1).annual * math.sqrt(250)
    assert expected == pytest.approx(annual_sharpe(x, days_per_year=250).annual, rel=1e-12)


# Edges.


@pytest.mark.parametrize("x", [np.array([]), np.array([0.1, 0.2]), np.full(30, 0.01)])
def test_what_cannot_be_known_is_nan(x):
    result = annual_sharpe(x)
    values = (result.annual, result.annual_low, result.annual_high, result.daily, result.skew, result.kurtosis)
    np.testing.assert_array_equal(np.full(6, np.nan), values)
    assert x.size == result.n_days


def test_an_unknown_input_gives_an_unknown_probability():
    assert math.isnan(probabilistic_sharpe_ratio(math.nan, 24, 0.0, 3.0))
    assert math.isnan(probabilistic_sharpe_ratio(0.1, 24, math.nan, 3.0))
    assert math.isnan(probabilistic_sharpe_ratio(1.0, 24, 2.0, 5.0))  # 1 - 2 + 1: no error at all


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="n_observations is 1"):
        probabilistic_sharpe_ratio(0.1, 1, 0.0, 3.0)
    with pytest.raises(ValueError, match="raw kurtosis"):
        probabilistic_sharpe_ratio(0.1, 24, 0.0, 0.0)
    with pytest.raises(ValueError, match="confidence"):
        annual_sharpe(np.arange(5.0), confidence=1.0)
    with pytest.raises(ValueError, match="NaN"):
        annual_sharpe(np.array([0.1, np.nan, 0.2]))


# Monte Carlo.


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    truth = 0.1 * math.sqrt(365)
    estimates = [annual_sharpe(rng.standard_t(8, 250) * math.sqrt(6 / 8) + 0.1) for _ in range(1_500)]
    covered = np.mean([e.annual_low <= truth <= e.annual_high for e in estimates])
    assert pytest.approx(covered, abs=0.018) == 0.95

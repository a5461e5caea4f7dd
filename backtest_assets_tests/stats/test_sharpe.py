"""Sharpe ratios."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.overfitting import approximate_maximum, maximum_moments
from backtest_assets.stats.sharpe import (
    annual_sharpe,
    deflated_sharpe_ratio,
    deflated_sharpe_ratio_at_benchmark,
    minimum_track_record,
    minimum_track_record_at_benchmark,
    probabilistic_sharpe_ratio,
    probabilistic_sharpe_ratio_at_benchmark,
    sharpe_variance,
)

FUND = 0.036 / 0.079
MOMENTS = (-2.448, 10.164)
"""Monthly ratio, skew and kurtosis of the hedge fund in both papers; 24 months."""

# statistics.md C1, 2012 convention.


@pytest.mark.parametrize(
    ("n", "skew", "kurtosis", "expected"),
    [(24, 0.0, 3.0, 0.9817), (24, -2.448, 10.164, 0.9134), (36, -2.448, 10.164, 0.9535)],
)
def test_the_hedge_fund_of_bailey_and_lopez_de_prado(n, skew, kurtosis, expected):
    assert expected == pytest.approx(probabilistic_sharpe_ratio(0.458, n, skew, kurtosis), abs=5e-5)


# statistics.md C1, 2026 convention.


@pytest.mark.parametrize(
    ("benchmark", "rho", "expected"),
    [(0.0, 0.0, 0.98721), (0.1, 0.0, 0.93915), (0.0, 0.2, 0.96583), (0.1, 0.2, 0.90048)],
)
def test_the_same_fund_with_the_variance_at_the_benchmark(benchmark, rho, expected):
    actual = probabilistic_sharpe_ratio_at_benchmark(FUND, 24, *MOMENTS, benchmark=benchmark, rho=rho)
    assert expected == pytest.approx(actual, abs=5e-6)


def test_the_standard_error_at_the_ratio_itself():
    found = [math.sqrt(sharpe_variance(FUND, *moments) / 24) for moments in (MOMENTS, (0.0, 3.0))]
    assert found == pytest.approx([0.3286, 0.2145], abs=5e-5)


# statistics.md C2.


@pytest.mark.parametrize(
    ("per_year", "skew", "kurtosis", "years"),
    [(252, 0.0, 3.0, 2.731), (52, 0.0, 3.0, 2.829), (12, 0.0, 3.0, 3.240), (12, -0.72, 5.78, 4.991)],
)
def test_years_until_a_ratio_of_two_beats_one(per_year, skew, kurtosis, years):
    root = math.sqrt(per_year)
    actual = minimum_track_record(2 / root, skew, kurtosis, benchmark=1 / root) / per_year
    assert years == pytest.approx(actual, abs=5e-4)


def test_months_until_the_fund_is_believed():
    assert minimum_track_record(0.458, *MOMENTS) == pytest.approx(34.56, abs=5e-3)
    assert minimum_track_record(0.458, 0.0, 3.0) == pytest.approx(15.25, abs=5e-3)
    grid = [(benchmark, rho) for rho in (0.0, 0.2) for benchmark in (0.0, 0.1)]
    found = [minimum_track_record_at_benchmark(FUND, *MOMENTS, benchmark=b, rho=r) for b, r in grid]
    assert found == pytest.approx([13.0288, 27.1092, 19.543, 39.369], abs=5e-4)


def test_a_record_of_the_least_length_is_just_believed():
    n = minimum_track_record(0.2, -0.5, 5.0, confidence=0.9)
    error = math.sqrt((1 + 0.5 * 0.2 + 0.2**2) / (n - 1))
    assert stats.norm.cdf(0.2 / error) == pytest.approx(0.9)
    assert math.inf == minimum_track_record(0.1, 0.0, 3.0, benchmark=0.1)
    assert math.inf == minimum_track_record_at_benchmark(0.1, 0.0, 3.0, benchmark=0.2)


# statistics.md C3.


@pytest.mark.parametrize(
    ("n_trials", "skew", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505), (100, 0.0, 3.0, 0.9428)],
)
def test_the_deflated_ratio_of_the_paper(n_trials, skew, kurtosis, expected):
    sharpe, variance = 2.5 / math.sqrt(250), 0.5 / 250
    actual = deflated_sharpe_ratio(sharpe, 1250, skew, kurtosis, n_trials=n_trials, trials_variance=variance)
    assert expected == pytest.approx(actual, abs=5e-5)


def test_the_ratio_that_the_best_of_a_hundred_trials_must_beat():
    # .1132 per day: there the deflated ratio is one half.
    half = deflated_sharpe_ratio(0.113172, 1250, -3.0, 10.0, n_trials=100, trials_variance=0.5 / 250)
    assert half == pytest.approx(0.5, abs=1e-5)


def test_the_deflated_ratio_of_the_fund_with_the_variance_of_the_maximum():
    actual = deflated_sharpe_ratio_at_benchmark(FUND, 24, *MOMENTS, n_trials=10, trials_variance=0.1)
    assert pytest.approx(actual, abs=2e-5) == 0.41636
    # Without that factor it is the plain probability at the same benchmark; the exact maximum moves it once more.
    found = [
        probabilistic_sharpe_ratio_at_benchmark(FUND, 24, *MOMENTS, benchmark=math.sqrt(0.1) * maximum)
        for maximum in (approximate_maximum(10), maximum_moments(10)[0])
    ]
    assert found[0] == pytest.approx(0.45068, abs=2e-5)
    assert pytest.approx(math.sqrt(0.1) * approximate_maximum(10), abs=5e-5) == 0.4979


def test_one_trial_deflates_nothing():
    one = deflated_sharpe_ratio(0.1, 500, -0.5, 5.0, n_trials=1, trials_variance=0.3)
    assert one == probabilistic_sharpe_ratio(0.1, 500, -0.5, 5.0)
    late = deflated_sharpe_ratio_at_benchmark(0.1, 500, -0.5, 5.0, n_trials=1, trials_variance=0.3)
    assert late == pytest.approx(probabilistic_sharpe_ratio_at_benchmark(0.1, 500, -0.5, 5.0), abs=1e-9)


def test_power_and_false_discoveries_of_the_fund():
    # Level .05, alternative .5, one in twenty funds skilled; the errors are those of `sharpe_variance`.
    error = {at: math.sqrt(sharpe_variance(at, *MOMENTS) / 24) for at in (0.0, 0.5)}
    critical = float(stats.norm.isf(0.05)) * error[0.0]
    missed = float(stats.norm.cdf((critical - 0.5) / error[0.5]))
    assert (0.33575, 0.3152) == pytest.approx((critical, missed), abs=5e-5)
    assert 0.05 * 0.95 / (0.05 * 0.95 + (1 - missed) * 0.05) == pytest.approx(0.5811, abs=5e-5)
    p = 1 - probabilistic_sharpe_ratio_at_benchmark(FUND, 24, *MOMENTS)
    seen = float(stats.norm.sf((FUND - 0.5) / error[0.5]))
    assert p * 0.95 / (p * 0.95 + seen * 0.05) == pytest.approx(0.3059, abs=5e-5)


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


def test_the_later_convention_is_closed_too():
    assert math.isnan(probabilistic_sharpe_ratio_at_benchmark(math.nan, 24, 0.0, 3.0))
    assert math.isnan(probabilistic_sharpe_ratio_at_benchmark(0.1, 24, math.nan, 3.0))
    assert math.isnan(minimum_track_record(math.nan, 0.0, 3.0))
    assert math.isnan(deflated_sharpe_ratio(0.1, 24, 0.0, 3.0, n_trials=5, trials_variance=math.nan))
    with pytest.raises(ValueError, match="rho"):
        sharpe_variance(0.1, 0.0, 3.0, rho=1.0)
    with pytest.raises(ValueError, match="raw kurtosis"):
        minimum_track_record(0.1, 0.0, 0.5)
    with pytest.raises(ValueError, match="n_observations is 1"):
        deflated_sharpe_ratio_at_benchmark(0.1, 1, 0.0, 3.0, n_trials=5, trials_variance=0.1)
    with pytest.raises(ValueError, match="trials_variance"):
        deflated_sharpe_ratio(0.1, 24, 0.0, 3.0, n_trials=5, trials_variance=-0.1)
    with pytest.raises(ValueError, match="confidence"):
        minimum_track_record(0.2, 0.0, 3.0, confidence=1.0)


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

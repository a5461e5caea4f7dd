"""The line of a series on another."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.market_line import market_line

RNG = np.random.default_rng(12345)
MARKET = RNG.standard_normal(60) * 0.02
NOISE = RNG.standard_normal(60) * 0.01
for _i in range(1, 60):
    NOISE[_i] += 0.5 * NOISE[_i - 1]
RETURNS = 0.001 + 0.4 * MARKET + NOISE

# statsmodels 0.15.0: OLS(RETURNS, add_constant(MARKET)).fit(cov_type="HAC", cov_kwds={"maxlags": L, "use_correction": True})
STATSMODELS = {0: 0.0015039604540423566, 3: 0.002394866024262343, 8: 0.002930123598110237}


@pytest.mark.parametrize("lags", STATSMODELS)
def test_the_error_of_the_intercept_is_that_of_statsmodels(lags):
    line = market_line(RETURNS, MARKET, n_lags=lags)
    assert pytest.approx(0.0007061449384559934, rel=1e-12) == line.alpha
    assert pytest.approx(0.4527090170909299, rel=1e-12) == line.beta
    assert pytest.approx(0.6212539803802992, rel=1e-12) == line.correlation
    assert pytest.approx(STATSMODELS[lags], rel=1e-12) == line.alpha_error


def test_slope_and_intercept_are_those_of_scipy_whatever_the_lags():
    expected = stats.linregress(MARKET, RETURNS)
    found = [market_line(RETURNS, MARKET, n_lags=lags) for lags in (0, 5)]
    for line in found:
        assert pytest.approx((expected.slope, expected.intercept, expected.rvalue)) == (
            line.beta,
            line.alpha,
            line.correlation,
        )


def test_the_sandwich_written_out_gives_the_same_error():
    x = np.column_stack([np.ones(60), MARKET])
    bread = np.linalg.inv(x.T @ x)
    scores = x * (RETURNS - x @ (bread @ x.T @ RETURNS))[:, None]
    meat = scores.T @ scores
    for lag in range(1, 5):
        of_lag = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / 5) * (of_lag + of_lag.T)
    error = math.sqrt((bread @ meat @ bread)[0, 0] * 60 / 58)
    assert pytest.approx(error, rel=1e-12) == market_line(RETURNS, MARKET, n_lags=4).alpha_error


def test_the_lags_are_those_of_newey_and_west():
    assert (4, 3) == (market_line(np.tile(RETURNS, 4)[:202], np.tile(MARKET, 4)[:202]).n_lags, market_line(RETURNS, MARKET).n_lags)  # fmt: skip


def test_a_multiple_of_the_market_has_its_factor_as_beta_and_no_alpha():
    line = market_line(1.5 * MARKET, MARKET)
    assert pytest.approx((1.5, 1.0)) == (line.beta, line.correlation)
    assert abs(line.alpha) < 1e-17


def test_intervals_of_alpha_cover_it_as_often_as_they_say_though_days_hang_together():
    rng, n_worlds, n_missed = np.random.default_rng(4), 600, 0
    for _ in range(n_worlds):
        noise = np.convolve(rng.standard_normal(504), np.full(5, 0.2), mode="valid")
        market = rng.standard_normal(500)
        line = market_line(0.3 + 0.7 * market + noise, market, n_lags=12)
        n_missed += abs(line.alpha - 0.3) > 1.96 * line.alpha_error
    assert 0.03 < n_missed / n_worlds < 0.10


@pytest.mark.parametrize(
    ("returns", "market"),
    [
        ([0.1, 0.2], [0.1, 0.3]),
        ([0.0, 0.0, 0.0, 0.0], [0.1, 0.3, 0.2, 0.1]),
        ([0.1, 0.3, 0.2, 0.1], [0.2, 0.2, 0.2, 0.2]),
        ([], []),
    ],
)
def test_too_few_days_or_a_series_that_never_moves_give_no_line(returns, market):
    line = market_line(np.array(returns), np.array(market))
    assert all(math.isnan(value) for value in (line.alpha, line.alpha_error, line.beta, line.correlation))
    assert len(returns) == line.n_days


def test_unequal_days_unknown_days_and_negative_lags_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        market_line(RETURNS, MARKET[1:])
    with pytest.raises(ValueError, match="NaN"):
        market_line(np.append(RETURNS[1:], math.nan), MARKET)
    with pytest.raises(ValueError, match="n_lags"):
        market_line(RETURNS, MARKET, n_lags=-1)

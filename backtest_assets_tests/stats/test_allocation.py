import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from backtest_assets.stats.allocation import kelly, risk_parity, risk_shares, shrunk_covariance, water_filled

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def random_covariance(seed, n=4):
    factor = np.random.default_rng(seed).normal(size=(n, n + 3)) * np.linspace(0.5, 2.0, n)[:, None]
    return factor @ factor.T / (n + 3)


@few
@given(SEEDS)
def test_the_intensity_is_the_papers_said_day_by_day(seed):
    returns = np.random.default_rng(seed).normal(size=(60, 5)) * [0.5, 1, 1, 2, 3]
    centred = returns - returns.mean(axis=0)
    sample = sum(np.outer(day, day) for day in centred) / 60
    target = np.trace(sample) / 5 * np.eye(5)
    wide = np.linalg.norm(sample - target) ** 2
    noise = min(sum(np.linalg.norm(np.outer(day, day) - sample) ** 2 for day in centred) / 60**2, wide)
    found = shrunk_covariance(returns)
    assert found.intensity == pytest.approx(noise / wide)
    assert found.matrix == pytest.approx(noise / wide * target + (1 - noise / wide) * sample)


def test_shrinking_beats_the_sample_where_streams_are_many_and_days_few():
    true = random_covariance(3, n=30)
    returns = np.random.default_rng(0).multivariate_normal(np.zeros(30), true, size=25)
    shrunk, sample = shrunk_covariance(returns).matrix, np.cov(returns.T, ddof=0)
    assert np.linalg.norm(shrunk - true) < 0.8 * np.linalg.norm(sample - true)
    assert np.linalg.matrix_rank(sample) < 30 == np.linalg.matrix_rank(shrunk)


def test_one_stream_is_not_shrunk_and_one_that_never_moves_has_no_variance():
    assert shrunk_covariance(np.array([[1.0], [3.0]])).matrix.tolist() == [[1.0]]
    assert shrunk_covariance(np.zeros((5, 2))).matrix.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_two_streams_are_weighted_by_inverse_volatility_whatever_their_correlation():
    for correlation in (-0.5, 0.0, 0.9):
        covariance = np.array([[0.04, correlation * 0.06], [correlation * 0.06, 0.09]])
        assert risk_parity(covariance) == pytest.approx([0.6, 0.4])


@few
@given(SEEDS)
def test_every_stream_adds_the_same_risk(seed):
    covariance = random_covariance(seed)
    weights = risk_parity(covariance)
    assert weights.sum() == pytest.approx(1.0)
    assert risk_shares(weights, covariance) == pytest.approx([0.25] * 4, abs=1e-8)


def test_kelly_is_mean_over_variance_for_one_stream_and_nothing_for_a_loser():
    covariance = np.diag([0.04, 0.01])
    assert kelly(np.array([0.02, 0.001]), covariance, fraction=0.5) == pytest.approx([0.25, 0.05])
    assert kelly(np.array([0.02, -0.001]), covariance, fraction=1.0) == pytest.approx([0.5, 0.0])


@few
@given(SEEDS)
def test_kelly_is_the_best_that_a_search_finds(seed):
    covariance, mean = random_covariance(seed), np.random.default_rng(seed).normal(size=4)

    def loss(sizes) -> float:
        return 0.5 * sizes @ covariance @ sizes - mean @ sizes

    searched = optimize.minimize(loss, np.ones(4), bounds=[(0, None)] * 4, options={"ftol": 1e-15, "gtol": 1e-10})
    assert loss(kelly(mean, covariance, fraction=1.0)) <= searched.fun + 1e-7


def test_what_a_cap_cuts_goes_to_the_others_as_long_as_they_have_room():
    assert water_filled(np.array([0.7, 0.2, 0.1]), cap=0.45) == pytest.approx([0.45, 0.55 * 2 / 3, 0.55 / 3])
    assert water_filled(np.array([0.9, 0.09, 0.01]), cap=0.4) == pytest.approx([0.4, 0.4, 0.2])
    assert water_filled(np.array([0.5, 0.5]), cap=0.45) == pytest.approx([0.45, 0.45])
    assert water_filled(np.array([1.0]), cap=0.45) == pytest.approx([0.45])
    assert water_filled(np.array([1.0, 0.0]), cap=0.45) == pytest.approx([0.45, 0.0])


@few
@given(SEEDS, st.floats(0.05, 1.0))
def test_a_cap_holds_and_nothing_is_lost_that_has_room(seed, cap):
    weights = np.random.default_rng(seed).dirichlet(np.ones(6))
    filled = water_filled(weights, cap=cap)
    assert filled.max() <= cap
    assert filled.sum() == pytest.approx(min(1.0, 6 * cap))


@pytest.mark.parametrize("returns", [np.zeros(3), np.zeros((1, 2)), np.array([[1.0], [np.nan]])])
def test_returns_that_are_no_matrix_are_refused(returns):
    with pytest.raises(ValueError, match="finite"):
        shrunk_covariance(returns)


@pytest.mark.parametrize("covariance", [np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 3)), np.full((1, 1), np.nan)])
def test_a_covariance_that_cannot_be_inverted_is_refused(covariance):
    with pytest.raises(ValueError, match="positive definite"):
        risk_parity(covariance)
    with pytest.raises(ValueError, match="positive definite"):
        kelly(np.zeros(2), covariance, fraction=0.5)


def test_means_fractions_weights_and_caps_out_of_range_are_refused():
    for mean, fraction in (([np.nan], 0.5), ([1.0, 2.0], 0.5), ([1.0], 0.0), ([1.0], 1.1)):
        with pytest.raises(ValueError, match="fraction"):
            kelly(np.array(mean), np.eye(1), fraction=fraction)
    for weights, cap in (([-0.1], 0.5), ([np.nan], 0.5), ([0.1], 0.0)):
        with pytest.raises(ValueError, match="cap"):
            water_filled(np.array(weights), cap=cap)
    assert np.isnan(risk_shares(np.zeros(2), np.eye(2))).all()

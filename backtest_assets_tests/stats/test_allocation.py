import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from backtest_assets.stats import allocation
from backtest_assets.stats.allocation import kelly, risk_parity, risk_shares, shrunk_covariance, water_filled

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def random_covariance(seed, n=4):
    factor = np.random.default_rng(seed).normal(size=(n, n + 3)) * np.linspace(0.5, 2.0, n)[:, None]
    return factor @ factor.T / (n + 3)


def written_out(returns):
    """The paper's estimator, pair by pair and day by day: intensity and target."""
    n_days, n = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = sum(np.outer(day, day) for day in centred) / n_days
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    common = np.mean([sample[i, j] / np.sqrt(sample[i, i] * sample[j, j]) for i, j in pairs])
    target = common * np.sqrt(np.outer(np.diag(sample), np.diag(sample)))
    np.fill_diagonal(target, np.diag(sample))

    def pi(i, j) -> float:
        return float(np.mean([(day[i] * day[j] - sample[i, j]) ** 2 for day in centred]))

    def theta(k, i, j) -> float:
        return float(np.mean([(day[k] ** 2 - sample[k, k]) * (day[i] * day[j] - sample[i, j]) for day in centred]))

    rho = sum(pi(i, i) for i in range(n)) + sum(
        common / 2 * (np.sqrt(sample[j, j] / sample[i, i]) * theta(i, i, j) + np.sqrt(sample[i, i] / sample[j, j]) * theta(j, i, j))
        for i, j in pairs
    )  # fmt: skip
    pis = sum(pi(i, j) for i in range(n) for j in range(n))
    kappa = (pis - rho) / ((target - sample) ** 2).sum()
    return max(0.0, min(kappa / n_days, 1.0)), target, sample


@few
@given(SEEDS)
def test_the_intensity_is_the_papers_written_out_day_by_day(seed):
    rng = np.random.default_rng(seed)
    returns = (rng.normal(size=(60, 5)) + 0.7 * rng.normal(size=(60, 1))) * [0.5, 1, 1, 2, 3]
    intensity, target, sample = written_out(returns)
    found = shrunk_covariance(returns)
    assert found.intensity == pytest.approx(intensity)
    assert found.matrix == pytest.approx(intensity * target + (1 - intensity) * sample)
    assert np.diag(found.matrix) == pytest.approx(returns.var(axis=0))


def test_shrinking_beats_the_sample_where_streams_are_many_and_days_few():
    true = np.full((30, 30), 0.3) + 0.7 * np.eye(30)
    returns = np.random.default_rng(0).multivariate_normal(np.zeros(30), true, size=25)
    shrunk, sample = shrunk_covariance(returns).matrix, np.cov(returns.T, ddof=0)
    assert np.linalg.norm(shrunk - true) < 0.8 * np.linalg.norm(sample - true)
    assert np.linalg.matrix_rank(sample) < 30 == np.linalg.matrix_rank(shrunk)


def test_independent_streams_keep_their_inverse_volatility_weights_however_unlike_they_are():
    unlike = np.array([0.0005, 0.002, 0.008, 0.02])
    returns = (
        np.random.default_rng(4).normal(size=(1168, 4)) * unlike * (np.random.default_rng(5).random((1168, 4)) < 0.1)
    )
    weights = risk_parity(shrunk_covariance(returns).matrix)
    plain = 1 / returns.std(axis=0)
    assert weights == pytest.approx(plain / plain.sum(), rel=0.1)


def test_one_stream_is_not_shrunk_and_one_that_never_moves_is_refused():
    assert shrunk_covariance(np.array([[1.0], [3.0]])).matrix.tolist() == [[1.0]]
    with pytest.raises(ValueError, match="leave out"):
        shrunk_covariance(np.array([[1.0, 0.0], [3.0, 0.0]]))


def test_weights_that_are_not_found_are_refused(monkeypatch):
    monkeypatch.setattr(allocation, "_MOST_ROUNDS", 1)
    with pytest.raises(ValueError, match="nearly one and the same"):
        risk_parity(random_covariance(1))


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
    assert kelly(np.array([0.02, 0.001]), covariance, fraction=0.5, cap=1.0) == pytest.approx([0.25, 0.05])
    assert kelly(np.array([0.02, -0.001]), covariance, fraction=1.0, cap=1.0) == pytest.approx([0.5, 0.0])
    assert kelly(np.array([0.02, 0.001]), covariance, fraction=0.5, cap=0.2) == pytest.approx([0.2, 0.05])


def test_of_two_near_twins_the_lesser_gets_what_the_cap_leaves_room_for():
    covariance = 1e-4 * np.array([[1.0, 0.97], [0.97, 1.0]])
    assert kelly(np.array([10e-4, 9.5e-4]), covariance, fraction=0.25, cap=0.45) == pytest.approx([0.45, 0.45])
    assert kelly(np.array([10e-4, 9.5e-4]), covariance, fraction=0.25, cap=100.0)[1] == 0.0


@few
@given(SEEDS, st.sampled_from([0.3, 1.0, 50.0]))
def test_kelly_is_the_best_that_a_search_finds(seed, cap):
    covariance, mean = random_covariance(seed), np.random.default_rng(seed).normal(size=4)

    def loss(sizes) -> float:
        return 0.5 * sizes @ covariance @ sizes - mean @ sizes

    searched = optimize.minimize(loss, np.full(4, 0.1), bounds=[(0, cap)] * 4, options={"ftol": 1e-15, "gtol": 1e-10})
    found = kelly(mean, covariance, fraction=1.0, cap=cap)
    assert found.min() >= 0
    assert found.max() <= cap
    assert loss(found) <= searched.fun + 1e-7


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
        kelly(np.zeros(2), covariance, fraction=0.5, cap=1.0)


def test_means_fractions_weights_and_caps_out_of_range_are_refused():
    for mean, fraction, cap in (
        ([np.nan], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0], 0.0, 1.0),
        ([1.0], 1.1, 1.0),
        ([1.0], 0.5, 0.0),
    ):
        with pytest.raises(ValueError, match="fraction"):
            kelly(np.array(mean), np.eye(1), fraction=fraction, cap=cap)
    for weights, cap in (([-0.1], 0.5), ([np.nan], 0.5), ([0.1], 0.0)):
        with pytest.raises(ValueError, match="cap"):
            water_filled(np.array(weights), cap=cap)
    assert np.isnan(risk_shares(np.zeros(2), np.eye(2))).all()

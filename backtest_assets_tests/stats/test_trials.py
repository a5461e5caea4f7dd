import math

import numpy as np
import pytest

from backtest_assets.stats.trials import equivalent_trials, expected_maximum

EXACT = {2: 0.5642, 5: 1.1630, 10: 1.5388, 45: 2.2077, 100: 2.5076, 1000: 3.2414, 10_000: 3.8516}
"""Mean of the largest of n standard normals by quadrature (design/statistics.md, C3)."""


@pytest.mark.parametrize(("n", "mean"), EXACT.items())
def test_the_expected_maximum_is_the_published_one(n: int, mean: float):
    assert expected_maximum(n) == pytest.approx(mean, abs=5e-5)


def test_one_trial_shows_nothing_and_two_show_one_over_root_pi():
    assert expected_maximum(1) == pytest.approx(0.0, abs=1e-12)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-12)


def test_the_expected_maximum_agrees_with_drawn_ones():
    drawn = np.random.default_rng(3).standard_normal((20_000, 30)).max(axis=1)
    assert expected_maximum(30) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(drawn.size))


@pytest.mark.parametrize("n", [1.0, 1.5, 7.0, 350.0, 1e6, 1e11])
def test_equivalent_trials_are_the_inverse(n: float):
    assert equivalent_trials(expected_maximum(n)) == pytest.approx(n, rel=1e-6)


def test_equal_trials_are_one_and_correlated_ones_are_fewer_than_there_are():
    rng = np.random.default_rng(4)
    common, own = rng.standard_normal((50_000, 1)), rng.standard_normal((50_000, 40))
    sizes = [
        equivalent_trials(float((math.sqrt(rho) * common + math.sqrt(1 - rho) * own).max(axis=1).mean()))
        for rho in (0.0, 0.5, 0.9, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(40, rel=0.05)
    # equicorrelated trials show sqrt(1 - rho) times the maximum of independent ones
    assert sizes[1] == pytest.approx(equivalent_trials(math.sqrt(0.5) * expected_maximum(40)), rel=0.05)
    assert sizes[3] == pytest.approx(1.0, abs=0.02)


def test_what_is_unknown_stays_unknown_and_what_no_search_shows_is_without_bound():
    assert math.isnan(equivalent_trials(math.nan))
    assert math.isnan(expected_maximum(math.nan))
    assert equivalent_trials(-0.5) == 1.0
    assert equivalent_trials(50.0) == math.inf


@pytest.mark.parametrize("n", [0.5, -1.0, 1e13])
def test_impossible_numbers_of_trials_are_refused(n: float):
    with pytest.raises(ValueError, match="n_trials is"):
        expected_maximum(n)

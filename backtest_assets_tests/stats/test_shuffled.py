from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats import shuffled
from backtest_assets.stats.matched import adjusted_p, set_differences
from backtest_assets.stats.shuffled import _as_case, shuffled_rejections

NAN = np.nan
LEVEL, N = 0.05, 199


def rate(values, clusters, days, seed=0, n_shuffles=N):
    return shuffled_rejections(values, clusters, days, np.random.default_rng(seed), level=LEVEL, n_shuffles=n_shuffles)


def crowded_sets(seed: int, n_days: int = 60, per_day: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Sets whose members share what their day brings, member by member: (n_days * per_day, 4, 2)."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.standard_normal((n_days, 4, 2)), per_day, axis=0)
    return shared + 0.5 * rng.standard_normal(shared.shape), np.repeat(np.arange(n_days), per_day)


def test_every_present_member_may_be_the_case():
    values = np.full((3, 4, 1), NAN)
    values[0, :3, 0], values[1, [0, 2], 0], values[2, 1:, 0] = [4.0, 1.0, 3.0], [5.0, 1.0], [1.0, 2.0, 3.0]
    found, size = _as_case(values)
    assert [3, 2, 0] == size[:, 0].tolist()  # the last has no case: it counts nowhere
    assert [2.0, -2.5, 0.5] == found[0, :3, 0].tolist()
    assert [4.0, -4.0] == found[1, :2, 0].tolist()
    assert np.isnan(found[2]).all()
    assert np.array_equal(set_differences(values)[:2], found[:2, 0])


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_test_rejects_shuffles_at_its_level(seed):
    values, days = crowded_sets(seed)
    assert stats.binom.sf(round(rate(values, days, days, seed) * N) - 1, N, LEVEL) > 0.001
    assert rate(values, days, days, seed, n_shuffles=999) >= 0.02  # and it is not closed either


@pytest.mark.parametrize("seed", range(3))
def test_errors_as_if_sets_of_one_day_were_independent_are_found(seed):
    values, days = crowded_sets(seed)
    alone = np.arange(days.size)
    assert stats.binom.sf(round(rate(values, alone, days, seed) * N) - 1, N, LEVEL) < 1e-6
    # the more sets a day has, the more such a test rejects
    rates = [rate(*sets_of(seed, n), seed, n_shuffles=499) for n in (1, 2, 6)]
    assert all(fewer < more for fewer, more in pairwise(rates))


def sets_of(seed: int, per_day: int):
    values, days = crowded_sets(seed, per_day=per_day)
    return values, np.arange(days.size), days


def test_an_effect_of_the_true_cases_is_no_rejection_of_their_shuffles():
    values, days = crowded_sets(1)
    values[:, 0] += 3.0
    assert adjusted_p(set_differences(values), days, np.random.default_rng(0)).max() <= 0.001
    assert stats.binom.sf(round(rate(values, days, days) * N) - 1, N, LEVEL) > 0.001


def test_sets_of_one_day_are_drawn_together(monkeypatch):
    seen: list[tuple[float, ...]] = []
    monkeypatch.setattr(
        shuffled,
        "adjusted_p",
        lambda differences, *_, n_draws: seen.append(tuple(differences[:, 0])) or np.ones(n_draws),
    )
    values = np.array([[[3.0], [1.0]], [[2.0], [1.5]], [[4.0], [1.0]]])
    assert 0.0 == rate(values, np.arange(3), np.array([7, 7, 8]))
    assert {(a * 2.0, a * 0.5, b * 3.0) for a in (1, -1) for b in (1, -1)} == set(seen)


def test_nothing_to_shuffle_is_unknown_and_no_shuffle_is_refused():
    for values in (np.full((5, 3, 2), NAN), np.empty((0, 3, 2))):
        days = np.arange(values.shape[0])
        assert np.isnan(rate(values, days, days))
    with pytest.raises(ValueError, match="n_shuffles is 0"):
        rate(np.zeros((3, 2, 1)), np.arange(3), np.arange(3), n_shuffles=0)

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.matched import compare_sets, count_contradictions, set_differences, shuffled_p

NAN = np.nan


def random_sets(seed: int, n: int = 60, n_metrics: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 4, n_metrics))
    values[rng.random(values.shape) < 0.2] = NAN
    return values, np.sort(rng.integers(0, n // 2, n))


def slow_differences(values: np.ndarray) -> np.ndarray:
    found = np.full(values.shape[::2], NAN)
    for i, j in product(range(values.shape[0]), range(values.shape[2])):
        controls = [x for x in values[i, 1:, j] if not math.isnan(x)]
        if controls:
            found[i, j] = values[i, 0, j] - sum(controls) / len(controls)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_differences_means_and_clustered_errors_agree_with_loops(seed):
    values, days = random_sets(seed)
    differences = slow_differences(values)
    np.testing.assert_allclose(differences, set_differences(values), rtol=1e-12)
    found = compare_sets(values, days, np.random.default_rng(0))
    for j in range(3):
        known = ~np.isnan(differences[:, j])
        own, own_days = differences[known, j], days[known]
        mean, n_days = own.mean(), np.unique(own_days).size
        residual = sum(((own[own_days == d] - mean).sum()) ** 2 for d in np.unique(own_days))
        se = math.sqrt(residual * n_days / (n_days - 1)) / own.size
        half = stats.t.ppf(0.975, n_days - 1) * se
        assert known.sum() == found.n[j]
        assert pytest.approx((mean, se, mean / se)) == (found.difference[j], found.standard_error[j], found.t[j])
        assert pytest.approx((mean - half, mean + half)) == (found.low[j], found.high[j])
        assert pytest.approx(found.case[j] - found.control[j]) == mean


def test_one_control_and_a_day_each_is_the_paired_t_test():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((50, 2, 1)) + np.array([0.3, 0.0])[:, np.newaxis]
    found = compare_sets(values, np.arange(50), rng)
    paired = stats.ttest_rel(values[:, 0, 0], values[:, 1, 0])
    interval = paired.confidence_interval(0.95)
    assert pytest.approx((paired.statistic, interval.low, interval.high)) == (found.t[0], found.low[0], found.high[0])
    assert found.p_family[0] == pytest.approx(paired.pvalue, abs=0.02)  # one metric: nothing to adjust for


def test_a_set_without_case_or_controls_counts_nowhere():
    values = np.array([[[1.0], [NAN]], [[NAN], [2.0]], [[3.0], [1.0]], [[4.0], [1.0]]])
    found = compare_sets(values, np.array([0, 1, 2, 3]), np.random.default_rng(0))
    assert (2, 3.5, 1.0, 2.5) == (found.n[0], found.case[0], found.control[0], found.difference[0])


def test_nothing_to_compare_is_unknown():
    for values in (np.full((5, 3, 2), NAN), np.empty((0, 3, 2))):
        days = np.arange(values.shape[0])
        found = compare_sets(values, days, np.random.default_rng(0))
        assert np.isnan(found.t).all()
        assert [1.0, 1.0] == found.p_family.tolist()
        assert [1.0, 1.0] == shuffled_p(values, days, np.random.default_rng(0)).tolist()


def test_adjusted_p_is_above_the_single_one_and_uniform_enough_over_its_metrics():
    rejected, n = 0, 200
    for seed in range(n):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((80, 3, 4)) + rng.standard_normal((80, 3, 1))
        rejected += compare_sets(values, np.repeat(np.arange(40), 2), rng).p_family.min() <= 0.2
    assert stats.binomtest(rejected, n, 0.2).pvalue > 0.001


def test_only_a_significant_other_sign_contradicts_and_groups_share_the_level():
    rng = np.random.default_rng(5)
    difference = np.concatenate([rng.normal(1.0, 1.0, 300), rng.normal(-1.0, 1.0, 60)])[:, np.newaxis]
    days, labels = np.arange(360), np.repeat([0, 1], [300, 60])
    assert ([2], [1]) == tuple(x.tolist() for x in count_contradictions(difference, days, [labels], level=0.05))
    mirrored = count_contradictions(-difference, days, [labels], level=0.05)
    assert ([2], [1]) == tuple(x.tolist() for x in mirrored)
    weak = np.concatenate([difference[:300], rng.normal(-0.05, 1.0, (60, 1))])
    assert [0] == count_contradictions(weak, days, [labels], level=0.05)[1].tolist()
    # alone the group is just significant; as one of many it is not
    edge = np.concatenate(
        [difference[:300], (rng.permutation(stats.norm.ppf((np.arange(60) + 0.5) / 60)) - 0.30)[:, None]]
    )
    many = np.concatenate([np.repeat(np.arange(20), 15), np.full(60, 20)])
    assert [1] == count_contradictions(edge, days, [labels], level=0.05)[1].tolist()
    assert [0] == count_contradictions(edge, days, [many], level=0.05)[1].tolist()


def test_groups_without_scatter_or_label_are_not_tested():
    difference, days = np.array([[1.0], [2.0], [3.0], [4.0]]), np.arange(4)
    assert [1] == count_contradictions(difference, days, [np.array([0, 0, 1, -1])], level=0.05)[0].tolist()
    assert [0] == count_contradictions(difference, days, [np.full(4, -1)], level=0.05)[0].tolist()


def test_a_group_is_found_at_its_nominal_rate():
    n, found = 300, 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        difference, labels = rng.standard_normal((200, 1)), np.repeat(np.arange(4), 50)
        found += int(count_contradictions(difference, np.arange(200), [labels], level=0.05)[1][0] > 0)
    assert stats.binom.cdf(found, n, 0.05) < 0.9999


def test_the_randomisation_p_agrees_with_every_assignment():
    # three days of one set each, sizes 2, 3 and 4: all 24 assignments can be written down
    values = np.full((3, 4, 1), NAN)
    values[0, :2, 0], values[1, :3, 0], values[2, :, 0] = [5.0, 1.0], [4.0, 1.0, 3.0], [6.0, 2.0, 0.0, 1.0]
    sets = [row[~np.isnan(row[:, 0]), 0] for row in values]

    def mean(chosen: tuple[int, ...]) -> float:
        return sum(s[i] - np.delete(s, i).mean() for s, i in zip(sets, chosen, strict=True)) / 3

    means = [mean(chosen) for chosen in product(range(2), range(3), range(4))]
    exact = sum(abs(m) >= abs(mean((0, 0, 0))) - 1e-12 for m in means) / len(means)
    found = shuffled_p(values, np.arange(3), np.random.default_rng(1), n_draws=40_000)
    assert found[0] == pytest.approx(exact, abs=0.005)


def test_sets_of_one_day_are_drawn_together():
    # two sets of two on one day: either both events are the cases or both controls, so |mean| never changes
    values = np.array([[[3.0], [1.0]], [[2.0], [1.5]]])
    assert [1.0] == shuffled_p(values, np.array([7, 7]), np.random.default_rng(1)).tolist()
    apart = shuffled_p(values, np.array([7, 8]), np.random.default_rng(1), n_draws=20_000)
    assert apart[0] == pytest.approx(0.5, abs=0.02)


def test_what_is_no_matched_set_is_refused():
    for values in (np.zeros((3, 4)), np.zeros((3, 1, 2))):
        with pytest.raises(ValueError, match="a case and controls"):
            set_differences(values)
    with pytest.raises(ValueError, match="n_draws is 0"):
        shuffled_p(np.zeros((3, 2, 1)), np.arange(3), np.random.default_rng(0), n_draws=0)

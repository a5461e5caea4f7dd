import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.matched import adjusted_p, compare_sets, count_contradictions, set_differences

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
        sizes = np.array([(own_days == d).sum() for d in np.unique(own_days)])
        squares = np.array([(own[own_days == d] - mean).sum() ** 2 for d in np.unique(own_days)])
        effective = min(x.sum() ** 2 / (x**2).sum() for x in (sizes, squares))
        assert (n_days, pytest.approx(effective)) == (found.n_clusters[j], found.n_effective[j])


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
        assert [1.0, 1.0] == adjusted_p(set_differences(values), days, np.random.default_rng(0)).tolist()


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


def test_metrics_may_have_clusters_of_their_own():
    values, days = random_sets(3)
    weeks = -1 - days // 7
    mixed = compare_sets(values, np.stack([weeks, days, days], axis=1), np.random.default_rng(0))
    by_week, by_day = (compare_sets(values, labels, np.random.default_rng(0)) for labels in (weeks, days))
    for name in ("difference", "n_clusters", "standard_error", "low", "high", "t"):
        each = [getattr(by_week, name)[0], *getattr(by_day, name)[1:]]
        assert pytest.approx(each) == getattr(mixed, name).tolist()
    assert mixed.n_clusters[0] < mixed.n_clusters[1]
    p = adjusted_p(set_differences(values), np.stack([weeks, days, days], axis=1), np.random.default_rng(0))
    assert p.tolist() == mixed.p_family.tolist()
    labels = [np.arange(days.size) % 3]
    counted = count_contradictions(set_differences(values), np.stack([weeks, days, days], axis=1), labels, level=0.9)
    for j, clusters in enumerate((weeks, days, days)):
        alone = count_contradictions(set_differences(values), clusters, labels, level=0.9)
        assert [x[j] for x in alone] == [x[j] for x in counted]


def test_what_is_no_matched_set_is_refused():
    for values in (np.zeros((3, 4)), np.zeros((3, 1, 2))):
        with pytest.raises(ValueError, match="a case and controls"):
            set_differences(values)
    with pytest.raises(ValueError, match="n_draws 0"):
        adjusted_p(np.zeros((3, 1)), np.arange(3), np.random.default_rng(0), n_draws=0)

"""The test of superior predictive ability."""

import math

import numpy as np
import pytest

from backtest_assets.stats.multiplicity import romano_wolf
from backtest_assets.stats.spa import long_run_deviation, stationary_counts, superior_ability


def twenty():
    gains = np.random.default_rng(12345).standard_normal((1000, 20)) * 0.01
    gains[:, 0] += 0.001
    return gains


def probe():
    rng = np.random.default_rng(1)
    return np.column_stack([rng.normal(0.0006, 0.005, 1000), rng.normal(0.0, 0.05, (1000, 20))])


def p_values(result):
    return result.p_lower, result.p_consistent, result.p_upper


# statistics.md C5.


def test_the_probe_of_studentisation():
    result = superior_ability(probe(), np.random.default_rng(3), block_length=5)
    assert pytest.approx(result.statistic, abs=5e-5) == 2.1523
    assert p_values(result) == pytest.approx((0.180, 0.277, 0.284), abs=0.04)


def test_a_wild_crowd_hides_no_steady_series():
    # arch 8.0.0, whose flag does not studentise, says .680/.836/.845 of the same series.
    _, p, _ = p_values(superior_ability(probe(), np.random.default_rng(3), block_length=5))
    calm = probe() / np.r_[1.0, np.full(20, 10.0)]
    _, p_of_equals, _ = p_values(superior_ability(calm, np.random.default_rng(3), block_length=5))
    assert p == p_of_equals
    assert p < 0.5


def test_twenty_series_of_one_scale_have_the_p_that_arch_finds():
    # arch 8.0.0: .003/.004/.004 with the better series, .533/.625/.625 without; one scale, so studentising matters little.
    with_edge = superior_ability(twenty(), np.random.default_rng(42), block_length=10, n_draws=2000)
    without = superior_ability(twenty()[:, 1:], np.random.default_rng(42), block_length=10, n_draws=2000)
    assert p_values(with_edge) == pytest.approx((0.003, 0.004, 0.004), abs=0.015)
    assert p_values(without) == pytest.approx((0.533, 0.625, 0.625), abs=0.04)


def test_arch_itself_without_studentising():
    # Without the deviations the same draws give arch's numbers: what differs above is the studentising.
    gains, rng = twenty(), np.random.default_rng(42)
    mean = gains.mean(axis=0)
    drawn = stationary_counts(1000, rng, block_length=10, n_draws=2000) @ (gains - mean) / 1000
    assert np.mean(drawn.max(axis=1) > mean.max()) == pytest.approx(0.004, abs=0.004)


def test_the_step_down_names_the_better_series_alone():
    # StepM at 5 %: superior = [0].
    gains = twenty()
    deviation = long_run_deviation(gains, block_length=10)
    mean = gains.mean(axis=0)
    counts = stationary_counts(1000, np.random.default_rng(42), block_length=10, n_draws=2000)
    drawn = counts @ (gains - mean) / deviation / math.sqrt(1000)
    p = romano_wolf(math.sqrt(1000) * mean / deviation, drawn, n_days=1000)
    assert [0] == np.flatnonzero(p <= 0.05).tolist()


# Brute force.


def slow_deviation(x, block_length):
    n, p = len(x), 1 / block_length
    c = [v - sum(x) / n for v in x]
    g = [sum(c[t] * c[t + i] for t in range(n - i)) / n for i in range(n)]
    k = [(1 - i / n) * (1 - p) ** i + (i / n) * (1 - p) ** (n - i) for i in range(n)]
    return math.sqrt(g[0] + 2 * sum(k[i] * g[i] for i in range(1, n)))


@pytest.mark.parametrize("block_length", [1.0, 2.5, 30.0])
def test_the_deviation_equals_the_double_sum(block_length):
    gains = np.random.default_rng(2).standard_normal((61, 300)).cumsum(axis=0) * 0.1
    some = [0, 17, 255, 256, 299]
    expected = [slow_deviation(gains[:, k].tolist(), block_length) for k in some]
    np.testing.assert_allclose(expected, long_run_deviation(gains, block_length=block_length)[some], rtol=1e-9)


def test_the_deviation_is_that_of_the_drawn_means():
    rng = np.random.default_rng(3)
    gains = rng.standard_normal((120, 1)).cumsum(axis=0)
    drawn = stationary_counts(120, rng, block_length=7, n_draws=20_000) @ gains[:, 0] / 120
    assert long_run_deviation(gains, block_length=7)[0] / math.sqrt(120) == pytest.approx(drawn.std(), rel=0.02)


def test_a_draw_equals_the_definition_step_by_step():
    gains, block = (
        np.random.default_rng(4).normal(0.02, 0.3, (50, 8)) - np.array([0.04, 0.05, 0.05, 0.05, 0.05, 0.6, 0.6, 0.6]),
        3.0,
    )
    result = superior_ability(gains, np.random.default_rng(5), block_length=block, n_draws=199)
    counts = stationary_counts(50, np.random.default_rng(5), block_length=block, n_draws=199)
    w = [slow_deviation(gains[:, k].tolist(), block) for k in range(8)]
    mean = gains.mean(axis=0)
    bar = math.sqrt(2 * math.log(math.log(50)))
    centre = {
        "lower": [max(m, 0.0) for m in mean],
        "consistent": [m if m >= -s / math.sqrt(50) * bar else 0.0 for m, s in zip(mean, w, strict=True)],
        "upper": list(mean),
    }
    t = max(0.0, *(math.sqrt(50) * m / s for m, s in zip(mean, w, strict=True)))
    expected = []
    for centres in centre.values():
        drawn = [
            max(0.0, *(math.sqrt(50) * (float(row @ gains[:, k]) / 50 - centres[k]) / w[k] for k in range(8)))
            for row in counts
        ]
        expected.append((1 + sum(d >= t for d in drawn)) / 200)
    assert t == pytest.approx(result.statistic, rel=1e-9)
    assert p_values(result) == pytest.approx(tuple(expected))
    assert result.p_lower < result.p_consistent < result.p_upper  # the case tells all three apart


def test_blocks_have_the_length_that_was_asked_for_and_every_draw_all_days():
    counts = stationary_counts(500, np.random.default_rng(6), block_length=1, n_draws=400)
    assert (counts.sum(axis=1) == 500).all()
    assert np.mean(counts == 0) == pytest.approx(math.exp(-1), abs=0.01)
    long = stationary_counts(500, np.random.default_rng(6), block_length=1e9, n_draws=20)
    np.testing.assert_array_equal(np.ones((20, 500)), long)


# Laws and edges.


@pytest.mark.parametrize("scale", [100.0, 1e-9, 1e12])
def test_the_unit_of_a_series_does_not_matter(scale):
    gains = twenty()
    changed = gains.copy()
    changed[:, 3] *= scale
    one, other = (superior_ability(g, np.random.default_rng(1), block_length=5) for g in (gains, changed))
    assert abs(one.statistic - other.statistic) < 1e-12
    assert p_values(one) == p_values(other)


def test_a_series_without_scatter_is_left_out():
    gains = np.column_stack([twenty(), np.zeros(1000), np.full(1000, 0.3)])
    result = superior_ability(gains, np.random.default_rng(1), block_length=5)
    assert result.n_known == 20
    assert result == superior_ability(twenty(), np.random.default_rng(1), block_length=5)


@pytest.mark.parametrize("gains", [np.zeros((10, 3)), np.zeros((10, 0))])
def test_nothing_known_is_no_answer(gains):
    result = superior_ability(gains, np.random.default_rng(1), block_length=1)
    assert math.isnan(result.statistic)
    assert all(math.isnan(p) for p in p_values(result))
    assert result.n_known == 0


def test_losers_alone_have_a_p_of_one():
    result = superior_ability(twenty() - 0.01, np.random.default_rng(1), block_length=2)
    assert (0.0, (1.0, 1.0, 1.0)) == (result.statistic, p_values(result))


def test_shapes_and_settings_are_checked():
    with pytest.raises(ValueError, match="finite"):
        superior_ability(np.full((5, 1), np.nan), np.random.default_rng(1), block_length=1)
    with pytest.raises(ValueError, match="at least 3 days"):
        superior_ability(np.zeros((2, 1)), np.random.default_rng(1), block_length=1)
    with pytest.raises(ValueError, match="block_length"):
        superior_ability(np.zeros((5, 1)), np.random.default_rng(1), block_length=math.nan)
    with pytest.raises(ValueError, match="n_draws"):
        superior_ability(np.zeros((5, 1)), np.random.default_rng(1), block_length=1, n_draws=0)


# Monte Carlo.


def test_the_size_is_kept_at_the_boundary_and_a_crowd_of_losers_takes_no_power():
    rng = np.random.default_rng(7)
    null = [superior_ability(rng.standard_normal((200, 10)), rng, block_length=1, n_draws=199) for _ in range(500)]
    assert np.mean([r.p_consistent <= 0.05 for r in null]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([r.p_consistent <= 0.2 for r in null]) == pytest.approx(0.2, abs=0.055)
    crowd = rng.standard_normal((500, 60)) - 0.5
    crowd[:, 0] += 0.6
    result = superior_ability(crowd, rng, block_length=1)
    assert result.p_consistent < 0.05 < result.p_upper

"""Delay score and curvature."""

import math

import numpy as np
import pytest

from backtest_assets.stats.robustness import Curvature, DelayRobustness, curvature_penalty, delay_robustness


def test_a_fading_edge_by_hand():
    # mean 4, population sd sqrt((36 + 4 + 4 + 36) / 4), three of four positive.
    result = delay_robustness(np.array([10.0, 6.0, 2.0, -2.0]))
    sd = math.sqrt(20.0)
    assert (0.75, sd) == (result.positive_ratio, pytest.approx(result.dispersion))
    assert pytest.approx(result.score) == 0.7 * 0.75 + 0.3 * 0.0


def test_a_steady_edge_scores_near_one():
    result = delay_robustness(np.array([10.0, 9.0, 11.0]))
    assert 0.7 + 0.3 * (1 - math.sqrt(2 / 3) / 10) == pytest.approx(result.score, rel=1e-12)


def test_an_equal_edge_at_every_delay_scores_one():
    assert delay_robustness(np.full(4, 7.0)) == DelayRobustness(1.0, 0.0, 1.0)


def test_a_steady_loss_earns_only_its_steadiness():
    assert pytest.approx(delay_robustness(np.full(4, -7.0)).score) == 0.3


def test_zero_is_not_positive():
    assert delay_robustness(np.array([0.0, 1.0])).positive_ratio == 0.5


def test_an_unknown_delay_is_closed():
    result = delay_robustness(np.array([5.0, np.nan]))
    assert result.positive_ratio == 0.5
    assert math.isnan(result.dispersion)
    assert math.isnan(result.score)


def test_no_delay_is_closed():
    result = delay_robustness(np.array([]))
    assert result.positive_ratio == 0.0
    assert math.isnan(result.score)


@pytest.mark.parametrize(
    ("centre", "neighbours", "expected"),
    [
        (10.0, [9.0, 8.0], Curvature(0.2, 3, 3)),
        (10.0, [12.0, 11.0], Curvature(0.0, 3, 3)),
        (10.0, [-5.0, 11.0], Curvature(1.5, 2, 3)),
        (-10.0, [-20.0, 1.0], Curvature(1.0, 1, 3)),
        (0.0, [-1e-9, 0.0], Curvature(1.0, 0, 3)),
        (10.0, [5.0, 9.0, 9.0, 9.0], Curvature(0.5, 5, 5)),
    ],
)
def test_the_worst_neighbour_sets_the_penalty(centre, neighbours, expected):
    result = curvature_penalty(centre, np.array(neighbours))
    assert expected.penalty == pytest.approx(result.penalty, rel=1e-12)
    assert (expected.n_positive, expected.n) == (result.n_positive, result.n)


@pytest.mark.parametrize(
    ("centre", "neighbours", "n_positive"), [(math.nan, [1.0, 1.0], 2), (1.0, [math.nan, 1.0], 2), (1.0, [], 1)]
)
def test_an_unknown_mean_is_closed(centre, neighbours, n_positive):
    result = curvature_penalty(centre, np.array(neighbours))
    assert math.isnan(result.penalty)
    assert (n_positive, len(neighbours) + 1) == (result.n_positive, result.n)


def test_an_infinite_mean_is_refused():
    with pytest.raises(ValueError, match="means"):
        delay_robustness(np.array([np.inf]))
    with pytest.raises(ValueError, match="neighbours"):
        curvature_penalty(1.0, np.array([np.inf]))

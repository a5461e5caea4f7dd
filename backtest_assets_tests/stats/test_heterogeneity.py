"""Cochran's Q."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.heterogeneity import cochran_q

VACCINE = np.array([
    [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761],
    [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232], [17, 1699, 65, 1600],
    [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
], dtype=np.float64)  # fmt: skip
"""Cases and others, vaccinated and not, of the 13 BCG trials (Colditz et al. 1994), metafor's `dat.bcg`."""


def test_the_published_q_of_the_bcg_trials():
    sick, well, control_sick, control_well = VACCINE.T
    risk = np.log(sick / (sick + well) / (control_sick / (control_sick + control_well)))
    variance = 1 / sick - 1 / (sick + well) + 1 / control_sick - 1 / (control_sick + control_well)
    result = cochran_q(risk[np.newaxis], np.sqrt(variance)[np.newaxis])
    assert pytest.approx(result.q[0], abs=5e-5) == 152.2330  # rma(yi, vi, method="FE"): Q(df = 12) = 152.2330
    assert pytest.approx(result.mean[0], abs=5e-5) == -0.4303
    assert (13, True) == (result.n_groups[0], result.p[0] < 1e-4)


def test_two_groups_collapse_to_the_squared_z_of_their_difference():
    result = cochran_q(np.array([[5.0, 2.0]]), np.array([[1.0, 2.0]]))
    z = 3.0 / math.sqrt(5.0)
    assert pytest.approx(result.q[0]) == z * z
    assert pytest.approx(result.p[0]) == 2 * stats.norm.sf(z)


def test_equal_groups_do_not_differ_and_unknown_ones_are_left_out():
    result = cochran_q(
        np.array([[4.0, 4.0, math.nan], [4.0, 1.0, 9.0]]), np.array([[1.0, 2.0, 1.0], [1.0, 1.0, math.nan]])
    )
    assert [0.0, 4.5] == result.q.tolist()
    assert [1.0, pytest.approx(stats.chi2.sf(4.5, 1))] == result.p.tolist()
    assert [2, 2] == result.n_groups.tolist()


def test_one_group_or_none_says_nothing():
    result = cochran_q(np.array([[4.0, math.nan], [math.nan, math.nan]]), np.ones((2, 2)))
    assert np.isnan(result.q).all()
    assert np.isnan(result.p).all()
    assert (4.0, True) == (result.mean[0], math.isnan(result.mean[1]))


def test_it_keeps_its_level_where_groups_share_a_mean_and_sees_one_that_does_not():
    rng = np.random.default_rng(4)
    errors = rng.uniform(1, 3, (20_000, 5))
    p = cochran_q(7.0 + errors * rng.standard_normal(errors.shape), errors).p
    assert 0.045 < (p <= 0.05).mean() < 0.055
    odd = np.array([0.0, 0.0, 0.0, 0.0, 12.0])
    assert (cochran_q(odd + errors * rng.standard_normal(errors.shape), errors).p <= 0.05).mean() > 0.9


@pytest.mark.parametrize(
    ("means", "errors"),
    [
        (np.zeros(3), np.ones(3)),
        (np.zeros((1, 3)), np.ones((1, 2))),
        (np.zeros((1, 2)), np.array([[1.0, 0.0]])),
        (np.array([[math.inf, 0.0]]), np.ones((1, 2))),
    ],
)
def test_impossible_groups_are_refused(means, errors):
    with pytest.raises(ValueError, match="means"):
        cochran_q(means, errors)

import numpy as np
import pytest

from backtest_assets.stats.survival import survival_curve


def test_the_remission_times_of_freireich_give_their_published_survival():
    # 6-MP arm of Freireich et al. (1963), as in Cox and Oakes (1984) and every textbook since: weeks, 0 = still in remission
    hits = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    curve = survival_curve(np.array(hits + [0] * len(censored)), np.array(hits + censored), 35)
    published = {6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}
    at_risk = {6: 21, 7: 17, 10: 15, 13: 12, 16: 11, 22: 7, 23: 6}
    assert published == {week: pytest.approx(curve.survival[week - 1], abs=5e-5) for week in published}
    assert at_risk == {week: curve.n_at_risk[week - 1] for week in at_risk}
    assert curve.survival[4] == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_agrees_with_a_count_of_every_age(seed):
    rng = np.random.default_rng(seed)
    watched = rng.integers(0, 15, 60)
    hit_at = np.array([rng.integers(1, w + 1) if w and rng.random() < 0.5 else 0 for w in watched])
    curve, survival = survival_curve(hit_at, watched, 12), 1.0
    pairs = list(zip(hit_at, watched, strict=True))
    for age in range(1, 13):
        at_risk = sum(w >= age and (h == 0 or h >= age) for h, w in pairs)
        hits = sum(h == age for h, _ in pairs)
        assert (at_risk, hits) == (curve.n_at_risk[age - 1], curve.n_hits[age - 1])
        survival *= 1 - hits / at_risk
        assert pytest.approx((hits / at_risk, survival)) == (curve.hazard[age - 1], curve.survival[age - 1])


def test_nobody_at_risk_is_unknown_and_not_zero():
    curve = survival_curve(np.array([1, 0]), np.array([1, 2]), 4)
    assert [2, 1, 0, 0] == curve.n_at_risk.tolist()
    assert [False, False, True, True] == np.isnan(curve.hazard).tolist() == np.isnan(curve.survival).tolist()
    nothing = survival_curve(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 3)
    assert nothing.n_at_risk.tolist() == [0, 0, 0]
    assert np.isnan(nothing.survival).all()


@pytest.mark.parametrize(
    ("hit_at", "watched", "horizon", "message"),
    [
        ([1], [1, 2], 3, "one length"),
        ([1], [1], 0, "at least 1"),
        ([-1], [1], 3, "negative"),
        ([3], [2], 3, "after the last age watched"),
    ],
)
def test_what_cannot_have_been_observed_is_refused(hit_at, watched, horizon, message):
    with pytest.raises(ValueError, match=message):
        survival_curve(np.array(hit_at), np.array(watched), horizon)

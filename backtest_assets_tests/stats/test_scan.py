import numpy as np
import pytest

from backtest_assets.stats.scan import (
    NEVER,
    accept_spaced,
    extremes_between,
    first_beyond,
    first_run_end,
    first_touches,
    lagged,
    last_present,
    mean_square_between,
    next_present,
)

NAN = np.nan


def test_a_lag_shows_the_past_and_refuses_the_future():
    np.testing.assert_array_equal([NAN, NAN, 1.0], lagged(np.array([1.0, 2.0, 3.0]), 2))
    np.testing.assert_array_equal([NAN], lagged(np.array([1.0]), 5))
    np.testing.assert_array_equal([NAN, NAN, NAN], lagged(np.array([1.0, 2.0, 3.0]), 4))
    with pytest.raises(ValueError, match="show the future"):
        lagged(np.array([1.0]), -1)


def test_next_and_last_present_skip_gaps_both_ways():
    values = np.array([NAN, 1.0, NAN, NAN, 2.0, NAN])
    assert [1, 1, 4, 4, 4, NEVER] == next_present(values).tolist()
    np.testing.assert_array_equal([NAN, 1.0, 1.0, 1.0, 2.0, 2.0], last_present(values))
    assert 0 == last_present(np.array([])).size


def test_a_run_begins_after_its_start_and_ends_where_it_is_complete():
    flags = np.array([True, True, True, False, True, True, True, True])
    assert [3 + 3, 3 + 3, 7, NEVER, NEVER] == first_run_end(flags, np.array([0, 3, 4, 5, 7]), 3).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_run_ends_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    flags, starts, length = rng.random(60) < 0.7, np.arange(60), int(rng.integers(1, 6))

    def slow(start: int) -> int:
        return next((t for t in range(start + length, 60) if flags[t - length + 1 : t + 1].all()), NEVER)

    assert [slow(int(s)) for s in starts] == first_run_end(flags, starts, length).tolist()


def test_the_next_candidate_is_accepted_only_once_the_accepted_one_has_set_free():
    starts, free_from = np.array([1, 2, 5, 6, 20]), np.array([5, 100, 8, 9, NEVER])
    assert [True, False, True, False, True] == accept_spaced(starts, free_from).tolist()
    with pytest.raises(ValueError, match="must ascend"):
        accept_spaced(np.array([2, 1]), np.array([3, 3]))


@pytest.mark.parametrize("seed", range(5))
def test_first_beyond_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(80) < 0.1, NAN, rng.standard_normal(80).cumsum())
    starts, signs = rng.integers(0, 80, 30), rng.choice([-1, 1], 30)
    levels = np.where(rng.random(30) < 0.1, NAN, rng.normal(0, 3, 30))

    def slow(start: int, level: float, sign: int) -> int:
        later = range(start + 1, min(start + 11, 80))
        return next((t for t in later if sign * (values[t] - level) > 0), NEVER)

    expected = [slow(int(s), float(v), int(g)) for s, v, g in zip(starts, levels, signs, strict=True)]
    assert expected == first_beyond(values, starts, levels, signs, 10).tolist()


def test_extremes_agree_with_brute_force_and_are_unknown_where_nothing_was_traded():
    rng = np.random.default_rng(1)
    low = np.where(rng.random(50) < 0.3, NAN, rng.standard_normal(50))
    low[10:14] = NAN
    high = low + 1.0
    begin = rng.integers(0, 40, 20)
    end = begin + rng.integers(1, 10, 20)
    begin[0], end[0] = 10, 14
    lowest, highest = extremes_between(low, high, begin, end)
    assert np.isnan(lowest[0])
    assert np.isnan(highest[0])
    spans = [low[b:e][~np.isnan(low[b:e])] for b, e in zip(begin, end, strict=True)]
    np.testing.assert_array_equal([s.min() if s.size else NAN for s in spans], lowest)
    np.testing.assert_array_equal([s.max() + 1.0 if s.size else NAN for s in spans], highest)


@pytest.mark.parametrize("seed", range(5))
def test_first_touches_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    low = np.where(rng.random(80) < 0.1, NAN, rng.standard_normal(80).cumsum())
    high = low + rng.random(80)
    begin = rng.integers(0, 80, 30)
    end = np.minimum(begin + rng.integers(0, 12, 30), 80)
    floor, ceiling = (np.where(rng.random(30) < 0.1, NAN, rng.normal(m, 2, 30)) for m in (-2, 2))
    down, up = first_touches(low, high, (begin, end), (floor, ceiling))
    spans = list(zip(begin, end, floor, ceiling, strict=True))
    assert [next((t for t in range(b, e) if low[t] < f), NEVER) for b, e, f, _ in spans] == down.tolist()
    assert [next((t for t in range(b, e) if high[t] > c), NEVER) for b, e, _, c in spans] == up.tolist()
    assert NEVER in down


def test_the_mean_square_agrees_with_brute_force_and_is_unknown_without_values():
    rng = np.random.default_rng(2)
    values = np.where(rng.random(50) < 0.3, NAN, rng.standard_normal(50))
    values[10:14] = NAN
    begin = rng.integers(0, 40, 20)
    end = begin + rng.integers(1, 10, 20)
    begin[:2], end[:2] = 10, [14, 10]
    mean, count = mean_square_between(values, begin, end)
    assert ([0, 0], True) == (count[:2].tolist(), bool(np.isnan(mean[:2]).all()))
    spans = [values[b:e][~np.isnan(values[b:e])] for b, e in zip(begin, end, strict=True)]
    assert [s.size for s in spans] == count.tolist()
    np.testing.assert_allclose([float(np.mean(s**2)) if s.size else NAN for s in spans], mean, rtol=1e-12)


def test_what_cannot_be_scanned_is_refused():
    one, values = np.array([0]), np.array([1.0])
    with pytest.raises(ValueError, match="at least 1 bar"):
        first_run_end(np.array([True]), one, 0)
    with pytest.raises(ValueError, match="horizon 0 be at least 1"):
        first_beyond(values, one, values, one, 0)
    with pytest.raises(ValueError, match="stay within"):
        extremes_between(values, values, one, np.array([2]))
    with pytest.raises(ValueError, match="stay within"):
        mean_square_between(values, one, np.array([2]))
    with pytest.raises(ValueError, match="stay within"):
        first_touches(values, values, (one, np.array([2])), (values, values))

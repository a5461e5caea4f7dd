import numpy as np
import pytest

from backtest_assets.stats.funding import FundingPath, funding_path

HOUR = 3_600_000_000
EIGHT = 8 * HOUR


def a_path(
    hours: list[int], rates: list[float], *, price: float = 100.0, interval_h: list[int] | None = None
) -> FundingPath:
    intervals = np.array(interval_h or [8] * len(hours), dtype=np.int64) * HOUR
    return funding_path(
        np.array(hours, dtype=np.int64) * HOUR, intervals, np.array(rates, dtype=np.float64), np.full(len(hours), price)
    )


def paid(path: FundingPath, from_h: float, to_h: float) -> float:
    return float(path.between(np.array([int(from_h * HOUR)]), np.array([int(to_h * HOUR)]))[0])


def test_a_long_pays_the_settlements_after_its_entry_up_to_its_exit():
    path = a_path([8, 16, 24], [0.01, -0.02, 0.04])
    assert pytest.approx(1.0) == paid(path, 7, 9)
    assert pytest.approx(0.0) == paid(path, 8, 15)
    assert pytest.approx(1.0) == paid(path, 4, 8)
    assert pytest.approx(1.0 - 2.0 + 4.0) == paid(path, 0, 24)


def test_a_missing_settlement_makes_every_span_over_it_unknown_and_no_other():
    path = a_path([8, 24, 32], [0.01, 0.02, 0.03])
    assert np.isnan(paid(path, 15, 17))
    assert np.isnan(paid(path, 0, 24))
    assert pytest.approx(2.0) == paid(path, 16, 24)
    assert pytest.approx(1.0) == paid(path, 0, 15)


def test_settlements_before_the_first_and_after_the_last_are_unknown():
    path = a_path([8, 16], [0.01, 0.02])
    assert pytest.approx(1.0) == paid(path, 0, 9)
    assert np.isnan(paid(path, -1, 9))
    assert pytest.approx(0.0) == paid(path, 17, 23)
    assert np.isnan(paid(path, 17, 24))
    assert np.isnan(paid(path, 30, 33))
    assert np.isnan(paid(path, -20, -10))


def test_no_settlements_at_all_means_nothing_is_known():
    assert np.isnan(paid(a_path([], []), 0, 1))


def test_an_unknown_rate_or_price_is_not_zero():
    path = a_path([8, 16, 24], [0.01, np.nan, 0.03])
    assert np.isnan(paid(path, 8, 16))
    assert pytest.approx(3.0) == paid(path, 16, 24)


def test_a_change_of_interval_is_no_missing_settlement():
    path = a_path([8, 16, 20, 24, 32], [0.01] * 5, interval_h=[8, 8, 4, 4, 8])
    assert pytest.approx(5.0) == paid(path, 0, 32)


def test_sums_agree_with_brute_force_and_add_up():
    rng = np.random.default_rng(5)
    at = np.arange(1, 200) * EIGHT
    rate, price = rng.normal(0, 1e-4, at.size), rng.uniform(90, 110, at.size)
    path = funding_path(at, np.full(at.size, EIGHT), rate, price)
    begin = rng.integers(0, 150 * EIGHT, 300)
    end = begin + rng.integers(0, 40 * EIGHT, 300)
    middle = (begin + end) // 2
    slow = [float(np.sum((rate * price)[(at > b) & (at <= e)])) for b, e in zip(begin, end, strict=True)]
    np.testing.assert_allclose(path.between(begin, end), slow, atol=1e-12)
    np.testing.assert_allclose(
        path.between(begin, end), path.between(begin, middle) + path.between(middle, end), atol=1e-12
    )


def test_duplicates_and_impossible_intervals_are_refused():
    with pytest.raises(ValueError, match="strictly ascend"):
        a_path([8, 8], [0.01, 0.01])
    with pytest.raises(ValueError, match="positive"):
        a_path([8], [0.01], interval_h=[0])
    with pytest.raises(ValueError, match="one shape"):
        funding_path(np.array([1]), np.array([1, 2]), np.array([0.1]), np.array([1.0]))

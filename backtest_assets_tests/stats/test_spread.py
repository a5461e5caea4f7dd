"""The high-low spread: exact on a market of pure bounce, unbiased on a simulated walk, refusing what is no bar."""

import numpy as np
import pytest

from backtest_assets.stats.spread import high_low_spread


def test_a_price_that_only_bounces_between_bid_and_ask_shows_exactly_their_distance_over_mid():
    bid, ask = np.full(5, 99.9), np.full(5, 100.1)
    np.testing.assert_allclose([np.nan, *[0.2 / 100.0] * 4], high_low_spread(ask, bid), rtol=1e-12)


def test_a_pair_agrees_with_the_equations_of_the_paper_worked_by_hand():
    # ln(H/L) = ln 1.1 and ln 1.05, over both bars ln(11/9.5): beta .0114647, gamma .0214929
    alpha = (np.sqrt(2 * 0.0114647) - np.sqrt(0.0114647)) / 0.1715729 - np.sqrt(0.0214929 / 0.1715729)
    expected = 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))
    shown = high_low_spread(np.array([11.0, 9.975]), np.array([10.0, 9.5]))[1]
    assert pytest.approx(expected, abs=1e-6) == shown


@pytest.mark.parametrize("spread_bps", [0.0, 5.0, 20.0, 50.0])
def test_the_mean_over_many_pairs_recovers_the_spread_of_a_simulated_walk(spread_bps):
    rng = np.random.default_rng(1)
    n_bars, n_trades = 3_000, 1_000
    mid = np.cumsum(rng.standard_normal(n_bars * n_trades) * 15e-4 / np.sqrt(n_trades))
    traded = np.exp(mid + rng.choice([-1, 1], mid.size) * spread_bps * 1e-4 / 2).reshape(n_bars, n_trades)
    pairs = high_low_spread(traded.max(axis=1), traded.min(axis=1)) * 1e4
    # trades are finite, so ranges are a little short of the true ones: the paper's own simulations show the same
    assert pytest.approx(spread_bps, abs=1.2) == np.nanmean(pairs)


def test_a_missing_bar_costs_its_two_pairs():
    high = np.array([2.0, 2.0, np.nan, 2.0, 2.0])
    assert [True, False, True, True, False] == np.isnan(high_low_spread(high, high / 2)).tolist()


def test_bars_that_do_not_move_show_no_spread():
    still = np.full(3, 7.0)
    np.testing.assert_array_equal([np.nan, 0.0, 0.0], high_low_spread(still, still))


@pytest.mark.parametrize(("high", "low"), [([1.0, 2.0], [1.0]), ([1.0], [2.0]), ([1.0], [0.0]), ([np.inf], [1.0])])
def test_what_is_no_bar_is_refused(high, low):
    with pytest.raises(ValueError, match="high"):
        high_low_spread(np.array(high), np.array(low))


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_pair_nothing_is_known(n):
    assert np.isnan(high_low_spread(np.ones(n), np.ones(n))).sum() == n

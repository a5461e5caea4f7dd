import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_assets.stats.simulate import REASONS, Orders, Prices, Rules, run_orders


def grid(*bars: tuple[float, ...] | None, n_known=None):
    """One series from (open, high, low, close) rows; None is a gap."""
    rows = np.array([[math.nan] * 4 if bar is None else bar for bar in bars], np.float64).T[:, None, :]
    return Prices(rows[0], rows[1], rows[2], rows[3], np.array([len(bars) if n_known is None else n_known]))


def rules(*, stop=0.05, target=0.05, time_stop=3.0, cooldown=0.0, exposure=0.5):
    whole = np.array([time_stop, cooldown]).astype(np.int64)
    return Rules(np.array([stop]), np.array([target]), whole[:1], whole[1:], np.array([exposure]))


def orders(*bars: int, side=1):
    n = len(bars)
    return Orders(np.array(bars, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64), np.full(n, side))


def one(prices, *, side=1, bar=0, **rule: float):
    held = run_orders(orders(bar, side=side), rules(**rule), prices, max_series_exposure=1.0, max_gross_exposure=1.0)
    return [(int(b), REASONS[r], float(p)) for b, r, p in zip(held.exit_bar, held.reason, held.exit_price, strict=True)]


FLAT = (100.0, 100.0, 100.0, 100.0)


def test_the_time_exit_fills_at_the_open_of_the_bar_it_is_due():
    assert one(grid(FLAT, FLAT, FLAT, (101.0, 200.0, 1.0, 150.0), FLAT)) == [(3, "time", 101.0)]


def test_a_time_exit_that_falls_on_a_gap_waits_for_the_first_real_open():
    assert one(grid(FLAT, FLAT, FLAT, None, None, (99.0, 99.0, 50.0, 98.0), FLAT)) == [(5, "time", 99.0)]


def test_a_long_stop_touched_inside_a_bar_fills_at_the_stop():
    assert one(grid(FLAT, (99.0, 99.0, 94.0, 96.0), FLAT, FLAT)) == [(1, "stop", 95.0)]


def test_a_bar_that_opens_beyond_the_stop_fills_at_its_open():
    assert one(grid(FLAT, (90.0, 97.0, 89.0, 96.0), FLAT, FLAT)) == [(1, "stop", 90.0)]


def test_a_short_stop_above_the_entry_fills_at_the_worse_of_stop_and_open():
    assert one(grid(FLAT, (101.0, 106.0, 101.0, 104.0), FLAT, FLAT), side=-1) == [(1, "stop", 105.0)]
    assert one(grid(FLAT, (112.0, 113.0, 101.0, 104.0), FLAT, FLAT), side=-1) == [(1, "stop", 112.0)]


def test_a_target_fills_at_its_level_or_at_a_better_open():
    assert one(grid(FLAT, (100.0, 107.0, 99.0, 104.0), FLAT, FLAT)) == [(1, "target", 105.0)]
    assert one(grid(FLAT, (108.0, 109.0, 99.0, 104.0), FLAT, FLAT)) == [(1, "target", 108.0)]


def test_a_bar_that_touches_both_levels_is_a_stop():
    assert one(grid(FLAT, (100.0, 120.0, 80.0, 104.0), FLAT, FLAT)) == [(1, "stop", 95.0)]
    assert one(grid(FLAT, (110.0, 120.0, 80.0, 104.0), FLAT, FLAT)) == [(1, "stop", 95.0)]


def test_the_entry_bar_itself_can_stop_the_position():
    assert one(grid((100.0, 101.0, 90.0, 99.0), FLAT, FLAT, FLAT)) == [(0, "stop", 95.0)]


def test_a_position_that_reaches_the_end_of_the_grid_leaves_at_the_last_close():
    assert one(grid(FLAT, (100.0, 103.0, 99.0, 102.0))) == [(1, "end_of_data", 102.0)]
    assert one(grid(FLAT, (100.0, 103.0, 99.0, 102.0), None)) == [(2, "end_of_data", 102.0)]


def test_a_position_stays_open_where_the_known_bars_end_before_the_grid():
    assert one(grid(FLAT, (100.0, 103.0, 99.0, 102.0), None, n_known=2)) == [(1, "open", 102.0)]


def test_an_order_on_a_gap_or_beyond_the_known_bars_is_not_filled():
    assert one(grid(None, FLAT, FLAT, FLAT)) == []
    assert one(grid(FLAT, FLAT, FLAT, FLAT, n_known=2), bar=2) == []
    assert one(grid(FLAT, FLAT), bar=-1) == []


def test_no_order_is_filled_while_holding_on_the_exit_bar_or_in_the_cooldown():
    prices = grid(*[FLAT] * 20)
    held = run_orders(orders(0, 1, 3, 4, 7, 8), rules(), prices, max_series_exposure=1.0, max_gross_exposure=1.0)
    assert held.order.tolist() == [0, 3, 5]
    held = run_orders(orders(0, 4, 5, 6), rules(cooldown=2), prices, max_series_exposure=1.0, max_gross_exposure=1.0)
    assert held.order.tolist() == [0, 3]


def test_excursions_are_those_of_the_bars_fully_held_and_of_the_fill():
    prices = grid(FLAT, (100.0, 104.0, 98.0, 103.0), (103.0, 104.0, 90.0, 91.0))
    held = run_orders(orders(0), rules(), prices, max_series_exposure=1.0, max_gross_exposure=1.0)
    assert pytest.approx([0.05, 0.04]) == [held.adverse_frac[0], held.favourable_frac[0]]


def test_an_exit_at_the_open_frees_room_at_once_and_an_exit_inside_the_bar_only_for_the_next():
    both = Rules(np.full(2, 0.05), np.full(2, 0.05), np.array([2, 9]), np.zeros(2, np.int64), np.full(2, 0.6))
    later = Orders(np.array([0, 2]), np.array([0, 0]), np.array([0, 1]), np.array([1, 1]))
    at_open = run_orders(later, both, grid(*[FLAT] * 5), max_series_exposure=1.0, max_gross_exposure=1.0)
    assert at_open.exposure.tolist() == [0.6, 0.6]
    slow = both._replace(time_stop_bars=np.array([9, 9]))
    inside = run_orders(
        later, slow, grid(FLAT, FLAT, (100.0, 100.0, 90.0, 99.0), FLAT), max_series_exposure=1.0, max_gross_exposure=1.0
    )
    assert pytest.approx([0.6, 0.4]) == inside.exposure.tolist()


def test_orders_out_of_order_and_caps_of_nothing_are_refused():
    with pytest.raises(ValueError, match="not ascending"):
        run_orders(orders(3, 1), rules(), grid(FLAT), max_series_exposure=1.0, max_gross_exposure=1.0)
    with pytest.raises(ValueError, match="above 0"):
        run_orders(orders(1), rules(), grid(FLAT), max_series_exposure=0.0, max_gross_exposure=1.0)


def plain_exit(prices, s, bar, side, *, stop_frac, target_frac, time_stop):
    entry = mark = prices.open[s, bar]
    stop, target = entry * (1 - side * stop_frac), entry * (1 + side * target_frac)
    n_known = int(prices.n_known[s])
    for j in range(bar, n_known):
        o, high, low, close = (p[s, j] for p in (prices.open, prices.high, prices.low, prices.close))
        if math.isnan(o):
            continue
        if j - bar >= time_stop:
            return j, "time", o, True
        if (low <= stop) if side > 0 else (high >= stop):
            beyond = bool(j > bar and ((o <= stop) if side > 0 else (o >= stop)))
            return j, "stop", o if beyond else stop, beyond
        if (high >= target) if side > 0 else (low <= target):
            beyond = bool(j > bar and ((o >= target) if side > 0 else (o <= target)))
            return j, "target", o if beyond else target, beyond
        mark = close
    return n_known - 1, "end_of_data" if n_known == prices.open.shape[1] else "open", mark, False


RULE_FIELDS = {"stop_frac": "stop_frac", "target_frac": "target_frac", "time_stop": "time_stop_bars"}


def plain(orders, rules, prices, max_series, max_gross):
    """The same semantics, written the slow way."""
    held, answer = [], []
    for i, (bar, s, r, side) in enumerate(zip(*(a.tolist() for a in orders), strict=True)):
        if bar >= prices.n_known[s] or math.isnan(prices.open[s, bar]):
            continue
        if any((h["r"], h["s"]) == (r, s) and bar <= h["exit"] + rules.cooldown_bars[r] for h in held):
            continue
        active = [h for h in held if (h["exit"] > bar if h["at_open"] else h["exit"] >= bar)]
        used, used_here = sum(h["size"] for h in active), sum(h["size"] for h in active if h["s"] == s)
        room = min(rules.exposure[r], max_series - used_here, max_gross - used)
        if room < 1e-9:
            continue
        rule = {name: getattr(rules, field)[r] for name, field in RULE_FIELDS.items()}
        leave, reason, price, at_open = plain_exit(prices, s, bar, side, **rule)
        held.append({"r": r, "s": s, "exit": leave, "at_open": at_open, "size": room})
        answer.append((i, leave, reason, float(price), float(room)))
    return answer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_kernel_agrees_with_a_plain_walk_on_random_markets(seed):
    rng = np.random.default_rng(seed)
    n_series, n_bars, n_rules, n_orders = 3, 120, 4, 60
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (n_series, n_bars)), axis=1))
    opens = close * np.exp(rng.normal(0, 0.01, close.shape))
    wick = np.exp(np.abs(rng.normal(0, 0.005, (2, *close.shape))))
    high, low = np.maximum(opens, close) * wick[0], np.minimum(opens, close) / wick[1]
    gap = rng.random(close.shape) < 0.1
    opens, high, low, close = (np.where(gap, np.nan, p) for p in (opens, high, low, close))
    prices = Prices(opens, high, low, close, rng.integers(60, n_bars + 1, n_series))
    rule = Rules(
        rng.uniform(0.005, 0.05, n_rules),
        rng.uniform(0.005, 0.05, n_rules),
        rng.integers(1, 20, n_rules),
        rng.integers(0, 5, n_rules),
        rng.uniform(0.1, 0.7, n_rules),
    )
    wanted = Orders(
        np.sort(rng.integers(0, n_bars, n_orders)),
        rng.integers(0, n_series, n_orders),
        rng.integers(0, n_rules, n_orders),
        rng.choice([-1, 1], n_orders),
    )
    held = run_orders(wanted, rule, prices, max_series_exposure=0.8, max_gross_exposure=1.2)
    found = [
        (int(i), int(b), REASONS[r], float(p), float(e))
        for i, b, r, p, e in zip(held.order, held.exit_bar, held.reason, held.exit_price, held.exposure, strict=True)
    ]
    expected = plain(wanted, rule, prices, 0.8, 1.2)
    assert [row[:3] for row in expected] == [row[:3] for row in found]
    assert np.allclose([row[3:] for row in expected], [row[3:] for row in found], rtol=1e-12)

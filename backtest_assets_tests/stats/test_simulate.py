import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_assets.stats.simulate import NEVER, REASONS, Caps, Orders, Prices, Rules, run_alone, run_orders


def grid(*bars: tuple[float, ...] | None, n_known=None):
    """One series from (open, high, low, close) rows; None is a gap."""
    rows = np.array([[math.nan] * 4 if bar is None else bar for bar in bars], np.float64).T[:, None, :]
    return Prices(rows[0], rows[1], rows[2], rows[3], np.array([len(bars) if n_known is None else n_known]))


NOTHING_INVALID = np.zeros((0, 1, 1), np.bool_)
NO_CAPS = Caps(1.0, 1.0)


def rules(*, time_stop=3.0, cooldown=0.0, break_even=0.0, invalid=None):
    whole = np.array([time_stop, cooldown, -1 if invalid is None else 0]).astype(np.int64)
    ends = NOTHING_INVALID if invalid is None else np.array([[invalid]], np.bool_)
    return Rules(whole[:1], whole[1:2], np.array([break_even]), whole[2:], ends)


def orders(*bars: int, side=1, stop=0.05, target=0.05, trail=NEVER, exposure=0.5):
    n = len(bars)
    nothing = np.zeros(n, np.int64)
    return Orders(
        np.array(bars, np.int64), nothing, nothing, np.full(n, side), *(np.full(n, x) for x in (stop, target, trail, exposure))
    )  # fmt: skip


OF_ORDER = {"stop", "target", "trail", "exposure"}


def one(prices, *, side=1, bar=0, **given: Any):  # noqa: ANN401  # any field
    wanted = orders(bar, side=side, **{k: v for k, v in given.items() if k in OF_ORDER})
    rule = rules(**{k: v for k, v in given.items() if k not in OF_ORDER})
    held = run_orders(wanted, rule, prices, NO_CAPS)
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
    held = run_orders(orders(0, 1, 3, 4, 7, 8), rules(), prices, NO_CAPS)
    assert held.order.tolist() == [0, 3, 5]
    held = run_orders(orders(0, 4, 5, 6), rules(cooldown=2), prices, NO_CAPS)
    assert held.order.tolist() == [0, 3]


def test_excursions_are_those_of_the_bars_fully_held_and_of_the_fill():
    prices = grid(FLAT, (100.0, 104.0, 98.0, 103.0), (103.0, 104.0, 90.0, 91.0))
    held = run_orders(orders(0), rules(), prices, NO_CAPS)
    assert pytest.approx([0.05, 0.04]) == [held.adverse_frac[0], held.favourable_frac[0]]


def test_an_exit_at_the_open_frees_room_at_once_and_an_exit_inside_the_bar_only_for_the_next():
    none = np.zeros(2, np.int64)
    both = Rules(np.array([2, 9]), none, np.zeros(2), none - 1, NOTHING_INVALID)
    later = orders(0, 2, exposure=0.6)._replace(rule=np.array([0, 1]))
    at_open = run_orders(later, both, grid(*[FLAT] * 5), NO_CAPS)
    assert at_open.exposure.tolist() == [0.6, 0.6]
    slow = both._replace(time_stop_bars=np.array([9, 9]))
    inside = run_orders(later, slow, grid(FLAT, FLAT, (100.0, 100.0, 90.0, 99.0), FLAT), NO_CAPS)
    assert pytest.approx([0.6, 0.4]) == inside.exposure.tolist()


def test_orders_out_of_order_and_caps_of_nothing_are_refused():
    with pytest.raises(ValueError, match="not ascending"):
        run_orders(orders(3, 1), rules(), grid(FLAT), NO_CAPS)
    with pytest.raises(ValueError, match="above 0"):
        run_orders(orders(1), rules(), grid(FLAT), Caps(0.0, 1.0))
    with pytest.raises(ValueError, match="above 0"):
        run_orders(orders(1), rules(), grid(FLAT), Caps(1.0, 1.0, 1.0, 0.0))


def test_a_trailing_stop_follows_the_best_price_of_the_bars_before():
    path = grid(FLAT, (100.0, 108.0, 100.0, 108.0), (108.0, 108.0, 104.0, 105.0), FLAT)
    assert one(path, trail=0.03, target=0.5, time_stop=9) == [(2, "trailing_stop", 105.0)]
    assert one(path, target=0.5, time_stop=3) == [(3, "time", 100.0)]


def test_w7_a_bars_own_high_never_tightens_the_stop_that_its_low_then_hits():
    spike = grid(FLAT, (100.0, 110.0, 100.5, 109.0), (109.0, 109.5, 108.0, 109.0), FLAT, FLAT)
    assert one(spike, trail=0.03, target=0.5) == [(3, "time", 100.0)]
    assert one(spike, break_even=1.0, target=0.5, time_stop=4) == [(3, "break_even_stop", 100.0)]
    within = grid(FLAT, (100.0, 106.0, 99.0, 104.0), (104.0, 104.0, 101.0, 102.0), FLAT, FLAT)
    assert one(within, break_even=1.0, target=0.5, time_stop=4) == [(3, "break_even_stop", 100.0)]


def test_break_even_counts_from_its_multiple_of_the_first_stop_and_never_loosens():
    near = grid(FLAT, (100.0, 104.9, 99.0, 101.0), (101.0, 101.0, 96.0, 97.0), FLAT)
    assert one(near, break_even=1.0, target=0.5) == [(3, "time", 100.0)]
    assert one(near, break_even=0.9, target=0.5) == [(2, "break_even_stop", 100.0)]
    down = grid(FLAT, (100.0, 101.0, 94.0, 96.0), (96.0, 106.0, 96.0, 104.0), FLAT)
    assert one(down, side=-1, break_even=1.0, target=0.5) == [(2, "break_even_stop", 100.0)]
    loose = grid(FLAT, (100.0, 110.0, 100.0, 108.0), (104.0, 104.0, 100.0, 101.0), FLAT)
    assert one(loose, trail=0.04, break_even=1.0, target=0.5) == [(2, "trailing_stop", 104.0)]


def test_an_invalid_rule_leaves_at_the_first_real_open_after_its_entry():
    path = grid(FLAT, FLAT, None, (99.0, 120.0, 80.0, 99.0), FLAT)
    assert one(path, time_stop=9, invalid=[1, 0, 1, 1, 0]) == [(3, "invalidation", 99.0)]
    assert one(path, time_stop=9, invalid=[1, 0, 1, 0, 0]) == [(3, "stop", 95.0)]
    assert one(path, time_stop=3, invalid=[1, 0, 1, 1, 0]) == [(3, "time", 99.0)]


def test_risk_budgets_cap_the_sum_of_losses_at_the_first_stops():
    several = Rules(np.full(3, 9), np.zeros(3, np.int64), np.zeros(3), np.full(3, -1), NOTHING_INVALID)
    wanted = orders(0, 0, 0, exposure=0.5)._replace(rule=np.arange(3), stop_frac=np.array([0.02, 0.04, 0.05]))
    series = run_orders(wanted, several, grid(*[FLAT] * 3), Caps(9.0, 9.0, 0.02, 9.0))
    assert pytest.approx([0.5, 0.25]) == series.exposure.tolist()
    gross = run_orders(wanted, several, grid(*[FLAT] * 3), Caps(9.0, 9.0, 9.0, 0.04))
    assert pytest.approx([0.5, 0.5, 0.2]) == gross.exposure.tolist()


def capped(caps: dict[str, float], side=(1, 1, 1), bar=(0, 0, 0), rule=(0, 1, 2)):
    several = Rules(np.full(3, 9), np.zeros(3, np.int64), np.zeros(3), np.full(3, -1), NOTHING_INVALID)
    wanted = orders(*bar, exposure=0.5)._replace(rule=np.array(rule), side=np.array(side), series=np.arange(3))
    each = [np.repeat(prices, 3, axis=0) for prices in grid(*[FLAT] * 3)[:4]]
    prices = Prices(each[0], each[1], each[2], each[3], np.full(3, 3))
    held = run_orders(wanted, several, prices, Caps(9.0, 9.0)._replace(**caps))
    return dict(zip(held.order.tolist(), held.exposure.tolist(), strict=True))


def test_the_cap_of_a_rule_holds_over_all_series():
    assert capped({"rule_exposure": 0.7}, rule=(0, 1, 0)) == pytest.approx({0: 0.5, 1: 0.5, 2: 0.2})


def test_what_is_held_the_other_way_gives_no_room_under_the_net_cap():
    assert capped({"net_exposure": 0.7}, side=(1, -1, 1)) == pytest.approx({0: 0.5, 1: 0.5, 2: 0.2})


def test_what_is_entered_at_one_open_is_capped_and_the_next_bar_has_its_own():
    assert capped({"new_exposure": 0.7}, bar=(0, 0, 1)) == pytest.approx({0: 0.5, 1: 0.2, 2: 0.5})


def plain_exit(prices, s, bar, *, side, stop, target, trail, time_stop, break_even, invalid):
    """One exit, said over the bars held so far instead of with a running state."""
    entry = mark = prices.open[s, bar]
    n_known, goal = int(prices.n_known[s]), entry * (1 + side * target)
    for j in range(bar, n_known):
        o, high, low, close = (p[s, j] for p in (prices.open, prices.high, prices.low, prices.close))
        if math.isnan(o):
            continue
        if j - bar >= time_stop:
            return j, "time", o, True
        if j > bar and invalid is not None and invalid[s, j]:
            return j, "invalidation", o, True
        reached = prices.high[s, bar:j] if side > 0 else prices.low[s, bar:j]
        ahead = side * (reached[~np.isnan(reached)] - entry)
        gain = max(0.0, *ahead.tolist()) if ahead.size else 0.0
        levels = {"stop": -entry * stop}
        if break_even > 0 and gain >= break_even * entry * stop:
            levels["break_even_stop"] = 0.0
        if ahead.size and gain - entry * trail > max(levels.values()):
            levels["trailing_stop"] = gain - entry * trail
        name = max(levels, key=lambda one: levels[one])
        level = entry + side * levels[name]
        if (low <= level) if side > 0 else (high >= level):
            beyond = bool(j > bar and ((o <= level) if side > 0 else (o >= level)))
            return j, name, o if beyond else level, beyond
        if (high >= goal) if side > 0 else (low <= goal):
            beyond = bool(j > bar and ((o >= goal) if side > 0 else (o <= goal)))
            return j, "target", o if beyond else goal, beyond
        mark = close
    return n_known - 1, "end_of_data" if n_known == prices.open.shape[1] else "open", mark, False


def plain_rule(orders, rules, i):
    r = int(orders.rule[i])
    row = int(rules.invalid_row[r])
    return {
        "side": int(orders.side[i]), "stop": orders.stop_frac[i], "target": orders.target_frac[i], "trail": orders.trail_frac[i],
        "time_stop": int(rules.time_stop_bars[r]), "break_even": rules.break_even_r[r],
        "invalid": None if row < 0 else rules.is_invalid[row],
    }  # fmt: skip


def plain(orders, rules, prices, caps):
    """The same semantics, written the slow way."""
    held, answer = [], []
    for i, (bar, s, r) in enumerate(
        zip(orders.bar.tolist(), orders.series.tolist(), orders.rule.tolist(), strict=True)
    ):
        if bar >= prices.n_known[s] or math.isnan(prices.open[s, bar]):
            continue
        if any((h["r"], h["s"]) == (r, s) and bar <= h["exit"] + rules.cooldown_bars[r] for h in held):
            continue
        active = [h for h in held if (h["exit"] > bar if h["at_open"] else h["exit"] >= bar)]
        here = [h for h in active if h["s"] == s]
        stop = float(orders.stop_frac[i])
        room = min(
            orders.exposure[i],
            caps.series_exposure - sum(h["size"] for h in here),
            caps.gross_exposure - sum(h["size"] for h in active),
            (caps.series_risk - sum(h["size"] * h["stop"] for h in here)) / stop,
            (caps.gross_risk - sum(h["size"] * h["stop"] for h in active)) / stop,
            caps.rule_exposure - sum(h["size"] for h in active if h["r"] == r),
            caps.net_exposure - sum(h["size"] for h in active if h["side"] == orders.side[i]),
            caps.new_exposure - sum(h["size"] for h in held if h["bar"] == bar),
        )
        if room < 1e-9:
            continue
        leave, reason, price, at_open = plain_exit(prices, s, bar, **plain_rule(orders, rules, i))
        held.append(
            {
                "r": r,
                "s": s,
                "exit": leave,
                "at_open": at_open,
                "size": room,
                "stop": stop,
                "side": orders.side[i],
                "bar": bar,
            }
        )
        answer.append((i, leave, reason, float(price), float(room)))
    return answer


def random_case(seed):
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
        rng.integers(1, 20, n_rules),
        rng.integers(0, 5, n_rules),
        np.where(rng.random(n_rules) < 0.5, 0.0, rng.uniform(0.2, 2.0, n_rules)),
        np.array([-1, 0, -1, 1]),
        rng.random((2, n_series, n_bars)) < 0.05,
    )
    wanted = Orders(
        np.sort(rng.integers(0, n_bars, n_orders)),
        rng.integers(0, n_series, n_orders),
        rng.integers(0, n_rules, n_orders),
        rng.choice([-1, 1], n_orders),
        rng.uniform(0.005, 0.05, n_orders),
        rng.uniform(0.005, 0.05, n_orders),
        np.where(rng.random(n_orders) < 0.5, NEVER, rng.uniform(0.003, 0.04, n_orders)),
        rng.uniform(0.1, 0.7, n_orders),
    )
    return wanted, rule, prices


def rows_of(held):
    return [
        (int(i), int(b), REASONS[r], float(p), float(e))
        for i, b, r, p, e in zip(held.order, held.exit_bar, held.reason, held.exit_price, held.exposure, strict=True)
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_kernel_agrees_with_a_plain_walk_on_random_markets(seed):
    wanted, rule, prices = random_case(seed)
    caps = Caps(0.8, 1.2, 0.02, 0.03, *np.random.default_rng(seed).uniform([0.3, 0.4, 0.3], [1.0, 1.0, 1.0]))
    found, expected = rows_of(run_orders(wanted, rule, prices, caps)), plain(wanted, rule, prices, caps)
    assert [row[:3] for row in expected] == [row[:3] for row in found]
    assert np.allclose([row[3:] for row in expected], [row[3:] for row in found], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_alone_every_order_is_filled_as_if_there_were_no_other(seed):
    wanted, rule, prices = random_case(seed)
    found = rows_of(run_alone(wanted, rule, prices))
    expected = []
    for i in range(wanted.bar.size):
        (*rest,) = rows_of(run_orders(wanted.taken(np.array([i])), rule, prices, Caps(9.0, 9.0)))
        expected += [(i, *row[1:]) for row in rest]
    assert expected == found
    assert len(found) > 20

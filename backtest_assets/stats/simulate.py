"""The execution kernel: orders in time order become positions, with exits inside the bar and caps over all of them.

Arrays only. Which orders there are, what a row of the grid is and what a fill costs stay out (`research/simulation`).
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.kernel import kernel

OPEN, STOP, TARGET, TIME, END, BREAK_EVEN, TRAILING, INVALID = 0, 1, 2, 3, 4, 5, 6, 7
REASONS: Final = ("open", "stop", "target", "time", "end_of_data", "break_even_stop", "trailing_stop", "invalidation")
"""Why a position ended, by code; a position of code 0 is still open where the data end."""

NEVER: Final = math.inf
"""Trailing distance of an order without a trailing stop."""

LEAST_EXPOSURE: Final = 1e-9
"""Room below this is rounding of a sum of exposures, not room [fraction of equity]."""


class Prices(NamedTuple):
    """Prices of some series on one common grid of bars.

    Attributes:
        open: (n_series, n_bars), NaN on a gap; so are the next three.
        high: highest price.
        low: lowest price.
        close: last price.
        n_known: (n_series,) bars of the series that are known; a series known to the grid's end is closed there [bars].
    """

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    n_known: IntArray


class Rules(NamedTuple):
    """What each rule does, one entry per rule.

    Attributes:
        time_stop_bars: (n_rules,) bars until the time exit, at least 1 [bars].
        cooldown_bars: (n_rules,) bars kept free after an exit [bars].
        break_even_r: (n_rules,) gain from which the stop stands at the entry [stop distances]; 0 for none.
        invalid_row: (n_rules,) row of `is_invalid`; -1 for a rule that nothing invalidates.
        is_invalid: (n_rows, n_series, n_bars) whether a position held into the bar's open ends there.
    """

    time_stop_bars: IntArray
    cooldown_bars: IntArray
    break_even_r: FloatArray
    invalid_row: IntArray
    is_invalid: BoolArray


class Orders(NamedTuple):
    """Wanted entries, ascending in `bar`; among equal bars the earlier order is served first.

    Attributes:
        bar: (n_orders,) bar at whose open to enter.
        series: (n_orders,) row of the grid.
        rule: (n_orders,) rule that wants it.
        side: (n_orders,) +1 or -1.
        stop_frac: (n_orders,) stop distance [fraction of the entry price].
        target_frac: (n_orders,) target distance [fraction of the entry price].
        trail_frac: (n_orders,) trailing distance, `NEVER` for none [fraction of the entry price].
        exposure: (n_orders,) wanted exposure [fraction of equity].
    """

    bar: IntArray
    series: IntArray
    rule: IntArray
    side: IntArray
    stop_frac: FloatArray
    target_frac: FloatArray
    trail_frac: FloatArray
    exposure: FloatArray

    def taken(self, rows: IntArray) -> "Orders":
        """Return some of the orders."""
        return Orders(
            self.bar[rows],
            self.series[rows],
            self.rule[rows],
            self.side[rows],
            self.stop_frac[rows],
            self.target_frac[rows],
            self.trail_frac[rows],
            self.exposure[rows],
        )


class Caps(NamedTuple):
    """What holds over everything held.

    Attributes:
        series_exposure: cap on the sum of exposures of one series over all rules [fraction of equity].
        gross_exposure: cap on the sum of all exposures [fraction of equity].
        series_risk: cap on the sum of exposure times stop distance of one series [fraction of equity].
        gross_risk: cap on that sum over everything [fraction of equity].
        rule_exposure: cap on the sum of exposures of one rule over all series [fraction of equity].
        net_exposure: cap on the sum of exposures of one side; what is held the other way gives no room, since it may
            leave first, so the net never exceeds the cap either [fraction of equity].
        new_exposure: cap on the sum of exposures entered at one bar's open [fraction of equity].
    """

    series_exposure: float
    gross_exposure: float
    series_risk: float = math.inf
    gross_risk: float = math.inf
    rule_exposure: float = math.inf
    net_exposure: float = math.inf
    new_exposure: float = math.inf


@dataclass(frozen=True, slots=True)
class Positions:
    """The orders that were filled, in order.

    Attributes:
        order: (n,) which order.
        exit_bar: (n,) bar of the exit, or the last known bar if `reason` is `OPEN`.
        reason: (n,) code of `REASONS`.
        at_open: (n,) whether the exit filled at the exit bar's open.
        exposure: (n,) after caps [fraction of equity].
        entry_price: (n,) entry fill.
        exit_price: (n,) exit fill, or the last mark if open.
        last_stop: (n,) stop level in force in the exit bar.
        adverse_frac: (n,) largest adverse excursion, >= 0 [fraction of the entry price].
        favourable_frac: (n,) largest favourable excursion, >= 0 [fraction of the entry price].
    """

    order: IntArray
    exit_bar: IntArray
    reason: IntArray
    at_open: BoolArray
    exposure: FloatArray
    entry_price: FloatArray
    exit_price: FloatArray
    last_stop: FloatArray
    adverse_frac: FloatArray
    favourable_frac: FloatArray

    @classmethod
    def of(cls, whole: IntArray, fractions: FloatArray) -> "Positions":
        """Unpack what the kernels return."""
        order, exit_bar, reason, at_open = whole.T
        return cls(order, exit_bar, reason, at_open == 1, *fractions.T)


def run_orders(orders: Orders, rules: Rules, prices: Prices, caps: Caps) -> Positions:
    """Fill orders in one causal pass.

    An order enters at its bar's open unless that bar is a gap or unknown, the rule already holds (or cools down from) a
    position in the series, or no room is left under the caps; it gets what room there is. Exposure that ended at a bar's
    open frees room for orders at that open; what ended inside a bar frees it at the next. A rule re-enters a series at
    the earliest one bar after the exit bar. Exits, from the entry bar on, the first that holds: at or after
    `time_stop_bars` the first real open; the first later real open at which the rule is invalid; the stop, at the worse
    of its level and the open; the target, at the better of its level and the open. The stop is tested first even where
    the open lies beyond the target. It only ever comes nearer, by the bars before: to the entry once the best price was
    `break_even_r` stop distances away, and to the trailing distance from that best price; a bar's own extreme moves the
    stop of the next. A position that lasts to the grid's end leaves at the last close.

    Args:
        orders: ascending in bar.
        rules: what the orders' rules do.
        prices: the grid.
        caps: what holds over everything held.

    Returns:
        The filled orders.

    Raises:
        ValueError: if the orders are not ascending in bar, or a cap is not above 0.

    Source:
        reference_3 sections 8.1 (D7, D9, D17, D30), reference_2 section 10 (B6, W7); worked examples in the tests.
    """
    if orders.bar.size and bool((np.diff(orders.bar) < 0).any()):
        message = "orders are not ascending in bar; sort them by bar, then by priority"
        raise ValueError(message)
    if not all(cap > 0 for cap in caps):
        message = f"caps must be above 0, got {caps}"
        raise ValueError(message)
    return Positions.of(*_pass(orders, rules, prices, Caps(*map(float, caps))))


def run_alone(orders: Orders, rules: Rules, prices: Prices) -> Positions:
    """Fill every order as if it were the only one: no caps, no cooldown, overlapping as it comes.

    Args:
        orders: in any order.
        rules: what the orders' rules do.
        prices: the grid.

    Returns:
        The orders whose bar is real and known, with the exits of `run_orders`.

    Source:
        `run_orders`, of one order at a time; the tests compare them.
    """
    return Positions.of(*_alone(orders, rules, prices))


@kernel
def _exit(orders: Orders, i: int, rules: Rules, prices: Prices) -> tuple[int, int, bool, float, float, float, float]:
    first, s, r, side = int(orders.bar[i]), orders.series[i], orders.rule[i], int(orders.side[i])
    opens, entry, n_known = prices.open[s], float(prices.open[s, first]), int(prices.n_known[s])
    risk, trail = entry * float(orders.stop_frac[i]), entry * float(orders.trail_frac[i])
    even, row = risk * float(rules.break_even_r[r]), int(rules.invalid_row[r])
    stop, kind, peak = entry - side * risk, STOP, entry
    target = entry * (1.0 + side * float(orders.target_frac[i]))
    bar, reason, at_open = first, OPEN, False
    mark, worst, best = entry, 0.0, 0.0
    while bar < n_known:
        first_price = float(opens[bar])
        if np.isnan(first_price):
            bar += 1
            continue
        if bar >= first + rules.time_stop_bars[r]:
            mark, reason, at_open = first_price, TIME, True
            break
        if row >= 0 and bar > first and rules.is_invalid[row, s, bar]:
            mark, reason, at_open = first_price, INVALID, True
            break
        high, low = float(prices.high[s, bar]), float(prices.low[s, bar])
        against, along = (low, high) if side > 0 else (high, low)
        if side * (stop - against) >= 0.0:
            at_open = bar > first and side * (stop - first_price) >= 0.0
            mark, reason = first_price if at_open else stop, kind
            break
        if side * (along - target) >= 0.0:
            at_open = bar > first and side * (first_price - target) >= 0.0
            mark, reason = first_price if at_open else target, TARGET
            break
        worst, best = min(worst, side * (against / entry - 1.0)), max(best, side * (along / entry - 1.0))
        peak = max(peak, along) if side > 0 else min(peak, along)
        if even > 0.0 and side * (peak - entry) >= even and side * (entry - stop) > 0.0:
            stop, kind = entry, BREAK_EVEN
        if side * (peak - side * trail - stop) > 0.0:
            stop, kind = peak - side * trail, TRAILING
        mark = float(prices.close[s, bar])
        bar += 1
    if reason == OPEN:
        bar = n_known - 1
        reason = END if n_known == opens.size else OPEN
    move = side * (mark / entry - 1.0)
    return bar, reason, at_open, mark, stop, -min(worst, move), max(best, move)


@kernel
def _alone(orders: Orders, rules: Rules, prices: Prices) -> tuple[IntArray, FloatArray]:
    n_orders = orders.bar.size
    whole, fractions = np.empty((n_orders, 4), np.int64), np.empty((n_orders, 6), np.float64)
    n = 0
    for i in range(n_orders):
        bar, s = orders.bar[i], orders.series[i]
        if bar < 0 or bar >= prices.n_known[s] or np.isnan(prices.open[s, bar]):
            continue
        last, reason, at_open, price, stop, adverse, favourable = _exit(orders, i, rules, prices)
        whole[n, 0], whole[n, 1], whole[n, 2], whole[n, 3] = i, last, reason, 1 if at_open else 0
        fractions[n, 0], fractions[n, 1], fractions[n, 2] = orders.exposure[i], prices.open[s, bar], price
        fractions[n, 3], fractions[n, 4], fractions[n, 5] = stop, adverse, favourable
        n += 1
    return whole[:n], fractions[:n]


@kernel
def _pass(orders: Orders, rules: Rules, prices: Prices, caps: Caps) -> tuple[IntArray, FloatArray]:
    n_orders, state = orders.bar.size, (rules.time_stop_bars.size, prices.open.shape[0])
    whole, fractions = np.empty((n_orders, 4), np.int64), np.empty((n_orders, 6), np.float64)
    frees_at, again_at = np.zeros(state, np.int64), np.zeros(state, np.int64)
    held, risked, sides = np.zeros(state, np.float64), np.zeros(state, np.float64), np.zeros(state, np.int64)
    newest, entered = -1, 0.0
    n = 0
    for i in range(n_orders):
        bar, s, r, side = orders.bar[i], orders.series[i], orders.rule[i], orders.side[i]
        if bar < 0 or bar >= prices.n_known[s] or np.isnan(prices.open[s, bar]) or bar < again_at[r, s]:
            continue
        own, gross, own_risk, gross_risk, of_rule, of_side = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for other in range(state[0]):
            for series in range(state[1]):
                if frees_at[other, series] > bar:
                    size = held[other, series]
                    gross += size
                    gross_risk += risked[other, series]
                    of_rule += size if other == r else 0.0
                    of_side += size if sides[other, series] == side else 0.0
                    if series == s:
                        own += size
                        own_risk += risked[other, series]
        if bar > newest:
            newest, entered = bar, 0.0
        stop_frac = orders.stop_frac[i]
        room = min(orders.exposure[i], caps.series_exposure - own, caps.gross_exposure - gross)
        room = min(room, caps.rule_exposure - of_rule, caps.net_exposure - of_side, caps.new_exposure - entered)
        room = min(room, (caps.series_risk - own_risk) / stop_frac, (caps.gross_risk - gross_risk) / stop_frac)
        if room < LEAST_EXPOSURE:
            continue
        last, reason, at_open, price, stop, adverse, favourable = _exit(orders, i, rules, prices)
        held[r, s], risked[r, s], sides[r, s] = room, room * stop_frac, side
        entered += room
        frees_at[r, s] = last if at_open else last + 1
        again_at[r, s] = last + 1 + rules.cooldown_bars[r]
        whole[n, 0], whole[n, 1], whole[n, 2], whole[n, 3] = i, last, reason, 1 if at_open else 0
        fractions[n, 0], fractions[n, 1], fractions[n, 2] = room, prices.open[s, bar], price
        fractions[n, 3], fractions[n, 4], fractions[n, 5] = stop, adverse, favourable
        n += 1
    return whole[:n], fractions[:n]

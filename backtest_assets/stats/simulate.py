"""The execution kernel: orders in time order become positions, with exits inside the bar and caps over all of them.

Arrays only. Which orders there are, what a row of the grid is and what a fill costs stay out (`research/simulation`).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.kernel import kernel

OPEN, STOP, TARGET, TIME, END = 0, 1, 2, 3, 4
REASONS: Final = ("open", "stop", "target", "time", "end_of_data")
"""Why a position ended, by code; a position of code 0 is still open where the data end."""

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
        stop_frac: (n_rules,) stop distance [fraction of the entry price].
        target_frac: (n_rules,) target distance [fraction of the entry price].
        time_stop_bars: (n_rules,) bars until the time exit, at least 1 [bars].
        cooldown_bars: (n_rules,) bars kept free after an exit [bars].
        exposure: (n_rules,) wanted exposure [fraction of equity].
    """

    stop_frac: FloatArray
    target_frac: FloatArray
    time_stop_bars: IntArray
    cooldown_bars: IntArray
    exposure: FloatArray


class Orders(NamedTuple):
    """Wanted entries, ascending in `bar`; among equal bars the earlier order is served first.

    Attributes:
        bar: (n_orders,) bar at whose open to enter.
        series: (n_orders,) row of the grid.
        rule: (n_orders,) rule that wants it.
        side: (n_orders,) +1 or -1.
    """

    bar: IntArray
    series: IntArray
    rule: IntArray
    side: IntArray


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
    adverse_frac: FloatArray
    favourable_frac: FloatArray


def run_orders(
    orders: Orders, rules: Rules, prices: Prices, *, max_series_exposure: float, max_gross_exposure: float
) -> Positions:
    """Fill orders in one causal pass.

    An order enters at its bar's open unless that bar is a gap or unknown, the rule already holds (or cools down from) a
    position in the series, or no room is left under the caps; it gets what room there is. Exposure that ended at a bar's
    open frees room for orders at that open; what ended inside a bar frees it at the next. A rule re-enters a series at
    the earliest one bar after the exit bar. Exits, from the entry bar on, the first that holds: at or after
    `time_stop_bars` the first real open; the stop, at the worse of its level and the open; the target, at the better of
    its level and the open. The stop is tested first even where the open lies beyond the target. A position that lasts
    to the grid's end leaves at the last close.

    Args:
        orders: ascending in bar.
        rules: what the orders' rules do.
        prices: the grid.
        max_series_exposure: cap on the sum of exposures of one series over all rules [fraction of equity].
        max_gross_exposure: cap on the sum of all exposures [fraction of equity].

    Returns:
        The filled orders.

    Raises:
        ValueError: if the orders are not ascending in bar, or a cap is not above 0.

    Source:
        reference_3 sections 8.1 (D7, D9, D17, D30); worked examples in the tests.
    """
    if orders.bar.size and bool((np.diff(orders.bar) < 0).any()):
        message = "orders are not ascending in bar; sort them by bar, then by priority"
        raise ValueError(message)
    if not (max_series_exposure > 0 and max_gross_exposure > 0):
        message = f"caps {max_series_exposure} per series and {max_gross_exposure} gross must be above 0"
        raise ValueError(message)
    whole, fractions = _pass(orders, rules, prices, max_series_exposure, max_gross_exposure)
    order, exit_bar, reason, at_open = whole.T
    exposure, entry, leave, adverse, favourable = fractions.T
    return Positions(order, exit_bar, reason, at_open == 1, exposure, entry, leave, adverse, favourable)


@kernel
def _exit(orders: Orders, i: int, rules: Rules, prices: Prices) -> tuple[int, int, bool, float, float, float]:
    first, s, r, side = int(orders.bar[i]), orders.series[i], orders.rule[i], int(orders.side[i])
    opens, entry, n_known = prices.open[s], float(prices.open[s, first]), int(prices.n_known[s])
    stop = entry * (1.0 - side * float(rules.stop_frac[r]))
    target = entry * (1.0 + side * float(rules.target_frac[r]))
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
        high, low = float(prices.high[s, bar]), float(prices.low[s, bar])
        against, along = (low, high) if side > 0 else (high, low)
        if side * (stop - against) >= 0.0:
            at_open = bar > first and side * (stop - first_price) >= 0.0
            mark, reason = first_price if at_open else stop, STOP
            break
        if side * (along - target) >= 0.0:
            at_open = bar > first and side * (first_price - target) >= 0.0
            mark, reason = first_price if at_open else target, TARGET
            break
        worst, best = min(worst, side * (against / entry - 1.0)), max(best, side * (along / entry - 1.0))
        mark = float(prices.close[s, bar])
        bar += 1
    if reason == OPEN:
        bar = n_known - 1
        reason = END if n_known == opens.size else OPEN
    move = side * (mark / entry - 1.0)
    return bar, reason, at_open, mark, -min(worst, move), max(best, move)


@kernel
def _pass(
    orders: Orders, rules: Rules, prices: Prices, max_series: float, max_gross: float
) -> tuple[IntArray, FloatArray]:
    n_orders, state = orders.bar.size, (rules.exposure.size, prices.open.shape[0])
    whole, fractions = np.empty((n_orders, 4), np.int64), np.empty((n_orders, 5), np.float64)
    frees_at, again_at, held = np.zeros(state, np.int64), np.zeros(state, np.int64), np.zeros(state, np.float64)
    n = 0
    for i in range(n_orders):
        bar, s, r = orders.bar[i], orders.series[i], orders.rule[i]
        if bar < 0 or bar >= prices.n_known[s] or np.isnan(prices.open[s, bar]) or bar < again_at[r, s]:
            continue
        active = np.where(frees_at > bar, held, 0.0)
        room = min(rules.exposure[r], max_series - active[:, s].sum(), max_gross - active.sum())
        if room < LEAST_EXPOSURE:
            continue
        last, reason, at_open, price, adverse, favourable = _exit(orders, i, rules, prices)
        held[r, s] = room
        frees_at[r, s] = last if at_open else last + 1
        again_at[r, s] = last + 1 + rules.cooldown_bars[r]
        whole[n, 0], whole[n, 1], whole[n, 2], whole[n, 3] = i, last, reason, 1 if at_open else 0
        fractions[n, 0], fractions[n, 1], fractions[n, 2] = room, prices.open[s, bar], price
        fractions[n, 3], fractions[n, 4] = adverse, favourable
        n += 1
    return whole[:n], fractions[:n]

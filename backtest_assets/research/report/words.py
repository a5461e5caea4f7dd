"""Numbers and rules in words: how a value is printed and how a rule is read aloud; what is said where stays out."""

import math
from collections.abc import Iterator
from typing import Final

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.event import SideRule
from backtest_assets.domain.leave import Exit
from backtest_assets.research.events.thresholds import Operator, threshold_of

UNKNOWN: Final = "unknown"
_TINY: Final = 0.001
_BARS_PER_HOUR: Final = 4
_HUNDREDTH: Final = 0.01

_CONDITIONS: Final = {
    "all": "",
    "session_asia": "in the Asian session",
    "session_eu": "in the European session",
    "session_us": "in the US session",
    "bull_bear_bull": "in a rising market",
    "bull_bear_bear": "in a falling market",
    "vol_regime_low": "in low volatility",
    "vol_regime_mid": "in middling volatility",
    "vol_regime_high": "in high volatility",
    "funding_regime_negative": "while funding is negative",
    "funding_regime_neutral": "while funding is neutral",
    "funding_regime_positive": "while funding is positive",
    "event_side_up": "when the event points up",
    "event_side_down": "when the event points down",
}
_MEASURES: Final = {
    "rv_pct_2880": "the volatility rank",
    "funding_pct_8640": "the funding rank",
    "funding_persistence_age_h": "the age of the crowd in hours",
    "basis_z_96": "the basis in sigmas",
    "volume_quote_ratio_2880": "volume over its usual",
    "spread_pct_2880": "the spread rank",
    "open_interest_log_change_96": "the day's log change of open interest",
}
_OPERATORS: Final = {
    Operator.ABOVE: "is above",
    Operator.FROM: "is at least",
    Operator.BELOW: "is below",
    Operator.UP_TO: "is at most",
    Operator.EQUAL: "is",
    Operator.IN_RANGE: "is between",
    Operator.CROSSES_ABOVE: "crosses above",
    Operator.CROSSES_BELOW: "crosses below",
}
_SIDES: Final = {
    SideRule.LONG: "buy",
    SideRule.SHORT: "sell short",
    SideRule.WITH_EVENT: "trade in the event's direction",
    SideRule.AGAINST_EVENT: "trade against the event's direction",
}
_LABELS: Final = {
    "n_trades": "Trades",
    "net": "Net P&L",
    "gross": "Gross P&L",
    "cost": "Fees and slippage",
    "fees": "Fees",
    "slippage": "Slippage",
    "funding": "Funding",
    "stressed_net": "Net P&L at twice the costs",
    "cost_ratio": "Costs over gross profit",
    "exposure_frac": "Time in the market",
    "sharpe_daily_annualised": "Sharpe ratio, daily, annualised",
    "sharpe_ci_low": "Sharpe ratio, interval from",
    "sharpe_ci_high": "Sharpe ratio, interval to",
    "psr_2012": "Probability of a true Sharpe ratio above 0",
    "min_track_record_2012": "Days until that would be 95 % sure",
    "sortino_daily_annualised": "Sortino ratio, daily, annualised",
    "calmar": "Calmar ratio",
    "annual_growth": "Compound growth per year",
    "expectancy_bps": "Mean net result per trade",
    "long_share": "Long trades",
    "short_share": "Short trades",
    "hold_mean_bars": "Bars held, mean",
    "hold_median_bars": "Bars held, median",
    "mae_mean_bps": "Worst move against a trade, mean",
    "mfe_mean_bps": "Best move for a trade, mean",
    "gross_exposure_mean": "Gross exposure, mean over all bars",
    "gross_exposure_max": "Gross exposure, largest at a close",
    "net_exposure_mean": "Net exposure, mean over all bars",
    "long_exposure_mean": "Long exposure, mean",
    "short_exposure_mean": "Short exposure, mean",
    "net_long": "Net P&L of long trades",
    "net_short": "Net P&L of short trades",
    "net_at_0x_costs": "Net P&L without costs",
    "net_at_0.5x_costs": "Net P&L at half the costs",
    "net_at_1x_costs": "Net P&L at the run's costs",
    "net_at_1.5x_costs": "Net P&L at 1.5 times the costs",
    "net_at_2x_costs": "Net P&L at 2 times the costs",
    "net_at_3x_costs": "Net P&L at 3 times the costs",
    "break_even_bps": "Cost per fill at which nothing is left",
    "benchmark_return": "Buy and hold: return",
    "benchmark_max_drawdown": "Buy and hold: deepest drawdown",
    "benchmark_sharpe_annualised": "Buy and hold: Sharpe ratio",
    "benchmark_correlation": "Correlation of days with buy and hold",
    "beta": "Beta to buy and hold",
    "alpha_annual": "Alpha beside it, per year",
    "alpha_annual_se": "Standard error of alpha, per year",
}
GLOSSARY: Final = (
    ("Event", "Something that happened in the market, known at a stated instant; what follows it is never part of it."),
    ("Hypothesis", "A claim: after this event, under this condition, this side earns money over this holding time."),
    ("Adjusted p", "The chance that the best of all hypotheses tried looks this good by luck alone; small is good."),
    ("t", "A mean over its standard error, days counted as the unit, not single events."),
    ("Blueprint", "A hypothesis made executable: side, entry, stop, target, time exit and size."),
    ("Expectancy", "Mean net result per trade, in bps (hundredths of a percent) of the traded notional."),
    (
        "Train, validation, test",
        "Three calendar windows in order: found on the first, confirmed on the second, judged on the third.",
    ),
    (
        "Purged",
        "Triggered so close to the end of a window that the trade could reach the next; counted in none of them.",
    ),
    ("Drawdown", "How far equity lies below its highest value so far."),
    (
        "Sharpe, Sortino, Calmar",
        "Yearly return per unit of scatter of the days, of their losses alone, of the deepest drawdown.",
    ),
    (
        "Probability of a true Sharpe ratio above 0",
        "Of a single strategy that was not chosen among others; days are taken as independent. Chosen ones look better than this.",
    ),
    ("Exposure", "Share of equity held at a bar's close; gross adds long and short, net sets them off."),
    (
        "Buy and hold",
        "Equal parts of the run's symbols from the window's first open to its end, price alone: no funding, no costs.",
    ),
    (
        "Beta, alpha",
        "How much of buy and hold's daily return the rules carry along, and what they earn a year beside that.",
    ),
    ("Promotion gate", "A limit every blueprint must keep on train and validation; what is unknown does not pass."),
)


def number_text(value: float | None, unit: str) -> str:
    """Print a number the way its unit is read; it never breaks over two lines, and what is printed as zero has no sign.

    >>> number_text(12345, "events"), number_text(None, "bps"), number_text(0.25, "probability")
    ('12,345', 'unknown', '0.250')
    """
    if value is None:
        return UNKNOWN
    if unit.startswith("fraction"):
        percent = 100 * value
        text = f"{percent:.2g} %" if 0 < abs(percent) < _HUNDREDTH else f"{percent:z,.2f} %"
    elif unit == "probability":
        text = f"< {_TINY:g}" if value < _TINY else f"{value:.3f}"
    elif unit.startswith("bps"):
        text = f"{value:z,.1f} bps"
    elif value == math.floor(value):
        text = f"{value:z,.0f}"
    elif abs(value) < _HUNDREDTH:
        text = f"{value:.2g}"
    else:
        text = f"{value:,.2f}"
    return text.replace("-", "\u2212").replace(" ", "\u00a0")


def metric_label(metric: str) -> str:
    """Return a metric's name for readers.

    >>> metric_label("net"), metric_label("max_drawdown"), metric_label("net_of_BTCUSDT")
    ('Net P&L', 'Max drawdown', 'Net P&L, BTCUSDT')
    """
    base, _, symbol = metric.partition("_of_")
    if symbol:
        return f"{metric_label(base)}, {symbol}"
    return _LABELS.get(metric, plain(metric).capitalize())


def plain(name: str) -> str:
    """Return a name with its underscores opened."""
    return name.replace("_", " ")


def condition_words(condition: str) -> str:
    """Return a condition as the end of a sentence; empty for `all`.

    >>> condition_words("session_us"), condition_words("symbol_BTCUSDT")
    ('in the US session', 'on BTCUSDT only')
    >>> condition_words("rv_pct_2880>=0.8"), condition_words("basis_z_96 in_range -1..1")
    ('while the volatility rank is at least 0.8', 'while the basis in sigmas is between -1 and 1')
    """
    if threshold := threshold_of(condition):
        end = "" if threshold.high is None else f" and {threshold.high:g}"
        return f"while {_MEASURES[threshold.column]} {_OPERATORS[threshold.operator]} {threshold.value:g}{end}"
    if condition.startswith("symbol_"):
        return f"on {condition.removeprefix('symbol_')} only"
    return _CONDITIONS.get(condition, f"under {plain(condition)}")


def hours_text(bars: int) -> str:
    """Return a number of 15-minute bars as hours.

    >>> hours_text(4), hours_text(48), hours_text(1)
    ('1 h', '12 h', '0.25 h')
    """
    return f"{bars / _BARS_PER_HOUR:g} h"


def hypothesis_label(event_type: str, condition: str, side_rule: str, hold_bars: int, delay_bars: int = 0) -> str:
    """Return a hypothesis in a few words.

    >>> hypothesis_label("liquidity_vacuum", "session_us", "long", 4, 8)
    'liquidity vacuum, in the US session: long, 1 h, after waiting 2 h'
    """
    words, wait = condition_words(condition), f", after waiting {hours_text(delay_bars)}" if delay_bars else ""
    return f"{plain(event_type)}{', ' + words if words else ''}: {plain(side_rule)}, {hours_text(hold_bars)}{wait}"


def rule_words(blueprint: Blueprint) -> str:
    """Return a blueprint as one sentence a trader could follow by hand."""
    (trigger,) = blueprint.entry.triggers
    conditions = [words for name in blueprint.entry.conditions if (words := condition_words(name))]
    conditions += [" and ".join(node.texts) for node in blueprint.entry.condition_nodes]
    how = " or " if blueprint.entry.condition_logic == "any" else ", "
    wait = f", after waiting {hours_text(blueprint.entry.wait_bars)}" if blueprint.entry.wait_bars else ""
    leave = blueprint.exit
    return (
        f"After a {plain(trigger)} event on {' or '.join(blueprint.symbol_scope.symbols)}"
        f"{', ' if conditions else ''}{how.join(conditions)}: "
        f"{_SIDES[blueprint.entry.side_rule]} at the next open{wait}. "
        f"Leave after {hours_text(leave.time_stop_bars)}, earlier at a loss of {_distance(leave.stop_type, leave.stop_value)} "
        f"or a gain of {_distance(leave.target_type, leave.target_value)}{''.join(_further_exits(leave))}. "
        f"{_size_words(blueprint)}{_guard_words(blueprint)}"
    )


_UNITS: Final = {"range_pct": "day's ranges", "atr": "average true ranges"}


def _distance(unit: str, value: float) -> str:
    return number_text(value, "fraction") if unit == "percent" else f"{value:g} {_UNITS[unit]}"


def _further_exits(leave: Exit) -> Iterator[str]:
    if leave.break_even_r:
        yield f", at the entry price once {leave.break_even_r:g} stop distances ahead"
    if leave.trailing_stop_type != "none":
        yield f", or {_distance(leave.trailing_stop_type, leave.trailing_stop_value)} behind the best price"
    if leave.invalidation is not None:
        yield f", or when {leave.invalidation.metric} {leave.invalidation.operator} {leave.invalidation.value:g}"


def _size_words(blueprint: Blueprint) -> str:
    size, scale = blueprint.sizing, blueprint.size_scale
    if size.position_scale is not None:
        return f"Size {number_text(size.position_scale * scale, 'fraction')} of equity."
    if size.risk_per_trade is not None:
        return f"Size so that the stop loses {number_text(size.risk_per_trade * scale, 'fraction')} of equity."
    return f"Size for a volatility of {number_text((size.target_vol or 0.0) * scale, 'fraction')} a year."


def _guard_words(blueprint: Blueprint) -> str:
    asked = [
        f"{plain(one.name)} {', '.join(f'{value}' for _, value in one.params)}"
        for one in blueprint.overlays
        if one.name not in {"risk_throttle", "entry_gate_skip"}
    ]
    asked += [plain(one.name) for one in blueprint.entry.confirmations]
    return f" Only with {'; '.join(asked)}." if asked else ""

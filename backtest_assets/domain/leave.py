"""How a blueprint leaves and how large it is; when it enters stays out (`entry`).

Values that execution cannot obey are refused here by name, never ignored (X7, X8).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from backtest_assets.domain.entry import refuse

Unit = Literal["percent", "range_pct", "atr"]
"""What an exit distance is a multiple of: the entry price, the range of 96 bars, the average true range of 14 bars."""

UNITS: Final = ("percent", "range_pct", "atr")
INVALIDATION_OPERATORS: Final = (">", ">=", "<", "<=")
SIZE_OF_MODE: Final = {"fixed_fraction": "position_scale", "fixed_risk": "risk_per_trade", "vol_target": "target_vol"}
"""The one number each sizing mode is made of."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What ends a position because its reason is gone: asked at every real open of what is known then.

    Attributes:
        metric: column of table features.
        operator: how the metric is held against the value.
        value: the threshold.
    """

    metric: str
    operator: str
    value: float

    def __post_init__(self) -> None:
        known = ", ".join(INVALIDATION_OPERATORS)
        refuse(
            f"exit.invalidation {self.metric or '?'}",
            {
                "metric is empty": not self.metric,
                f"operator {self.operator!r} is none of {known}": self.operator not in INVALIDATION_OPERATORS,
                "value must be finite": not math.isfinite(self.value),
            },
        )


@dataclass(frozen=True, slots=True)
class Exit:
    """When a position is closed; distances are fixed at the entry, from what is known there.

    Attributes:
        time_stop_bars: bars until the time exit.
        stop_type: unit of the stop; percent is a fraction of the entry fill.
        stop_value: stop distance [units].
        target_type: unit of the target.
        target_value: target distance [units].
        trailing_stop_type: unit of the trailing stop, or none.
        trailing_stop_value: distance from the best price of the bars before [units]; 0 for none.
        break_even_r: gain, in stop distances, from which the stop stands at the entry; 0 for none.
        invalidation: what else ends the position.
    """

    time_stop_bars: int
    stop_type: Unit
    stop_value: float
    target_type: Unit
    target_value: float
    trailing_stop_type: Unit | Literal["none"] = "none"
    trailing_stop_value: float = 0.0
    break_even_r: float = 0.0
    invalidation: Invalidation | None = None

    def __post_init__(self) -> None:
        trails = self.trailing_stop_type != "none"
        stop_end = 1.0 if self.stop_type == "percent" else math.inf
        refuse(
            "exit",
            {
                "time_stop_bars must be >= 1": self.time_stop_bars < 1,
                f"stop_type and target_type must be one of {', '.join(UNITS)}": not {self.stop_type, self.target_type}
                <= set(UNITS),
                "stop_value must be > 0, and below 1 if percent": not 0 < self.stop_value < stop_end,
                "target_value must be > 0": not 0 < self.target_value < math.inf,
                f"trailing_stop_type {self.trailing_stop_type!r} is not none, {', '.join(UNITS)}": (
                    self.trailing_stop_type not in {"none", *UNITS}
                ),
                "trailing_stop_value must be > 0": trails and not 0 < self.trailing_stop_value < math.inf,
                "trailing_stop_value must be 0 without a trailing_stop_type": not trails
                and self.trailing_stop_value != 0,
                "break_even_r must be >= 0": not 0 <= self.break_even_r < math.inf,
            },
        )


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large a position is, under caps and budgets that hold over all blueprints and symbols.

    Attributes:
        mode: a fixed share of equity; what loses a fixed share at the stop; or a target volatility.
        position_scale: share of equity, of fixed_fraction only [fraction of equity].
        max_symbol_exposure: cap on all exposure to one symbol [fraction of equity].
        max_gross_leverage: cap on all exposure [fraction of equity].
        risk_per_trade: loss at the stop, of fixed_risk only [fraction of equity].
        target_vol: annual volatility of the position, of vol_target only [fraction of equity].
        max_position_scale: cap on one position [fraction of equity].
        portfolio_risk_budget: cap on the losses at the first stops of all positions held [fraction of equity].
        symbol_risk_budget: the same for one symbol [fraction of equity].
    """

    mode: Literal["fixed_fraction", "fixed_risk", "vol_target"]
    position_scale: float | None
    max_symbol_exposure: float
    max_gross_leverage: float
    risk_per_trade: float | None = None
    target_vol: float | None = None
    max_position_scale: float = 1.0
    portfolio_risk_budget: float = 1.0
    symbol_risk_budget: float = 1.0

    def __post_init__(self) -> None:
        caps = {
            name: getattr(self, name)
            for name in (
                "max_symbol_exposure",
                "max_gross_leverage",
                "max_position_scale",
                "portfolio_risk_budget",
                "symbol_risk_budget",
            )
        }
        own = SIZE_OF_MODE.get(self.mode)
        given = {name: getattr(self, name) for name in SIZE_OF_MODE.values()}
        size = given.get(own or "")
        most = min(self.max_gross_leverage, self.max_position_scale) if own == "position_scale" else math.inf
        refuse(
            "sizing",
            {
                f"mode {self.mode!r} is none of {', '.join(SIZE_OF_MODE)}": own is None,
                f"{own} must lie above 0 and within the caps of a position": own is not None
                and not (size is not None and 0 < size <= most and size < math.inf),
                **{
                    f"{name} is not of mode {self.mode}": name != own and value is not None
                    for name, value in given.items()
                },
                **{f"{name} must be > 0": not 0 < value < math.inf for name, value in caps.items()},
            },
        )

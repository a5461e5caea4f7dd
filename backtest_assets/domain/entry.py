"""When a blueprint enters: scope, conditions, confirmations, overlays, delays; how it leaves and how large it is stay out.

Values that execution cannot obey are refused here by name, never ignored (X7, X8).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from backtest_assets.domain.event import SideRule
from backtest_assets.errors import SettingsError

ALL_SYMBOLS: Final = "ALL"
"""Candidate symbol of a blueprint whose hypothesis was tested on more than one symbol."""

NODE_OPERATORS: Final = (">", ">=", "<", "<=", "==", "in_range", "crosses_above", "crosses_below")
"""Operators of a condition node: asked of the value at one instant, a crossing of the value one bar before too."""

_CROSSINGS: Final = frozenset({"crosses_above", "crosses_below"})
_WINDOW_OPERATORS: Final = ("zscore_gt", "zscore_lt")
_WINDOW_REASON: Final = "a window of its own has no meaning at one instant; ask a measure that is one, as basis_z_96"

CONFIRMATIONS: Final[Mapping[str, str | None]] = MappingProxyType({
    "regime_stability_pass": None,
    "refill_persistence_pass": None,
    "vacuum_refill_confirmation": None,
    "breakout_confirmation": None,
    "spread_guard_pass": "spread_guard",
    "cross_venue_consensus_pass": "cross_venue_guard",
    "funding_normalization_pass": "funding_guard",
})  # fmt: skip
"""Confirmations that can be asked causally, each with the overlay that gives its limit."""

_REFUSED_CONFIRMATIONS: Final = MappingProxyType({
    "oos_validation_pass": "it is a verdict of research, true or false for the whole run; set evaluation.robustness_flags.oos_required",
    "event_detected": "it is the trigger itself",
})  # fmt: skip

OVERLAYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "liquidity_guard": ("min_notional",),
    "spread_guard": ("max_spread_bps",),
    "session_guard": ("session",),
    "funding_guard": ("max_abs_funding_bps",),
    "cross_venue_guard": ("max_desync_bps",),
    "risk_throttle": ("size_scale",),
    "entry_gate_skip": (),
})  # fmt: skip
"""Overlays with exactly the parameters each one takes."""

SESSIONS: Final = ("all", "asia", "eu", "us")


def spell(value: float) -> str:
    """Return the one way to write the number of a condition: every digit it has, none that it has not.

    >>> spell(0.8), spell(-3.0), spell(-0.0), spell(2e6)
    ('0.8', '-3', '0', '2000000')
    """
    return repr(value + 0.0).removesuffix(".0") if value else "0"


def refuse(what: str, problems: Mapping[str, bool]) -> None:
    """Raise what is wrong with a value, if anything is.

    Args:
        what: the value, for the message.
        problems: text of each problem and whether it is there.

    Raises:
        SettingsError: naming every problem that is there.
    """
    found = [text for text, is_there in problems.items() if is_there]
    if found:
        message = f"{what}: {'; '.join(found)}"
        raise SettingsError(message)


@dataclass(frozen=True, slots=True)
class SymbolScope:
    """Which symbols a blueprint may trade.

    Attributes:
        mode: one symbol, the symbols listed, or all of the run, which are listed too.
        symbols: the symbols.
        candidate_symbol: what its hypothesis was tested on: the one symbol, or ALL.
    """

    mode: Literal["single_symbol", "multi_symbol", "all"]
    symbols: tuple[str, ...]
    candidate_symbol: str = ALL_SYMBOLS

    def __post_init__(self) -> None:
        single = self.mode == "single_symbol"
        refuse(
            "symbol_scope",
            {
                f"mode {self.mode!r} is not single_symbol, multi_symbol or all": self.mode
                not in {"single_symbol", "multi_symbol", "all"},
                "symbols is empty": not self.symbols or not all(self.symbols),
                "symbols repeat": len(set(self.symbols)) != len(self.symbols),
                "single_symbol needs exactly one symbol": single and len(self.symbols) != 1,
                f"candidate_symbol {self.candidate_symbol!r} must be {ALL_SYMBOLS} or a symbol in scope": (
                    self.candidate_symbol not in {ALL_SYMBOLS, *self.symbols}
                ),
            },
        )


@dataclass(frozen=True, slots=True)
class ConditionNode:
    """A number held against a threshold at `known_at`.

    Attributes:
        feature: column that is asked.
        operator: one of `NODE_OPERATORS`.
        value: the threshold, or the lower end of a range.
        value_high: the upper end of a range; None for the others.
        lookback_bars: 0: a node asks of one instant.
        window_bars: 0, likewise.
    """

    feature: str
    operator: str
    value: float
    value_high: float | None = None
    lookback_bars: int = 0
    window_bars: int = 0

    def __post_init__(self) -> None:
        is_range = self.operator == "in_range"
        high = self.value_high
        refuse(
            f"condition node {self.feature or '?'} {self.operator}",
            {
                "feature is empty": not self.feature,
                f"operator {self.operator!r} is unknown; there are {', '.join(NODE_OPERATORS)}": (
                    self.operator not in {*NODE_OPERATORS, *_WINDOW_OPERATORS}
                ),
                f"operator {self.operator!r} cannot be obeyed: {_WINDOW_REASON}": self.operator in _WINDOW_OPERATORS,
                "value must be finite": not math.isfinite(self.value),
                "in_range needs value_high >= value": is_range
                and not (high is not None and math.isfinite(high) and high >= self.value),
                "value_high is of in_range only": not is_range and high is not None,
                f"lookback_bars and window_bars must be 0: {_WINDOW_REASON}": (self.lookback_bars, self.window_bars)
                != (0, 0),
            },
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """The node as canonical conditions `column op value`, all of which must hold."""
        if self.value_high is not None:
            return f"{self.feature}>={spell(self.value)}", f"{self.feature}<={spell(self.value_high)}"
        how = f" {self.operator} " if self.operator in _CROSSINGS else self.operator
        return (f"{self.feature}{how}{spell(self.value)}",)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A question about the market that must be answered yes, and when it is asked.

    Attributes:
        name: one of `CONFIRMATIONS`.
        at: asked of what is known at `known_at`, or at the entry.
    """

    name: str
    at: Literal["known_at", "entry"] = "known_at"

    def __post_init__(self) -> None:
        refuse(
            f"confirmation {self.name!r}",
            {
                f"unknown; there are {', '.join(CONFIRMATIONS)}": self.name
                not in {*CONFIRMATIONS, *_REFUSED_CONFIRMATIONS},
                f"cannot be asked: {_REFUSED_CONFIRMATIONS.get(self.name)}": self.name in _REFUSED_CONFIRMATIONS,
                f"at {self.at!r} is not known_at or entry": self.at not in {"known_at", "entry"},
            },
        )


@dataclass(frozen=True, slots=True)
class Overlay:
    """A guard or throttle at the entry; what it cannot see blocks.

    Attributes:
        name: one of `OVERLAYS`.
        params: (name, value) pairs, exactly those of the overlay, by name.
    """

    name: str
    params: tuple[tuple[str, float | str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", tuple(sorted((str(name), value) for name, value in self.params)))
        wanted = OVERLAYS.get(self.name, ())
        refuse(
            f"overlay {self.name!r}",
            {
                f"unknown; there are {', '.join(OVERLAYS)}": self.name not in OVERLAYS,
                f"takes exactly the parameters {', '.join(wanted) or 'none'}": tuple(name for name, _ in self.params)
                != tuple(sorted(wanted)),
            },
        )
        for name, value in self.params:
            if name == "session":
                refuse(
                    "overlay session_guard",
                    {f"session {value!r} is none of {', '.join(SESSIONS)}": value not in SESSIONS},
                )
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            refuse(
                f"overlay {self.name!r}",
                {
                    f"{name} must be a finite number >= 0": not (is_number and float(value) >= 0),
                    "size_scale must be <= 1": name == "size_scale" and is_number and float(value) > 1,
                },
            )

    def number(self, name: str) -> float:
        """Return a numeric parameter."""
        return float(dict(self.params)[name])

    @property
    def session(self) -> str:
        """The session of a session guard."""
        return str(dict(self.params)["session"])


@dataclass(frozen=True, slots=True)
class Entry:
    """When a position is opened.

    The trigger latches at `known_at`: conditions are asked there, nothing needs to stay true while it is armed. The
    entry is the open `wait_bars` later.

    Attributes:
        triggers: the event family, alone.
        conditions: names of conditions, asked at `known_at`.
        side_rule: how an event becomes a position.
        delay_bars: bars between `known_at` and the entry.
        cooldown_bars: bars kept free after an exit.
        condition_logic: whether all of conditions and nodes must hold, or any.
        condition_nodes: numeric conditions, asked at `known_at`.
        confirmations: all must hold.
        arm_bars: bars the trigger stays armed before it may enter; the longer of it and the delay counts.
        reentry_lockout_bars: bars without re-entry after an exit; the longer of it and the cooldown counts.
    """

    triggers: tuple[str, ...]
    conditions: tuple[str, ...]
    side_rule: SideRule
    delay_bars: int
    cooldown_bars: int
    condition_logic: Literal["all", "any"] = "all"
    condition_nodes: tuple[ConditionNode, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    arm_bars: int = 0
    reentry_lockout_bars: int = 0

    def __post_init__(self) -> None:
        bars = (self.delay_bars, self.cooldown_bars, self.arm_bars, self.reentry_lockout_bars)
        names = [one.name for one in self.confirmations]
        refuse(
            "entry",
            {
                "triggers is empty": not self.triggers,
                "conditions and condition_nodes are both empty": not self.conditions and not self.condition_nodes,
                "a condition has no name": not all(self.conditions),
                "conditions repeat": len(set(self.conditions)) != len(self.conditions),
                "condition_nodes repeat": len(set(self.condition_nodes)) != len(self.condition_nodes),
                "confirmations repeat": len(set(names)) != len(names),
                f"condition_logic {self.condition_logic!r} is not all or any": self.condition_logic
                not in {"all", "any"},
                "entry delays must be >= 0 bars": min(bars) < 0,
            },
        )

    @property
    def wait_bars(self) -> int:
        """Bars between `known_at` and the entry."""
        return max(self.delay_bars, self.arm_bars)

    @property
    def rest_bars(self) -> int:
        """Bars kept free after an exit."""
        return max(self.cooldown_bars, self.reentry_lockout_bars)

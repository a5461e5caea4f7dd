"""A blueprint: an executable rule as a frozen value with a canonical digest; compiling and running it stay out.

Fields follow the users' blueprint schema. Values that execution cannot obey are refused here, never ignored.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.errors import SettingsError

COMPILER_VERSION = "blueprint_v2"


@dataclass(frozen=True, slots=True)
class SymbolScope:
    """Which symbols a blueprint may trade."""

    mode: Literal["single_symbol", "multi_symbol"]
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """When a position is opened: trigger latched at `known_at`, then `delay_bars`, then the next open."""

    triggers: tuple[str, ...]
    conditions: tuple[str, ...]
    side_rule: SideRule
    delay_bars: int
    cooldown_bars: int


@dataclass(frozen=True, slots=True)
class Exit:
    """When a position is closed; offsets are fractions of the entry fill price."""

    time_stop_bars: int
    stop_type: Literal["percent"]
    stop_value: float
    target_type: Literal["percent"]
    target_value: float


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large a position is: a fixed share of equity, under caps that hold over all blueprints and symbols."""

    mode: Literal["fixed_fraction"]
    position_scale: float
    max_symbol_exposure: float
    max_gross_leverage: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The costs the blueprint was judged with."""

    fees_bps: float
    slippage_bps: float
    funding_included: Literal[True]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the blueprint comes from: the hypothesis and the window its exits were fitted on."""

    hypothesis_id: str
    compiler_version: str
    fitted_from: str
    fitted_to: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """An executable rule.

    Raises:
        SettingsError: on construction, naming the field that execution could not obey.
    """

    blueprint_id: str
    run_id: str
    event_type: EventType
    direction: Literal["long", "short", "conditional"]
    symbol_scope: SymbolScope
    entry: Entry
    exit: Exit
    sizing: Sizing
    evaluation: Evaluation
    lineage: Lineage

    def __post_init__(self) -> None:
        problems = [
            text
            for bad, text in (
                (not self.blueprint_id, "blueprint_id is empty"),
                (not self.symbol_scope.symbols, "symbol_scope.symbols is empty"),
                (self.entry.triggers != (self.event_type.value,), "entry.triggers must be the event family alone"),
                (
                    self.direction not in {"long", "short", "conditional"},
                    "direction must be long, short or conditional",
                ),
                (
                    self.symbol_scope.mode not in {"single_symbol", "multi_symbol"}
                    or (self.symbol_scope.mode == "single_symbol" and len(self.symbol_scope.symbols) != 1),
                    "symbol_scope must be one single_symbol, or multi_symbol",
                ),
                (
                    {self.exit.stop_type, self.exit.target_type} != {"percent"},
                    "exit.stop_type and target_type must be percent",
                ),
                (self.sizing.mode != "fixed_fraction", "sizing.mode must be fixed_fraction"),
                (not self.sizing.max_symbol_exposure > 0, "sizing.max_symbol_exposure must be > 0"),
                (self.evaluation.funding_included is not True, "evaluation.funding_included must be true"),
                (min(self.entry.delay_bars, self.entry.cooldown_bars) < 0, "entry delays must be >= 0 bars"),
                (self.exit.time_stop_bars < 1, "exit.time_stop_bars must be >= 1"),
                (not 0 < self.exit.stop_value < 1, "exit.stop_value must lie in (0, 1)"),
                (not 0 < self.exit.target_value < math.inf, "exit.target_value must be > 0"),
                (
                    not 0 < self.sizing.position_scale <= self.sizing.max_gross_leverage,
                    "sizing.position_scale must lie in (0, max_gross_leverage]",
                ),
            )
            if bad
        ]
        if problems:
            message = f"blueprint {self.blueprint_id or '?'}: {'; '.join(problems)}"
            raise SettingsError(message)

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces; the same blueprint always gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def behaviour_digest(self) -> str:
        """SHA-256 of what the blueprint does, without its names and lineage: equal digests trade alike."""
        acts = {k: v for k, v in asdict(self).items() if k not in {"blueprint_id", "run_id", "lineage"}}
        return hashlib.sha256(json.dumps(acts, sort_keys=True).encode()).hexdigest()


def _entry_from(
    triggers: list[str], conditions: list[str], side_rule: str, delay_bars: int, cooldown_bars: int
) -> Entry:
    return Entry(tuple(triggers), tuple(conditions), SideRule(side_rule), delay_bars, cooldown_bars)


def blueprint_from_json(text: str) -> Blueprint:
    """Read a blueprint back from its canonical JSON.

    Raises:
        SettingsError: if a field is unknown, missing or cannot be obeyed.
    """
    try:
        raw: Mapping[str, Any] = json.loads(text)
        return Blueprint(
            blueprint_id=raw["blueprint_id"],
            run_id=raw["run_id"],
            event_type=EventType(raw["event_type"]),
            direction=raw["direction"],
            symbol_scope=SymbolScope(raw["symbol_scope"]["mode"], tuple(raw["symbol_scope"]["symbols"])),
            entry=_entry_from(**raw["entry"]),
            exit=Exit(**raw["exit"]),
            sizing=Sizing(**raw["sizing"]),
            evaluation=Evaluation(**raw["evaluation"]),
            lineage=Lineage(**raw["lineage"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"blueprint JSON cannot be read: {error}; recompile the run's blueprints"
        raise SettingsError(message) from error

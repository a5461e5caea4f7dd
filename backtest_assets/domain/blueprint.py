"""A blueprint: an executable rule as a frozen value with a canonical digest; compiling and running it stay out.

Fields follow the users' blueprint schema (reference_2 section 6.4). Each is obeyed by execution or refused: the parts
refuse themselves in `entry` and `leave`, what must agree between them is refused here. Names of conditions and columns
are refused where they are asked (`research/blueprints/entries`).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from backtest_assets.domain.entry import (
    ALL_SYMBOLS,
    CONFIRMATIONS,
    ConditionNode,
    Confirmation,
    Entry,
    Overlay,
    SymbolScope,
    refuse,
)
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.leave import Exit, Invalidation, Sizing
from backtest_assets.errors import SettingsError

__all__ = [
    "ALL_SYMBOLS",
    "COMPILER_VERSION",
    "GENERATED_AT",
    "Blueprint",
    "ConditionNode",
    "Confirmation",
    "Entry",
    "Evaluation",
    "Exit",
    "Invalidation",
    "Lineage",
    "Overlay",
    "RobustnessFlags",
    "Sizing",
    "SymbolScope",
    "blueprint_from_json",
]

COMPILER_VERSION: Final = "blueprint_v3"

GENERATED_AT: Final = "1970-01-01T00:00:00Z"
"""When every blueprint says it was made: a clock in it would change its bytes from run to run (X10)."""

_DIRECTION_OF: Final = {
    SideRule.LONG: "long",
    SideRule.SHORT: "short",
    SideRule.WITH_EVENT: "conditional",
    SideRule.AGAINST_EVENT: "conditional",
}


@dataclass(frozen=True, slots=True)
class RobustnessFlags:
    """What the evidence must show; compiling and promotion obey it.

    Attributes:
        oos_required: the hypothesis is confirmed on validation.
        multiplicity_required: it survives the adjustment for all tests of the run.
        regime_stability_required: promotion holds its profit against the share of one regime, as it always does.
    """

    oos_required: bool = True
    multiplicity_required: bool = True
    regime_stability_required: Literal[True] = True

    def __post_init__(self) -> None:
        refuse(
            "evaluation.robustness_flags",
            {
                "regime_stability_required must be true: promotion always asks": self.regime_stability_required
                is not True,
            },
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the blueprint is judged with.

    Attributes:
        fees_bps: fee per side [bps of notional].
        slippage_bps: slippage per fill [bps of notional].
        funding_included: funding is booked at settlements.
        min_trades: trades on train and validation together below which it is not promoted [trades].
        robustness_flags: what its evidence must show.
    """

    fees_bps: float
    slippage_bps: float
    funding_included: Literal[True]
    min_trades: int = 0
    robustness_flags: RobustnessFlags = RobustnessFlags()

    def __post_init__(self) -> None:
        costs = (self.fees_bps, self.slippage_bps)
        refuse(
            "evaluation",
            {
                "fees_bps and slippage_bps must be finite and >= 0": not all(0 <= c < math.inf for c in costs),
                "funding_included must be true": self.funding_included is not True,
                "min_trades must be >= 0": self.min_trades < 0,
            },
        )


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the blueprint comes from.

    Attributes:
        hypothesis_id: the hypothesis it executes.
        compiler_version: version of the compiler.
        fitted_from: first instant of the window its exits were fitted on.
        fitted_to: its end.
        source_path: partition of the hypothesis.
        generated_at_utc: always `GENERATED_AT`.
    """

    hypothesis_id: str
    compiler_version: str
    fitted_from: str
    fitted_to: str
    source_path: str = "hypotheses"
    generated_at_utc: str = GENERATED_AT

    def __post_init__(self) -> None:
        texts = (self.hypothesis_id, self.compiler_version, self.fitted_from, self.fitted_to, self.source_path)
        refuse(
            "lineage",
            {
                "a field is empty": not all(texts),
                f"generated_at_utc must be {GENERATED_AT} (X10)": self.generated_at_utc != GENERATED_AT,
            },
        )


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
    overlays: tuple[Overlay, ...] = ()

    def __post_init__(self) -> None:
        names = [overlay.name for overlay in self.overlays]
        wanted = _DIRECTION_OF[self.entry.side_rule]
        unlimited = [one.name for one in self.entry.confirmations if not {CONFIRMATIONS[one.name]} <= {None, *names}]
        refuse(
            f"blueprint {self.blueprint_id or '?'}",
            {
                "blueprint_id is empty": not self.blueprint_id,
                "run_id is empty": not self.run_id,
                "entry.triggers must be the event family alone": self.entry.triggers != (self.event_type.value,),
                f"direction {self.direction!r} must be {wanted}, what side rule {self.entry.side_rule.value} does": (
                    self.direction != wanted
                ),
                "overlays repeat": len(set(names)) != len(names),
                f"confirmations {', '.join(unlimited)} need the overlay that gives their limit": bool(unlimited),
            },
        )

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces; the same blueprint always gives the same bytes (X10)."""
        return json.dumps(_plain(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def size_scale(self) -> float:
        """What the throttles leave of the wanted size [fraction]; 0 enters nothing."""
        scales = {"entry_gate_skip": 0.0}
        return math.prod(
            one.number("size_scale") if one.name == "risk_throttle" else scales.get(one.name, 1.0)
            for one in self.overlays
        )

    @property
    def behaviour_digest(self) -> str:
        """SHA-256 of what the blueprint does, without its names and lineage: equal digests trade alike (X9).

        A skip and a throttle to nothing do the same; so do overlays, conditions and confirmations in another order.
        """
        acts = {k: v for k, v in _plain(self).items() if k not in {"blueprint_id", "run_id", "lineage", "overlays"}}
        throttles = {"risk_throttle", "entry_gate_skip"}
        acts["overlays"] = sorted((one.name, one.params) for one in self.overlays if one.name not in throttles)
        acts["size_scale"] = self.size_scale
        entry = acts["entry"]
        for name in ("conditions", "condition_nodes", "confirmations"):
            entry[name] = sorted(entry[name], key=lambda one: json.dumps(one, sort_keys=True))
        entry["delay_bars"], entry["arm_bars"] = self.entry.wait_bars, 0
        entry["cooldown_bars"], entry["reentry_lockout_bars"] = self.entry.rest_bars, 0
        return hashlib.sha256(json.dumps(acts, sort_keys=True).encode()).hexdigest()


def _plain(blueprint: Blueprint) -> dict[str, Any]:
    overlays = [{"name": one.name, "params": dict(one.params)} for one in blueprint.overlays]
    return asdict(blueprint) | {"overlays": overlays}


def _exact(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a part; one too many or too few is refused, whatever its default is."""
    wanted = {item.name for item in fields(kind)}
    if set(raw) != wanted:
        named = ", ".join(sorted(wanted.symmetric_difference(raw)))
        message = f"{kind.__name__} has other fields than it may have: {named}"
        raise ValueError(message)
    return dict(raw)


def _entry_from(raw: Mapping[str, Any]) -> Entry:
    given = _exact(Entry, raw)
    nodes, confirmations = given.pop("condition_nodes"), given.pop("confirmations")
    parts: dict[str, Any] = {
        "triggers": tuple(given["triggers"]),
        "conditions": tuple(given["conditions"]),
        "side_rule": SideRule(given["side_rule"]),
        "condition_nodes": tuple(ConditionNode(**_exact(ConditionNode, node)) for node in nodes),
        "confirmations": tuple(Confirmation(**_exact(Confirmation, one)) for one in confirmations),
    }
    return Entry(**given | parts)


def _exit_from(raw: Mapping[str, Any]) -> Exit:
    given = _exact(Exit, raw)
    invalidation = given["invalidation"]
    given["invalidation"] = None if invalidation is None else Invalidation(**_exact(Invalidation, invalidation))
    return Exit(**given)


def _evaluation_from(raw: Mapping[str, Any]) -> Evaluation:
    given = _exact(Evaluation, raw)
    given["robustness_flags"] = RobustnessFlags(**_exact(RobustnessFlags, given["robustness_flags"]))
    return Evaluation(**given)


def blueprint_from_json(text: str) -> Blueprint:
    """Read a blueprint back from its canonical JSON.

    Raises:
        SettingsError: if a field is unknown, missing or cannot be obeyed.
    """
    try:
        raw: Mapping[str, Any] = json.loads(text)
        given = _exact(Blueprint, raw)
        scope = _exact(SymbolScope, given["symbol_scope"])
        scope["symbols"] = tuple(scope["symbols"])
        overlays = [_exact(Overlay, one) for one in given["overlays"]]
        return Blueprint(
            blueprint_id=given["blueprint_id"],
            run_id=given["run_id"],
            event_type=EventType(given["event_type"]),
            direction=given["direction"],
            symbol_scope=SymbolScope(**scope),
            entry=_entry_from(given["entry"]),
            exit=_exit_from(given["exit"]),
            sizing=Sizing(**_exact(Sizing, given["sizing"])),
            evaluation=_evaluation_from(given["evaluation"]),
            lineage=Lineage(**_exact(Lineage, given["lineage"])),
            overlays=tuple(Overlay(one["name"], tuple(one["params"].items())) for one in overlays),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"blueprint JSON cannot be read: {error}; recompile the run's blueprints"
        raise SettingsError(message) from error

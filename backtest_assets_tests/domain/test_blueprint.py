import hashlib
import json
from dataclasses import replace

import pytest

from backtest_assets.domain.blueprint import (
    Blueprint,
    ConditionNode,
    Confirmation,
    Entry,
    Evaluation,
    Exit,
    Invalidation,
    Lineage,
    Overlay,
    RobustnessFlags,
    Sizing,
    SymbolScope,
    blueprint_from_json,
)
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.errors import SettingsError

BLUEPRINT = Blueprint(
    "bp_1",
    "R1",
    EventType.VOL_SHOCK_RELAXATION,
    "long",
    SymbolScope("multi_symbol", ("BTCUSDT", "ETHUSDT")),
    Entry(("vol_shock_relaxation",), ("all",), SideRule.LONG, 0, 0),
    Exit(16, "percent", 0.02, "percent", 0.03),
    Sizing("fixed_fraction", 0.5, 1.0, 1.0),
    Evaluation(4.0, 2.0, funding_included=True),
    Lineage("h1", "blueprint_v3", "2022-01-01", "2024-01-01"),
)
WHOLE = replace(
    BLUEPRINT,
    entry=replace(
        BLUEPRINT.entry,
        condition_logic="any",
        condition_nodes=(ConditionNode("rv_pct_2880", "in_range", 0.2, 0.8), ConditionNode("basis_bps", "<", 3.0)),
        confirmations=(Confirmation("spread_guard_pass", "entry"),),
        delay_bars=4,
        arm_bars=8,
        cooldown_bars=2,
        reentry_lockout_bars=6,
    ),
    exit=Exit(16, "atr", 2.0, "range_pct", 1.5, "percent", 0.015, 1.0, Invalidation("basis_bps", ">", 20.0)),
    sizing=Sizing("fixed_risk", None, 1.0, 1.0, risk_per_trade=0.004),
    overlays=(Overlay("spread_guard", (("max_spread_bps", 8.0),)), Overlay("risk_throttle", (("size_scale", 0.5),))),
)

GOLDEN = (
    '{"blueprint_id":"bp_1","direction":"long","entry":{"arm_bars":0,"condition_logic":"all","condition_nodes":[],'
    '"conditions":["all"],"confirmations":[],"cooldown_bars":0,"delay_bars":0,"reentry_lockout_bars":0,'
    '"side_rule":"long","triggers":["vol_shock_relaxation"]},"evaluation":{"fees_bps":4.0,"funding_included":true,'
    '"min_trades":0,"robustness_flags":{"multiplicity_required":true,"oos_required":true,'
    '"regime_stability_required":true},"slippage_bps":2.0},"event_type":"vol_shock_relaxation","exit":{'
    '"break_even_r":0.0,"invalidation":null,"stop_type":"percent","stop_value":0.02,"target_type":"percent",'
    '"target_value":0.03,"time_stop_bars":16,"trailing_stop_type":"none","trailing_stop_value":0.0},"lineage":{'
    '"compiler_version":"blueprint_v3","fitted_from":"2022-01-01","fitted_to":"2024-01-01",'
    '"generated_at_utc":"1970-01-01T00:00:00Z","hypothesis_id":"h1","source_path":"hypotheses"},"overlays":[],'
    '"run_id":"R1","sizing":{"max_gross_leverage":1.0,"max_position_scale":1.0,"max_symbol_exposure":1.0,'
    '"mode":"fixed_fraction","portfolio_risk_budget":1.0,"position_scale":0.5,"risk_per_trade":null,'
    '"symbol_risk_budget":1.0,"target_vol":null},"symbol_scope":{"candidate_symbol":"ALL","mode":"multi_symbol",'
    '"symbols":["BTCUSDT","ETHUSDT"]}}'
)


def test_x10_the_bytes_of_a_blueprint_are_these():
    assert BLUEPRINT.to_json() == GOLDEN


@pytest.mark.parametrize("one", [BLUEPRINT, WHOLE])
def test_x10_json_is_canonical_and_reads_back(one: Blueprint):
    assert blueprint_from_json(one.to_json()) == one
    assert json.dumps(json.loads(one.to_json()), sort_keys=True, separators=(",", ":")) == one.to_json()


def test_x9_the_behaviour_digest_ignores_names_and_lineage():
    renamed = replace(
        BLUEPRINT, blueprint_id="bp_2", run_id="R2", lineage=replace(BLUEPRINT.lineage, hypothesis_id="h2")
    )
    assert renamed.behaviour_digest == BLUEPRINT.behaviour_digest
    short = replace(BLUEPRINT, direction="short", entry=replace(BLUEPRINT.entry, side_rule=SideRule.SHORT))
    assert short.behaviour_digest != BLUEPRINT.behaviour_digest


def test_x9_what_acts_alike_has_one_digest():
    skip, nothing = Overlay("entry_gate_skip"), Overlay("risk_throttle", (("size_scale", 0.0),))
    assert replace(WHOLE, overlays=WHOLE.overlays[::-1]).behaviour_digest == WHOLE.behaviour_digest
    assert (
        replace(BLUEPRINT, overlays=(skip,)).behaviour_digest
        == replace(BLUEPRINT, overlays=(nothing,)).behaviour_digest
    )
    assert replace(BLUEPRINT, overlays=(skip,)).size_scale == 0.0
    armed = replace(BLUEPRINT, entry=replace(BLUEPRINT.entry, arm_bars=4))
    delayed = replace(BLUEPRINT, entry=replace(BLUEPRINT.entry, delay_bars=4))
    assert armed.behaviour_digest == delayed.behaviour_digest != BLUEPRINT.behaviour_digest


def test_x9_every_acting_field_is_in_the_digest():
    found = {WHOLE.behaviour_digest}
    changed = [
        replace(WHOLE, exit=replace(WHOLE.exit, **{name: value}))
        for name, value in {
            "time_stop_bars": 17, "stop_type": "range_pct", "stop_value": 2.5, "target_type": "atr", "target_value": 1.6,
            "trailing_stop_type": "atr", "trailing_stop_value": 0.02, "break_even_r": 0.0, "invalidation": None,
        }.items()
    ]  # fmt: skip
    changed += [
        replace(WHOLE, entry=replace(WHOLE.entry, **{name: value}))
        for name, value in {
            "arm_bars": 9, "delay_bars": 9, "cooldown_bars": 7, "condition_logic": "all", "condition_nodes": (),
            "confirmations": (), "conditions": ("session_us",),
        }.items()
    ]  # fmt: skip
    changed += [replace(WHOLE, sizing=replace(WHOLE.sizing, **{name: 0.3})) for name in (
        "risk_per_trade", "max_gross_leverage", "max_position_scale", "portfolio_risk_budget", "symbol_risk_budget")]  # fmt: skip
    changed += [
        replace(WHOLE, overlays=WHOLE.overlays[:1]),
        replace(WHOLE, evaluation=replace(WHOLE.evaluation, min_trades=9)),
    ]
    found |= {one.behaviour_digest for one in changed}
    assert len(found) == len(changed)  # delay 9 and arm 9 wait as long; nothing else is alike


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("exit", {"time_stop_bars": 0}, "time_stop_bars"),
        ("exit", {"stop_value": 0.0}, "stop_value"),
        ("exit", {"stop_value": 1.0}, "stop_value"),
        ("exit", {"target_value": 0.0}, "target_value"),
        ("exit", {"target_value": float("inf")}, "target_value"),
        ("exit", {"stop_type": "points"}, "stop_type"),
        ("exit", {"trailing_stop_type": "chandelier"}, "'chandelier'"),
        ("exit", {"trailing_stop_type": "atr"}, "trailing_stop_value must be > 0"),
        ("exit", {"trailing_stop_value": 0.1}, "without a trailing_stop_type"),
        ("exit", {"break_even_r": -1.0}, "break_even_r"),
        ("entry", {"delay_bars": -1}, "delays"),
        ("entry", {"arm_bars": -1}, "delays"),
        ("entry", {"reentry_lockout_bars": -1}, "delays"),
        ("entry", {"condition_logic": "most"}, "'most'"),
        ("entry", {"conditions": ()}, "both empty"),
        ("entry", {"conditions": ("all", "all")}, "repeat"),
        ("entry", {"triggers": ("moonrise",)}, "event family alone"),
        ("entry", {"triggers": ()}, "triggers is empty"),
        ("entry", {"confirmations": (Confirmation("funding_normalization_pass"),)}, "need the overlay"),
        ("sizing", {"position_scale": 2.0}, "position_scale"),
        ("sizing", {"position_scale": None}, "position_scale"),
        ("sizing", {"max_position_scale": 0.4}, "position_scale"),
        ("sizing", {"risk_per_trade": 0.01}, "not of mode"),
        ("sizing", {"mode": "martingale"}, "'martingale'"),
        ("sizing", {"mode": "vol_target", "position_scale": None}, "target_vol"),
        ("sizing", {"portfolio_risk_budget": 0.0}, "portfolio_risk_budget"),
        ("sizing", {"symbol_risk_budget": float("nan")}, "symbol_risk_budget"),
        ("evaluation", {"funding_included": False}, "funding_included"),
        ("evaluation", {"min_trades": -1}, "min_trades"),
        ("evaluation", {"fees_bps": float("nan")}, "fees_bps"),
        ("lineage", {"generated_at_utc": "2026-01-01T00:00:00Z"}, "generated_at_utc"),
        ("lineage", {"source_path": ""}, "empty"),
        ("symbol_scope", {"mode": "some"}, "'some'"),
        ("symbol_scope", {"mode": "single_symbol"}, "exactly one"),
        ("symbol_scope", {"symbols": ()}, "empty"),
        ("symbol_scope", {"candidate_symbol": "DOGEUSDT"}, "DOGEUSDT"),
    ],
)
def test_x8_what_execution_cannot_obey_is_refused(part: str, change: dict[str, object], says: str):
    with pytest.raises(SettingsError, match=says):
        replace(BLUEPRINT, **{part: replace(getattr(BLUEPRINT, part), **change)})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Confirmation("moon_pass"), "unknown"),
        (lambda: Confirmation("oos_validation_pass"), "verdict of research"),
        (lambda: Confirmation("event_detected"), "trigger itself"),
        (lambda: Confirmation("breakout_confirmation", "later"), "later"),  # pyright: ignore[reportArgumentType]
        (lambda: ConditionNode("rv_96", "~", 1.0), "operator '~' is unknown"),
        (lambda: ConditionNode("rv_96", "zscore_gt", 1.0), "'zscore_gt' cannot be obeyed"),
        (lambda: ConditionNode("rv_96", "crosses_above", 1.0, lookback_bars=3), "lookback_bars"),
        (lambda: ConditionNode("rv_96", "zscore_lt", 1.0, window_bars=9), "'zscore_lt' cannot be obeyed"),
        (lambda: ConditionNode("rv_96", ">", 1.0, lookback_bars=3), "lookback_bars"),
        (lambda: ConditionNode("rv_96", "in_range", 1.0), "value_high"),
        (lambda: ConditionNode("rv_96", "in_range", 1.0, 0.5), "value_high"),
        (lambda: ConditionNode("rv_96", ">", 1.0, 2.0), "in_range only"),
        (lambda: ConditionNode("", ">", 1.0), "feature is empty"),
        (lambda: Overlay("moon_guard"), "unknown"),
        (lambda: Overlay("liquidity_guard"), "min_notional"),
        (lambda: Overlay("liquidity_guard", (("min_notional", 1.0), ("max", 1.0))), "exactly"),
        (lambda: Overlay("risk_throttle", (("size_scale", 1.5),)), "<= 1"),
        (lambda: Overlay("spread_guard", (("max_spread_bps", "8"),)), "finite number"),
        (lambda: Overlay("session_guard", (("session", "moon"),)), "moon"),
        (lambda: Overlay("session_guard", (("session", 3.0),)), "none of"),
        (lambda: Invalidation("", ">", 1.0), "metric is empty"),
        (lambda: Invalidation("basis_bps", "==", 1.0), "'=='"),
        (lambda: RobustnessFlags(regime_stability_required=False), "promotion always asks"),  # pyright: ignore[reportArgumentType]
        (lambda: replace(BLUEPRINT, direction="both"), "direction 'both'"),
        (lambda: replace(BLUEPRINT, overlays=WHOLE.overlays * 2), "overlays repeat"),
        (lambda: replace(BLUEPRINT, blueprint_id=""), "blueprint_id"),
    ],
)
def test_x7_what_nobody_knows_is_refused_by_name(make, says: str):
    with pytest.raises(SettingsError, match=says):
        make()


def test_a_node_is_said_as_canonical_conditions():
    assert ConditionNode("rv_pct_2880", ">=", 0.8).texts == ("rv_pct_2880>=0.8",)
    assert ConditionNode("basis_bps", "in_range", -1.0, 2.5).texts == ("basis_bps>=-1", "basis_bps<=2.5")
    assert ConditionNode("basis_z_96", "crosses_below", -2.0).texts == ("basis_z_96 crosses_below -2",)
    assert ConditionNode("basis_z_96", ">", 0.1234567891).texts == ("basis_z_96>0.1234567891",)


def paths(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*path, number))


PATHS = [path for path in paths(json.loads(WHOLE.to_json())) if "params" not in path[:-1]]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_x8_a_missing_and_an_unknown_field_are_refused_everywhere(path):
    for change in ("drop", "add"):
        raw = json.loads(WHOLE.to_json())
        part = raw
        for step in path[:-1]:
            part = part[step]
        if change == "drop":
            del part[path[-1]]
        else:
            part["moon"] = 1
        with pytest.raises(SettingsError):
            blueprint_from_json(json.dumps(raw))


def test_the_digest_is_of_canonical_bytes():
    assert len(BLUEPRINT.behaviour_digest) == hashlib.sha256().digest_size * 2


def test_text_that_is_no_blueprint_is_refused():
    for text in ("{}", "[]", "null", "not json", '{"blueprint_id": 3}'):
        with pytest.raises(SettingsError, match="cannot be read"):
            blueprint_from_json(text)

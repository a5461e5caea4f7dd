import json
from dataclasses import replace

import pytest

from backtest_assets.domain.blueprint import (
    Blueprint,
    Entry,
    Evaluation,
    Exit,
    Lineage,
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
    Lineage("h1", "blueprint_v2", "2022-01-01", "2024-01-01"),
)


def test_x10_json_is_canonical_and_reads_back():
    assert blueprint_from_json(BLUEPRINT.to_json()) == BLUEPRINT
    assert json.dumps(json.loads(BLUEPRINT.to_json()), sort_keys=True, separators=(",", ":")) == BLUEPRINT.to_json()


def test_x9_the_behaviour_digest_ignores_names_and_lineage():
    renamed = replace(
        BLUEPRINT, blueprint_id="bp_2", run_id="R2", lineage=replace(BLUEPRINT.lineage, hypothesis_id="h2")
    )
    assert renamed.behaviour_digest == BLUEPRINT.behaviour_digest
    assert replace(BLUEPRINT, direction="short").behaviour_digest != BLUEPRINT.behaviour_digest


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("exit", {"time_stop_bars": 0}, "time_stop_bars"),
        ("exit", {"stop_value": 0.0}, "stop_value"),
        ("exit", {"target_value": 0.0}, "target_value"),
        ("entry", {"delay_bars": -1}, "delays"),
        ("sizing", {"position_scale": 2.0}, "position_scale"),
    ],
)
def test_what_execution_cannot_obey_is_refused(part: str, change: dict[str, object], says: str):
    with pytest.raises(SettingsError, match=says):
        replace(BLUEPRINT, **{part: replace(getattr(BLUEPRINT, part), **change)})


def test_an_unknown_field_is_refused():
    raw = json.loads(BLUEPRINT.to_json())
    raw["exit"]["trailing_moon"] = 1
    with pytest.raises(SettingsError, match="trailing_moon"):
        blueprint_from_json(json.dumps(raw))

"""Compiled blueprints: executable rules with their canonical JSON."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Table

BLUEPRINTS = Table(
    "blueprints",
    Stage.BLUEPRINTS,
    "research",
    ("rank", "blueprint_id"),
    (
        Column("rank", pl.Int32(), "1", "1 is best by train t; what top_k cuts by.", sample=(1, 9)),
        Column("blueprint_id", pl.String(), "text", "Name of the blueprint."),
        Column("hypothesis_id", pl.String(), "text", "The hypothesis it executes."),
        Column("event_type", pl.String(), "text", "Event family that triggers it."),
        Column("condition", pl.String(), "text", "Condition at known_at."),
        Column("direction", pl.String(), "text", "long, short or conditional (by the event's side)."),
        Column("side_rule", pl.String(), "text", "long, short, with_event or against_event."),
        Column("symbols", pl.String(), "text", "Comma list of the symbols in scope."),
        Column("delay_bars", pl.Int32(), "bars", "Bars between known_at and entry."),
        Column("time_stop_bars", pl.Int32(), "bars", "Bars until the time exit."),
        Column("stop_frac", pl.Float64(), "fraction of entry", "Stop distance, fitted on train."),
        Column("target_frac", pl.Float64(), "fraction of entry", "Target distance, fitted on train."),
        Column("t_train", pl.Float64(), "1", "Day-clustered t of the hypothesis on train."),
        Column("is_executed", pl.Boolean(), "bool", "Within blueprints_top_k and the family filter.", sample=(1, 1)),
        Column("behaviour_digest", pl.String(), "sha256", "Equal digests trade alike."),
        Column("spec_json", pl.String(), "JSON", "The whole blueprint, canonical bytes."),
    ),
    "Executable rules compiled from the selected hypotheses.",
)
TABLES = (BLUEPRINTS,)

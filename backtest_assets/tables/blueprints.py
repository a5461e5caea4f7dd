"""Compiled blueprints: executable rules with their canonical JSON, and what did not become one."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table

BLUEPRINTS = Table(
    "blueprints",
    Stage.BLUEPRINTS,
    "research",
    ("rank", "blueprint_id"),
    (
        Column("rank", pl.Int32(), "1", "1 is best by train t; what top_k cuts by.", sample=(1, 9)),
        Column("blueprint_id", pl.String(), "text", "Name of the blueprint."),
        Column("hypothesis_id", pl.String(), "text", "The hypothesis it executes."),
        Column("known_at", INSTANT, "UTC", "When it can be known: the end of validation, which confirmed it."),
        Column(
            "is_fallback",
            pl.Boolean(),
            "bool",
            "Its hypothesis was not selected (R65); diagnostic runs only.",
            sample=(0, 0),
        ),
        Column("event_type", pl.String(), "text", "Event family that triggers it."),
        Column("condition", pl.String(), "text", "Condition at known_at."),
        Column("direction", pl.String(), "text", "long, short or conditional (by the event's side)."),
        Column("side_rule", pl.String(), "text", "long, short, with_event or against_event."),
        Column("symbols", pl.String(), "text", "Comma list of the symbols in scope."),
        Column("delay_bars", pl.Int32(), "bars", "Bars between known_at and entry."),
        Column("time_stop_bars", pl.Int32(), "bars", "Bars until the time exit."),
        Column("stop_frac", pl.Float64(), "fraction of entry", "Stop distance, fitted on train."),
        Column("exit_quantile", pl.Float64(), "fraction", "Quantile of the train excursions at stop and target."),
        Column(
            "n_entries_train", pl.Int64(), "entries", "Positions it opens alone on train: the dry run.", sample=(1, 9)
        ),
        Column(
            "time_exit_train_bps",
            pl.Float64(),
            "bps per event",
            "Mean train move with the time exit alone, before costs.",
        ),
        Column("with_exits_train_bps", pl.Float64(), "bps per event", "The same with every exit and guard."),
        Column("target_frac", pl.Float64(), "fraction of entry", "Target distance, fitted on train."),
        Column("t_train", pl.Float64(), "1", "Day-clustered t of the hypothesis on train."),
        Column(
            "is_executed",
            pl.Boolean(),
            "bool",
            "Picked for execution: within blueprints_top_k and the family filter; traded only if the checklist says PROMOTE.",
            sample=(1, 1),
        ),
        Column("behaviour_digest", pl.String(), "sha256", "Equal digests trade alike."),
        Column("spec_json", pl.String(), "JSON", "The whole blueprint, canonical bytes."),
    ),
    "Executable rules compiled from the selected hypotheses.",
)
BLUEPRINT_REJECTIONS = Table(
    "blueprint_rejections",
    Stage.BLUEPRINTS,
    "research",
    ("hypothesis_id",),
    (
        Column("hypothesis_id", pl.String(), "text", "A tested hypothesis that is no blueprint."),
        Column("known_at", INSTANT, "UTC", "When it can be known: the end of validation."),
        Column("event_type", pl.String(), "text", "Event family."),
        Column("condition", pl.String(), "text", "Condition at known_at."),
        Column("side_rule", pl.String(), "text", "long, short, with_event or against_event."),
        Column("hold_bars", pl.Int32(), "bars", "Bars until the time exit."),
        Column("is_selected", pl.Boolean(), "bool", "It passed every gate of the hypotheses."),
        Column("reason", pl.String(), "text", "The first reason in the order in which candidates are lost."),
        Column("detail", pl.String(), "text", "The numbers or names behind it."),
        Column(
            "kept_hypothesis_id",
            pl.String(),
            "text",
            "The blueprint's hypothesis that stands for it; null if none does.",
            nullable=True,
        ),
    ),
    "Every tested hypothesis that did not become a blueprint, and why.",
)
TABLES = (BLUEPRINTS, BLUEPRINT_REJECTIONS)

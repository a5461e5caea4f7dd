"""The frozen settings of a run as a table."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Table

RESEARCH_RUN = Table(
    "research_run",
    Stage.RUN,
    "research",
    ("setting",),
    (
        Column("setting", pl.String(), "text", "Name of the setting: the runbook's flag without dashes."),
        Column("value_json", pl.String(), "JSON", "Its value."),
        Column("default_json", pl.String(), "JSON", "Its default; null where the run must give it.", nullable=True),
        Column(
            "is_override",
            pl.Boolean(),
            "bool",
            "It overrides a strict rule: the run is diagnostic, never decision grade (R63, R90).",
            sample=(0, 0),
        ),
        Column("about", pl.String(), "text", "What it does and its rule."),
        Column("settings_digest", pl.String(), "sha256", "Digest of all settings."),
    ),
    "The frozen settings of the run.",
)
TABLES = (RESEARCH_RUN,)

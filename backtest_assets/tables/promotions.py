"""The promotion decision, gate by gate."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Table

PROMOTIONS = Table(
    "promotions",
    Stage.PROMOTIONS,
    "research",
    ("blueprint_id", "gate"),
    (
        Column("blueprint_id", pl.String(), "text", "Executed blueprint."),
        Column("gate", pl.String(), "text", "Promotion gate."),
        Column("observed", pl.Float64(), "unit", "Measured number; null for insufficient evidence.", nullable=True),
        Column("limit", pl.Float64(), "unit", "Limit."),
        Column("comparator", pl.String(), "text", "How observed is held against the limit: <=, >= or >."),
        Column("unit", pl.String(), "text", "Unit of both."),
        Column(
            "margin", pl.Float64(), "unit", "Distance to the limit, positive if passed; null if unknown.", nullable=True
        ),
        Column("is_passed", pl.Boolean(), "bool", "The answer."),
        Column("detail", pl.String(), "text", "The evidence in words."),
        Column("is_promoted", pl.Boolean(), "bool", "All gates of the blueprint passed; the same on each of its rows."),
    ),
    "Every executed blueprint with every promotion gate; default is rejected.",
)
TABLES = (PROMOTIONS,)

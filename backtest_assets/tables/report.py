"""The report's numbers as a table; the page itself is the partition's attachment report.html, its exports lie beside it."""

from typing import Final

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Column, Rule, Table

PAGE: Final = "report.html"
"""Name of the attachment that is the page."""

_S = pl.String()
_F = pl.Float64()

REPORT = Table(
    "report",
    Stage.REPORT,
    "research",
    ("position",),
    (
        Column("position", pl.Int32(), "1", "Place in the page, 0 first.", sample=(0, 2_000_000_000)),
        Column(
            "section",
            _S,
            "text",
            "verdict, gates, funnel, phase1, expectancy, walkforward, performance, costs, allocation, blueprints, strategies, "
            "hypotheses, trials, inference, quality, coverage, splits, settings, lineage or page.",
        ),
        Column("item", _S, "text", "What is said; unique within its section."),
        Column("observed", _F, "unit", "Its number, where it has one; null where it is unknown.", nullable=True),
        Column("comparator", _S, "text", "How observed is held against the limit; empty where not declared."),
        Column("limit", _F, "unit", "Its limit, where it has one.", nullable=True),
        Column("unit", _S, "text", "Unit of observed, limit and margin."),
        Column("margin", _F, "unit", "Distance to the limit, positive if passed.", nullable=True),
        Column("is_passed", pl.Boolean(), "bool", "The answer, where it is a gate.", nullable=True, sample=(1, 1)),
        Column("text", _S, "text", "The words beside the number, or the value where it is words."),
    ),
    "The numbers of the report, the same rows the page shows, in the page's order.",
    (Rule("item_unique", pl.struct("section", "item").is_first_distinct()),),
)
TABLES = (REPORT,)

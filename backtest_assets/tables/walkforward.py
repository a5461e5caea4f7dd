"""The split plan and the slices of the one ledger that lie in each split."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

WALKFORWARD_SPLITS = Table(
    "walkforward_splits",
    Stage.WALKFORWARD,
    "research",
    ("start_at",),
    (
        Column("split", pl.String(), "text", "train, validation or test."),
        Column("start_at", INSTANT, "UTC", "First instant."),
        Column("last_entry_at", INSTANT, "UTC", "Triggers at or after this instant are purged.", sample=(1, 1)),
        Column("end_at", INSTANT, "UTC", "First instant after the split.", sample=(2, 2)),
        Column("n_days", pl.Int64(), "days", "Whole days."),
        Column("purge_bars", pl.Int64(), "bars", "Longest entry delay + longest extra delay + longest hold + 1."),
        Column("embargo_days", pl.Int64(), "days", "Days skipped after train and after validation."),
    ),
    "The one split plan of the run.",
    (Rule("in_order", (pl.col("start_at") < pl.col("last_entry_at")) & (pl.col("last_entry_at") < pl.col("end_at"))),),
)
_METRICS = (
    Column("blueprint_id", pl.String(), "text", "Blueprint, or portfolio."),
    Column("metric", pl.String(), "text", "Name of the metric."),
    Column("value", pl.Float64(), "unit", "Its value; null where it is undefined.", nullable=True),
    Column("unit", pl.String(), "text", "Unit of the value."),
    Column("n", pl.Int64(), "1", "Observations behind it."),
    Column("start_at", INSTANT, "UTC", "First instant of the slice."),
    Column("end_at", INSTANT, "UTC", "First instant after it.", sample=(1, 1)),
)
_SPLIT_KEY = ("blueprint_id", "metric")
WALKFORWARD_TRAIN = Table(
    "walkforward_train", Stage.WALKFORWARD, "research", _SPLIT_KEY, _METRICS, "Metrics of the train slice."
)
WALKFORWARD_VALIDATION = Table(
    "walkforward_validation", Stage.WALKFORWARD, "research", _SPLIT_KEY, _METRICS, "Metrics of the validation slice."
)
WALKFORWARD_TEST = Table(
    "walkforward_test",
    Stage.WALKFORWARD,
    "research",
    _SPLIT_KEY,
    _METRICS,
    "Metrics of the test slice; opened after promotion decided.",
)
WALKFORWARD_SUMMARY = Table(
    "walkforward_summary",
    Stage.WALKFORWARD,
    "research",
    ("split", "blueprint_id", "metric"),
    (Column("split", pl.String(), "text", "train or validation."), *_METRICS),
    "Train and validation evidence that promotion decides on.",
)
TABLES = (WALKFORWARD_SPLITS, WALKFORWARD_TRAIN, WALKFORWARD_VALIDATION, WALKFORWARD_SUMMARY, WALKFORWARD_TEST)

"""Asking the gates of execution about a table of `results`, whole or spoilt."""

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Answer, Evidence, Gate, ask_all
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.research.simulation.results import Results

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)


def evidence(
    done: Results, name: str, frame: pl.DataFrame, inputs: Mapping[str, pl.DataFrame] | None = None
) -> Evidence:
    shown = done.frames if inputs is None else inputs
    return Evidence(TABLES[name], Partition.of_run("t"), frame, AS_OF, done.run, shown)


def answers(
    done: Results,
    name: str,
    gates: tuple[Gate, ...],
    frame: pl.DataFrame,
    inputs: Mapping[str, pl.DataFrame] | None = None,
) -> tuple[Answer, ...]:
    return ask_all(gates, evidence(done, name, frame, inputs))


def red(
    done: Results,
    name: str,
    gates: tuple[Gate, ...],
    frame: pl.DataFrame,
    inputs: Mapping[str, pl.DataFrame] | None = None,
) -> set[str]:
    """Names of the gates that are red because they looked, and block; a crash is an error of the test."""
    found = answers(done, name, gates, frame, inputs)
    crashed = [a.verdict.detail for a in found if "crashed" in a.verdict.detail]
    assert not crashed, crashed
    return {a.verdict.gate for a in found if a.severity is Severity.ERROR and not a.verdict.passed}


def all_null(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())


def spoil(frame: pl.DataFrame, row: int, **values: object) -> pl.DataFrame:
    """Change one row; values are literals or expressions."""
    hit = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(hit)
        .then(v if isinstance(v, pl.Expr) else pl.lit(v))
        .otherwise(pl.col(k))
        .cast(frame.schema[k])
        .alias(k)
        for k, v in values.items()
    )

"""The form that every asset has: name, group, partitions, inputs and checks follow from its table."""

import warnings
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final, cast

import dagster as dg
from dagster_shared.utils.warnings import BetaWarning, PreviewWarning

from backtest_assets.defs.code_version import code_version
from backtest_assets.defs.partitions import partitions_of
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.reads import READS
from backtest_assets.domain.gate import Severity
from backtest_assets.errors import BacktestAssetsError
from backtest_assets.gates.registry import GATES
from backtest_assets.tables.contract import Table
from backtest_assets.tables.registry import TABLES

# A month of bars is cleaned from its own raw month: partition to partition. A run reads many months: the drawn edge is
# "all", the exact slice is in the lineage record.
_WHOLE_MARKET: Final = dg.AllPartitionMapping()

_ALL_PARTITIONS: Final = 1_000_000
"""More partitions than a backfill can have: `multi_run` with this limit is one run."""


def table_asset(name: str) -> Callable[[Callable[..., Iterator[AssetEvent]]], dg.AssetsDefinition]:
    """Return the decorator that turns a function into the asset of a table."""
    form = _form(TABLES[name])

    def decorate(make: Callable[..., Iterator[AssetEvent]]) -> dg.AssetsDefinition:
        @wraps(make)
        def guarded(*args: Any, **kwargs: Any) -> Iterator[AssetEvent]:  # noqa: ANN401  # whatever Dagster hands over
            try:
                yield from make(*args, **kwargs)
            except BacktestAssetsError as error:
                raise dg.Failure(description=f"refused: {name}: {error}", allow_retries=False) from error

        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", BetaWarning
            )  # backfill policies are beta; the pinned version is characterised
            return cast("dg.AssetsDefinition", dg.asset(**form)(guarded))

    return decorate


def _form(table: Table) -> dict[str, Any]:
    form: dict[str, Any] = {
        "name": table.name,
        "group_name": table.stage.value,
        "description": table.about,
        "partitions_def": partitions_of(table),
        "deps": [_dep(table, TABLES[read.table]) for read in READS[table.name]],
        "check_specs": _check_specs(table),
        "code_version": code_version(table),
        "kinds": {"polars", "parquet"},
        "metadata": {"dagster/column_schema": _column_schema(table)},
    }
    return form | ({"backfill_policy": _backfill_policy(table.name)} if table.layer == "market" else {})


def _backfill_policy(name: str) -> dg.BackfillPolicy:
    """Return a policy of one run for all partitions, another object for each step of the way.

    Dagster skips what is downstream of a failed step for every partition of its run, and puts assets of one policy into
    one run. With a policy per depth, each depth has its own run, and one bad month stops only its own bars.
    """
    depth = _depth(name)
    return dg.BackfillPolicy.single_run() if depth == 0 else dg.BackfillPolicy.multi_run(_ALL_PARTITIONS + depth)


def _depth(name: str) -> int:
    return max((1 + _depth(read.table) for read in READS[name]), default=0)


def _dep(table: Table, upstream: Table) -> dg.AssetDep:
    return (
        dg.AssetDep(upstream.name, partition_mapping=_WHOLE_MARKET)
        if upstream.layer != table.layer
        else dg.AssetDep(upstream.name)
    )


def _check_specs(table: Table) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", PreviewWarning
        )  # partitioned checks are a preview; the pinned version is characterised
        return [
            dg.AssetCheckSpec(
                gate.name,
                asset=table.name,
                description=gate.about,
                blocking=gate.severity is Severity.ERROR,
                partitions_def=partitions_of(table),
            )
            for gate in GATES[table.name]
        ]


def _column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema([
        dg.TableColumn(
            column.name, str(column.dtype), f"{column.about} [{column.unit}]", dg.TableColumnConstraints(nullable=column.nullable)
        )
        for column in table.columns
    ])  # fmt: skip

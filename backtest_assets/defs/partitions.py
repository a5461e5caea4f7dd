"""The two partition layers: symbol x month for the market, run_id for research (docs/adr/0004)."""

from typing import Final

import dagster as dg

from backtest_assets.domain.market import Partition
from backtest_assets.tables.contract import Table

FIRST_MONTH: Final = "2019-01"
SYMBOLS: Final = dg.DynamicPartitionsDefinition(name="symbol")
RUNS: Final = dg.DynamicPartitionsDefinition(name="run_id")
MONTHS: Final = dg.TimeWindowPartitionsDefinition(
    cron_schedule="0 0 1 * *", fmt="%Y-%m", start=FIRST_MONTH, end_offset=1
)
SYMBOL_MONTHS: Final = dg.MultiPartitionsDefinition({"symbol": SYMBOLS, "month": MONTHS})


def partitions_of(table: Table) -> dg.PartitionsDefinition[str]:
    """Return the partition layer of a table."""
    return SYMBOL_MONTHS if table.layer == "market" else RUNS


def partition_from_key(table: Table, key: str) -> Partition:
    """Read Dagster's partition key (`month|symbol` or run_id) as a checked partition."""
    if table.layer == "research":
        return Partition.of_run(key)
    month, symbol = key.split("|")
    return Partition.of_month(symbol, month)

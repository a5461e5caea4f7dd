"""All tables by name, in path order."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backtest_assets.errors import UsageError
from backtest_assets.tables import (
    bars,
    blueprints,
    context,
    events,
    features,
    hypotheses,
    outcomes,
    phase1,
    promotions,
    raw,
    report,
    run,
    simulation,
    walkforward,
)
from backtest_assets.tables.contract import Table

_MODULES = (
    raw,
    bars,
    run,
    features,
    context,
    events,
    outcomes,
    phase1,
    hypotheses,
    blueprints,
    simulation,
    walkforward,
    promotions,
    report,
)
TABLES: Final[Mapping[str, Table]] = MappingProxyType(
    {table.name: table for module in _MODULES for table in module.TABLES}
)


def table_named(name: str) -> Table:
    """Return the contract of a table.

    Raises:
        UsageError: listing the tables that exist.
    """
    if name not in TABLES:
        message = f"no table is called {name!r}; there are {', '.join(TABLES)}"
        raise UsageError(message)
    return TABLES[name]

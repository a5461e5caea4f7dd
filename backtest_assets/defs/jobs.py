"""The jobs that the UI and the command line share; a job cannot mix partition layers (docs/adr/0004)."""

import warnings
from typing import Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from backtest_assets.defs.reads import CLOSING, EXECUTION_TABLES, READS
from backtest_assets.tables.registry import TABLES

MARKET: Final = tuple(name for name in READS if TABLES[name].layer == "market")
EXECUTION: Final = tuple(name for name in READS if name in {*EXECUTION_TABLES, *CLOSING})
DISCOVERY: Final = tuple(name for name in READS if name not in {*MARKET, *EXECUTION})

# On purpose, see assets/asset.py; Dagster says so each time it loads the job.
warnings.filterwarnings("ignore", "Asset job market materializes assets with varying BackfillPolicies")


def _job(name: str, tables: tuple[str, ...], about: str) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(  # pyright: ignore[reportUnknownMemberType]  # Dagster leaves a PathLike unparametrised
        name,
        selection=dg.AssetSelection.assets(*tables),
        description=about,
    )


JOBS: Final = (
    _job("market", MARKET, "Ingest and clean symbol months."),
    _job("discovery", DISCOVERY, "From the frozen settings of a run to its blueprints (R3)."),
    _job("execution", EXECUTION, "From blueprints to the report; refuses unless the checklist says PROMOTE (R80)."),
)

"""Typed Dagster config: the run's settings as the launchpad shows them, made from the one dataclass that declares them."""

from dataclasses import MISSING
from typing import Any, Final, get_type_hints

import dagster as dg
from pydantic import Field, create_model

from backtest_assets.domain.run import ResearchRun, run_from_dict, settings_fields
from backtest_assets.domain.source import KNOWN


def _settings_model() -> type[dg.Config]:
    hints = get_type_hints(ResearchRun)
    model_fields: dict[str, Any] = {
        item.name: (
            hints[item.name],
            Field(description=item.metadata["about"])
            if item.default is MISSING
            else Field(default=item.default, description=item.metadata["about"]),
        )
        for item in settings_fields()
        if item.name != "run_id"
    }
    return create_model("RunSettings", __base__=dg.Config, **model_fields)


_RunSettings: Final = _settings_model()


class ResearchRunConfig(_RunSettings):
    """Config of the asset `research_run`: every setting of a run but its name, which is the partition."""


class MarketConfig(dg.Config):
    """Config of the raw assets."""

    source: str = Field(
        default="",
        description=f"{KNOWN}; empty: the variable BACKTEST_SOURCE.",
    )
    force: bool = Field(
        default=False, description="Ask the exchange for everything again, however lately it was asked (R36)."
    )
    first_day: str = Field(
        default="", description="Ingest only from this day on, YYYY-MM-DD, UTC; what is there before it stays."
    )
    last_day: str = Field(
        default="", description="Ingest only up to this day, inclusive, YYYY-MM-DD, UTC; what is there after it stays."
    )


def run_from_config(run_id: str, config: dg.Config) -> ResearchRun:
    """Build the run's settings from its partition key and config.

    Raises:
        SettingsError, UsageError: naming the setting that is impossible.
    """
    return run_from_dict({"run_id": run_id, **config.model_dump()})


def config_from_run(run: ResearchRun) -> dict[str, Any]:
    """Return the run config that gives `research_run` these settings."""
    settings = {name: value for name, value in run.to_dict().items() if name != "run_id" and value is not None}
    return {"ops": {"research_run": {"config": settings}}}

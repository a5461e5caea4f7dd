"""Command line flags of a run, made from the dataclass that declares its settings."""

from collections.abc import Callable
from dataclasses import MISSING
from typing import Any, Final, TypeVar, get_type_hints

import click

from backtest_assets.domain.run import ResearchRun, settings_fields
from backtest_assets.sources.base import DEFAULT_DATASETS, Dataset

_F = TypeVar("_F", bound=Callable[..., Any])
_TYPES: Final[dict[object, click.ParamType[Any]]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    float | None: click.FLOAT,
}


def _underscored(flag: str) -> str:
    return flag.replace("-", "_")


CONTEXT: Final[dict[str, Any]] = {"token_normalize_func": _underscored, "help_option_names": ["--help"]}
"""Flags are spelled with underscores or hyphens, as in the runbook."""


def run_flags(command: _F) -> _F:
    """Add every setting of a run as a flag, in declaration order."""
    hints = get_type_hints(ResearchRun)
    for item in reversed(settings_fields()):
        required = item.default is MISSING
        optional: dict[str, Any] = {} if required else {"default": item.default}
        decorate = click.option(
            f"--{item.name}",
            item.name,
            type=_TYPES[hints[item.name]],
            required=required,
            **optional,
            show_default=not required and item.default is not None,
            help=item.metadata["about"],
        )
        command = decorate(command)
    return command


_SWITCHES: Final = {
    "skip_ingest_ohlcv": "1: ingest no um klines; they must be there already (R33).",
    "skip_ingest_funding": "1: ingest no funding; it must be there already (R34).",
    "skip_ingest_spot_ohlcv": "1: ingest no spot klines; what is there is used (R35).",
    "ingest_open_interest": "1: ingest open interest too; one archive file a day.",
    "ingest_liquidations": "1: ingest liquidations too; one archive file a day.",
    "force": "1: ingest and make everything again, up to date or not; nothing good is lost (R36).",
}
_DATASET_SWITCHES: Final = {
    "skip_ingest_ohlcv": Dataset.UM_OHLCV,
    "skip_ingest_funding": Dataset.UM_FUNDING,
    "skip_ingest_spot_ohlcv": Dataset.SPOT_OHLCV,
    "ingest_open_interest": Dataset.UM_OPEN_INTEREST,
    "ingest_liquidations": Dataset.UM_LIQUIDATIONS,
}


def market_flags(command: _F) -> _F:
    """Add the switches of the market layer, each 0 or 1 as in the runbook."""
    for name, about in reversed(_SWITCHES.items()):
        decorate = click.option(f"--{name}", name, type=click.IntRange(0, 1), default=0, show_default=True, help=about)
        command = decorate(command)
    return command


def take_market_flags(values: dict[str, Any]) -> tuple[frozenset[Dataset], bool]:
    """Take the market switches out of a command's flags; return what is ingested, and whether all is made again."""
    switched = {dataset for name, dataset in _DATASET_SWITCHES.items() if values.pop(name)}
    return DEFAULT_DATASETS ^ switched, bool(values.pop("force"))

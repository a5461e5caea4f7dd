"""Command line flags of a run, made from the dataclass that declares its settings."""

from collections.abc import Callable
from dataclasses import MISSING
from typing import Any, Final, TypeVar, get_type_hints

import click

from backtest_assets.domain.run import ResearchRun, settings_fields

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

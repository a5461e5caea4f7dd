"""The entry point: commands, exit codes and the form of errors."""

import sqlite3
import sys
import traceback
import warnings
from importlib import import_module
from typing import Final, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.errors import BacktestAssetsError, RefusedError, UsageError

# Loaded when called: Dagster and the kernels take seconds to import, `--help` should not.
_GO_ON: Final = "nothing is half-written; run the same command again to go on"
_COMMANDS: Final = {
    "run": "run",
    "discover": "run",
    "demo": "run",
    "backfill": "run",
    "gates": "look",
    "report": "look",
    "runs": "runs",
    "sql": "look",
    "ui": "operate",
    "doctor": "operate",
}
_ABOUT: Final = {
    "run": "Bring a run from its source to its report.",
    "discover": "Bring a run from its source to its blueprints.",
    "demo": "Run the whole chain on the embedded synthetic market.",
    "backfill": "Ingest and clean market partitions.",
    "gates": "Show the newest verdict of every gate of a run.",
    "report": "Print where the report of a run lies.",
    "runs": "List the runs of the lake and count the trials of all of them.",
    "sql": "Ask DuckDB, one view per table of the lake.",
    "ui": "Open the Dagster webserver and daemon.",
    "doctor": "Find out what is wrong with this machine.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"backtest_assets.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_ABOUT.items()))


@click.group(cls=_Commands, context_settings=CONTEXT)
def cli() -> None:
    """Look for crypto edges, and refuse to be fooled: raw market files to a promotion report, as Dagster assets.

    Exit codes: 0 done, 1 refused by a gate, 2 wrong usage, 3 broken. BACKTEST_DATA_ROOT names the data root (default
    ./data).
    """


def main() -> None:
    """Run one command and exit with its code."""
    warnings.simplefilter("ignore")  # libraries' deprecations are the tests' concern, not the operator's
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted", _GO_ON, BacktestAssetsError.exit_code)
    except BacktestAssetsError as error:
        kind = "refused" if isinstance(error, RefusedError) else "usage" if isinstance(error, UsageError) else "broken"
        _say(kind, str(error).removeprefix("refused: "), error.exit_code)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        text = f"{error}; look for a full disk, a locked or unwritable data root (`backtest-assets doctor`), then run the same command again"
        _say("broken", text, BacktestAssetsError.exit_code)
    except Exception as error:  # noqa: BLE001  # whatever else happens is broken, and says where
        if (
            type(error).__name__ == "DagsterExecutionInterruptedError"
        ):  # Dagster's own Ctrl-C; importing it costs seconds
            _say("interrupted", _GO_ON, BacktestAssetsError.exit_code)
        _say("broken", f"{traceback.format_exc()}{type(error).__name__}: {error}", BacktestAssetsError.exit_code)


def _say(kind: str, text: str, code: int) -> NoReturn:
    Console(stderr=True).print(f"[bold red]{kind}:[/] {escape(text)}", soft_wrap=True, highlight=False)
    sys.exit(code)

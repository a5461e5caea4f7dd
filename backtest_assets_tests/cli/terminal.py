"""Calling the command line from tests."""

import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import dagster as dg
import pytest

from backtest_assets.cli.main import main
from backtest_assets.defs.instance import open_instance
from backtest_assets.settings import Settings

PROGRAM = Path(sys.executable).with_name("backtest-assets")


def call(root: Path, *arguments: str, code: int | tuple[int, ...] = 0) -> str:
    """Run a command in this process, expect its exit code (or one of them), return what it printed."""
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
        patch.setenv("BACKTEST_DATA_ROOT", str(root))
        patch.setenv("COLUMNS", "250")
        patch.setattr(sys, "argv", [str(PROGRAM), *arguments])
        ended: object = 0
        try:
            main()
        except SystemExit as stop:
            ended = stop.code
    assert ended in (code if isinstance(code, tuple) else (code,)), said.getvalue()
    return said.getvalue()


def told_in_dagster(root: Path, table: str) -> tuple[dict[str, object], dict[str, str]]:
    """What the newest materialisation of a table shows in the UI, and the tags of the Dagster run that made it."""
    with open_instance(Settings(root, root / "dagster", None)) as instance:
        record = instance.get_latest_materialization_event(dg.AssetKey(table))
        assert record is not None
        assert record.asset_materialization is not None
        made = instance.get_run_by_id(record.run_id)
        assert made is not None
        return {name: one.value for name, one in record.asset_materialization.metadata.items()}, dict(made.tags)


def call_program(root: Path, *arguments: str) -> str:
    """Run a command as a user does: the installed program, a process of its own."""
    environment = {**os.environ, "BACKTEST_DATA_ROOT": str(root), "COLUMNS": "250"}
    return subprocess.run(
        [str(PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=300, check=True
    ).stdout

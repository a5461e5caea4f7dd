"""Calling the command line from tests."""

import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from backtest_assets.cli.main import main

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


def call_program(root: Path, *arguments: str) -> str:
    """Run a command as a user does: the installed program, a process of its own."""
    environment = {**os.environ, "BACKTEST_DATA_ROOT": str(root), "COLUMNS": "250"}
    return subprocess.run(
        [str(PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=300, check=True
    ).stdout

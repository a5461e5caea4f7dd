"""A table's code version: the digest of the source that makes and judges it, and of all that this source imports.

A code change makes stale exactly the tables it can change. Orchestration (desk, guard, driver) is left out: it carries
rows, it does not make them.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import backtest_assets
from backtest_assets.gates import registry
from backtest_assets.gates.registry import GATES
from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Table
from backtest_assets.tables.registry import TABLES

_PACKAGE: Final = Path(backtest_assets.__file__).parent
_NAME: Final = _PACKAGE.name
_HEX: Final = 16


def code_version(table: Table) -> str:
    """Return the first 16 hex digits of the SHA-256 over the source files behind a table."""
    return _of_stage(table.stage)


@cache
def _of_stage(stage: Stage) -> str:
    roots = [_PACKAGE / room / stage.value for room in ("research", "tables", "gates")]
    roots += [_PACKAGE / "sources"] if stage is Stage.RAW else []
    roots += [_PACKAGE / "sources" / "merge"] if stage is Stage.BARS else []
    roots += [Path(module).with_suffix("") for module in _gate_modules(stage)]
    files = {
        _PACKAGE / "defs" / "listing.py",
        _PACKAGE / "defs" / "assets" / f"{stage.value}.py",
        _PACKAGE / "defs" / "publish.py",
        _PACKAGE / "defs" / "reads.py",
    }
    asset = _PACKAGE / "defs" / "assets" / f"{stage.value}.py"
    waiting = [file for root in roots for file in _files_of(root)]
    waiting += [file for file in _imported_by(asset) if file.is_relative_to(_PACKAGE / "research")]
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _imported_by(file) if file.suffix == ".py" else ()
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(_PACKAGE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:_HEX]


def _gate_modules(stage: Stage) -> list[str]:
    """Return the files that declare the gates of a stage's tables; a stage may have several."""
    declared = [GATES[name][1:] for name, table in TABLES.items() if table.stage is stage]
    return sorted(
        str(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith(f"{_NAME}.gates.") and name != registry.__name__
        if any(value in declared for value in vars(module).values() if isinstance(value, tuple))
    )


def _files_of(root: Path) -> list[Path]:
    """Return a module's file, or every file of a package that is source (templates included)."""
    module = root.with_suffix(".py")
    return [module] if module.exists() else sorted(path for path in root.rglob("*") if path.suffix in {".py", ".html"})


@cache
def _imported_by(file: Path) -> tuple[Path, ...]:
    return tuple(path for name in _names_imported(file) if (path := _file_of(name)) is not None)


def _names_imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _file_of(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first != _NAME or not rest:
        return None
    path = _PACKAGE.joinpath(*rest)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.exists()), None)

"""A table's code version: the digest of the source that makes it, so that a code change makes it stale and nothing else does."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import backtest_assets
from backtest_assets.stages import Stage
from backtest_assets.tables.contract import Table

_PACKAGE: Final = Path(backtest_assets.__file__).parent
_SHARED: Final = ("domain", "stats", "tables/contract.py", "gates/gate.py", "defs/publish.py", "defs/reads.py")
_HEX: Final = 16


def code_version(table: Table) -> str:
    """Return the first 16 hex digits of the SHA-256 over the stage's rooms and what all stages share."""
    return _of_stage(table.stage)


@cache
def _of_stage(stage: Stage) -> str:
    own = [
        f"research/{stage.value}",
        f"tables/{stage.value}.py",
        f"gates/{stage.value}.py",
        f"defs/assets/{stage.value}.py",
    ]
    sources = ["sources"] if stage is Stage.RAW else []
    digest = hashlib.sha256()
    for part in (*_SHARED, *own, *sources):
        path = _PACKAGE / part
        files = [path] if path.suffix else sorted(path.rglob("*.py")) + sorted(path.rglob("*.html"))
        for file in files:
            if file.exists():
                digest.update(f"{file.relative_to(_PACKAGE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:_HEX]

"""`dagster dev`, with a webserver and a daemon that hold the lock of the ui themselves.

They outlive a `dagster dev` that is killed; without the lock, the next one would set a second daemon beside the first, and
take the runs of the first for lost. Private Dagster API: Dagster is pinned, and `defs/test_backfills.py` kills it.
"""

import sys
from collections.abc import Sequence
from subprocess import Popen
from typing import Any, Final

from dagster._cli import dev

_DEFINITIONS: Final = ("-m", "backtest_assets.definitions")


def serve(lock: int, arguments: Sequence[str]) -> None:
    """Start webserver and daemon and stay until they end.

    Args:
        lock: descriptor that both inherit.
        arguments: further arguments of `dagster dev`.
    """
    start = dev.open_ipc_subprocess  # pyright: ignore[reportPrivateImportUsage]  # where `dagster dev` looks it up

    def start_locked(parts: Sequence[str], **options: Any) -> "Popen[Any]":  # noqa: ANN401  # options of Popen
        return start(parts, **{**options, "pass_fds": [*options.get("pass_fds", ()), lock]})

    dev.open_ipc_subprocess = start_locked  # pyright: ignore[reportPrivateImportUsage]  # as above
    dev.dev_command([*_DEFINITIONS, *arguments])


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])

"""Webserver and daemon as an operator starts them, asked by GraphQL, with the daemon's pauses shortened."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backtest_assets.domain.market import Partition
from backtest_assets_tests.world import World

PROGRAM = Path(sys.executable).with_name("backtest-assets")
FINAL = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
BACKFILL = """mutation Launch($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = "query S($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
LOCATIONS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
HURRY = """import sys
if "dagster._daemon" in getattr(sys, "orig_argv", ()):
    import dagster._daemon.controller as controller
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
"""
"""The daemon looks after backfills every 30 s, which no setting changes; nothing else of it is touched."""


def environment(world: World) -> dict[str, str]:
    hurry = world.settings.data_root.parent / "hurry"
    hurry.mkdir(exist_ok=True)
    (hurry / "sitecustomize.py").write_text(HURRY)
    return {
        **os.environ,
        "BACKTEST_DATA_ROOT": str(world.settings.data_root),
        "DAGSTER_HOME": str(world.settings.dagster_home),
        "BACKTEST_SOURCE": world.spec,
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(hurry), os.environ.get("PYTHONPATH")))),
    }


class Dev:
    """A running `backtest-assets ui`."""

    def __init__(self, world: World) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with (world.settings.data_root / "dev.log").open("a") as log:
            command = [str(PROGRAM), "ui", "--port", str(self.port)]
            self.process = subprocess.Popen(
                command, env=environment(world), stdout=log, stderr=log, start_new_session=True
            )

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  # GraphQL answers have no type
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  # our own loopback server
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_up(self) -> bool:
        return bool(self.ask(LOCATIONS)["repositoriesOrError"]["nodes"])

    def backfill(self, tables: Sequence[str], partitions: Iterable[Partition]) -> str:
        """Launch a backfill as the UI does; return its id."""
        keys = [{"path": [name]} for name in tables]
        params = {"assetSelection": keys, "partitionNames": [p.label for p in partitions]}
        launched = self.ask(BACKFILL, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def end_of(self, backfill_id: str) -> str:
        """Wait for the end of a backfill; return its status."""

        def status() -> str | None:
            told = str(self.ask(STATUS, {"id": backfill_id})["partitionBackfillOrError"]["status"])
            return told if told in FINAL else None

        return str(wait_for(status, 240))

    def kill(self) -> None:
        """Kill webserver, daemon and all they run, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def dagster_dev(world: World) -> Iterator[Dev]:
    """Serve the world's definitions until the block ends."""
    dev = Dev(world)
    try:
        wait_for(dev.is_up, 120)
        yield dev
    finally:
        dev.kill()


def wait_for(ready: Callable[[], Any], seconds: float, *, pause_s: float = 0.3) -> Any:  # noqa: ANN401  # whatever came
    """Wait until a question has an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ready()
        except OSError:
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, "not in time"
        time.sleep(pause_s)

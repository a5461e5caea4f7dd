"""Gates hold across executors, the daemon and the webserver: real processes over a real data root."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backtest_assets.defs.guard import inspect
from backtest_assets.domain.market import Partition
from backtest_assets_tests.world import PARTITIONS, SYMBOLS, World, break_month, klines, write_klines

DAGSTER = Path(sys.executable).with_name("dagster")
BAD = Partition.of_month("AAAUSDT", "2024-02")
WHOLE_RANGE = f"{PARTITIONS[0].label}...{PARTITIONS[-1].label}"


def environment(world: World) -> dict[str, str]:
    return {
        **os.environ,
        "BACKTEST_DATA_ROOT": str(world.settings.data_root),
        "DAGSTER_HOME": str(world.settings.dagster_home),
        "BACKTEST_SOURCE": world.spec,
        "PYTHONWARNINGS": "ignore",
    }


def materialize(world: World, select: str, partitions: str, module: str) -> subprocess.CompletedProcess[str]:
    command = [str(DAGSTER), "asset", "materialize", "-m", module, "--select", select, "--partition-range", partitions]
    return subprocess.run(command, env=environment(world), capture_output=True, text=True, timeout=240, check=False)


def test_gates_hold_under_the_multiprocess_executor(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
    module = "backtest_assets_tests.defs.multiprocess_definitions"
    done = materialize(world, "raw_um_ohlcv,bars_um", WHOLE_RANGE, module)
    assert done.returncode != 0
    assert "1 of 6 partition(s) of raw_um_ohlcv not published" in done.stdout + done.stderr
    later = materialize(world, "bars_um", WHOLE_RANGE, module)
    assert later.returncode != 0
    assert "raw_um_ohlcv[2024-02|AAAUSDT]" in later.stdout + later.stderr
    inspection = inspect(world.session.instance, world.lake, "bars_um", PARTITIONS)
    assert [BAD] == [refusal.partition for refusal in inspection.refused]


@contextmanager
def dagster_dev(world: World) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    """Webserver and daemon as an operator starts them; gives a function that asks GraphQL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(DAGSTER.with_name("backtest-assets")), "ui", "--port", str(port)]
    log = (world.settings.data_root / "dev.log").open("w")
    process = subprocess.Popen(command, env=environment(world), stdout=log, stderr=log, start_new_session=True)

    def ask(query: str, variables: dict[str, Any]) -> Any:  # noqa: ANN401  # GraphQL answers have no type
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  # our own loopback server
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]

    try:
        wait_for(
            lambda: ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }", {})[
                "repositoriesOrError"
            ]["nodes"],
            120,
        )
        yield ask
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def wait_for(ready: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401  # whatever came
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ready()
        except OSError:
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, "not in time"
        time.sleep(1)


BACKFILL = """mutation Launch($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = "query S($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
CHECKS = """query C($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetPartitionStatuses { ... on MultiPartitionStatuses { primaryDimensionName } } } } }"""


def test_a_backfill_through_webserver_and_daemon_keeps_the_bad_month_out(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
    with dagster_dev(world) as ask:
        keys = [{"path": [name]} for name in ("raw_um_ohlcv", "bars_um")]
        params = {"assetSelection": keys, "partitionNames": [p.label for p in PARTITIONS]}
        launched = ask(BACKFILL, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        final = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
        status = wait_for(
            lambda: (
                (s := ask(STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]) in final and s
            ),
            240,
        )
        assert status in ("COMPLETED_FAILED", "FAILED")
        assert ask(CHECKS, {"key": {"path": ["bars_um"]}})["assetNodeOrError"]["assetPartitionStatuses"]
    for table in ("raw_um_ohlcv", "bars_um"):
        inspection = inspect(world.session.instance, world.lake, table, PARTITIONS)
        assert BAD in [refusal.partition for refusal in inspection.refused]
    raw = inspect(world.session.instance, world.lake, "raw_um_ohlcv", PARTITIONS)
    assert len(raw.admitted) == len(PARTITIONS) - 1

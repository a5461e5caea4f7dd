"""Gates hold across executors: real processes over a real data root; webserver and daemon are `test_backfills`'."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.defs.guard import inspect
from backtest_assets.domain.market import Partition
from backtest_assets_tests.defs.dev import environment
from backtest_assets_tests.world import PARTITIONS, SYMBOLS, World, break_month, klines, write_klines

DAGSTER = Path(sys.executable).with_name("dagster")
BAD = Partition.of_month("AAAUSDT", "2024-02")
MODULE = "backtest_assets_tests.defs.multiprocess_definitions"
WHOLE_RANGE = {
    ASSET_PARTITION_RANGE_START_TAG: PARTITIONS[0].label,
    ASSET_PARTITION_RANGE_END_TAG: PARTITIONS[-1].label,
}


def execute(world: World, job: str) -> subprocess.CompletedProcess[str]:
    command = [str(DAGSTER), "job", "execute", "-m", MODULE, "-j", job, "--tags", json.dumps(WHOLE_RANGE)]
    return subprocess.run(command, env=environment(world), capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_gates_hold_under_the_multiprocess_executor(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
    done = execute(world, "raw_and_bars")
    assert done.returncode != 0
    assert "1 of 6 partition(s) of raw_um_ohlcv not published" in done.stdout + done.stderr
    later = execute(world, "bars")
    assert later.returncode != 0
    assert "raw_um_ohlcv[2024-02|AAAUSDT]" in later.stdout + later.stderr
    inspection = inspect(world.session.instance, world.session.resource, "bars_um", PARTITIONS)
    assert [BAD] == [refusal.partition for refusal in inspection.refused]

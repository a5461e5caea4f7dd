import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

collect_ignore_glob = ["peers/engine_*.py"]
"""Run by the Python of a peer's own environment; ours cannot import what they import."""

settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's data root."""
    saved = {name: os.environ.pop(name, None) for name in ("BACKTEST_DATA_ROOT", "DAGSTER_HOME", "BACKTEST_SOURCE")}
    os.environ["BACKTEST_DATA_ROOT"] = str(tmp_path_factory.mktemp("unused_root"))
    yield
    del os.environ["BACKTEST_DATA_ROOT"]
    os.environ.update({name: value for name, value in saved.items() if value is not None})


@pytest.fixture
def world(tmp_path: Path):
    """Open a small ingestable market; imported here, so that tests of low rooms never load Dagster."""
    from backtest_assets_tests.world import open_world, write_market

    write_market(tmp_path / "market")
    with open_world(tmp_path) as opened:
        yield opened

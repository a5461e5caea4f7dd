"""Every command of README is run, in order, over one data root."""

import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backtest_assets_tests.cli.terminal import call
from backtest_assets_tests.exchange import exchange

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
ENDS = {"run": (0, 1)}  # the run ends with 1 when the checklist keeps it in research


def test_make_targets_of_readme_exist_and_call_the_program():
    targets = {shlex.split(line)[1] for line in COMMANDS if line.startswith("make ")}
    assert {"demo", "test", "ui"} == targets
    for target in targets:
        recipe = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.search(rf"\.venv/bin/(backtest-assets {target}|pytest)", recipe), recipe


def commands(block: int) -> list[list[str]]:
    """The program's calls in one block of README."""
    lines = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[block].splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/backtest-assets")]


def test_the_commands_of_readme_run_on_the_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not (ROOT.parent / "shared" / "data" / "market").is_dir():
        pytest.skip("the real market data (../shared/data) are not beside this clone")
    monkeypatch.chdir(ROOT)
    called = commands(1)
    assert [words[0] for words in called] == ["run", "gates", "report", "sql"]
    said = {words[0]: call(tmp_path, *words, code=ENDS.get(words[0], (0,))) for words in called}
    assert re.search(r"(PROMOTE|KEEP_RESEARCH)  run FIRST", said["run"])
    assert "bars_spot[2022-08|BTCUSDT]" in said["run"]
    assert Path(said["report"].strip()).exists()
    assert "rejected" in said["sql"] or "selected" in said["sql"]


def test_the_market_commands_of_readme_run_against_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = datetime(2024, 3, 20, tzinfo=UTC)
    with exchange(symbols=("BTCUSDT", "ETHUSDT"), months=("2024-01", "2024-02"), now=now) as served:
        for name, url in (
            ("ARCHIVE", served.urls.archive),
            ("SPOT_API", served.urls.spot_api),
            ("UM_API", served.urls.um_api),
        ):
            monkeypatch.setenv(f"BACKTEST_BINANCE_{name}_URL", url)
        called = commands(2)
        assert [words[0] for words in called] == ["backfill", "sql"]
        said = {words[0]: call(tmp_path, *words) for words in called}
    assert "28 partitions published" in said["backfill"]
    assert re.search(r"raw_um_ohlcv\W+present\W+11520", said["sql"])


def test_readme_names_every_command():
    for command in ("run", "discover", "demo", "backfill", "gates", "report", "sql", "ui", "doctor"):
        assert f"`{command}" in README

"""Every command of README is run, in order, over one data root."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from backtest_assets_tests.cli.terminal import call

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


def test_the_commands_of_readme_run_on_the_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not (ROOT.parent / "shared" / "data" / "market").is_dir():
        pytest.skip("the real market data (../shared/data) are not beside this clone")
    monkeypatch.chdir(ROOT)
    called = [shlex.split(line)[1:] for line in COMMANDS if line.startswith(".venv/bin/backtest-assets")]
    assert [words[0] for words in called] == ["run", "gates", "report", "sql"]
    said = {words[0]: call(tmp_path, *words, code=ENDS.get(words[0], (0,))) for words in called}
    assert re.search(r"(PROMOTE|KEEP_RESEARCH)  run FIRST", said["run"])
    assert "raw_spot_ohlcv[2022-09|BTCUSDT]" in said["run"]
    assert Path(said["report"].strip()).exists()
    assert "rejected" in said["sql"] or "selected" in said["sql"]


def test_readme_names_every_command():
    for command in ("run", "discover", "demo", "backfill", "gates", "report", "sql", "ui", "doctor"):
        assert f"`{command}" in README

"""Ask the peers, compare, and write the recording and its page: `make peers`.

    python -m backtest_assets_tests.peers.record

Each peer runs by the Python of its own environment (`.venv-peers`, made by make), and answers in JSON. Ends with 1 if
more than 0.04 % of a peer's trades differ without a reason.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from backtest_assets_tests.peers.compare import MOST_UNEXPLAINED, share
from backtest_assets_tests.peers.page import compared, page_of
from backtest_assets_tests.peers.recorded import Recorded
from backtest_assets_tests.peers.scenarios import Scenario, scenarios
from backtest_assets_tests.peers.walk import PROFILES

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "evidence" / "peers.md"
ENGINES: Final = ("vectorbt", "nautilus")
MOST_S: Final = 900.0
"""A peer that takes longer hangs [s]."""


def may_ask(engine: str, scenario: Scenario) -> bool:
    """Say whether an engine has what a scenario needs: nautilus_trader knows slippage in ticks only."""
    return engine != "nautilus" or scenario.slippage_bps == 0


def python_of(engine: str) -> Path:
    """The Python of a peer's own environment."""
    return ROOT / ".venv-peers" / engine / "bin" / "python"


def ask(engine: str, asked: tuple[Scenario, ...]) -> dict[str, Any]:
    """Let a peer trade the scenarios; its answers by engine name."""
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder) / "questions.json", Path(folder) / "answers.json"
        questions.write_text(json.dumps([one.question for one in asked if may_ask(engine, one)]))
        script = Path(__file__).parent / f"engine_{engine}.py"
        subprocess.run([python_of(engine), script, questions, answers], check=True, timeout=MOST_S)
        told = json.loads(answers.read_text())
    return told if "version" not in told else {engine: told}


def main() -> int:
    asked, told = scenarios(), {}
    for engine in ENGINES:
        told |= ask(engine, asked)
    recorded = Recorded.of(told, asked)
    recorded.write()
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    rows = compared(recorded, asked)
    PAGE.write_text(page_of(recorded, asked, rows))
    shares = {engine: share(row for row in rows if row.engine == engine) for engine in PROFILES}
    print(*(f"{engine}: {unexplained:.2%} unexplained" for engine, unexplained in shares.items()), sep="\n")
    return 0 if all(unexplained <= MOST_UNEXPLAINED for unexplained in shares.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

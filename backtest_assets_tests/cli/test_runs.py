"""`runs` counts the trials of all runs, and nothing where one run's ledger is not whole."""

import json
import shutil
from pathlib import Path

from backtest_assets_tests.cli.terminal import call
from backtest_assets_tests.defs.ledgers import IDS, open_ledgers

N_TRIALS = 5 * len(IDS)


def test_runs_counts_distinct_trials_and_refuses_when_a_ledger_is_lost(tmp_path: Path):
    assert "0 distinct" in call(tmp_path, "runs")
    with open_ledgers(tmp_path) as ledgers:
        ledgers.tries("A")
        ledgers.tries("B", "d2")
        ledgers.tries("C")
    told = json.loads(call(tmp_path, "runs", "--json"))
    assert (2 * N_TRIALS, 2 * len(IDS)) == (told["totals"]["n_trials_all"], told["totals"]["n_hypotheses_all"])
    assert 1 < told["totals"]["effective_trials_all"] <= 2 * len(IDS)
    assert [("A", N_TRIALS), ("B", N_TRIALS), ("C", N_TRIALS)] == [(r["run_id"], r["n_trials"]) for r in told["runs"]]
    assert f"Trials over all runs: {2 * N_TRIALS} distinct" in call(tmp_path, "runs")
    shutil.rmtree(tmp_path / "lake" / "trial_ledger" / "run_id=B")
    lost = json.loads(call(tmp_path, "runs", "--json", code=1))
    assert {} == lost["totals"]
    assert lost["refused"][0].startswith("trial_ledger[B]: the lake holds nothing of it")
    assert [None] == [r["n_trials"] for r in lost["runs"] if r["run_id"] == "B"]

"""The trials of all runs: every ledger counts, and whatever happened to one of them refuses, by name."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from backtest_assets.defs.guard import Guard
from backtest_assets.domain.market import Partition
from backtest_assets_tests.defs.ledgers import IDS, Ledgers, open_ledgers

N_TRIALS = 5 * len(IDS)
A, B = Partition.of_run("A"), Partition.of_run("B")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Ledgers]:
    with open_ledgers(tmp_path) as ledgers:
        ledgers.tries("A")
        ledgers.tries("B", "d2")
        assert ledgers.counts("B")
        yield ledgers


def closed(ledgers: Ledgers) -> str:
    (refusal,) = Guard(ledgers.instance, ledgers.resource).inspect("trial_counts", [B]).refused
    return refusal.reason


def test_a_run_counts_the_trials_of_all(two: Ledgers):
    assert 2 * N_TRIALS == two.n_trials()
    rows = two.rows("trial_counts", "B").select("of_run_id", "n_trials", "n_trials_all").rows()
    assert [("A", N_TRIALS, 2 * N_TRIALS), ("B", N_TRIALS, 2 * N_TRIALS)] == rows


def test_what_another_run_appends_closes_nothing_and_is_counted_next_time(two: Ledgers):
    two.tries("A", "d3")
    two.tries("C")
    assert [] == list(Guard(two.instance, two.resource).inspect("trial_counts", [B]).refused)
    assert 3 * N_TRIALS == two.n_trials()  # A and C tried the same on d1 with the same settings
    assert two.counts("B")
    assert {3 * N_TRIALS} == set(two.rows("trial_counts", "B")["n_trials_all"])


def delete(ledgers: Ledgers) -> None:
    shutil.rmtree(ledgers.folder("A"))


def delete_pointer(ledgers: Ledgers) -> None:
    (ledgers.folder("A") / "current.json").unlink()


def truncate(ledgers: Ledgers) -> None:
    (file,) = (ledgers.folder("A") / "data").iterdir()
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-100])


def corrupt_manifest(ledgers: Ledgers) -> None:
    (file,) = (ledgers.folder("A") / "manifests").iterdir()
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b'"n_rows":30', b'"n_rows":29'))


def swap(ledgers: Ledgers) -> None:
    shutil.rmtree(ledgers.folder("A"))
    shutil.copytree(ledgers.folder("B"), ledgers.folder("A"))


def forget(ledgers: Ledgers) -> None:
    ledgers.instance.wipe_assets([dg.AssetKey("trial_ledger")])
    ledgers.tries("B", "d2")


def forget_and_delete(ledgers: Ledgers) -> None:
    ledgers.instance.wipe_assets([dg.AssetKey("trial_ledger")])
    delete(ledgers)
    ledgers.tries("B", "d2")


def start_again(ledgers: Ledgers) -> None:
    forget_and_delete(ledgers)
    ledgers.tries("A", "d9")


HARMS: dict[str, tuple[Callable[[Ledgers], None], str]] = {
    "deleted": (delete, "the lake holds nothing of it"),
    "pointer deleted": (delete_pointer, "the lake holds nothing of it"),
    "truncated": (truncate, "was changed"),
    "manifest changed": (corrupt_manifest, "was changed"),
    "another run's put there": (swap, "was swapped"),
    "verdicts wiped": (forget, "never materialised"),
    "deleted and forgotten by Dagster": (forget_and_delete, "the lake holds nothing of it"),
    "deleted, forgotten and begun anew": (start_again, "trial_counts[B] recorded version"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_ledger_that_is_not_whole_refuses_the_count_of_every_run_and_says_which(two: Ledgers, harm: str):
    work, says = HARMS[harm]
    work(two)
    (refusal,) = two.refused()
    assert refusal.startswith("trial_ledger[A]: ")
    assert says in refusal
    assert "put them back" in refusal
    assert not two.counts("B")
    assert "made from trial_ledger[A], which is closed" in closed(two)
    two.instance.add_dynamic_partitions("run_id", ["C"])
    assert not two.counts("C")


def test_an_older_version_put_back_is_refused(tmp_path: Path):
    with open_ledgers(tmp_path) as ledgers:
        ledgers.tries("A")
        saved = (ledgers.folder("A") / "current.json").read_bytes()
        ledgers.tries("A", "d2")
        assert 2 * N_TRIALS == ledgers.n_trials()
        (ledgers.folder("A") / "current.json").write_bytes(saved)
        (refusal,) = ledgers.refused()
        assert "judged another version than the lake serves" in refusal


def test_a_changed_witness_refuses_too(two: Ledgers):
    (file,) = (two.folder("B", "trial_counts") / "manifests").iterdir()
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b"trial_ledger", b"trial_ledges"))
    assert not two.counts("A")


def test_a_run_without_a_ledger_of_its_own_has_nothing_to_count(two: Ledgers):
    found = Guard(two.instance, two.resource).inspect_chronicles("trial_ledger", [Partition.of_run("Z")])
    assert ["trial_ledger[Z]: nothing knows of it; materialise it first"] == [str(one) for one in found.refused]
    assert {"A", "B"} == {one.publication.partition.label for one in found.admitted}


def test_two_processes_append_at_once_and_nothing_is_lost(tmp_path: Path):
    with open_ledgers(tmp_path) as ledgers:
        ledgers.tries("FIRST", "d0")
        command = [sys.executable, "-m", "backtest_assets_tests.defs.ledgers", str(tmp_path)]
        data = {"P": [f"p{i}" for i in range(4)], "Q": [f"q{i}" for i in range(4)]}
        started = [subprocess.Popen([*command, name, *tried]) for name, tried in data.items()]
        assert [0, 0] == [process.wait(timeout=240) for process in started]
        assert [] == ledgers.refused()
        assert 9 * N_TRIALS == ledgers.n_trials()
        for name, tried in data.items():
            assert {*tried} == set(ledgers.rows("trial_ledger", name)["inputs_digest"])
        assert ledgers.counts("P")
        assert {9 * N_TRIALS} == set(ledgers.rows("trial_counts", "P")["n_trials_all"])

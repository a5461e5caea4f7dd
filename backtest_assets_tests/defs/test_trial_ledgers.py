"""The trials of all runs: every ledger counts, and whatever happened to one of them refuses, by name."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.defs import guard, publish
from backtest_assets.defs.growth import Growth
from backtest_assets.defs.guard import Guard
from backtest_assets.domain.market import Partition
from backtest_assets.tables.hypotheses import TRIAL_LEDGER
from backtest_assets_tests.defs.ledgers import AS_OF, IDS, Ledgers, open_ledgers

N_TRIALS = 5 * len(IDS)
A, B, C = (Partition.of_run(name) for name in "ABC")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Ledgers]:
    with open_ledgers(tmp_path) as ledgers:
        ledgers.tries("A")
        ledgers.tries("B", "d2")
        assert ledgers.counts("B")
        yield ledgers


def closed(ledgers: Ledgers, partition: Partition = B) -> str:
    (refusal,) = Guard(ledgers.instance, ledgers.resource).inspect("trial_counts", [partition]).refused
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


def republish(ledgers: Ledgers, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Publish other rows of A's ledger, past every gate."""
    now = ledgers.lake.current("trial_ledger", A)
    assert now is not None
    staged = ledgers.lake.stage(TRIAL_LEDGER, A, change(ledgers.rows("trial_ledger", "A")))
    ledgers.lake.publish(staged, code_version=now.code_version, inputs=(), notes={}, writer="nobody", as_of=AS_OF)


def forget_older(ledgers: Ledgers, run_id: str) -> None:
    """Make the ledger again as an asset would that knows the current version alone, verdicts and all."""
    current = ledgers.lake.current("trial_ledger", Partition.of_run(run_id))
    assert current is not None
    short = ledgers.rows("trial_ledger", run_id)
    blind = Growth(short, short.clear(), frozenset({current.digest}), frozenset({current.digest}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "growth_of", lambda *_: blind)
        patch.setattr(publish, "growth_of", lambda *_: blind)
        ledgers.tries(run_id, "d1")


LOSSES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], int]] = {
    "shortened": (lambda f: f.filter(inputs_digest="d1"), N_TRIALS),
    "one row gone": (lambda f: f.head(-1), 1),
    "emptied": (lambda f: f.clear(), 2 * N_TRIALS),
    "numbers changed": (lambda f: f.with_columns(luckiest_t=pl.col("luckiest_t") / 2), 2 * N_TRIALS),
    "handed to other data": (lambda f: f.with_columns(inputs_digest=pl.lit("d1")), N_TRIALS),
}


@pytest.fixture(scope="module")
def grown_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("grown_twice")
    with open_ledgers(root) as ledgers:
        ledgers.tries("A", "d1")
        ledgers.tries("A", "d2")
        ledgers.tries("B", "d3")
        assert ledgers.counts("B")
    return root


@pytest.mark.parametrize("loss", LOSSES)
def test_a_ledger_that_lost_rows_past_the_gates_is_refused_and_made_again_is_whole(
    grown_twice: Path, tmp_path: Path, loss: str
):
    change, n_lost = LOSSES[loss]
    shutil.copytree(grown_twice, tmp_path, dirs_exist_ok=True)
    with open_ledgers(tmp_path) as ledgers:
        before = ledgers.rows("trial_ledger", "A")
        republish(ledgers, change)
        (refusal,) = ledgers.refused()
        assert refusal.startswith(
            f"trial_ledger[A]: {n_lost} of the {2 * N_TRIALS} rows that its versions held are gone"
        )
        assert "materialise it again, which brings them back" in refusal
        assert not ledgers.counts("B")
        ledgers.tries("A", "d1")
        assert [] == ledgers.refused()
        assert_frame_equal(before, ledgers.rows("trial_ledger", "A"))
        assert 3 * N_TRIALS == ledgers.n_trials()
        assert ledgers.counts("B")
        rows = ledgers.rows("trial_counts", "B").select("of_run_id", "inputs_digest", "n_trials", "n_trials_all").rows()
        assert [("A", "d1"), ("A", "d2"), ("B", "d3")] == [(run_id, data) for run_id, data, *_ in rows]
        assert {(N_TRIALS, 3 * N_TRIALS)} == {(n, n_all) for *_, n, n_all in rows}


def test_a_short_ledger_with_green_verdicts_on_top_is_refused_still_and_so_is_what_was_counted_from_it(
    grown_twice: Path, tmp_path: Path
):
    shutil.copytree(grown_twice, tmp_path, dirs_exist_ok=True)
    with open_ledgers(tmp_path) as ledgers:
        republish(ledgers, lambda f: f.filter(inputs_digest="d1"))
        forget_older(ledgers, "A")
        says = f"{N_TRIALS} of the {2 * N_TRIALS} rows that its versions held are gone or changed"
        (refusal,) = ledgers.refused()
        assert refusal.startswith(f"trial_ledger[A]: {says}")
        (plainly,) = Guard(ledgers.instance, ledgers.resource).inspect("trial_ledger", [A]).refused
        assert plainly.reason.startswith(says)
        assert f"made from trial_ledger[A], which is closed: {says}" in closed(ledgers)
        ledgers.tries("C", "d3")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Growth, "objection", None)
            assert not ledgers.counts("B")  # it counted more before
            assert ledgers.counts("C")
        assert {2 * N_TRIALS} == set(ledgers.rows("trial_counts", "C")["n_trials_all"])
        ledgers.tries("A", "d1")
        assert [] == ledgers.refused()
        assert "made from a version of trial_ledger[A] that had lost rows; materialise it again" == closed(ledgers, C)
        for counting in ("B", "C"):
            assert ledgers.counts(counting)
            assert {3 * N_TRIALS} == set(ledgers.rows("trial_counts", counting)["n_trials_all"])
        assert [] == list(Guard(ledgers.instance, ledgers.resource).inspect("trial_counts", [B, C]).refused)


def test_a_damaged_older_version_refuses_and_is_not_mended_by_forgetting(grown_twice: Path, tmp_path: Path):
    shutil.copytree(grown_twice, tmp_path, dirs_exist_ok=True)
    with open_ledgers(tmp_path) as ledgers:
        oldest = ledgers.lake.history("trial_ledger", A)[-1]
        file = Path(ledgers.lake.addresses([oldest])[0])
        saved = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(saved[:-100])
        (refusal,) = ledgers.refused()
        assert refusal.startswith("trial_ledger[A]: ")
        assert "was changed" in refusal
        assert "put them back" in refusal
        with pytest.raises(AssertionError):
            ledgers.tries("A", "d9")
        file.write_bytes(saved)
        assert [] == ledgers.refused()
        ledgers.tries("A", "d9")
        assert 4 * N_TRIALS == ledgers.n_trials()

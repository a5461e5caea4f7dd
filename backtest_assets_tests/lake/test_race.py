import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.errors import PublishConflictError
from backtest_assets.lake.backend import LocalBackend
from backtest_assets.lake.store import Lake
from backtest_assets_tests.lake.shared import RUN, publish, publish_run, stage_run, staging_of, version_read

ROUNDS = 60


def ask(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process):
    return json.loads(process.stdout.readline())


@pytest.fixture
def racers(tmp_path):
    command = [sys.executable, "-m", "backtest_assets_tests.lake.racer", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    with subprocess.Popen([*command, "1"], **pipes) as one, subprocess.Popen([*command, "2"], **pipes) as two:
        yield one, two  # leaving closes their stdin, which ends them, and waits


def test_of_two_processes_from_the_same_base_exactly_one_wins_whole(tmp_path, racers):
    lake = Lake(tmp_path)
    winners = set()
    for number in range(ROUNDS):
        partition = Partition.of_run(f"round_{number}")
        if number % 2:
            publish_run(lake, 0, partition)
        for racer in racers:
            ask(racer, partition["run_id"])
        assert [hear(racer) for racer in racers] == ["ready", "ready"]
        for racer in racers if number % 4 < 2 else reversed(racers):
            ask(racer, "go")
        answers = {version: hear(racer) for version, racer in enumerate(racers, start=1)}
        (winner,) = [version for version, answer in answers.items() if "won" in answer]
        loser = answers[3 - winner]["lost"]
        assert version_read(lake, partition) == winner
        assert (
            f"another process made it (publication {answers[winner]['won'][:12]} of run run-{winner}, "
            f"published at 2025-06-01T12:0{winner}" in loser
        )
        assert loser.endswith("while this version was made, which was not used; run the same command again")
        assert [winner, 0][: 1 + number % 2] == [
            int(item.notes["why"].removeprefix("version ")) for item in lake.history("research_run", partition)
        ]
        assert staging_of(tmp_path) == []
        winners.add(winner)
    assert {1, 2} == winners


def test_a_late_writer_from_an_old_base_loses_and_may_try_again(tmp_path):
    lake = Lake(tmp_path)
    late = stage_run(lake, 1)
    publish_run(lake, 2)
    with pytest.raises(
        PublishConflictError,
        match=r"research_run run_id=123: another process made it \(publication [0-9a-f]{12} of run dagster-run",
    ):
        publish(lake, late)
    assert version_read(lake) == 2
    assert staging_of(tmp_path) == []
    publish_run(lake, 1)
    assert version_read(lake) == 1


def test_a_pointer_removed_meanwhile_is_a_conflict_too(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    staged = stage_run(lake, 2)
    (tmp_path / "lake/research_run" / str(RUN) / "current.json").unlink()
    with pytest.raises(
        PublishConflictError, match=r"the pointer was removed by hand .* materialise the partition again$"
    ):
        publish(lake, staged)


def test_a_pointer_swings_for_one_of_many_threads(tmp_path):
    backend = LocalBackend(tmp_path)
    pointer = PurePosixPath("a/current.json")

    def swing(base: bytes | None, new: bytes) -> bytes | None:
        try:
            backend.swing(pointer, base, new)
        except PublishConflictError:
            return None
        return new

    base = None
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            swings = list(pool.map(lambda k, b=base, n=number: swing(b, f"{n}-{k}".encode()), range(8)))
            (base,) = [new for new in swings if new is not None]
            assert base == backend.read(pointer)


def test_an_immutable_file_is_made_once_and_mended_if_damaged(tmp_path):
    backend = LocalBackend(tmp_path / "deep/root")
    key = PurePosixPath("t/data/x")
    backend.put_new(key, b"content")
    made = (tmp_path / "deep/root" / key).stat()
    source = tmp_path / "source"
    source.write_bytes(b"content")
    backend.put_new(key, source)
    assert made.st_ino == (tmp_path / "deep/root" / key).stat().st_ino
    assert made.st_mode & 0o777 == 0o444
    (tmp_path / "deep/root" / key).chmod(0o644)
    (tmp_path / "deep/root" / key).write_bytes(b"CONTENT")
    backend.put_new(key, source)
    assert backend.read(key) == b"content"
    assert backend.names(PurePosixPath("t/data")) == ("x",)
    assert backend.names(PurePosixPath("nowhere")) == ()
    with pytest.raises(FileNotFoundError):
        backend.read(PurePosixPath("nowhere"))

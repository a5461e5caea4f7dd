"""Backfills as operators start them, killed at any moment: what was good stays, and a re-run equals an undisturbed one."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.execution.backfill import BulkActionStatus

from backtest_assets.defs.driver import MarketOrder, drive_market
from backtest_assets.defs.guard import Guard, inspect
from backtest_assets.defs.jobs import MARKET
from backtest_assets.defs.judgements import judgements
from backtest_assets.defs.lost_runs import report_lost_runs
from backtest_assets.defs.top_up import DAILY_TOP_UP, TAG, due, submit
from backtest_assets.domain.clock import utc
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.cli.terminal import call
from backtest_assets_tests.defs.dev import PROGRAM, dagster_dev, environment, wait_for
from backtest_assets_tests.defs.market import open_project
from backtest_assets_tests.exchange import exchange
from backtest_assets_tests.exchange_faults import truncated_zip
from backtest_assets_tests.world import (
    PARTITIONS,
    SYMBOLS,
    World,
    break_month,
    klines,
    open_world,
    write_klines,
    write_market,
)

BAD = Partition.of_month("AAAUSDT", "2024-02")
IN_MARCH = datetime(2024, 3, 20, tzinfo=UTC)
TABLES = ("raw_um_ohlcv", "bars_um", "coverage")
Digests = Mapping[tuple[str, Partition], str]


def digests(lake: Lake, *tables: str) -> Digests:
    found = {(table, p): lake.current(table, p) for table in tables for p in lake.partitions(table)}
    return {key: one.digest for key, one in found.items() if one is not None}


@contextmanager
def small_world(folder: Path) -> Iterator[World]:
    write_market(folder / "market", spot=False)
    with open_world(folder) as world:
        world.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
        yield world


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digests]:
    """What an ingest holds that nobody disturbed."""
    with small_world(tmp_path_factory.mktemp("undisturbed")) as world:
        assert () == world.ingest()
        yield digests(world.lake, *MARKET)


# --- webserver and daemon, killed ---


@dataclass
class Story:
    """What happened to one data root, backfill by backfill."""

    ended: dict[str, str] = field(default_factory=dict)
    admitted: dict[str, dict[str, set[Partition]]] = field(default_factory=dict)
    failed_checks: set[str] = field(default_factory=set)
    second_ui: str = ""
    due: Mapping[str, frozenset[Partition]] = field(default_factory=dict[str, frozenset[Partition]])
    killed_runs: dict[str, tuple[DagsterRunStatus, str]] = field(default_factory=dict)
    final: Digests = field(default_factory=dict[tuple[str, Partition], str])

    def note(self, name: str, world: World, status: str) -> None:
        self.ended[name] = status
        guard = Guard(world.session.instance, world.session.resource)
        self.admitted[name] = {
            table: {one.publication.partition for one in guard.inspect(table, PARTITIONS).admitted} for table in TABLES
        }


def worker_of(instance: DagsterInstance, known: set[str]) -> tuple[str, int] | None:
    """Return a new run and the process that executes it."""
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        for entry in () if run.run_id in known else instance.all_logs(run.run_id):
            event = entry.dagster_event
            if event is not None and event.message and "in process (pid: " in event.message:
                return run.run_id, int(event.message.split("(pid: ")[1].split(")")[0])
    return None


def run_ids(instance: DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def how_it_ended(instance: DagsterInstance, run_id: str) -> tuple[DagsterRunStatus, str]:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    said = [entry.dagster_event.message or "" for entry in instance.all_logs(run_id) if entry.dagster_event is not None]
    return run.status, said[-1]


def top_up(world: World) -> str:
    """Submit what is due in March; return the backfill's id."""
    wanted = due(world.session.instance, world.session.resource, as_of=IN_MARCH)
    backfill_id = submit(world.session.instance, wanted, as_of=IN_MARCH)
    assert backfill_id is not None
    return backfill_id


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One bad month; mended, a top-up whose worker is killed; one killed with its daemon; one undisturbed."""
    told = Story()
    with small_world(tmp_path_factory.mktemp("ui")) as world:
        instance = world.session.instance
        write_klines(world.source, BAD["symbol"], break_month(klines(0), BAD["month"]))
        with dagster_dev(world) as dev:
            told.note("bad month", world, dev.end_of(dev.backfill(TABLES, PARTITIONS)))
            red = judgements(instance, "raw_um_ohlcv", [BAD])
            told.failed_checks = {one.gate for one in red if not one.passed and one.severity == "ERROR"}
            write_klines(world.source, BAD["symbol"], klines(0))

            known, backfill = run_ids(instance), top_up(world)
            run_id, pid = wait_for(lambda: worker_of(instance, known), 120, pause_s=0.02)
            os.kill(pid, signal.SIGKILL)
            told.note("killed worker", world, dev.end_of(backfill))
            told.killed_runs["worker"] = how_it_ended(instance, run_id)

            known, backfill = run_ids(instance), top_up(world)
            run_id, _ = wait_for(lambda: worker_of(instance, known), 120, pause_s=0.02)
            dev.kill()
        with dagster_dev(world) as dev:
            told.killed_runs["daemon"] = how_it_ended(instance, run_id)
            told.note("killed daemon", world, dev.end_of(backfill))
            told.due = due(instance, world.session.resource, as_of=IN_MARCH)
            told.note("re-run", world, dev.end_of(top_up(world)))
            os.kill(dev.process.pid, signal.SIGKILL)
            dev.process.wait()
            told.second_ui = call(world.settings.data_root, "ui", code=2)
        told.final = digests(world.lake, *TABLES)
        yield told


def test_a_backfill_with_one_bad_month_ends_and_makes_the_bars_of_the_others(story: Story):
    assert "COMPLETED_FAILED" == story.ended["bad month"]
    assert dict.fromkeys(TABLES, set(PARTITIONS) - {BAD}) == story.admitted["bad month"]
    assert {"ohlc_sane"} == story.failed_checks


def test_a_run_whose_worker_was_killed_is_reported_and_its_backfill_ends(story: Story):
    status, _ = story.killed_runs["worker"]
    assert DagsterRunStatus.FAILURE == status
    assert "COMPLETED_FAILED" == story.ended["killed worker"]


def test_a_webserver_and_daemon_that_outlive_their_ui_still_keep_a_second_one_out(story: Story):
    assert "another `backtest-assets ui` runs" in story.second_ui


def test_a_run_that_died_with_the_daemon_is_reported_at_the_next_start_and_its_backfill_ends(story: Story):
    status, said = story.killed_runs["daemon"]
    assert DagsterRunStatus.FAILURE == status
    assert "its process was killed; what it published stands, run it again" in said
    assert "COMPLETED_FAILED" == story.ended["killed daemon"]


def test_a_top_up_makes_what_kills_left_red_the_open_month_and_what_is_made_from_them(story: Story):
    march = {Partition.of_month(symbol, "2024-03") for symbol in SYMBOLS}
    for table in TABLES:
        red = set(PARTITIONS) - story.admitted["killed daemon"][table]
        assert march | red <= story.due[table] <= march | red | {BAD}
    assert set(TABLES) == {table for table, wanted in story.due.items() if wanted}


def test_a_re_run_after_both_kills_equals_an_undisturbed_ingest(story: Story, undisturbed: Digests):
    assert "COMPLETED_SUCCESS" == story.ended["re-run"]
    assert {table: set(PARTITIONS) for table in TABLES} == story.admitted["re-run"]
    mine = {key: one for key, one in story.final.items() if key[0] != "coverage"}  # which says what else was ingested
    assert mine == {key: one for key, one in undisturbed.items() if key in mine}
    assert 2 * len(PARTITIONS) == len(mine)


# --- the command line, killed ---


def published(world: World) -> int:
    return sum(1 for _ in (world.settings.data_root / "lake").rglob("current.json"))


def test_a_backfill_killed_again_and_again_goes_on_and_equals_an_undisturbed_one(tmp_path: Path, undisturbed: Digests):
    command = [str(PROGRAM), "backfill", "--symbols", ",".join(SYMBOLS), "--start", "2024-01-01", "--end", "2024-03-31"]
    with small_world(tmp_path) as world:
        command += ["--source", world.spec]
        for n_more in (1, 7, 5):
            before = published(world)
            process = subprocess.Popen(
                command, env=environment(world), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 120
            while published(world) < before + n_more and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            with suppress(ProcessLookupError):
                process.kill()
            assert -signal.SIGKILL == process.wait(), "it was done before it could be killed"
        lost = report_lost_runs(world.session.instance, world.settings.dagster_home)
        done = subprocess.run(command, env=environment(world), capture_output=True, text=True, timeout=240, check=False)
        assert 0 == done.returncode, done.stderr
        assert undisturbed == digests(world.lake, *MARKET)
        for table in MARKET:
            everything = world.lake.partitions(table)
            assert () == inspect(world.session.instance, world.session.resource, table, everything).refused
        begun = world.session.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        assert ([], True) == (list(begun), len(lost) <= 1)


# --- what a top-up makes ---

SPAN = ("2024-01", "2024-02", "2024-03", "2024-04")
CLOCK = utc(date(2024, 3, 5)) + timedelta(hours=10)
DATASETS = frozenset({Dataset.UM_OHLCV, Dataset.UM_FUNDING})
MADE = ("raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um", "coverage")
GONE = Listing(utc(date(2024, 1, 1)), utc(date(2024, 1, 15)))


def of(symbol: str, *months: str) -> set[Partition]:
    return {Partition.of_month(symbol, month) for month in months}


def test_what_is_due_is_the_open_month_the_one_that_closed_since_what_is_red_and_what_is_made_from_them(tmp_path: Path):
    symbols, bad = ("LIVEUSDT", "BADUSDT", "GONEUSDT"), Partition.of_month("BADUSDT", "2024-02")
    faults = [truncated_zip("/BADUSDT/15m/BADUSDT-15m-2024-02.zip")]
    with (
        exchange(symbols=symbols, months=SPAN, listings={"GONEUSDT": GONE}, faults=faults, now=CLOCK) as ex,
        open_project(tmp_path / "data", ex) as project,
    ):
        instance, lake = project.session.instance, project.session.resource
        asked = [*of("LIVEUSDT", "2024-02", "2024-03"), bad, *of("GONEUSDT", "2024-01")]
        assert "BADUSDT-15m-2024-02.zip" in "\n".join(project.drive(asked, datasets=DATASETS).refusals)

        next_day = due(instance, lake, as_of=CLOCK + timedelta(days=1))
        bad_too = {"raw_um_ohlcv": {bad}, "bars_um": {bad}, "coverage": {bad}}
        # BADUSDT never had klines, but funding: its funding is kept up to date.
        funded = {"raw_um_funding", "settlements_um", "coverage"}
        for table in MADE:
            march = of("LIVEUSDT", "2024-03") | (of("BADUSDT", "2024-03") if table in funded else set())
            assert march | bad_too.get(table, set()) == next_day[table], table
        assert set(MADE) == {table for table, wanted in next_day.items() if wanted}

        april = due(instance, lake, as_of=utc(date(2024, 4, 2)))
        assert of("LIVEUSDT", "2024-03", "2024-04") | {bad} == april["raw_um_ohlcv"]
        assert of("LIVEUSDT", "2024-03", "2024-04") | {bad} == april["bars_um"]
        july = due(instance, lake, as_of=utc(date(2024, 7, 2)))
        missed = of("LIVEUSDT", "2024-03", "2024-04", "2024-05", "2024-06", "2024-07")
        assert (missed | {bad}, missed | {bad}) == (july["raw_um_ohlcv"], july["bars_um"])


def test_a_top_up_is_submitted_once_and_not_again_while_it_is_under_way(tmp_path: Path):
    with exchange(symbols=("LIVEUSDT",), months=SPAN, now=CLOCK) as ex, open_project(tmp_path / "data", ex) as project:
        project.drive(list(of("LIVEUSDT", "2024-03")), datasets=DATASETS)
        instance = project.session.instance
        assert "needs BACKTEST_SOURCE" in topped_up(project.session.definitions, instance)
    with (
        exchange(symbols=("LIVEUSDT",), months=SPAN, now=CLOCK) as ex,
        open_project(tmp_path / "data", ex, source="binance") as project,
    ):
        instance = project.session.instance
        assert "" == topped_up(project.session.definitions, instance)
        (first,) = instance.get_backfills()
        assert (BulkActionStatus.REQUESTED, "true") == (first.status, first.tags[TAG])
        assert "" == topped_up(project.session.definitions, instance)
        assert [first.backfill_id] == [one.backfill_id for one in instance.get_backfills()]
        instance.update_backfill(first.with_status(BulkActionStatus.COMPLETED_SUCCESS))
        assert "" == topped_up(project.session.definitions, instance)
        assert 2 == len(instance.get_backfills())


def topped_up(definitions: dg.Definitions, instance: DagsterInstance) -> str:
    """Run the job in this process; return what it refused."""
    job = definitions.resolve_job_def("market_top_up")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    failed = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    return "\n".join(one.description or "" for one in failed if one is not None)


def test_the_schedule_runs_daily_in_utc_and_only_when_switched_on():
    assert ("market_top_up", "30 3 * * *", "UTC") == (
        DAILY_TOP_UP.job_name,
        DAILY_TOP_UP.cron_schedule,
        DAILY_TOP_UP.execution_timezone,
    )
    assert dg.DefaultScheduleStatus.STOPPED == DAILY_TOP_UP.default_status


def test_nothing_due_is_no_backfill(tmp_path: Path):
    with small_world(tmp_path) as world:
        wanted = due(world.session.instance, world.session.resource, as_of=IN_MARCH)
        assert set() == {p for partitions in wanted.values() for p in partitions}
        assert submit(world.session.instance, wanted, as_of=IN_MARCH) is None


def test_r36_one_bad_partition_neither_blocks_nor_repeats_the_others(tmp_path: Path):
    with small_world(tmp_path) as world:
        write_klines(world.source, BAD["symbol"], break_month(klines(0), BAD["month"]))
        assert any("2024-02|AAAUSDT" in text for text in world.ingest())
        kept = ids(world)
        write_klines(world.source, BAD["symbol"], klines(0))
        world.watcher.settled.clear()
        work = drive_market(world.session, MarketOrder(source=world.spec, required=PARTITIONS))
        assert () == work.refusals
        assert {BAD.label} == {label for table, label, _ in world.watcher.settled if table == "bars_um"}
        others = {key: one for key, one in kept.items() if key[1] != BAD and key[0] != "coverage"}
        assert others == {key: one for key, one in ids(world).items() if key in others}


def ids(world: World) -> dict[tuple[str, Partition], str]:
    lake = world.lake
    found = {(table, p): lake.current(table, p) for table in MARKET for p in lake.partitions(table)}
    return {key: one.publication_id for key, one in found.items() if one is not None}

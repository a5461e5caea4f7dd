"""Verdicts are read from Dagster's JSON without Dagster; what is read is what Dagster's own deserialisation gives."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable

from backtest_assets.defs.driver import _execute
from backtest_assets.defs.verdicts import Told, VerdictRow, _storage, _told, evaluations, newest_verdicts
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.gates.registry import GATES
from backtest_assets_tests.world import QUIET, World, break_month, klines, open_world, write_klines, write_market

TABLES = ("raw_um_ohlcv", "bars_um")
GOOD = Partition.of_month("AAAUSDT", "2024-01")
BAD = Partition.of_month("AAAUSDT", "2024-02")
COMPLETED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
READ = (dg.TextMetadataValue, dg.FloatMetadataValue)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A month with holes, which is remarked on, and a broken one, in range runs; the first once more in a run of its own."""
    folder = tmp_path_factory.mktemp("judged")
    holed = break_month(klines(0), BAD["month"]).filter(pl.int_range(pl.len()) % 1000 != 7)
    write_klines(write_market(folder / "market"), "AAAUSDT", holed)
    with open_world(folder) as world:
        for table in TABLES:
            (text,) = world.run_range([table], GOOD, BAD)
            assert f"1 of 2 partition(s) of {table} not published" in text
        assert [] == _execute(world.session, "market", ["bars_um"], QUIET, partition_key=GOOD.label)
        yield world


def records_of(world: World, *tables: str) -> Sequence[AssetCheckExecutionRecord]:
    """Return every completed evaluation of a partition as Dagster's own API gives it, newest first of each gate."""
    storage = world.session.instance.event_log_storage
    keys = [dg.AssetCheckKey(dg.AssetKey(table), gate.name) for table in tables for gate in GATES[table]]
    records = [one for key in keys for one in storage.get_asset_check_execution_history(key, 100, status=COMPLETED)]
    return [record for record in records if record.partition is not None]


def said_by(record: AssetCheckExecutionRecord) -> AssetCheckEvaluation:
    assert record.evaluation is not None
    return record.evaluation


def row_of(record: AssetCheckExecutionRecord) -> VerdictRow:
    about = said_by(record).target_materialization_data
    return VerdictRow(record.id, said_by(record).passed, None if about is None else about.storage_id)


def told_by(record: AssetCheckExecutionRecord) -> Told:
    """Return what an evaluation tells by Dagster's own deserialisation alone."""
    said = said_by(record)
    return Told(
        record.run_id,
        said.passed,
        Severity[said.severity.name],
        said.description or "",
        {name: entry.value for name, entry in said.metadata.items() if isinstance(entry, READ)},  # pyright: ignore[reportArgumentType]  # neither is ever None
        row_of(record).materialization_id,
    )


def test_every_stored_evaluation_tells_what_dagsters_own_deserialisation_gives(judged: World):
    records = records_of(judged, *TABLES)
    found = evaluations(judged.session.instance, [row_of(record) for record in records])
    assert {record.id: told_by(record) for record in records} == found
    assert 2 * len(GATES["raw_um_ohlcv"]) + 3 * len(GATES["bars_um"]) == len(found)
    assert 3 == len({told.run_id for told in found.values()})


def test_what_is_compared_is_of_every_kind_that_is_written(judged: World):
    records = records_of(judged, *TABLES)
    entries = [entry for record in records for entry in said_by(record).metadata.values()]
    assert {*READ, dg.TableMetadataValue} == {type(entry) for entry in entries}
    assert {"nan", "0.0"} <= {str(said_by(record).metadata["observed"].value) for record in records}
    kinds = {(told.passed, told.severity, told.materialization_id is not None) for told in map(told_by, records)}
    answers = [
        (passed, severity, is_made) for passed in (True, False) for severity in Severity for is_made in (True, False)
    ]
    assert {*answers} - {(False, Severity.ERROR, True)} == kinds  # what a red gate is about is never made


def test_the_newest_row_of_each_gate_and_partition_is_that_of_dagsters_newest_event(judged: World):
    for table in TABLES:
        newest = dict[tuple[str, str | None], VerdictRow]()
        for record in reversed(records_of(judged, table)):
            assert (record.key.name, record.partition) == (said_by(record).check_name, said_by(record).partition)
            newest[record.key.name, record.partition] = row_of(record)
        assert newest == newest_verdicts(judged.session.instance, table)
        assert {(gate.name, p.label) for gate in GATES[table] for p in (GOOD, BAD)} == set(newest)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda event: event.pop("success"), id="no answer"),
        pytest.param(lambda event: event.pop("severity"), id="no severity"),
        pytest.param(lambda event: event.update(severity={"__enum__": "AssetCheckSeverity.MILD"}), id="new severity"),
        pytest.param(lambda event: event.update(metadata=[]), id="metadata of another shape"),
        pytest.param(lambda event: event.update(target_materialization_data={}), id="target of another shape"),
        pytest.param(lambda event: event.pop("target_materialization_data"), id="no target"),
    ],
)
def test_an_evaluation_of_another_shape_tells_nothing(judged: World, harm: Callable[[dict[str, Any]], object]):
    row = newest_verdicts(judged.session.instance, "bars_um")["contract", GOOD.label]
    columns = AssetCheckExecutionsTable.c
    with _storage(judged.session.instance).index_connection() as connection:
        query = sa.select(columns.evaluation_event).where(columns.id == row.row_id)
        text = str(connection.execute(query).scalar_one())
    whole = json.loads(text)
    assert evaluations(judged.session.instance, [row])[row.row_id] == _told(whole["run_id"], text)
    harm(whole["dagster_event"]["event_specific_data"])
    assert _told(whole["run_id"], json.dumps(whole)) is None
    assert _told(whole["run_id"], text[:-1]) is None

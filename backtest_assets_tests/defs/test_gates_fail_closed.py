"""Every way around a gate that we know of; each must end in a refusal."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)

from backtest_assets.definitions import build_defs
from backtest_assets.defs import guard, publish
from backtest_assets.defs.config import config_from_run
from backtest_assets.defs.driver import MarketOrder, Session, _execute, drive_market
from backtest_assets.defs.event_storage import PooledSqliteEventLogStorage
from backtest_assets.defs.frozen import check_unchanged, settings_frame
from backtest_assets.defs.guard import Guard, inspect
from backtest_assets.defs.reads import Read
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.scope import admit
from backtest_assets.domain.limits import MarketLimits, parse_limits
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import PublishConflictError, RefusedError, SourceError, TamperedError
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.world import PARTITIONS, QUIET, SYMBOLS, World, break_month, klines, write_klines

FIRST = Partition.of_month("AAAUSDT", "2024-01")
BAD = Partition.of_month("AAAUSDT", "2024-02")


def clean(world: World, first: Partition = PARTITIONS[0], last: Partition = PARTITIONS[-1]) -> list[str]:
    """Run bars_um alone: a downstream-only run."""
    return world.run_range(["bars_um"], first, last)


def refusals(world: World, table: str = "raw_um_ohlcv", partition: Partition = FIRST) -> str:
    return "\n".join(
        str(refusal) for refusal in inspect(world.session.instance, world.session.resource, table, [partition]).refused
    )


def data_file(world: World, table: str = "raw_um_ohlcv", partition: Partition = FIRST) -> Path:
    publication = world.lake.current(table, partition)
    assert publication is not None
    return Path(world.lake.addresses([publication])[0])


def test_a_clean_market_is_admitted_everywhere(world: World):
    assert () == world.ingest()
    for table in ("raw_um_ohlcv", "raw_um_funding", "raw_spot_ohlcv", "bars_um", "bars_spot"):
        inspection = inspect(world.session.instance, world.session.resource, table, PARTITIONS)
        assert () == inspection.refused
        assert len(PARTITIONS) == len(inspection.admitted)


def test_after_a_failed_gate_a_later_downstream_only_run_is_refused(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    (text,) = clean(world)
    assert "1 of 6 partition(s) of bars_um not published" in text
    assert "raw_um_ohlcv[2024-02|AAAUSDT]" in text


def test_an_upstream_that_was_never_materialised_is_refused(world: World):
    world.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
    (text,) = clean(world, FIRST, FIRST)
    assert "raw_um_ohlcv[2024-01|AAAUSDT]: never materialised" in text


def test_an_upstream_that_was_never_checked_is_refused(world: World):
    world.ingest()
    fresh = Partition.of_month("AAAUSDT", "2023-12")
    published = world.lake.current("raw_um_ohlcv", FIRST)
    assert published is not None
    staged = world.lake.stage(TABLES["raw_um_ohlcv"], fresh, world.lake.scan([published]).collect())
    world.lake.publish(staged, code_version="x", inputs=(), notes={}, writer="nobody", as_of=datetime.now(UTC))
    world.session.instance.report_runless_asset_event(dg.AssetMaterialization("raw_um_ohlcv", partition=fresh.label))
    assert "never evaluated" in refusals(world, partition=fresh)


def test_an_upstream_re_materialised_without_its_checks_is_refused(world: World):
    world.ingest()
    world.session.instance.report_runless_asset_event(dg.AssetMaterialization("raw_um_ohlcv", partition=FIRST.label))
    assert "judged another materialisation" in refusals(world)


def test_one_bad_partition_of_a_range_run_refuses_only_itself(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    for table in ("raw_um_ohlcv", "bars_um"):
        inspection = inspect(world.session.instance, world.session.resource, table, PARTITIONS)
        assert [BAD] == [refusal.partition for refusal in inspection.refused]
        assert len(PARTITIONS) - 1 == len(inspection.admitted)
    assert world.lake.current("raw_um_ohlcv", BAD) is None


def test_a_red_re_materialisation_keeps_the_old_data_but_closes_the_partition(world: World):
    world.ingest()
    before = world.lake.current("raw_um_ohlcv", BAD)
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    assert before == world.lake.current("raw_um_ohlcv", BAD)
    assert "FAILED" in refusals(world, partition=BAD)
    write_klines(world.source, "AAAUSDT", klines(0))
    assert () == world.ingest()
    assert refusals(world, partition=BAD) == ""


def test_what_loosened_limits_let_through_is_closed_to_a_process_without_them(world: World):
    usual = world.session
    settings = replace(world.settings, limits=parse_limits("um_gap_share_max=0.9"))
    wider = Session(build_defs(settings), usual.instance, LakeResource(world.lake, settings))
    order = MarketOrder(source=world.spec, required=PARTITIONS)

    def refused(session: Session, table: str) -> list[str]:
        return [str(one) for one in inspect(session.instance, session.resource, table, [FIRST]).refused]

    assert () == drive_market(wider, order).refusals
    assert [] == refused(wider, "bars_um")
    for table in ("raw_um_ohlcv", "bars_um"):
        (text,) = refused(usual, table)
        assert "judged under limits um_gap_share_max=0.9, but this process has the default limits" in text
        assert "set BACKTEST_MARKET_LIMITS as it was, or materialise the partition again" in text
    assert any("judged under limits um_gap_share_max=0.9" in text for text in clean(world))

    assert () == drive_market(usual, order).refusals
    assert [] == refused(usual, "bars_um")
    (text,) = refused(wider, "bars_um")
    assert "judged under the default limits, but this process has limits um_gap_share_max=0.9" in text


def test_positioning_is_refused_where_none_of_its_alternatives_may_be_read(world: World):
    world.ingest()
    (text,) = world.run_range(["positioning_um"], FIRST, FIRST)
    assert "raw_um_open_interest[2024-01|AAAUSDT]: never materialised" in text
    assert "raw_um_liquidations[2024-01|AAAUSDT]: never materialised" in text
    assert world.lake.current("positioning_um", FIRST) is None


def test_a_symbol_that_the_source_does_not_know_becomes_no_partition(world: World):
    nobody = Partition.of_month("NOPEUSDT", "2024-01")
    (text, *_) = drive_market(world.session, MarketOrder(source=world.spec, required=[nobody])).refusals
    assert "NOPEUSDT" in text
    assert [] == list(world.session.instance.get_dynamic_partitions("symbol"))


def test_a_red_partition_keeps_its_rows_and_verdicts_in_quarantine(world: World):
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    kept = list((world.settings.data_root / "quarantine" / "raw_um_ohlcv").rglob("verdicts.json"))
    assert len(kept) == 1
    assert "ohlc" in kept[0].read_text()


def test_a_gate_that_raises_is_red(world: World, monkeypatch: pytest.MonkeyPatch):
    def crash(_evidence: Evidence) -> NoReturn:
        raise ZeroDivisionError("boom")  # noqa: EM101

    broken = {
        table: tuple(Gate(g.name, g.severity, g.about, crash) if i == 1 else g for i, g in enumerate(gates))
        for table, gates in GATES.items()
    }
    monkeypatch.setattr(publish, "GATES", broken)
    texts = world.ingest()
    assert any("the gate crashed: ZeroDivisionError: boom" in text for text in texts)
    monkeypatch.undo()
    assert "boom" in refusals(world)


def test_a_remark_that_raises_blocks(world: World, monkeypatch: pytest.MonkeyPatch):
    def crash(_evidence: Evidence) -> NoReturn:
        raise ZeroDivisionError("boom")  # noqa: EM101

    remarks = {
        t: tuple(Gate(g.name, g.severity, g.about, crash) if g.severity.value == "WARN" else g for g in gates)
        for t, gates in GATES.items()
    }
    monkeypatch.setattr(publish, "GATES", remarks)
    world.ingest()
    monkeypatch.undo()
    assert "boom" in refusals(world)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"X"), id="edited"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), id="truncated"),
        pytest.param(lambda path: path.unlink(), id="deleted"),
    ],
)
def test_a_file_changed_by_hand_is_refused(world: World, harm: Callable[[Path], object]):
    world.ingest()
    path = data_file(world)
    path.chmod(0o644)
    harm(path)
    assert FIRST.label in refusals(world)
    (text,) = clean(world, FIRST, FIRST)
    assert "refused" in text


def test_an_older_copy_put_back_is_refused(world: World):
    world.ingest()
    partition_dir = data_file(world).parent.parent
    shutil.copytree(partition_dir, world.source.parent / "backup")
    older = klines(0).with_columns(pl.col("volume") * 2)
    write_klines(world.source, "AAAUSDT", older)
    world.ingest()
    shutil.rmtree(partition_dir)
    shutil.copytree(world.source.parent / "backup", partition_dir)
    assert "judged another version" in refusals(world)


def test_what_was_made_from_a_version_that_was_put_back_is_closed_too(world: World):
    world.ingest()
    pointer = data_file(world).parent.parent / "current.json"
    older = pointer.read_bytes()
    write_klines(world.source, "AAAUSDT", klines(0).with_columns(pl.col("volume") * 2))
    assert [] == world.run_range(["raw_um_ohlcv"], FIRST, FIRST)
    assert "made from another version of raw_um_ohlcv" in refusals(world, "bars_um")
    pointer.write_bytes(older)
    assert "judged another version" in refusals(world)
    closed = "made from raw_um_ohlcv[2024-01|AAAUSDT], which is closed: its gates judged another version than the lake serves"
    assert closed in refusals(world, "bars_um")
    assert "which is closed: made from raw_um_ohlcv" in refusals(world, "bars_spot")


def test_what_a_program_with_other_default_limits_let_through_is_closed(world: World, monkeypatch: pytest.MonkeyPatch):
    world.ingest()
    monkeypatch.setattr(MarketLimits, "digest", "of another program")
    for table in ("raw_um_ohlcv", "bars_um"):
        assert "judged under other default limits than this program has" in refusals(world, table)
    assert () == world.ingest()
    assert "" == refusals(world, "bars_um")


def test_a_verdict_of_another_run_does_not_count(world: World):
    world.ingest()
    instance = world.session.instance
    instance.report_runless_asset_event(dg.AssetMaterialization("raw_um_ohlcv", partition=FIRST.label))
    for gate in GATES["raw_um_ohlcv"]:
        instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset_key=dg.AssetKey("raw_um_ohlcv"),
                check_name=gate.name,
                passed=True,
                metadata={},
                partition=FIRST.label,
                target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                    storage_id=1, run_id="other", timestamp=0.0
                ),
            )
        )
    assert "judged another materialisation" in refusals(world)


def test_deleted_evidence_refuses(world: World):
    world.ingest()
    world.session.instance.wipe_assets([dg.AssetKey("raw_um_ohlcv")])
    assert "never materialised" in refusals(world)


def test_a_wiped_verdict_refuses(world: World):
    world.ingest()
    storage = world.session.instance.event_log_storage
    assert isinstance(storage, PooledSqliteEventLogStorage)
    with storage.index_connection() as connection:
        connection.execute(sa.text("DELETE FROM asset_check_executions WHERE check_name = 'ohlc_sane'"))
    assert "gate ohlc_sane was never evaluated" in refusals(world)


def test_data_of_another_source_is_never_mixed_in(world: World, tmp_path: Path):
    world.ingest()
    shutil.copytree(world.source, tmp_path / "elsewhere")
    world.source = tmp_path / "elsewhere"
    with pytest.raises(SourceError, match="use another BACKTEST_DATA_ROOT"):
        world.ingest()
    config = {"ops": {"raw_um_ohlcv": {"config": {"source": world.spec}}}}
    job = world.session.definitions.resolve_job_def("market")
    result = job.execute_in_process(
        config, world.session.instance, FIRST.label, raise_on_error=False, asset_selection=[dg.AssetKey("raw_um_ohlcv")]
    )
    assert not result.success
    assert refusals(world) == "", "a mistyped source must not close good data"


def test_what_was_made_from_a_partition_that_closed_since_is_refused(world: World):
    world.ingest()
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    assert "made from raw_um_ohlcv[2024-02|AAAUSDT], which is closed: gate ohlc_sane FAILED" in refusals(
        world, "bars_um", BAD
    )
    assert refusals(world, "bars_um", FIRST) == ""


def test_what_was_made_from_an_older_version_is_refused(world: World):
    world.ingest()
    write_klines(world.source, "AAAUSDT", klines(0).with_columns(pl.col("volume") * 2))
    run_config = {"ops": {"raw_um_ohlcv": {"config": {"source": world.spec}}}, **QUIET}
    assert _execute(world.session, "market", ["raw_um_ohlcv"], run_config, partition_key=FIRST.label) == []
    assert "made from another version of raw_um_ohlcv[2024-01|AAAUSDT]" in refusals(world, "bars_um")


def test_the_order_of_verdicts_is_the_order_they_were_given_in_not_the_clocks(world: World):
    world.ingest()
    write_klines(world.source, "AAAUSDT", break_month(klines(0), BAD["month"]))
    world.ingest()
    storage = world.session.instance.event_log_storage
    assert isinstance(storage, PooledSqliteEventLogStorage)
    with storage.index_connection() as connection:
        connection.execute(
            sa.text(
                "UPDATE asset_check_executions SET evaluation_event_timestamp = '2000-01-01' WHERE execution_status = 'FAILED'"
            )
        )
    assert "FAILED" in refusals(world, partition=BAD)


def test_the_loser_of_a_race_leaves_the_winners_verdict_alone(world: World, monkeypatch: pytest.MonkeyPatch):
    world.ingest()

    def lose(*_args: object, **_kwargs: object) -> NoReturn:
        message = "another writer was first"
        raise PublishConflictError(message)

    monkeypatch.setattr(Lake, "publish", lose)
    write_klines(world.source, "AAAUSDT", klines(0).with_columns(pl.col("volume") * 2))
    assert any("another writer was first" in text for text in world.ingest())
    assert refusals(world) == ""


def frozen(world: World, **settings: object) -> ResearchRun:
    run = ResearchRun(run_id="R1", symbols="AAAUSDT", start="2024-01-01", end="2024-03-31", source=world.spec)
    return replace(run, **settings)


def freeze(world: World, **settings: object) -> Path:
    run = frozen(world, **settings)
    world.session.instance.add_dynamic_partitions("run_id", ["R1"])
    assert (
        _execute(world.session, "discovery", ["research_run"], {**QUIET, **config_from_run(run)}, partition_key="R1")
        == []
    )
    return world.settings.data_root / "lake" / "research_run" / "run_id=R1"


@pytest.mark.parametrize(
    ("settings", "run_class"), [({}, "production"), ({"strategy_blueprint_allow_naive_entry_fail": 1}, "diagnostic")]
)
def test_r78_r90_the_class_of_a_run_and_what_it_overrides_stand_on_what_it_makes(
    world: World, settings, run_class: str
):
    freeze(world, **settings)
    (made,) = world.session.instance.fetch_materializations(dg.AssetKey("research_run"), limit=9).records
    assert made.asset_materialization is not None
    assert made.asset_materialization.tags is not None
    assert made.asset_materialization.tags["backtest_assets/run_class"] == run_class
    told = world.lake.current("research_run", Partition.of_run("R1"))
    assert told is not None
    assert told.notes["non_production_overrides"] == ",".join(settings)


@pytest.mark.parametrize("harm", ["pointer removed", "rows edited", "everything removed"])
def test_r52_frozen_settings_cannot_be_replaced_by_removing_them(world: World, harm: str):
    folder = freeze(world)
    if harm == "pointer removed":
        (folder / "current.json").unlink()
    elif harm == "rows edited":
        victim = next(folder.rglob("*.parquet"))
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-1] + b"X")
    else:
        shutil.rmtree(folder)
    with pytest.raises(TamperedError):
        check_unchanged(world.session.instance, world.lake, frozen(world, naive_min_trades=150))


def test_r52_frozen_settings_cannot_be_replaced_by_publishing_others_past_the_gates(world: World):
    freeze(world)
    other, partition, table = frozen(world, naive_min_trades=150), Partition.of_run("R1"), TABLES["research_run"]
    staged = world.lake.stage(table, partition, table.conform(settings_frame(other)))
    as_of = datetime.now(UTC)
    world.lake.publish(staged, code_version="x", inputs=(), notes={}, writer="nobody", as_of=as_of)
    check_unchanged(world.session.instance, world.lake, frozen(world))
    with pytest.raises(RefusedError, match="frozen with other settings"):
        check_unchanged(world.session.instance, world.lake, other)
    assert "judged another version than the lake serves" in refusals(world, "research_run", partition)


def test_a_run_never_reads_data_of_another_source_than_it_is_frozen_on(world: World):
    world.ingest()
    other = replace(frozen(world), source="synthetic:7")
    guard = Guard(world.session.instance, world.session.resource)
    assert admit(guard, Read("bars_um"), frozen(world))
    with pytest.raises(dg.Failure, match="is frozen on synthetic:7"):
        admit(guard, Read("bars_um"), other)


def test_an_unknown_table_has_no_way_in(world: World):
    with pytest.raises(KeyError):
        inspect(world.session.instance, world.session.resource, "no_such_table", [FIRST])


def test_the_static_registry_equals_the_checks_in_the_loaded_definitions(world: World):
    graph = world.session.definitions.resolve_asset_graph()
    loaded = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    registered = {(table, gate.name) for table, gates in GATES.items() for gate in gates}
    assert registered == loaded
    assert set(TABLES) == set(GATES)
    assert guard.GATES is GATES

"""What an operator sees of the event stage in the UI: counts by family at each table, and what broke at a red check."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from backtest_assets.defs.assets import events as assets
from backtest_assets.defs.config import config_from_run
from backtest_assets.defs.driver import MarketOrder, _execute, drive_market, run_rows
from backtest_assets.defs.metadata import MAX_SHOWN, tables_of
from backtest_assets.defs.scope import warmup_partitions, window_partitions
from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.events.told import controls_by_family, events_by_family, fates_by_family
from backtest_assets_tests.properties.random_market import ORIGIN, SYMBOLS, RandomMarket, random_market
from backtest_assets_tests.world import World, open_world, put

N_DAYS = 152  # five whole months
TABLES = ("event_candidates", "event_families", "event_registry", "event_controls")
UPSTREAM = ("research_run", "features", "universe")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def write_random_market(folder: Path, market: RandomMarket) -> None:
    volumes = {"volume": "volume_base", "quote_volume": "volume_quote", "trades": "n_trades"}
    takers = {"taker_buy_base": "taker_buy_base", "taker_buy_quote": "taker_buy_quote"}
    for kind, bars in (("um", market.bars), ("spot", market.spot_bars)):
        named = bars.select(
            "symbol", "open", "high", "low", "close", open_time=pl.col("open_at").dt.cast_time_unit("ms"),
            **{name: pl.col(own) for name, own in (volumes | takers).items()},
        )  # fmt: skip
        for symbol in SYMBOLS:
            rows = named.filter(symbol=symbol).drop("symbol")
            put(folder / kind / "klines" / "15m" / f"{symbol}.parquet", rows)
    settled = market.funding.select(
        "symbol",
        "funding_rate",
        funding_time=pl.col("settled_at").dt.cast_time_unit("ms"),
        interval_hours="funding_interval_h",
    )
    for symbol in SYMBOLS:
        put(folder / "um" / "funding" / f"{symbol}.parquet", settled.filter(symbol=symbol).drop("symbol"))


def materialise(world: World, run: ResearchRun, *tables: str) -> Sequence[str]:
    config = {**QUIET, **(config_from_run(run) if "research_run" in tables else {})}
    return _execute(world.session, "discovery", tables, config, partition_key=run.run_id)


def a_world_run(world: World) -> ResearchRun:
    start, end = ORIGIN + timedelta(days=40), ORIGIN + timedelta(days=N_DAYS - 1)
    return ResearchRun(
        run_id="R1",
        symbols=",".join(SYMBOLS),
        start=f"{start:%Y-%m-%d}",
        end=f"{end:%Y-%m-%d}",
        source=world.spec,
    )


@contextmanager
def opened(folder: Path) -> Iterator[tuple[World, ResearchRun]]:
    write_random_market(folder / "market", random_market(7, n_days=N_DAYS, gaps=False))
    with open_world(folder) as world:
        run = a_world_run(world)
        order = MarketOrder(source=world.spec, required=window_partitions(run), optional=warmup_partitions(run))
        assert () == drive_market(world.session, order).refusals
        world.session.instance.add_dynamic_partitions("run_id", [run.run_id])
        assert [] == materialise(world, run, *UPSTREAM, *TABLES)
        yield world, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, ResearchRun]]:
    with opened(tmp_path_factory.mktemp("events")) as both:
        yield both


def told(world: World, table: str) -> Mapping[str, Any]:
    record = world.session.instance.get_latest_materialization_event(dg.AssetKey(table))
    assert record is not None
    assert record.asset_materialization is not None
    return {name: entry.value for name, entry in record.asset_materialization.metadata.items()}


def records(value: object) -> list[Mapping[str, Any]]:
    assert isinstance(value, dg.TableMetadataValue)
    return [row.data for row in value.records]


def plain(frame: pl.DataFrame) -> list[Mapping[str, Any]]:
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in frame.to_dicts()
    ]


def shown(world: World, table: str) -> Any:  # noqa: ANN401  # Dagster's own type, asserted by `records`
    record = world.session.instance.get_latest_materialization_event(dg.AssetKey(table))
    assert record is not None
    assert record.asset_materialization is not None
    return record.asset_materialization.metadata["families"]


def test_each_table_of_the_stage_tells_its_counts_by_family(made: tuple[World, ResearchRun]):
    world, run = made
    candidates, families, events, controls = (run_rows(world.session, table, run.run_id) for table in TABLES)
    expected = {
        "event_candidates": fates_by_family(candidates, run=run),
        "event_families": families,
        "event_registry": events_by_family(events, run=run),
        "event_controls": controls_by_family(controls, events, run=run),
    }
    for table, frame in expected.items():
        assert plain(frame) == records(shown(world, table)), table
        assert frame.columns == [column.name for column in shown(world, table).schema.columns]
        assert "families_left_out" not in told(world, table)
        assert told(world, table)["dagster/row_count"] == run_rows(world.session, table, run.run_id).height


def test_the_counts_of_the_tables_agree_and_are_not_of_nothing(made: tuple[World, ResearchRun]):
    world, _ = made
    by_table = {table: {row["event_type"]: row for row in records(shown(world, table))} for table in TABLES}
    for family in (one.value for one in EventType):
        n_accepted = by_table["event_candidates"][family]["n_accepted"]
        assert n_accepted == by_table["event_registry"][family]["n_events"]
        assert n_accepted == by_table["event_controls"][family]["n_events"]
    own = records(shown(world, "event_families"))
    assert sum(row["n_accepted"] for row in own) == sum(
        row["n_accepted"] for row in by_table["event_candidates"].values()
    )
    counts = by_table["event_candidates"]["liquidity_vacuum"]
    assert min(counts["n_accepted"], counts["n_cooldown"], counts["n_outside_window"]) > 0
    assert counts["lowest_threshold"] > 0
    told = dict(word.split(" ") for word in counts["measures"].split(", "))
    assert ["volume_quote", "base_x_close"] == list(told)
    assert counts["n_candidates"] == sum(map(int, told.values()))
    assert int(told["base_x_close"]) > 0  # the market lacks some traded values
    # spot is um here, so the basis stands still
    train = made[1].splits[Split.TRAIN]
    reason = f"basis_z_96 known on 0.0% of train's {(train.end - train.start) // BAR:,} bars, 50% are needed"
    assert [(EventType.CROSS_VENUE_DESYNC.value, symbol, reason) for symbol in SYMBOLS] == [
        (row["event_type"], row["symbol"], row["reason"]) for row in own if row["status"] == "NOT_RUN"
    ]


def test_a_table_too_long_for_an_event_says_how_many_rows_it_leaves_out():
    long = pl.DataFrame({"n": range(MAX_SHOWN + 3), "x": [float("nan")] * (MAX_SHOWN + 3)})
    shown = tables_of({"rows": long, "none": long.clear()})
    assert {"rows", "rows_left_out", "none"} == set(shown)
    assert (3, MAX_SHOWN) == (shown["rows_left_out"].value, len(records(shown["rows"])))
    assert {"n": 0, "x": "NaN"} == records(shown["rows"])[0]
    assert [] == records(shown["none"])


def red_examples(world: World, table: str, gate: str) -> list[Mapping[str, Any]]:
    storage = world.session.instance.event_log_storage
    (record,) = storage.get_asset_check_execution_history(dg.AssetCheckKey(dg.AssetKey(table), gate), limit=1)
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert not evaluation.passed
    return records(evaluation.metadata["examples"])


def test_a_registry_that_lost_an_event_is_refused_and_the_check_shows_which(tmp_path: Path, monkeypatch):
    with opened(tmp_path) as (world, run):
        before = world.lake.current("event_registry", Partition.of_run(run.run_id))
        register = assets.register_events
        monkeypatch.setattr(assets, "register_events", lambda candidates: register(candidates).tail(-1))
        (refusal,) = materialise(world, run, "event_registry")
        assert "of event_registry not published" in refusal
        assert before == world.lake.current("event_registry", Partition.of_run(run.run_id))
        lost = run_rows(world.session, "event_candidates", run.run_id).filter(status="accepted").row(0, named=True)
        (example,) = red_examples(world, "event_registry", "same_events")
        assert ("lost", lost["event_id"], lost["event_type"]) == (
            example["what"],
            example["event_id"],
            example["event_type"],
        )
        (counted,) = red_examples(world, "event_registry", "recounted")
        assert (lost["variant"], lost["symbol"], 1) == (
            counted["variant"],
            counted["symbol"],
            counted["n_accepted"] - counted["n_registered"],
        )

        detect = assets.detect_events
        peeking = pl.col("severity") * pl.when(pl.col("event_type") == lost["event_type"]).then(1.5).otherwise(1.0)
        monkeypatch.setattr(assets, "detect_events", lambda view, *, run: detect(view, run=run).with_columns(peeking))
        assert [] != materialise(world, run, "event_candidates")
        example = red_examples(world, "event_candidates", "triggers_true")[0]
        assert lost["event_type"] == example["event_type"]
        (line,) = red_examples(world, "event_candidates", "prefix_invariant")
        assert lost["event_type"] == line["family"]
        assert "severity " in line["example"]

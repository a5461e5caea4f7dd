"""A small market on disk, a lake beside it, and a session over both; for tests that go through Dagster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.definitions import build_defs
from backtest_assets.defs.driver import MarketOrder, Session, _execute, drive_market
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.reads import READS
from backtest_assets.defs.resources import LakeResource, Outcome
from backtest_assets.domain.clock import months_between
from backtest_assets.domain.market import Partition
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings

SYMBOLS = ("AAAUSDT", "BBBUSDT")
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 4, 1, tzinfo=UTC)
MONTHS = months_between(START, END)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PARTITIONS = tuple(Partition.of_month(symbol, month) for symbol in SYMBOLS for month in MONTHS)


def klines(seed: int, start: datetime = START, end: datetime = END) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    open_time = pl.datetime_range(start, end, "15m", closed="left", time_unit="ms", time_zone="UTC", eager=True)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, len(open_time))))
    opened = np.concatenate([[100.0], close[:-1]])
    wick = 1 + np.abs(rng.normal(0, 0.0005, len(open_time)))
    return pl.DataFrame(
        {
            "open_time": open_time,
            "open": opened,
            "high": np.maximum(opened, close) * wick,
            "low": np.minimum(opened, close) / wick,
            "close": close,
            "volume": rng.uniform(1, 10, len(open_time)),
        }
    )


def funding(seed: int, start: datetime = START, end: datetime = END) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    at = pl.datetime_range(start, end, "8h", closed="left", time_unit="ms", time_zone="UTC", eager=True)
    return pl.DataFrame(
        {"funding_time": at, "funding_rate": rng.normal(1e-4, 5e-5, len(at)), "interval_hours": np.full(len(at), 8.0)}
    )


def write_market(folder: Path, *, spot: bool = True) -> Path:
    for i, symbol in enumerate(SYMBOLS):
        write_klines(folder, symbol, klines(i))
        put(folder / "um" / "funding" / f"{symbol}.parquet", funding(i))
        if spot:
            put(folder / "spot" / "klines" / "15m" / f"{symbol}.parquet", klines(i))
    return folder


def write_klines(folder: Path, symbol: str, frame: pl.DataFrame) -> None:
    put(folder / "um" / "klines" / "15m" / f"{symbol}.parquet", frame)


def put(path: Path, frame: pl.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def break_month(frame: pl.DataFrame, month: str) -> pl.DataFrame:
    """Make every high of a month lie below its low."""
    bad = pl.col("open_time").dt.strftime("%Y-%m") == month
    return frame.with_columns(pl.when(bad).then(pl.col("low") * 0.5).otherwise(pl.col("high")).alias("high"))


@dataclass
class Watcher:
    """Remembers what was settled."""

    settled: list[tuple[str, str, Outcome]] = field(default_factory=list)

    def expect(self, table: str, n_partitions: int) -> None:
        pass

    def settle(self, table: str, partition: str, outcome: Outcome) -> None:
        self.settled.append((table, partition, outcome))


@dataclass
class World:
    """Source folder, lake root and everything opened over it."""

    source: Path
    settings: Settings
    session: Session
    watcher: Watcher

    @property
    def spec(self) -> str:
        return f"files:{self.source}"

    @property
    def lake(self) -> Lake:
        return self.session.lake

    def ingest(self) -> tuple[str, ...]:
        return drive_market(self.session, MarketOrder(source=self.spec, required=PARTITIONS)).refusals

    def run_range(self, tables: Sequence[str], first: Partition, last: Partition) -> list[str]:
        """Run these market assets alone, in one run over a range of partitions; return the text of every refusal."""
        self.session.instance.add_dynamic_partitions("symbol", list(SYMBOLS))
        config = {"ops": {table: {"config": {"source": self.spec}} for table in tables if not READS[table]}, **QUIET}
        tags = {ASSET_PARTITION_RANGE_START_TAG: first.label, ASSET_PARTITION_RANGE_END_TAG: last.label}
        return _execute(self.session, "market", tables, config, tags=tags)


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    root = folder / "data"
    root.mkdir(exist_ok=True)
    settings = Settings(root, root / "dagster", None)
    watcher = Watcher()
    with open_instance(settings) as instance:
        session = Session(build_defs(settings, observer=watcher), instance, LakeResource(Lake(root), settings, watcher))
        yield World(folder / "market", settings, session, watcher)

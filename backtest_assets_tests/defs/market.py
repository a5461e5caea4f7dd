"""A project over the exchange on the loopback, both on one clock that tests set; for what goes from network to verdict."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from backtest_assets.definitions import build_defs
from backtest_assets.defs.driver import MarketOrder, Session, Work, drive_market
from backtest_assets.defs.guard import inspect
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.jobs import MARKET
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.limits import DEFAULT_LIMITS, MarketLimits
from backtest_assets.domain.market import Partition
from backtest_assets.lake.publication import Publication
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings
from backtest_assets.sources.base import Source
from backtest_assets.sources.binance.source import BinanceSource
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets_tests.exchange import QUICK, Exchange

PATIENCE = replace(QUICK, total_s=0.6)


class QuickResource(LakeResource):
    """The lake as everywhere, but a source that does not wait minutes for a server on this machine."""

    def open_source(self, spec: str, *, as_of: datetime, is_forced: bool = False) -> Source:
        named = self.settings
        assert spec == "binance"
        urls = BinanceUrls(named.binance_archive_url, named.binance_spot_api_url, named.binance_um_api_url)
        return BinanceSource(urls, named.data_root, as_of=as_of, force=is_forced, patience=PATIENCE)


@dataclass
class Project:
    """An opened project; its clock is the exchange's."""

    exchange: Exchange
    session: Session

    @property
    def lake(self) -> Lake:
        return self.session.lake

    @property
    def root(self) -> Path:
        return self.session.resource.settings.data_root

    def drive(self, required: Sequence[Partition], **order: Any) -> Work:  # noqa: ANN401  # the fields of MarketOrder
        return drive_market(self.session, MarketOrder(source="binance", required=required, **order))

    def refused(self, table: str, *asked: Partition) -> list[str]:
        return [str(one) for one in inspect(self.session.instance, self.session.resource, table, asked).refused]

    def current(self) -> dict[tuple[str, Partition], Publication]:
        """Everything the market layer holds."""
        found = {(table, p): self.lake.current(table, p) for table in MARKET for p in self.lake.partitions(table)}
        return {key: one for key, one in found.items() if one is not None}

    def rows(self, table: str, partition: Partition) -> pl.DataFrame:
        publication = self.lake.current(table, partition)
        assert publication is not None, f"{table} {partition}"
        return self.lake.scan([publication]).collect()


def partitions(symbols: Iterable[str], months: Iterable[str]) -> Sequence[Partition]:
    months = tuple(months)
    return [Partition.of_month(symbol, month) for symbol in symbols for month in months]


@contextmanager
def open_project(
    root: Path, ex: Exchange, *, limits: MarketLimits = DEFAULT_LIMITS, source: str | None = None
) -> Iterator[Project]:
    root.mkdir(exist_ok=True)
    settings = Settings(root, root / "dagster", source, limits, ex.base, ex.base, ex.base)
    lake = QuickResource(Lake(root), settings, clock=lambda: ex.now)
    built = build_defs(settings)
    definitions = dg.Definitions(
        assets=built.assets,
        jobs=built.jobs,
        schedules=built.schedules,
        resources={"lake": dg.ResourceDefinition.hardcoded_resource(lake)},
        executor=dg.in_process_executor,
    )
    with open_instance(settings) as instance:
        yield Project(ex, Session(definitions, instance, lake))

"""An edge after the events of any family: prices of a finished market are bent where the family's own detector sees one.

Unlike `sources/synthetic/plant.py`, which may not import research, this plants after exactly what the product detects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.event import EventType
from backtest_assets.research.events.definition import IS_ACCEPTED
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets.sources.synthetic.market import SyntheticSymbol
from backtest_assets_tests.chain import market_frames

PASSES = 3
"""A bent path has other events; after so many passes nearly all of them carry the edge (the study says how many)."""


@dataclass(frozen=True)
class Edge:
    """So many bps of notional, gross, over the bars from the entry after each event, in its direction (long without one)."""

    family: EventType
    hold_bars: int
    bps: float


@dataclass(frozen=True)
class Bent:
    """A market with an edge.

    Attributes:
        market: its symbols.
        drift: by `symbol` and `open_at`, the factor by which the edge has moved the open: what any trade truly earns gross.
    """

    market: Mapping[str, SyntheticSymbol]
    drift: pl.DataFrame


def plant(market: Mapping[str, SyntheticSymbol], edge: Edge) -> Bent:
    bent = dict(market)
    drift = pl.DataFrame()
    for _ in range(PASSES):
        events = events_of(edge.family, bent)
        made = {name: _bent(symbol, events.filter(pl.col("symbol") == name), edge) for name, symbol in market.items()}
        bent = {name: symbol for name, (symbol, _) in made.items()}
        drift = pl.concat(
            [moved.select(pl.lit(name).alias("symbol"), "open_at", "factor") for name, (_, moved) in made.items()]
        )
    return Bent(bent, drift)


def true_means(trades: pl.DataFrame, drift: pl.DataFrame, *, cost_bps: float) -> dict[str, float]:
    """By hypothesis: what its trades earn by the edge alone, net of costs [bps of notional]; noise means nothing on average.

    Args:
        trades: one row per `hypothesis_id` and trade, with `sign`, `direction`, `symbol`, `entered_at` and `exited_at`.
        drift: as `plant` gives it.
        cost_bps: of a round trip.
    """
    at = (
        drift.rename({"open_at": "entered_at", "factor": "entry"}),
        drift.rename({"open_at": "exited_at", "factor": "exit"}),
    )
    moved = trades.join(at[0], on=["symbol", "entered_at"], how="left").join(
        at[1], on=["symbol", "exited_at"], how="left"
    )
    assert moved["entry"].null_count() + moved["exit"].null_count() == 0
    gross = pl.col("sign") * pl.col("direction") * (pl.col("exit") / pl.col("entry") - 1) / BPS
    return dict(moved.group_by("hypothesis_id").agg(gross.mean() - cost_bps).iter_rows())


def events_of(family: EventType, market: Mapping[str, SyntheticSymbol]) -> pl.DataFrame:
    """Accepted events: `symbol`, `known_at`, `direction`."""
    frames = market_frames(market)
    view = MarketView(frames["bars_um"], frames["features"], frames["settlements_um"])
    found = FAMILIES[family].detect(view, params=FAMILIES[family].definition).filter(IS_ACCEPTED)
    return found.select("symbol", "known_at", direction=pl.when(pl.col("side") == 0).then(1).otherwise(pl.col("side")))


def _bent(symbol: SyntheticSymbol, events: pl.DataFrame, edge: Edge) -> tuple[SyntheticSymbol, pl.DataFrame]:
    opens = symbol.klines["open_at"].dt.epoch("us").to_numpy()
    entry = (events["known_at"].dt.epoch("us").to_numpy() - opens[0]) // BAR_US
    steps = np.zeros(opens.size + 1)
    size = edge.bps * BPS / edge.hold_bars * events["direction"].to_numpy()
    np.add.at(steps, np.minimum(entry, opens.size), size)
    np.add.at(steps, np.minimum(entry + edge.hold_bars, opens.size), -size)
    close = np.cumprod(1.0 + np.cumsum(steps)[:-1])
    start = np.concatenate([[1.0], close[:-1]])
    within = (start + close) / 2  # extremes lie somewhere inside the bar
    prices = symbol.klines.with_columns(
        open=pl.col("open") * start,
        close=pl.col("close") * close,
        high=pl.col("high") * within,
        low=pl.col("low") * within,
    ).with_columns(high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close"))
    return replace(symbol, klines=prices), prices.select("open_at", factor=pl.Series(start))

"""Evidence about an honest random market, and the ways in which every gate must be red."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

from backtest_assets.domain.clock import month_end, month_start
from backtest_assets.domain.gate import Verdict
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Answer, Evidence, Gate, ask_all
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.research.bars.coverage import cover
from backtest_assets.research.bars.positioning import build_positioning
from backtest_assets.research.bars.settlements import settle_funding
from backtest_assets.sources.base import Origin
from backtest_assets.tables.raw import RAW_UM_LIQUIDATIONS, RAW_UM_OHLCV, RAW_UM_OPEN_INTEREST
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.properties.random_market import RandomMarket, random_market
from backtest_assets_tests.scenario import MONTH, SYMBOL, raw_funding


@cache
def market() -> RandomMarket:
    return random_market(7)


def honest(name: str, frame: pl.DataFrame) -> Evidence:
    made = market()
    inputs = {
        "bars_um": made.bars, "bars_spot": made.spot_bars, "settlements_um": made.funding, "positioning_um": made.positioning,
        "universe": made.universe, "features": made.features,
        "market_context": made.context, "event_candidates": made.candidates,
        "event_registry": made.events, "event_controls": made.controls,
    }  # fmt: skip
    as_of = made.run.window[1]
    return Evidence(table_named(name), Partition.of_run("random"), frame, as_of, made.run, inputs)


def answer(gate: Gate, evidence: Evidence) -> Answer:
    (only,) = ask_all((gate,), evidence)
    return only


def red(gates: tuple[Gate, ...], evidence: Evidence) -> set[str]:
    return {a.verdict.gate for a in ask_all(gates, evidence) if not a.verdict.passed}


def with_inputs(evidence: Evidence, **changes: pl.DataFrame) -> Evidence:
    return replace(evidence, inputs={**evidence.inputs, **changes})


def hopeless(evidence: Evidence) -> Mapping[str, Evidence]:
    """Evidence under which no gate may be green: no rows, nothing but null, no inputs and no settings."""
    nothing = [pl.lit(None).cast(dtype).alias(name) for name, dtype in evidence.frame.schema.items()]
    return {
        "empty": replace(evidence, frame=evidence.frame.clear()),
        "all null": replace(evidence, frame=evidence.frame.with_columns(nothing)),
        "wrong columns": replace(evidence, frame=pl.DataFrame({"x": [1]}), inputs={}, run=None),
    }


def verdict(gates: tuple[Gate, ...], evidence: Evidence, name: str) -> Verdict:
    return next(a.verdict for a in ask_all(gates, evidence) if a.verdict.gate == name)


def without(frame: pl.DataFrame, rows: Collection[int]) -> pl.DataFrame:
    return frame.filter(~pl.int_range(pl.len()).is_in(list(rows)))


def change(frame: pl.DataFrame, row: int, **values: object) -> pl.DataFrame:
    hit = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(hit).then(pl.lit(value)).otherwise(name).alias(name) for name, value in values.items()
    )


def all_null(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())


@cache
def raw_month(minutes: int = 15, month: str = MONTH, seed: int = 3) -> pl.DataFrame:
    """A month of raw klines of a random walk, each opening where the last closed."""
    step = timedelta(minutes=minutes)
    n = (month_end(month) - month_start(month)) // step
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.0004 * minutes**0.5, n)))
    opened = np.concatenate([[100.0], close[:-1]])
    volume = rng.gamma(2.0, 5.0, n)
    frame = pl.DataFrame({"open": opened, "close": close, "volume_base": volume}).with_columns(
        symbol=pl.lit(SYMBOL),
        open_at=month_start(month) + step * pl.int_range(n),
        interval_min=pl.lit(minutes),
        high=pl.max_horizontal("open", "close") * 1.0001,
        low=pl.min_horizontal("open", "close") * 0.9999,
        volume_quote=pl.col("volume_base") * pl.col("close"),
        n_trades=pl.Series(rng.integers(1, 500, n)),
        taker_buy_base=pl.col("volume_base") / 3,
        taker_buy_quote=pl.col("volume_base") * pl.col("close") / 3,
        unused=pl.lit(0.0),
        source=pl.lit("random"),
    )
    return RAW_UM_OHLCV.conform(frame.with_columns(close_at=pl.col("open_at") + step - timedelta(milliseconds=1)))


@cache
def raw_snapshots(month: str = MONTH) -> pl.DataFrame:
    """A month of open interest, every five minutes, each snapshot of another size."""
    n = (month_end(month) - month_start(month)) // timedelta(minutes=5)
    size = 1000.0 + pl.int_range(n, eager=True)
    frame = pl.DataFrame({"open_interest_base": size}).with_columns(
        symbol=pl.lit(SYMBOL),
        snapshot_at=month_start(month) + timedelta(minutes=5) * pl.int_range(n),
        open_interest_quote=100 * pl.col("open_interest_base"),
        top_trader_account_ratio=pl.lit(1.5),
        top_trader_position_ratio=pl.lit(1.2),
        account_ratio=pl.lit(None, pl.Float64),
        taker_volume_ratio=pl.lit(0.9),
        source=pl.lit("random"),
    )
    return RAW_UM_OPEN_INTEREST.conform(frame)


@cache
def raw_orders(month: str = MONTH) -> pl.DataFrame:
    """Four liquidations a day, two of them at one instant; the fifth day is quiet."""
    n_days = (month_end(month) - month_start(month)).days
    rows = [
        (month_start(month) + timedelta(days=day, minutes=minute), ordinal, side, 3.0 + day + ordinal)
        for day in range(n_days)
        if day != QUIET_DAY
        for minute, ordinal, side in ((5, 0, "BUY"), (95, 0, "SELL"), (95, 1, "SELL"), (99, 0, "BUY"))
    ]
    columns = ("liquidated_at", "ordinal", "order_side", "filled_contracts")
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        symbol=pl.lit(SYMBOL),
        contract=pl.lit("SYNAUSD_PERP"),
        average_price=pl.lit(0.0),  # the archive has such rows; they have a notional all the same
        contract_size_quote=pl.lit(10.0),
        notional_quote=10 * pl.col("filled_contracts"),
        source=pl.lit("random"),
    )
    return RAW_UM_LIQUIDATIONS.conform(frame.with_columns(pl.col("liquidated_at").cast(pl.Datetime("us", "UTC"))))


QUIET_DAY = 4
AFTER = datetime(2024, 3, 1, tzinfo=UTC)
RAW_MONTHS: Mapping[str, pl.DataFrame] = {
    "raw_um_ohlcv": raw_month(),
    "raw_um_funding": raw_funding(),
    "raw_spot_ohlcv": raw_month(),
    "raw_um_open_interest": raw_snapshots(),
    "raw_um_liquidations": raw_orders(),
}
MARKET_TABLES = (*RAW_MONTHS, "bars_um", "bars_spot", "settlements_um", "positioning_um", "coverage")


def whole_origin(name: str = "file.zip") -> Origin:
    return Origin(name, "ab" * 32, month_start(MONTH), month_end(MONTH))


def days_of(month: str) -> list[date]:
    n_days = (month_end(month) - month_start(month)).days
    return [(month_start(month) + timedelta(days=day)).date() for day in range(n_days)]


def covered(name: str, frame: pl.DataFrame, *, as_of: datetime = AFTER, is_ingested: bool = True) -> pl.DataFrame:
    return cover(
        name, frame, symbol=SYMBOL, month=MONTH, as_of=as_of, listing=None,
        origins=[whole_origin()] if is_ingested else [], is_ingested=is_ingested,
    )  # fmt: skip


@cache
def market_evidence(name: str) -> Evidence:
    """A good month of a market table, and what it was made from."""
    partition, inputs = Partition.of_month(SYMBOL, MONTH), dict(RAW_MONTHS)
    bars = clean_klines(inputs["raw_um_ohlcv"], symbol=SYMBOL, month=MONTH, as_of=AFTER)
    made = {
        "bars_um": lambda: bars,
        "bars_spot": lambda: bars,
        "settlements_um": lambda: settle_funding(inputs["raw_um_funding"], symbol=SYMBOL, month=MONTH, as_of=AFTER),
        "positioning_um": lambda: build_positioning(
            bars, inputs["raw_um_open_interest"], inputs["raw_um_liquidations"],
            liquidation_days=days_of(MONTH), max_age_min=30,
        ),
        "coverage": lambda: pl.concat([covered(table, frame) for table, frame in RAW_MONTHS.items()]),
    }  # fmt: skip
    frame = RAW_MONTHS[name] if name in RAW_MONTHS else made[name]()
    return Evidence(table_named(name), partition, frame, AFTER, inputs={**inputs, "bars_um": bars})

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.triggers import untrue_triggers
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.view import MarketView
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM
from backtest_assets.tables.events import EVENT_CANDIDATES
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.properties.random_market import ORIGIN, RandomMarket, a_run, random_market

MARKET = random_market(7)
REAL = Path(__file__).parents[4] / "shared" / "data" / "market"
REAL_SYMBOLS = ("BTCUSDT", "ETHUSDT")
REAL_COUNTS = {
    ("cross_venue_desync", "BTCUSDT"): (4, 7, 3, 3),
    ("cross_venue_desync", "ETHUSDT"): (0, 8, 9, 0),
    ("directional_exhaustion_after_forced_flow", "BTCUSDT"): (31, 52, 48, 36),
    ("directional_exhaustion_after_forced_flow", "ETHUSDT"): (31, 75, 44, 34),
    ("funding_acceleration", "BTCUSDT"): (59, 59, 60, 60),
    ("funding_acceleration", "ETHUSDT"): (55, 56, 53, 61),
    ("funding_extreme_onset", "BTCUSDT"): (18, 24, 31, 16),
    ("funding_extreme_onset", "ETHUSDT"): (32, 22, 29, 13),
    ("funding_extreme_reversal_window", "BTCUSDT"): (7, 14, 8, 2),
    ("funding_extreme_reversal_window", "ETHUSDT"): (8, 12, 10, 0),
    ("funding_normalization", "BTCUSDT"): (16, 13, 17, 10),
    ("funding_normalization", "ETHUSDT"): (28, 9, 15, 10),
    ("funding_persistence_window", "BTCUSDT"): (7, 9, 12, 10),
    ("funding_persistence_window", "ETHUSDT"): (9, 11, 19, 8),
    ("liquidity_absence_window", "BTCUSDT"): (127, 113, 116, 116),
    ("liquidity_absence_window", "ETHUSDT"): (126, 127, 134, 114),
    ("liquidity_refill_lag_window", "BTCUSDT"): (53, 77, 73, 74),
    ("liquidity_refill_lag_window", "ETHUSDT"): (34, 57, 53, 62),
    ("liquidity_vacuum", "BTCUSDT"): (4, 1, 2, 1),
    ("liquidity_vacuum", "ETHUSDT"): (3, 2, 0, 2),
    ("range_compression_breakout_window", "BTCUSDT"): (108, 82, 95, 100),
    ("range_compression_breakout_window", "ETHUSDT"): (95, 84, 108, 102),
    ("vol_aftershock_window", "BTCUSDT"): (34, 27, 29, 33),
    ("vol_aftershock_window", "ETHUSDT"): (31, 28, 26, 37),
    ("vol_shock_relaxation", "BTCUSDT"): (36, 29, 31, 37),
    ("vol_shock_relaxation", "ETHUSDT"): (33, 29, 27, 38),
}  # accepted in 2022, 2023, 2024 and 2025


def test_an_event_keeps_its_id_when_the_window_moves():
    later = a_run(ORIGIN + timedelta(days=70), ORIGIN + timedelta(days=140))
    moved = detect_events(MARKET.view, run=later)
    assert_frame_equal(MARKET.candidates.drop("status"), moved.drop("status"))
    start, end = later.window
    inside = pl.col("known_at").is_between(start, end, closed="left")
    assert_frame_equal(MARKET.candidates.filter(inside), moved.filter(inside))
    assert {"outside_window"} == set(moved.filter(~inside)["status"])


def test_ids_are_unique_over_variants_families_and_symbols():
    assert MARKET.candidates.height == MARKET.candidates["event_id"].n_unique()
    assert {16} == set(MARKET.candidates["event_id"].str.len_chars())


def test_a_run_of_one_family_finds_what_the_run_of_all_finds_of_it():
    one = a_run(*MARKET.run.window, phase2_event_type=EventType.VOL_SHOCK_RELAXATION.value)
    only = pl.col("event_type") == EventType.VOL_SHOCK_RELAXATION.value
    assert_frame_equal(MARKET.candidates.filter(only), detect_events(MARKET.view, run=one))


def test_the_order_of_rows_and_symbols_does_not_matter():
    shuffled = [f.sample(fraction=1.0, shuffle=True, seed=2) for f in (MARKET.bars, MARKET.features, MARKET.funding)]
    assert_frame_equal(MARKET.candidates, detect_events(MarketView(*shuffled), run=MARKET.run))


def test_no_bars_give_no_events():
    empty = detect_events(MarketView(MARKET.bars.clear(), MARKET.features.clear(), MARKET.funding), run=MARKET.run)
    assert_frame_equal(EVENT_CANDIDATES.empty(), empty)


def forward_returns(seed: int) -> pl.DataFrame:
    """Signed return of four hours from the next open, in bps; long for a family without a side."""
    market = random_market(seed, n_days=100)
    opens = market.bars.select(
        "symbol", known_at="open_at", entry="open", exit=pl.col("open").shift(-16).over("symbol")
    )
    side = pl.when(pl.col("side") == 0).then(1).otherwise("side")
    return (
        market.events.filter(pl.col("variant") == "centre")
        .join(opens, on=["symbol", "known_at"])
        .select("event_type", bps=side * (pl.col("exit") / pl.col("entry") - 1) * 1e4)
        .drop_nulls()
    )


def test_on_a_driftless_random_walk_no_family_foretells_the_price():
    returns = pl.concat(forward_returns(seed) for seed in range(14))
    rows = returns.group_by("event_type").agg(
        n=pl.len(), t=pl.col("bps").mean() / pl.col("bps").std() * pl.len().sqrt()
    )
    print(rows)  # noqa: T201  # the brief asks for the counts
    assert set(EventType) == set(rows["event_type"])
    assert np.abs(rows["t"].to_numpy()).max() < 3.3  # p of .001 two-sided each


@cache
def real_market() -> RandomMarket:
    if not REAL.exists():
        pytest.skip(f"the shared real market data are not at {REAL}")
    run = ResearchRun(run_id="real", symbols="BTCUSDT,ETHUSDT", start="2022-01-01", end="2025-12-31", source="files:x")
    return RandomMarket(BARS_UM.conform(real_klines("um")), BARS_SPOT.conform(real_klines("spot")), real_funding(), run)


def real_klines(kind: str) -> pl.DataFrame:
    return pl.concat(
        pl.read_parquet(REAL / kind / "klines" / "15m" / f"{symbol}.parquet").select(
            "open", "high", "low", "close", "taker_buy_base", "taker_buy_quote",
            symbol=pl.lit(symbol),
            open_at=pl.col("open_time").cast(pl.Datetime("us", "UTC")),
            known_at=pl.col("open_time").cast(pl.Datetime("us", "UTC")) + BAR,
            volume_base="volume", volume_quote="quote_volume", n_trades="trades", is_gap=pl.lit(value=False),
        )
        for symbol in REAL_SYMBOLS
    )  # fmt: skip


def real_funding() -> pl.DataFrame:
    frames = [
        pl.read_parquet(REAL / "um" / "funding" / f"{symbol}.parquet").select(
            symbol=pl.lit(symbol),
            settled_at=pl.col("funding_time").cast(pl.Datetime("us", "UTC")).dt.round("1m"),
            received_at=pl.col("funding_time").cast(pl.Datetime("us", "UTC")),
            funding_rate="funding_rate",
            funding_interval_h="interval_hours",
            source=pl.lit("files"),
        )
        for symbol in REAL_SYMBOLS
    ]
    return RAW_UM_FUNDING.conform(pl.concat(frames))


@pytest.fixture(scope="module")
def real_events() -> pl.DataFrame:
    market = real_market()
    return detect_events(market.view, run=market.run)


FTX, YEN = datetime(2022, 11, 8, tzinfo=UTC), datetime(2024, 8, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("family", "symbol", "day"),
    [
        (EventType.VOL_SHOCK_RELAXATION, "BTCUSDT", FTX),
        (EventType.VOL_AFTERSHOCK_WINDOW, "BTCUSDT", FTX),
        (EventType.FUNDING_EXTREME_ONSET, "BTCUSDT", FTX),
        (EventType.FUNDING_EXTREME_ONSET, "ETHUSDT", FTX),
        (EventType.FUNDING_PERSISTENCE_WINDOW, "ETHUSDT", FTX),
        (EventType.VOL_SHOCK_RELAXATION, "BTCUSDT", YEN),
        (EventType.VOL_AFTERSHOCK_WINDOW, "BTCUSDT", YEN),
        (EventType.FUNDING_EXTREME_ONSET, "ETHUSDT", YEN),  # funding of bitcoin was not extreme then
    ],
)
def test_the_shocks_and_crowds_everybody_remembers_are_found(real_events, family, symbol, day):
    remembered = real_events.filter(
        (pl.col("event_type") == family.value)
        & (pl.col("symbol") == symbol)
        & (pl.col("status") == "accepted")
        & pl.col("known_at").is_between(day, day + timedelta(days=2))
    )
    assert remembered.height >= 1


def test_four_years_of_real_data_hold_these_events_by_family_symbol_and_year(real_events):
    accepted = real_events.filter((pl.col("status") == "accepted") & (pl.col("variant") == "centre"))
    counted = accepted.group_by("event_type", "symbol", pl.col("known_at").dt.year()).len().rows()
    counts = {(family, symbol, year): n for family, symbol, year, n in counted}
    assert {key: tuple(counts.get((*key, year), 0) for year in range(2022, 2026)) for key in REAL_COUNTS} == REAL_COUNTS
    assert set(REAL_COUNTS) == {(family.value, symbol) for family in EventType for symbol in REAL_SYMBOLS}


def test_every_trigger_of_the_real_events_is_true(real_events):
    market = real_market()
    inputs = {"bars_um": market.bars, "features": market.features, "settlements_um": market.funding}
    table, as_of = table_named("event_candidates"), market.run.window[1]
    evidence = Evidence(table, Partition.of_run("real"), real_events, as_of, market.run, inputs)
    assert 0 == untrue_triggers(evidence).height

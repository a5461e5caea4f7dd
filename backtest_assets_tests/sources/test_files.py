import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import months_between
from backtest_assets.domain.market import Partition
from backtest_assets.errors import SourceError
from backtest_assets.gates.funding import GATES_RAW_UM_FUNDING
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.raw import GATES_RAW_SPOT_OHLCV, GATES_RAW_UM_OHLCV
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.open import open_source
from backtest_assets_tests.scenario import raw_funding, raw_klines
from backtest_assets_tests.sources.asked import month_print, month_rows

REAL = Path(__file__).parents[3] / "shared/data/market"
real_files = pytest.mark.skipif(
    not REAL.exists(), reason="the real market files are not on this machine (../shared/data)"
)
NAMES = {"open_at": "open_time", "volume_base": "volume", "volume_quote": "quote_volume", "n_trades": "trades"}
KLINES = raw_klines().drop("symbol", "source", "interval_min", "close_at", "unused").rename(NAMES)
FUNDING = raw_funding().select(
    funding_time="received_at", funding_rate="funding_rate", interval_hours="funding_interval_h"
)
LAYOUT = {Dataset.UM_OHLCV: "um/klines/15m", Dataset.UM_FUNDING: "um/funding", Dataset.SPOT_OHLCV: "spot/klines/15m"}


def write(folder, dataset, frame, symbol="BTCUSDT"):
    path = folder / LAYOUT[dataset] / f"{symbol}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def opened(folder, *, klines=KLINES, funding=FUNDING, spot=None):
    write(folder, Dataset.UM_OHLCV, klines)
    write(folder, Dataset.UM_FUNDING, funding)
    if spot is not None:
        write(folder, Dataset.SPOT_OHLCV, spot)
    return open_source(f"files:{folder}")


def test_a_month_comes_back_as_raw_rows(tmp_path):
    source = opened(tmp_path, spot=KLINES)
    expected = raw_klines(symbol="BTCUSDT").with_columns(source=pl.lit("files"))
    assert_frame_equal(expected, month_rows(source, Dataset.UM_OHLCV, "BTCUSDT", "2024-01"))
    assert_frame_equal(expected, month_rows(source, Dataset.SPOT_OHLCV, "BTCUSDT", "2024-01"))
    assert f"files:{tmp_path.resolve()}" == source.identity
    assert (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 31, 23, 45, tzinfo=UTC)) == source.span(
        Dataset.UM_OHLCV, "BTCUSDT"
    )


def test_other_months_are_empty_and_keep_the_schema(tmp_path):
    source = opened(tmp_path)
    for dataset in Dataset:
        assert_frame_equal(dataset.table.empty(), month_rows(source, dataset, "BTCUSDT", "2023-12"))


def test_spot_may_be_absent(tmp_path):
    source = opened(tmp_path)
    assert source.span(Dataset.SPOT_OHLCV, "BTCUSDT") is None
    assert month_rows(source, Dataset.SPOT_OHLCV, "BTCUSDT", "2024-01").is_empty()


def test_columns_the_file_lacks_or_has_only_null_are_null(tmp_path):
    bare = KLINES.drop("quote_volume", "trades").with_columns(taker_buy_base=pl.lit(None))
    rows = month_rows(opened(tmp_path, klines=bare), Dataset.UM_OHLCV, "BTCUSDT", "2024-01")
    assert rows.select("volume_quote", "n_trades", "taker_buy_base").null_count().row(0) == (rows.height,) * 3
    assert rows["taker_buy_quote"].null_count() == 0


@pytest.mark.parametrize("unit", ["ms", "us", "integer ms", "integer us", "ns"])
def test_every_honest_time_unit_gives_the_same_rows(tmp_path, unit):
    at = pl.col("open_time").dt
    times = at.epoch(unit[-2:]) if unit.startswith("integer") else at.cast_time_unit(unit)
    rows = month_rows(
        opened(tmp_path, klines=KLINES.with_columns(open_time=times)), Dataset.UM_OHLCV, "BTCUSDT", "2024-01"
    )
    assert_frame_equal(raw_klines(symbol="BTCUSDT").drop("source"), rows.drop("source"))


def test_duplicates_and_bad_values_are_kept_for_the_gates(tmp_path):
    bad = pl.concat([KLINES.head(2).with_columns(close=pl.lit(float("nan")), low=pl.lit(-1.0)), KLINES.head(2)]).sample(
        fraction=1, shuffle=True, seed=1
    )
    rows = month_rows(opened(tmp_path, klines=bad), Dataset.UM_OHLCV, "BTCUSDT", "2024-01")
    assert (rows.height, rows["close"].is_nan().sum(), (rows["low"] == -1).sum()) == (4, 2, 2)


def test_settlements_within_five_seconds_of_the_minute_are_put_on_it(tmp_path):
    stamps = [timedelta(seconds=5), timedelta(seconds=-5), timedelta(seconds=6), timedelta(0)]
    on = [datetime(2024, 1, 2, 8 * i, tzinfo=UTC) for i in range(3)] + [datetime(2024, 1, 3, tzinfo=UTC)]
    times = [at + late for at, late in zip(on, stamps, strict=True)]
    funding = pl.DataFrame({"funding_time": times, "funding_rate": [1e-4] * 4, "interval_hours": [8] * 4})
    rows = month_rows(opened(tmp_path, funding=funding), Dataset.UM_FUNDING, "BTCUSDT", "2024-01")
    assert rows["settled_at"].to_list() == [*on[:2], times[2], on[3]]
    assert rows["received_at"].to_list() == times


def test_a_settlement_stamped_just_before_midnight_belongs_to_the_next_month(tmp_path):
    funding = FUNDING.with_columns(funding_time=pl.col("funding_time") - pl.duration(milliseconds=5))
    source = opened(tmp_path, funding=funding)
    assert month_rows(source, Dataset.UM_FUNDING, "BTCUSDT", "2023-12").is_empty()
    assert month_rows(source, Dataset.UM_FUNDING, "BTCUSDT", "2024-01").height == FUNDING.height


def test_the_fingerprint_follows_the_months_rows_only(tmp_path):
    long_name = "A1234567890BCDEFUSDT"
    later = KLINES.with_columns(open_time=pl.col("open_time") + pl.duration(days=31))
    prints = []
    for frame in (
        KLINES,
        pl.concat([KLINES, later]),
        KLINES.with_columns(close=pl.col("close") + 1e-9),
        KLINES.head(-1),
    ):
        write(tmp_path, Dataset.UM_OHLCV, frame, long_name)
        prints.append(month_print(open_source(f"files:{tmp_path}"), Dataset.UM_OHLCV, long_name, "2024-01"))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_file_that_changes_is_read_again(tmp_path):
    source = opened(tmp_path)
    assert month_rows(source, Dataset.UM_OHLCV, "BTCUSDT", "2024-01").height == KLINES.height
    write(tmp_path, Dataset.UM_OHLCV, KLINES.head(10))
    assert month_rows(source, Dataset.UM_OHLCV, "BTCUSDT", "2024-01").height == 10


TIME = pl.col("open_time")
EPOCH = TIME.dt.epoch("ms")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (KLINES.drop("close"), "column close missing"),
        (KLINES.with_columns(pl.col("close").cast(pl.String)), "column close is String"),
        (KLINES.with_columns(pl.col("trades").cast(pl.String)), "column trades is String"),
        (KLINES.with_columns(close=pl.lit(None)), "column close is Null"),
        (KLINES.with_columns(TIME.dt.replace_time_zone(None)), "time zone none"),
        (KLINES.with_columns(TIME.dt.convert_time_zone("Europe/Berlin")), "time zone Europe/Berlin"),
        (KLINES.with_columns(TIME.dt.date()), "open_time is Date"),
        (KLINES.with_columns(EPOCH.cast(pl.Float64)), "open_time is Float64"),
        (KLINES.with_columns(EPOCH // 1000), "mixed or unknown epoch unit"),
        (KLINES.with_columns(EPOCH * 1_000_000), "mixed or unknown epoch unit"),
        (
            KLINES.with_columns(
                pl.when(pl.int_range(pl.len()) > 9).then(EPOCH * 1000).otherwise(EPOCH).alias("open_time")
            ),
            "mixed or unknown",
        ),
        (KLINES.with_columns(pl.when(pl.int_range(pl.len()) > 9).then(TIME)), "times"),
        (KLINES.clear(), "times"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_name(tmp_path, change, said):
    source = opened(tmp_path, klines=change)
    with pytest.raises(SourceError, match=said) as caught:
        month_rows(source, Dataset.UM_OHLCV, "BTCUSDT", "2024-01")
    assert str(tmp_path / "um/klines/15m/BTCUSDT.parquet") in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    source = opened(tmp_path)
    (tmp_path / "um/klines/15m/BTCUSDT.parquet").write_text("open_time,open\n")
    with pytest.raises(SourceError, match="cannot be read as parquet"):
        source.span(Dataset.UM_OHLCV, "BTCUSDT")


def test_funding_needs_its_interval(tmp_path):
    with pytest.raises(SourceError, match="column interval_hours missing"):
        month_rows(opened(tmp_path, funding=FUNDING.drop("interval_hours")), Dataset.UM_FUNDING, "BTCUSDT", "2024-01")


@pytest.mark.parametrize("symbol", ["DOGEUSDT", "../BTCUSDT", "", "btcusdt"])
def test_an_unknown_symbol_is_refused_with_those_that_exist(tmp_path, symbol):
    with pytest.raises(SourceError, match="it has BTCUSDT"):
        month_rows(opened(tmp_path), Dataset.UM_OHLCV, symbol, "2024-01")


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path):
    for spec, said in (
        (f"files:{tmp_path}/nowhere", "no such folder"),
        (f"files:{tmp_path}", "holds no data"),
        ("files:", "no such folder"),
    ):
        with pytest.raises(SourceError, match=said):
            open_source(spec)


@real_files
def test_four_real_years_of_two_symbols_are_read_in_three_cpu_seconds():
    source = open_source(f"files:{REAL}")
    months = months_between(datetime(2022, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    began = time.process_time()
    heights = {
        (dataset, symbol): sum(month_rows(source, dataset, symbol, month).height for month in months)
        for dataset in Dataset
        for symbol in ("BTCUSDT", "ETHUSDT")
    }
    assert time.process_time() - began < 3
    assert {140_256} == {heights[Dataset.UM_OHLCV, symbol] for symbol in ("BTCUSDT", "ETHUSDT")}
    assert {4_383} == {heights[Dataset.UM_FUNDING, symbol] for symbol in ("BTCUSDT", "ETHUSDT")}


@real_files
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_real_months_pass_the_gates_that_they_should(symbol):
    source = open_source(f"files:{REAL}")
    as_of = datetime(2026, 11, 1, tzinfo=UTC)

    def red(dataset, gates, month) -> set[str]:
        evidence = Evidence(
            dataset.table, Partition.of_month(symbol, month), month_rows(source, dataset, symbol, month), as_of
        )
        return {answer.verdict.gate for answer in ask_all(gates, evidence) if not answer.verdict.passed}

    for month in ("2022-06", "2022-10", "2023-03", "2025-01", "2025-12"):
        assert set() == red(Dataset.UM_OHLCV, GATES_RAW_UM_OHLCV, month)
        assert set() == red(Dataset.UM_FUNDING, GATES_RAW_UM_FUNDING, month)
    assert set() == red(Dataset.SPOT_OHLCV, GATES_RAW_SPOT_OHLCV, "2025-01")
    assert {"coverage", "complete"} <= red(Dataset.SPOT_OHLCV, GATES_RAW_SPOT_OHLCV, "2022-09")
    assert month_rows(open_source(f"files:{REAL}"), Dataset.UM_OHLCV, "BTCUSDT", "2024-01")["open"][0] == 42_314.0

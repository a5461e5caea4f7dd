import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import month_start
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile, daily_file, monthly_file
from backtest_assets.sources.archive.parse import (
    parse_funding_json,
    parse_klines_json,
    parse_member,
    parse_open_interest_json,
)
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.archive_files import (
    FUNDING_HEADER,
    KLINE_HEADER,
    LIQUIDATION_HEADER,
    METRICS_HEADER,
    funding_csv,
    kline_csv,
    liquidation_csv,
    made_rows,
    metrics_csv,
    there,
)

MONTH = "2024-01"
UM = there(monthly_file(Dataset.UM_OHLCV, "BTCUSDT", MONTH))
FUNDING = there(monthly_file(Dataset.UM_FUNDING, "BTCUSDT", MONTH))
METRICS = there(daily_file(Dataset.UM_OPEN_INTEREST, "BTCUSDT", date(2024, 1, 2)))
LIQUIDATIONS = there(daily_file(Dataset.UM_LIQUIDATIONS, "BTCUSDT", date(2024, 1, 2)))
START_MS = 1_704_067_200_000
QUARTER_MS = 900_000


def line(n=0, *, start=START_MS, unit=1, **cells: object) -> str:
    """The n-th kline of 2024 as the archive writes it; `unit` is 1 for ms and 1000 for us."""
    opened = (start + n * QUARTER_MS) * unit
    values = {
        "open_time": opened,
        "open": "100.0",
        "high": "102.5",
        "low": "99.5",
        "close": "101.0",
        "volume": "10.0",
        "close_time": opened + QUARTER_MS * unit - 1,
        "quote_volume": "1005.0",
        "count": 7,
        "taker_buy_volume": "4.0",
        "taker_buy_quote_volume": "402.0",
        "ignore": 0,
    } | cells
    return ",".join(str(value) for value in values.values())


def parsed(*lines: str, file=UM):
    return parse_member(file, "\n".join([*lines, ""]).encode(), source="test")


def refusal(*lines: str, file=UM):
    with pytest.raises(SourceError) as error:
        parsed(*lines, file=file)
    return str(error.value)


def test_a_kline_keeps_all_twelve_columns():
    expected = {
        "symbol": "BTCUSDT",
        "open_at": month_start(MONTH),
        "interval_min": 15,
        "open": 100.0,
        "high": 102.5,
        "low": 99.5,
        "close": 101.0,
        "volume_base": 10.0,
        "volume_quote": 1005.0,
        "n_trades": 7,
        "taker_buy_base": 4.0,
        "taker_buy_quote": 402.0,
        "close_at": month_start(MONTH) + timedelta(minutes=15, milliseconds=-1),
        "unused": 0.0,
        "source": "test",
    }
    assert [expected] == parsed(line()).to_dicts()
    assert Dataset.UM_OHLCV.table.schema == parsed(line()).schema


klines = st.builds(
    lambda start, count, seed: (start, count, seed), st.integers(0, 2_900), st.integers(1, 60), st.integers(0, 10**6)
)


@given(klines, st.sampled_from(["ms", "us"]), st.booleans(), st.sampled_from(list(INTERVALS)), st.data())
def test_what_is_written_in_either_unit_with_or_without_header_is_read_back(cut, unit, header, interval, data):
    start, count, _ = cut
    month = data.draw(st.sampled_from(["2020-02", "2024-12", "2025-01"]))
    dataset = data.draw(st.sampled_from([Dataset.UM_OHLCV, Dataset.SPOT_OHLCV]))
    file = there(monthly_file(dataset, "ETHUSDT", month, interval))
    prices = data.draw(st.lists(st.floats(1e-9, 1e9), min_size=count, max_size=count))
    at = pl.lit(file.start) + timedelta(minutes=INTERVALS[interval]) * (start % 2_000 + pl.int_range(count))
    one = timedelta(milliseconds=1) if unit == "ms" else timedelta(microseconds=1)
    rows = dataset.table.conform(
        pl.DataFrame({"open": prices}).with_columns(
            symbol=pl.lit("ETHUSDT"),
            open_at=at,
            interval_min=pl.lit(INTERVALS[interval]),
            high=pl.col("open") * 1.1,
            low=pl.col("open") / 1.1,
            close=pl.col("open").reverse(),
            volume_base=pl.col("open") / 3,
            volume_quote=pl.col("open") * 7,
            n_trades=pl.int_range(count),
            taker_buy_base=pl.col("open") / 6,
            taker_buy_quote=pl.lit(0.0),
            close_at=at + timedelta(minutes=INTERVALS[interval]) - one,
            unused=pl.lit(0.0),
            source=pl.lit("test"),
        )
    )
    assert_frame_equal(
        rows, parse_member(file, kline_csv(rows, header=header, unit=unit), source="test"), check_exact=True
    )


@pytest.mark.parametrize("dataset", Dataset)
def test_a_made_month_of_any_dataset_is_read_back(dataset):
    rows = made_rows(dataset, "BTCUSDT", MONTH).with_columns(source=pl.lit("test"))
    write = {
        Dataset.UM_FUNDING: funding_csv,
        Dataset.UM_OPEN_INTEREST: metrics_csv,
        Dataset.UM_LIQUIDATIONS: liquidation_csv,
    }.get(dataset, lambda frame: kline_csv(frame, header=True, unit="ms"))
    file = monthly_file(dataset, "BTCUSDT", MONTH)
    if file is None:
        day = there(daily_file(dataset, "BTCUSDT", date(2024, 1, 2)))
        file = ArchiveFile(day.key, dataset, "BTCUSDT", None, month_start(MONTH), month_start("2024-02"))
    assert_frame_equal(rows, parse_member(file, write(rows), source="test"), check_exact=True)


def test_rows_come_in_order_and_repeated_ones_stay():
    rows = parsed(line(2), line(0), line(2, volume="11.0"), line(1))
    assert [0, 15, 30, 30] == [at.minute for at in rows["open_at"]]
    assert [10.0, 11.0] == rows["volume_base"].to_list()[2:]


def test_a_header_is_read_by_name_in_any_order_and_by_every_name_the_exchange_used():
    names = KLINE_HEADER.split(",")
    backwards = ",".join(reversed(names)), ",".join(reversed(line().split(",")))
    assert_frame_equal(parsed(line()), parsed(*backwards))
    old = KLINE_HEADER.replace("quote_volume,count", "quote_asset_volume,number_of_trades").replace(
        "taker_buy_volume,taker_buy_quote_volume", "taker_buy_base_asset_volume,taker_buy_quote_asset_volume"
    )
    assert_frame_equal(parsed(line()), parsed(old, line()))


@pytest.mark.parametrize(
    "header",
    [
        KLINE_HEADER.replace("open_time", "opened"),
        KLINE_HEADER.replace(",ignore", ""),
        f"{KLINE_HEADER},note",
        KLINE_HEADER.replace("high", "low"),
        "<html>",
    ],
)
def test_a_changed_header_is_refused_and_shown(header):
    assert f"line 1: its header is '{header}', known is open_time,open" in refusal(header, line())


def test_line_ends_of_another_system_make_no_difference():
    content = f"{KLINE_HEADER}\r\n{line()}\r\n{line(1)}\r\n".encode()
    assert_frame_equal(parsed(line(), line(1)), parse_member(UM, content, source="test"))


@pytest.mark.parametrize("head", ["", f"{KLINE_HEADER}\n"])
@pytest.mark.parametrize(("before", "after"), [("\ufeff", "\n"), ("", "\n\n \r\n"), ("", "")])
def test_a_byte_order_mark_and_blank_lines_at_the_end_make_no_difference(head, before, after):
    content = f"{before}{head}{line()}\n{line(1)}{after}".encode()
    assert_frame_equal(parsed(line(), line(1)), parse_member(UM, content, source="test"))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([line(), line(1, high="")], "line 2: high is empty or missing; fetch it again"),
        ([line(), line(1, count="")], "line 2: n_trades is empty"),
        ([KLINE_HEADER, line(), line(1, high="")], "line 3: high is empty"),
        ([line(), line(1).rsplit(",", 1)[0]], "line 2: unused is empty or missing"),
        ([line(), "", line(1)], "line 2: open_time is empty"),
        ([line(), line(1, close="n/a")], "line 2: close is 'n/a', not a number"),
        ([line(), line(1, close="nan")], "line 2: close is nan, not a number"),
        ([line(), line(1, volume="inf")], "line 2: volume_base is inf, not a number"),
        ([line(), line(1, close="1_000")], "line 2: close is '1_000', not a number"),
        ([line(), line(1, count="1_000")], "line 2: n_trades is '1_000', not a whole number"),
        ([line(), line(1, count="7.5")], "line 2: n_trades is '7.5', not a whole number"),
        ([line(), line(1, open_time="2024-01-01")], "line 2: open_time is '2024-01-01', not a whole number"),
        ([line(), f"{line(1)},5"], "line 2: has 13 cells, not 12"),
        ([line(), line(1, open_time=START_MS + QUARTER_MS + 1)], "is not on the grid of 15 minutes"),
        ([line(), line(1, close_time=START_MS + 2 * QUARTER_MS)], "is not open_time 1704068100000 + 15 minutes - 1 ms"),
        ([line(0, unit=1000, close_time=(START_MS + QUARTER_MS) * 1000 - 1000)], "+ 15 minutes - 1 us"),
        ([KLINE_HEADER], "holds no rows"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(lines, why):
    message = refusal(*lines)
    assert message.startswith("BTCUSDT-15m-2024-01.csv")
    assert why in message


def test_an_empty_file_is_refused():
    with pytest.raises(SourceError, match=r"2024-01\.csv: is empty; fetch it again"):
        parse_member(UM, b"", source="test")
    with pytest.raises(SourceError, match=r"2024-01\.csv: is empty; fetch it again"):
        parse_member(UM, b"\xef\xbb\xbf\n", source="test")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([line(0, start=START_MS // 1000, unit=1)], "line 1: open_time 1704067200 lies"),
        ([line(0), line(0, start=START_MS * 1000)], "line 2: open_time"),
        ([line(0), line(1, unit=1000)], "line 2: open_time 1704068100000000 is of another unit than the rows before"),
        ([line(0, unit=1000), line(1)], "line 2: open_time 1704068100000 is of another unit than the rows before"),
        ([line(0, unit=1000), line(1, unit=1_000_000)], "line 2: open_time 1704068100000000000 lies"),
        ([line(0), line(33 * 96)], "outside 2024-01-01 to 2024-02-01"),
        ([line(0, start=START_MS - 2 * 86_400_000)], "outside 2024-01-01 to 2024-02-01"),
    ],
)
def test_a_time_of_another_unit_or_another_file_is_refused(lines, why):
    assert why in refusal(*lines)


def test_klines_within_a_day_of_the_month_are_kept():
    assert 3 == parsed(line(-96), line(0), line(31 * 96 + 95)).height


def test_klines_without_an_interval_are_refused():
    file = ArchiveFile(UM.key, Dataset.UM_OHLCV, "BTCUSDT", None, UM.start, UM.end)
    assert "klines need their interval" in refusal(line(), file=file)


def test_settlements_lie_on_the_hour_and_keep_when_they_were_received():
    late = [START_MS + 47, START_MS + 8 * 3_600_000 + 5_000, START_MS + 16 * 3_600_000 + 5_001]
    rows = parsed(FUNDING_HEADER, *(f"{at},8,9.5E-7" for at in late), file=FUNDING)
    start = month_start(MONTH)
    hour = timedelta(hours=1)
    assert [start, start + 8 * hour, start + 16 * hour + timedelta(milliseconds=5_001)] == rows["settled_at"].to_list()
    assert [47_000, 5_000_000, 5_001_000] == (rows["received_at"].dt.epoch("us") % 3_600_000_000).to_list()
    assert ([9.5e-7] * 3, [8.0] * 3) == (rows["funding_rate"].to_list(), rows["funding_interval_h"].to_list())


def metric(at, *, symbol="BTCUSDT", ratios="1.5,1.25,2.0,0.5"):
    return f"{at},{symbol},80000.500,3200000000.25,{ratios}"


def test_a_snapshot_up_to_a_minute_late_belongs_to_its_five_minutes():
    rows = parsed(METRICS_HEADER, metric("2024-01-02 00:05:00"), metric("2024-01-02 00:11:00"), file=METRICS)
    assert [5, 10] == [at.minute for at in rows["snapshot_at"]]
    message = refusal(METRICS_HEADER, metric("2024-01-02 00:05:00"), metric("2024-01-02 00:11:01"), file=METRICS)
    assert "line 3: create_time 2024-01-02 00:11:01 is more than 60 s after its 5 minutes" in message


def test_ratios_are_told_apart_and_null_where_the_file_says_nothing():
    quoted = metric("2024-01-02 00:10:00", ratios='"","","",0.5')
    rows = parsed(METRICS_HEADER, metric("2024-01-02 00:05:00"), quoted, file=METRICS)
    names = ("top_trader_account_ratio", "top_trader_position_ratio", "account_ratio", "taker_volume_ratio")
    assert [(1.5, 1.25, 2.0, 0.5), (None, None, None, 0.5)] == rows.select(names).rows()
    assert (80_000.5, 3_200_000_000.25) == rows.select("open_interest_base", "open_interest_quote").row(0)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (metric("2024-01-02 00:05:00", symbol="ETHUSDT"), "symbol ETHUSDT is not BTCUSDT"),
        (metric("1704067200000"), "create_time '1704067200000' is not YYYY-MM-DD HH:MM:SS"),
        (metric("2024-03-02 00:05:00"), "create_time 2024-03-02 00:05:00 is not within a day of 2024-01-02"),
        ("2024-01-02 00:05:00,BTCUSDT,,3200000000.25,1,1,1,1", "open_interest_base is empty"),
    ],
)
def test_metrics_that_cannot_be_are_refused(row, why):
    assert f"BTCUSDT-metrics-2024-01-02.csv line 2: {why}" in refusal(METRICS_HEADER, row, file=METRICS)


def test_a_line_that_lacks_cells_is_not_taken_for_one_with_empty_cells():
    short = metric("2024-01-02 00:10:00").rsplit(",", 4)[0]
    lines = (METRICS_HEADER, metric("2024-01-02 00:05:00"), short)
    assert "BTCUSDT-metrics-2024-01-02.csv line 3: has 4 cells, not 8" in refusal(*lines, file=METRICS)


def test_two_stamps_of_one_five_minutes_are_refused_and_one_stamp_twice_is_for_the_gates():
    first, second = "2024-01-02 00:05:00", "2024-01-02 00:05:30"
    message = refusal(METRICS_HEADER, metric(first), metric(second), file=METRICS)
    assert f"line 3: create_time {second} lies in the same 5 minutes as {first}" in message
    assert 2 == parsed(METRICS_HEADER, metric(first), metric(first), file=METRICS).height


def test_a_liquidation_is_worth_its_contracts_and_equal_ones_are_counted():
    at = START_MS + 86_400_000
    order = f"{at},SELL,LIMIT,IOC,7,30741.3,30631.6,FILLED,6,7"
    later = f"{at + 5},BUY,LIMIT,IOC,1,1,30000.5,FILLED,1,1"
    for lines in ([later, order, order], [LIQUIDATION_HEADER, later, order, order]):
        rows = parsed(*lines, file=LIQUIDATIONS)
        assert [(0, "SELL", 7.0, 700.0), (1, "SELL", 7.0, 700.0), (0, "BUY", 1.0, 100.0)] == rows.select(
            "ordinal", "order_side", "filled_contracts", "notional_quote"
        ).rows()
        assert {("BTCUSD_PERP", 100.0)} == set(rows.select("contract", "contract_size_quote").rows())
    small = there(daily_file(Dataset.UM_LIQUIDATIONS, "SOLUSDT", date(2024, 1, 2)))
    assert [70.0] == parsed(order, file=small)["notional_quote"].to_list()


def order(n, *, price=30741.3):
    """The n-th liquidation order of 2024-01-02."""
    return f"{START_MS + 86_400_000 + n},SELL,LIMIT,IOC,7,{price},30631.6,FILLED,6,7"


@pytest.mark.parametrize(
    ("orders", "kept"),
    [
        ([0, 0, 1, 1, 2, 2], [0, 1, 2]),  # as the exchange writes them
        ([0, 1, 2, 0, 1, 2], [0, 1, 2]),  # in whatever order
        ([0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 2]),  # a true repetition is a repetition still
        ([0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2, 2]),  # one of an odd number: repetitions are true
        ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2]),
        ([0, 0, 1, 1], [0, 0, 1, 1]),  # two pairs may be chance
        ([0, 1, 2], [0, 1, 2]),
    ],
)
def test_where_the_exchange_wrote_every_order_twice_each_is_taken_once(orders, kept):
    rows = parsed(*(order(n) for n in orders), file=LIQUIDATIONS)
    assert kept == [at.microsecond // 1000 for at in rows["liquidated_at"]]
    ordinals = [kept[:i].count(n) for i, n in enumerate(kept)]
    assert ordinals == rows["ordinal"].to_list()


def test_orders_that_differ_in_a_cell_that_is_not_kept_are_not_the_same():
    pairs = [order(n, price=price) for n in range(3) for price in (30741.3, 30741.4)]
    assert [0, 1, 0, 1, 0, 1] == parsed(*pairs, file=LIQUIDATIONS)["ordinal"].to_list()


def test_a_day_without_liquidations_is_an_empty_day():
    rows = parsed(LIQUIDATION_HEADER, file=LIQUIDATIONS)
    assert_frame_equal(Dataset.UM_LIQUIDATIONS.table.empty(), rows)


def rest_kline(n=0, *, start=START_MS, **cells: object):
    """A kline as the REST interface sends it: prices are texts, times and counts numbers."""
    return [json.loads(cell) if cell.isdigit() else cell for cell in line(n, start=start, unit=1, **cells).split(",")]


def test_rest_klines_are_the_archives_klines():
    for dataset in (Dataset.UM_OHLCV, Dataset.SPOT_OHLCV):
        content = json.dumps([rest_kline(0), rest_kline(1)]).encode()
        rows = parse_klines_json(dataset, "BTCUSDT", 15, content, source="test")
        assert_frame_equal(parsed(line(0), line(1)), rows)
        assert_frame_equal(dataset.table.empty(), parse_klines_json(dataset, "BTCUSDT", 15, b"[]", source="test"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>", "the answer is not JSON"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "answered .*Invalid symbol"),
        (b"[[1,2]]", "row 1: open_time is empty|row 1: has 2 cells"),
        (b"[7]", "row 1: '7' is no row of texts and numbers"),
        (json.dumps([rest_kline(0), rest_kline(1)[:-1]]).encode(), "row 2: unused is empty or missing"),
        (json.dumps([rest_kline(0), [None, *rest_kline(1)[1:]]]).encode(), "row 2: .* is no row"),
        (json.dumps([rest_kline(0, high="1,5")]).encode(), "row 1: has 13 cells"),
        (json.dumps([rest_kline(0, high="high")]).encode(), "row 1: high is 'high', not a number"),
        (json.dumps([rest_kline(0)]).replace('"100.0"', "NaN").encode(), "row 1: open is nan"),
        (json.dumps([rest_kline(0, start=START_MS // 1000)]).encode(), "row 1: open_time 1704067200 lies"),
    ],
)
def test_a_rest_answer_that_is_not_rows_is_refused(content, why):
    with pytest.raises(SourceError, match=f"raw_um_ohlcv BTCUSDT REST answer.*({why})"):
        parse_klines_json(Dataset.UM_OHLCV, "BTCUSDT", 15, content, source="test")


def rest_funding(hours, *, symbol="BTCUSDT"):
    rows = [
        {"symbol": symbol, "fundingTime": START_MS + hour * 3_600_000 + 3, "fundingRate": "0.0001", "markPrice": ""}
        for hour in hours
    ]
    return json.dumps(rows).encode()


def test_rest_settlements_cover_the_hours_since_the_one_before():
    rows = parse_funding_json("BTCUSDT", rest_funding([0, 8, 16, 20, 22, 22, 23, 31]), source="test")
    assert [8.0, 8.0, 8.0, 4.0, 2.0, 2.0, 1.0, 8.0] == rows["funding_interval_h"].to_list()
    assert {3_000} == set((rows["received_at"] - rows["settled_at"]).dt.total_microseconds())
    empty = parse_funding_json("BTCUSDT", b"[]", source="test")
    assert_frame_equal(Dataset.UM_FUNDING.table.empty(), empty)


@pytest.mark.parametrize(
    ("hours", "intervals"),
    [
        ([0, 8, 24, 32], [8, 8, 8, 8]),  # 16 is skipped
        ([0, 16, 24], [8, 8, 8]),
        ([0, 8, 20, 24], [8, 8, 4, 4]),  # 16 or 12 and 16 are: 12 h are no multiple of the 8 before
        ([0, 4, 8, 248], [4, 4, 4, 4]),
    ],
)
def test_a_rest_settlement_after_a_skipped_one_has_the_interval_of_its_neighbours(hours, intervals):
    rows = parse_funding_json("BTCUSDT", rest_funding(hours), source="test")
    assert intervals == rows["funding_interval_h"].to_list()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (rest_funding([0]), "the settlement of 2024-01-01 00:00 lies alone"),
        (rest_funding([0, 16]), "the settlement of 2024-01-01 00:00 lies 16 h"),
        (rest_funding([0, 8, 19]), "the settlement of 2024-01-01 19:00 lies 11 h after the one before"),
        (rest_funding([0, 3]), "3 h after the one before"),
        (rest_funding([0, 8], symbol="ETHUSDT"), "row 1: symbol ETHUSDT is not BTCUSDT"),
        (b'[{"symbol":"BTCUSDT","fundingTime":1}]', "row 1: has no fundingRate"),
    ],
)
def test_rest_settlements_whose_hours_are_not_known_are_refused(content, why):
    with pytest.raises(SourceError, match=why):
        parse_funding_json("BTCUSDT", content, source="test")


def test_rest_open_interest_has_no_ratios():
    row = {
        "symbol": "BTCUSDT",
        "sumOpenInterest": "80000.5",
        "sumOpenInterestValue": "3200000000.25",
        "CMCCirculatingSupply": "19600000.0",
        "timestamp": START_MS,
    }
    rows = parse_open_interest_json(
        "BTCUSDT", json.dumps([row | {"timestamp": START_MS + 300_000}, row]).encode(), source="test"
    )
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert [start, start + timedelta(minutes=5)] == rows["snapshot_at"].to_list()
    assert (80_000.5, 3_200_000_000.25) == rows.select("open_interest_base", "open_interest_quote").row(0)
    assert (2,) * 4 == rows.select(pl.col("^.*_ratio$")).null_count().row(0)
    assert parse_open_interest_json("BTCUSDT", b"[]", source="test").is_empty()
    with pytest.raises(SourceError, match="timestamp 1704067320000 is more than 60 s after its 5 minutes"):
        parse_open_interest_json(
            "BTCUSDT", json.dumps([row | {"timestamp": START_MS + 120_000}]).encode(), source="test"
        )
    with pytest.raises(SourceError, match="row 2: timestamp 1704067201000 lies in the same 5 minutes as 1704067200000"):
        parse_open_interest_json(
            "BTCUSDT", json.dumps([row, row | {"timestamp": START_MS + 1_000}]).encode(), source="test"
        )

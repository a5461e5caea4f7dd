import os
import shutil
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import daily_file, monthly_file
from backtest_assets.sources.archive.source import ArchiveSource
from backtest_assets.sources.archive.unzip import ChecksumError
from backtest_assets.sources.base import Dataset, Origin, Slice
from backtest_assets.sources.open import open_source, source_identity
from backtest_assets_tests.archive_files import (
    archive_zip,
    checksum_text,
    daily_files,
    funding_csv,
    kline_zip,
    made_rows,
    metrics_zip,
    put,
    put_csv,
    there,
    write_archive,
)

MONTH = "2024-02"
START, END = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
UM = there(monthly_file(Dataset.UM_OHLCV, "BTCUSDT", MONTH))
ROWS = {dataset: made_rows(dataset, "BTCUSDT", MONTH) for dataset in Dataset}
DAYS = daily_files(Dataset.UM_OHLCV, "BTCUSDT", MONTH)


def wanted(dataset=Dataset.UM_OHLCV, start=START, end=END, symbol="BTCUSDT"):
    return Slice(dataset, symbol, start, end)


def fetched(folder, dataset=Dataset.UM_OHLCV, start=START, end=END, *, as_of=LATER):
    return ArchiveSource(str(folder)).fetch(wanted(dataset, start, end), as_of=as_of)


def at(dataset):
    return pl.col(dataset.instant)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, ["BTCUSDT"], [MONTH], datasets=list(Dataset))
    return folder


@pytest.fixture
def archive(written, tmp_path):
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize("dataset", Dataset)
def test_a_month_comes_back_whole_with_what_it_came_from(archive, dataset):
    given = fetched(archive, dataset)
    assert_frame_equal(ROWS[dataset], given.frame)
    assert (START, END) == (given.origins[0].start, given.origins[-1].end)
    assert all(len(there(origin.sha256)) == 64 and not origin.name.startswith("/") for origin in given.origins)
    n_files = 29 if dataset in {Dataset.UM_OPEN_INTEREST, Dataset.UM_LIQUIDATIONS} else 1
    assert n_files == len(given.origins)


@pytest.mark.parametrize("dataset", Dataset)
def test_a_part_of_a_month_is_that_part(archive, dataset):
    start, end = START + 4 * DAY, START + 11 * DAY
    given = fetched(archive, dataset, start, end)
    assert_frame_equal(ROWS[dataset].filter((at(dataset) >= start) & (at(dataset) < end)), given.frame)
    assert (start, end) == (given.origins[0].start, given.origins[-1].end)


def test_days_are_read_where_there_is_no_month_and_absent_ones_are_named(tmp_path):
    for file in DAYS[2:5] + DAYS[20:]:
        put(tmp_path, file, archive_zip(file, ROWS[Dataset.UM_OHLCV]))
    given = fetched(tmp_path)
    assert (3 + 9) * 96 == given.frame.height
    absent = [(origin.name, origin.start, origin.end) for origin in given.origins if origin.sha256 is None]
    expected = [(DAYS[0].key, START, START + 2 * DAY), (DAYS[5].key, START + 5 * DAY, START + 20 * DAY)]
    assert expected == absent
    assert [DAYS[n].key for n in (2, 3, 4, *range(20, 29))] == [one.name for one in given.origins if one.sha256]


@pytest.mark.parametrize("dataset", Dataset)
def test_a_month_without_files_is_one_absent_stretch(archive, dataset):
    start, end = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    given = fetched(archive, dataset, start, end)
    assert_frame_equal(dataset.table.empty(), given.frame)
    assert [(None, start, end)] == [(origin.sha256, origin.start, origin.end) for origin in given.origins]


def test_days_that_the_month_lacks_are_filled_from_their_own_files_and_said_so(tmp_path):
    rows = ROWS[Dataset.UM_OHLCV]
    short = rows.filter(~pl.col("open_at").dt.day().is_in([10, 20]) | (pl.col("open_at").dt.hour() < 12))
    put(tmp_path, UM, kline_zip(UM, short))
    for file in (DAYS[9], DAYS[15]):
        put(tmp_path, file, archive_zip(file, rows))
    given = fetched(tmp_path)
    assert_frame_equal(
        rows.filter((pl.col("open_at").dt.day() != 20) | (pl.col("open_at").dt.hour() < 12)), given.frame
    )
    assert [UM.key, DAYS[9].key] == [origin.name for origin in given.origins]


def test_a_day_without_a_row_does_not_spoil_the_month_beside_it(tmp_path):
    short = ROWS[Dataset.UM_OHLCV].filter(pl.col("open_at").dt.day() != 10)
    put(tmp_path, UM, kline_zip(UM, short))
    put(tmp_path, DAYS[9], kline_zip(DAYS[9], short.clear()))
    given = fetched(tmp_path)
    assert_frame_equal(short, given.frame)
    assert [(UM.key, True), (DAYS[9].key, False)] == [(one.name, one.sha256 is not None) for one in given.origins]


def test_where_month_and_day_differ_the_month_holds(tmp_path):
    rows = ROWS[Dataset.UM_OHLCV]
    put(tmp_path, UM, kline_zip(UM, rows.filter(pl.col("open_at") != START)))
    put(tmp_path, DAYS[0], archive_zip(DAYS[0], rows.with_columns(volume_base=pl.lit(7.0))))
    given = fetched(tmp_path).frame
    assert_frame_equal(rows.tail(-1), given.tail(-1))
    assert (START, 7.0) == given.select("open_at", "volume_base").row(0)


def test_the_first_snapshot_of_a_month_lies_in_the_file_of_the_day_before(tmp_path):
    file = there(daily_file(Dataset.UM_OPEN_INTEREST, "BTCUSDT", date(2024, 1, 31)))
    last = ROWS[Dataset.UM_OPEN_INTEREST].head(1)
    put(tmp_path, UM, kline_zip(UM, ROWS[Dataset.UM_OHLCV]))
    put(tmp_path, file, metrics_zip(file, last))
    given = fetched(tmp_path, Dataset.UM_OPEN_INTEREST)
    assert_frame_equal(last, given.frame)
    assert [(None, START, END)] == [(origin.sha256, origin.start, origin.end) for origin in given.origins]


def test_a_bare_member_is_as_good_as_its_zip(tmp_path):
    file = there(monthly_file(Dataset.UM_FUNDING, "BTCUSDT", MONTH))
    put_csv(tmp_path, file, funding_csv(ROWS[Dataset.UM_FUNDING]))
    given = fetched(tmp_path, Dataset.UM_FUNDING)
    assert_frame_equal(ROWS[Dataset.UM_FUNDING], given.frame)
    assert [file.key.replace(".zip", ".csv")] == [origin.name for origin in given.origins]
    put(tmp_path, file, archive_zip(file, ROWS[Dataset.UM_FUNDING].head(5)))
    assert 5 == fetched(tmp_path, Dataset.UM_FUNDING).frame.height


@pytest.mark.parametrize("dataset", [Dataset.UM_OHLCV, Dataset.UM_FUNDING, Dataset.UM_OPEN_INTEREST])
def test_what_was_not_closed_when_it_was_asked_is_left_out(archive, dataset):
    as_of = START + 3 * DAY + timedelta(minutes=20)
    frame = fetched(archive, dataset, as_of=as_of).frame
    expected = {Dataset.UM_OHLCV: timedelta(minutes=0), Dataset.UM_FUNDING: timedelta(0)}.get(
        dataset, timedelta(minutes=20)
    )
    assert START + 3 * DAY + expected == frame[dataset.instant][-1]
    at_close = START + timedelta(minutes=15)
    assert 1 == fetched(archive, as_of=at_close).frame.height
    assert 0 == fetched(archive, as_of=at_close - timedelta(milliseconds=1)).frame.height


def test_a_checksum_beside_a_file_must_hold(archive):
    path = archive / f"{UM.key}.CHECKSUM"
    path.write_text(checksum_text(b"other bytes", UM))
    source = ArchiveSource(str(archive))
    for ask in (source.fetch, source.fingerprint):
        with pytest.raises(ChecksumError, match=r"BTCUSDT-15m-2024-02\.zip: its SHA-256"):
            ask(wanted(), as_of=LATER)


def test_a_damaged_file_is_refused_by_name(archive):
    (archive / f"{UM.key}.CHECKSUM").unlink()
    (archive / UM.key).write_bytes((archive / UM.key).read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"BTCUSDT-15m-2024-02\.zip: is no whole zip"):
        fetched(archive)


def test_the_fingerprint_follows_bytes_and_names_and_nothing_else(archive):
    source = ArchiveSource(str(archive))
    seen = source.fingerprint(wanted(), as_of=LATER)
    path = archive / UM.key
    os.utime(path, (1, 1))
    assert seen == source.fingerprint(wanted(), as_of=LATER + DAY)
    put(archive, DAYS[3], archive_zip(DAYS[3], ROWS[Dataset.UM_OHLCV]))
    beside = source.fingerprint(wanted(), as_of=LATER)
    put(archive, UM, kline_zip(UM, ROWS[Dataset.UM_OHLCV].head(100)))
    assert 3 == len({seen, beside, source.fingerprint(wanted(), as_of=LATER)})


def test_a_month_that_is_not_over_changes_its_fingerprint_with_its_rows_only(archive):
    source = ArchiveSource(str(archive))
    early, same, later = (
        source.fingerprint(wanted(), as_of=START + DAY + timedelta(minutes=minutes)) for minutes in (1, 14, 16)
    )
    assert (True, False) == (early == same, early == later)


def test_the_span_is_told_by_the_names(archive):
    source = ArchiveSource(str(archive))
    last = END - timedelta(microseconds=1)
    assert {(START, last)} == {source.span(dataset, "BTCUSDT") for dataset in Dataset}
    late = there(daily_file(Dataset.UM_OHLCV, "BTCUSDT", date(2024, 3, 5)))
    put(archive, late, b"not read")
    assert (START, last + 5 * DAY) == source.span(Dataset.UM_OHLCV, "BTCUSDT")
    write_archive(archive, ["ETHUSDT"], [MONTH], datasets=[Dataset.UM_FUNDING])
    assert source.span(Dataset.UM_OHLCV, "ETHUSDT") is None


def test_a_symbol_without_a_coin_margined_twin_has_no_liquidations(archive):
    write_archive(archive, ["ETHBTC"], [MONTH], datasets=[Dataset.UM_OHLCV])
    source = ArchiveSource(str(archive))
    assert source.span(Dataset.UM_LIQUIDATIONS, "ETHBTC") is None
    given = source.fetch(wanted(Dataset.UM_LIQUIDATIONS, symbol="ETHBTC"), as_of=LATER)
    assert given.frame.is_empty()
    assert [(None, START, END)] == [(origin.sha256, origin.start, origin.end) for origin in given.origins]


def test_an_unknown_symbol_is_refused(archive):
    source = ArchiveSource(str(archive))
    with pytest.raises(SourceError, match="unknown symbol 'XRPUSDT'; it has BTCUSDT"):
        source.span(Dataset.UM_OHLCV, "XRPUSDT")
    with pytest.raises(SourceError, match="unknown symbol 'XRPUSDT'"):
        source.fetch(wanted(symbol="XRPUSDT"), as_of=LATER)


def test_listings_are_those_declared_beside_the_data(archive):
    source = ArchiveSource(str(archive))
    assert source.listing(Dataset.UM_OHLCV, "BTCUSDT") is None
    (archive / "instruments.csv").write_text("symbol,market,listed_at,delisted_at\nBTCUSDT,um,2019-09-08,\n")
    listing = Listing(datetime(2019, 9, 8, tzinfo=UTC))
    assert (listing, None) == tuple(
        source.listing(dataset, "BTCUSDT") for dataset in (Dataset.UM_FUNDING, Dataset.SPOT_OHLCV)
    )


def test_klines_of_a_minute_are_another_source(tmp_path):
    write_archive(tmp_path, ["BTCUSDT"], [MONTH], interval="1m")
    with pytest.raises(SourceError, match=r"has no 15m klines but 1m; give archive_dir:.*:1m"):
        ArchiveSource(str(tmp_path))
    source = open_source(f"archive_dir:{tmp_path}:1m")
    assert f"archive_dir:{tmp_path}:1m" == source.identity == source_identity(source.identity)
    assert_frame_equal(made_rows(Dataset.UM_OHLCV, "BTCUSDT", MONTH, "1m"), source.fetch(wanted(), as_of=LATER).frame)


def test_a_folder_that_is_not_there_or_has_nothing_is_refused(tmp_path):
    with pytest.raises(SourceError, match="there is no such folder"):
        ArchiveSource(str(tmp_path / "none"))
    with pytest.raises(SourceError, match="there is no such folder"):
        ArchiveSource("")
    with pytest.raises(SourceError, match="holds no data; it needs data/futures/um/monthly/klines"):
        ArchiveSource(str(tmp_path))
    assert f"archive_dir:{tmp_path}/none" == ArchiveSource.identify(f"{tmp_path}/none:15m")


def test_an_empty_month_knows_that_its_file_is_there(archive):
    start = datetime(2024, 2, 29, tzinfo=UTC)
    put(archive, UM, kline_zip(UM, ROWS[Dataset.UM_OHLCV].filter(pl.col("open_at") < start)))
    given = fetched(archive, start=start)
    assert 0 == given.frame.height
    (origin,) = given.origins
    assert Origin(UM.key, origin.sha256, start, END) == origin
    assert origin.sha256 is not None

"""Bytes of the archive's files and of REST answers to rows of raw tables; finding and unpacking them stays out.

What is certain to be broken is refused here, with its place. What may be the market's own doing (a zero volume, a gap, a
duplicate, a low above a high) is kept for the gates to judge.

Source: the exchange's files as described in github.com/binance/binance-public-data; facts are pinned on real files by
`backtest_assets_tests/sources/test_archive_real.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import MICROSECOND, MINUTE_US, epoch_us
from backtest_assets.domain.exchange import FUNDING_INTERVALS_H, SNAPSHOT_EVERY, contract_size_quote
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.columns import (
    FUNDING,
    KLINES,
    LIQUIDATIONS,
    METRICS,
    REST_FUNDING,
    REST_OPEN_INTEREST,
)
from backtest_assets.sources.archive.epochs import SLACK, US_PER_UNIT, epoch_unit
from backtest_assets.sources.archive.layout import ArchiveFile, cm_contract
from backtest_assets.sources.archive.text import Sheet, read_json, read_text
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.files.parse import SETTLEMENT_JITTER_S
from backtest_assets.tables.contract import INSTANT

PARSER_VERSION: Final = 2
"""To be raised whenever the same bytes give other rows: part of every fingerprint."""

SNAPSHOT_JITTER_S: Final = 60
"""A snapshot stamped this much after its 5 minutes belongs to them [s]; readers wait 5 minutes for it anyway."""

DOUBLED_DISTINCT_MIN: Final = 3
"""From so many distinct orders on, a file in which each stands an even number of times has all of them written twice."""

_Columns = Mapping[str, pl.Expr]
_HOUR_MS: Final = 3_600_000
_SNAPSHOT_MIN: Final = SNAPSHOT_EVERY // timedelta(minutes=1)
_DECADES: Final = (datetime(2017, 7, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))  # the exchange opened in 2017-07


def parse_member(file: ArchiveFile, content: bytes, *, source: str) -> pl.DataFrame:
    """Read the CSV member of an archive file.

    Args:
        file: what the file is about.
        content: the member's bytes.
        source: kind of source, for the rows' `source`.

    Returns:
        Every row in the dataset's raw table, in key order, duplicates kept; not clipped to the file's dates.

    Raises:
        SourceError: naming file, line and fix if the content is not what the exchange writes.
    """
    sheet, made = _read(file, content)
    n_rows = [sheet.frame.height]
    return _rows(file.dataset, _once(file.dataset, sheet.frame, n_rows), made, symbol=file.symbol, source=source)


def parse_members(members: Sequence[tuple[ArchiveFile, bytes]], *, source: str) -> pl.DataFrame:
    """Read the CSV members of several files of one dataset and symbol, for example the days of a month.

    As `parse_member` of each, put together; but read as one text where they are alike: a month of daily files in a third of the time.

    Args:
        members: what each file is about, and its member's bytes.
        source: kind of source, for the rows' `source`.

    Returns:
        Every row in the dataset's raw table, in key order, duplicates kept; not clipped to the files' dates.

    Raises:
        SourceError: as `parse_member` does, for the first file that is not what the exchange writes.
    """
    file = members[0][0]
    joined = _join(members)
    if joined is None:
        frames = [parse_member(one, content, source=source) for one, content in members]
        return pl.concat(frames).sort(file.dataset.table.key, maintain_order=True)
    frame, made = joined
    return _rows(file.dataset, frame, made, symbol=file.symbol, source=source)


def _join(members: Sequence[tuple[ArchiveFile, bytes]]) -> tuple[pl.DataFrame, _Columns] | None:
    """Read members as one text; None if they are not alike or anything is wrong: read alone, each says what and where."""
    files, contents = zip(*members, strict=True)
    if any(not content.endswith(b"\n") for content in contents):
        return None
    head = b"" if contents[0][:1].isdigit() else contents[0].partition(b"\n")[0] + b"\n"
    if any(not content.startswith(head) or (not head and not content[:1].isdigit()) for content in contents):
        return None
    bodies = [content[len(head) :] for content in contents]
    whole = replace(files[0], start=min(file.start for file in files), end=max(file.end for file in files))
    try:
        sheet, made = _read(whole, head + b"".join(bodies))
    except SourceError:
        return None
    # Joined, a time was held against the dates of all files; alone it would be against those of its own.
    n_rows = [body.count(b"\n") for body in bodies]
    at_us = sheet.frame.select_seq(made[whole.dataset.instant].to_physical()).to_series().to_numpy()
    if sum(n_rows) != len(at_us):
        return None
    low = np.repeat([epoch_us(file.start - SLACK) for file in files], n_rows)
    high = np.repeat([epoch_us(file.end + SLACK) for file in files], n_rows)
    if not np.all((low <= at_us) & (at_us < high)):
        return None
    return _once(whole.dataset, sheet.frame, n_rows), made


def _once(dataset: Dataset, frame: pl.DataFrame, n_rows: Sequence[int]) -> pl.DataFrame:
    """Take every liquidation once: many files of the exchange have each order twice, not always one after the other.

    Of a file with at least `DOUBLED_DISTINCT_MIN` distinct rows, each an even number of times, half of each are taken. By
    chance that many orders do not all come in equal pairs; of fewer nobody can tell, and all are kept.

    Args:
        dataset: only liquidations are ever doubled.
        frame: rows of files one after the other.
        n_rows: how many are each file's; every file is judged alone, whatever is read with it.

    Source: github.com/binance/binance-public-data issues 259 (all rows of a USD-M file twice) and 337 (each row double);
        dev.binance.vision/t/22392 (BTCUSD_PERP: each order simply included twice).
    """
    if dataset is not Dataset.UM_LIQUIDATIONS or frame.is_empty():
        return frame
    row = ("file", *frame.columns)
    told = frame.with_columns(pl.Series("file", np.repeat(np.arange(len(n_rows)), n_rows))).with_columns(
        nth=pl.int_range(pl.len()).over(row), n_alike=pl.len().over(row)
    )
    n_distinct, is_even = (pl.col("nth") == 0).sum().over("file"), (pl.col("n_alike") % 2 == 0).all().over("file")
    is_second = (n_distinct >= DOUBLED_DISTINCT_MIN) & is_even & (pl.col("nth") >= pl.col("n_alike") // 2)
    return told.filter(~is_second).select(frame.columns)


def _read(file: ArchiveFile, content: bytes) -> tuple[Sheet, _Columns]:
    name = f"{file.stem}.csv"
    match file.dataset:
        case Dataset.UM_OHLCV | Dataset.SPOT_OHLCV:
            if file.interval_min is None:
                message = f"{name}: klines need their interval; make the file with monthly_file or daily_file"
                raise SourceError(message)
            sheet = read_text(content, KLINES, name=name)
            return sheet, _klines(sheet, file.interval_min, file.start, file.end)
        case Dataset.UM_FUNDING:
            sheet = read_text(content, FUNDING, name=name)
            return sheet, _settlements(sheet, file.start, file.end)
        case Dataset.UM_OPEN_INTEREST:
            # Where a ratio is not known, files write nothing or a quoted nothing.
            sheet = read_text(content.replace(b'""', b""), METRICS, name=name)
            return sheet, _metrics(sheet, file)
        case Dataset.UM_LIQUIDATIONS:
            sheet = read_text(content, LIQUIDATIONS, name=name)
            return sheet, _liquidations(sheet, file)


def parse_klines_json(dataset: Dataset, symbol: str, interval_min: int, content: bytes, *, source: str) -> pl.DataFrame:
    """Read an answer of `/fapi/v1/klines` or `/api/v3/klines`; none is an answer too.

    Args:
        dataset: um or spot klines.
        symbol: instrument.
        interval_min: interval that was asked for [min].
        content: the answer's bytes.
        source: kind of source, for the rows' `source`.

    Returns:
        Every row in the raw table, in key order; the newest may not be closed yet.

    Raises:
        SourceError: naming row and fix if the answer is not what the exchange sends.
    """
    sheet = read_json(content, KLINES, name=f"{dataset.value} {symbol} REST answer")
    if sheet.frame.is_empty():
        return dataset.table.empty()
    return _rows(dataset, sheet.frame, _klines(sheet, interval_min, *_DECADES), symbol=symbol, source=source)


def parse_funding_json(symbol: str, content: bytes, *, source: str) -> pl.DataFrame:
    """Read an answer of `/fapi/v1/fundingRate`, which does not say how many hours a rate covers.

    A settlement covers the hours since the one before; the first takes the hours to the next. So ask for a few
    settlements more than wanted, before the stretch. Where settlements are left out, the next has its neighbour's
    interval, of which the hours are a multiple: the hole stays to be seen.

    Args:
        symbol: instrument.
        content: the answer's bytes.
        source: kind of source, for the rows' `source`.

    Returns:
        Every row in `raw_um_funding`, in key order, duplicates kept.

    Raises:
        SourceError: naming row and fix if the answer is not what the exchange sends, holds a single settlement, or has
            hours between two that are neither one of `FUNDING_INTERVALS_H` nor a multiple of a neighbour's.
    """
    dataset = Dataset.UM_FUNDING
    sheet = read_json(content, REST_FUNDING, name=f"{dataset.value} {symbol} REST answer")
    if sheet.frame.is_empty():
        return dataset.table.empty()
    sheet.check(_other_symbol(symbol))
    made = _settlements(sheet, *_DECADES)
    settled = _with_intervals(sheet.frame.with_columns(**made), sheet.name)
    return _rows(dataset, settled, {}, symbol=symbol, source=source)


def parse_open_interest_json(symbol: str, content: bytes, *, source: str) -> pl.DataFrame:
    """Read an answer of `/futures/data/openInterestHist` at 5 minutes; it has no ratios, they are null.

    Args:
        symbol: instrument.
        content: the answer's bytes.
        source: kind of source, for the rows' `source`.

    Returns:
        Every row in `raw_um_open_interest`, in key order, duplicates kept.

    Raises:
        SourceError: naming row and fix if the answer is not what the exchange sends.
    """
    dataset = Dataset.UM_OPEN_INTEREST
    sheet = read_json(content, REST_OPEN_INTEREST, name=f"{dataset.value} {symbol} REST answer")
    if sheet.frame.is_empty():
        return dataset.table.empty()
    at = _instant("timestamp", epoch_unit(sheet, "timestamp", *_DECADES))
    told = _with_stamps(sheet, at)
    told.check(_other_symbol(symbol), _off_grid(pl.col("stamp"), "timestamp"))
    _check_slots(told, "timestamp")
    lacking = {name: pl.lit(None, pl.Float64()) for name in METRICS.may_be_empty}
    return _rows(dataset, sheet.frame, {"snapshot_at": _grid(at), **lacking}, symbol=symbol, source=source)


def _klines(sheet: Sheet, interval_min: int, start: datetime, end: datetime) -> _Columns:
    unit = epoch_unit(sheet, "open_time", start, end)
    step = interval_min * MINUTE_US // US_PER_UNIT[unit]
    opened, closed = pl.col("open_time"), pl.col("close_time")
    length = f"{interval_min} minutes"
    sheet.check(
        (opened % step != 0, f"open_time {{open_time}} is not on the grid of {length}; fetch it again"),
        (
            closed - opened != step - 1,
            f"close_time {{close_time}} is not open_time {{open_time}} + {length} - 1 {unit}; fetch it again",
        ),
    )
    return {
        "open_at": _instant("open_time", unit),
        "close_at": _instant("close_time", unit),
        "interval_min": pl.lit(interval_min, pl.Int64()),
    }


def _settlements(sheet: Sheet, start: datetime, end: datetime) -> _Columns:
    at = _instant("calc_time", epoch_unit(sheet, "calc_time", start, end))
    hour = at.dt.round("1h")
    is_near = (at - hour).abs() <= pl.duration(seconds=SETTLEMENT_JITTER_S)
    return {"received_at": at, "settled_at": pl.when(is_near).then(hour).otherwise(at)}


def _with_intervals(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    # Whole milliseconds until the end: Polars divides by a scalar with a rounded reciprocal, 8 h come out as 7.999999999999999.
    spacing = pl.col("settled_at").diff().dt.total_milliseconds().fill_null(strategy="backward", limit=1)
    known_ms = [hours * _HOUR_MS for hours in FUNDING_INTERVALS_H]
    spaced = rows.select(pl.col("settled_at").unique().sort()).with_columns(spacing.alias("spacing_ms"))
    apart, usual = pl.col("spacing_ms"), pl.when(pl.col("spacing_ms").is_in(known_ms)).then("spacing_ms")
    neighbours = (usual.forward_fill(), usual.backward_fill())
    interval = pl.coalesce(usual, *(pl.when(apart % near == 0).then(near) for near in neighbours))
    spaced = spaced.with_columns(interval_ms=interval)
    strange = spaced.filter(pl.col("interval_ms").is_null())
    if not strange.is_empty():
        at, found_ms, _ = strange.row(0)
        where = "alone" if found_ms is None else f"{found_ms / _HOUR_MS:g} h after the one before"
        known = ", ".join(map(str, FUNDING_INTERVALS_H))
        message = f"{name}: the settlement of {at:%Y-%m-%d %H:%M} lies {where}, known intervals are {known} h; ask for a longer stretch"
        raise SourceError(message)
    hours = (pl.col("interval_ms") // _HOUR_MS).cast(pl.Float64()).alias("funding_interval_h")
    return rows.join(spaced.select("settled_at", hours), on="settled_at", maintain_order="left")


def _metrics(sheet: Sheet, file: ArchiveFile) -> _Columns:
    at = pl.col("create_time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", time_zone="UTC", strict=False)
    told, stamp = _with_stamps(sheet, at), pl.col("stamp")
    told.check(
        _other_symbol(file.symbol),
        (stamp.is_null(), "create_time {create_time!r} is not YYYY-MM-DD HH:MM:SS; fetch it again"),
        (
            ~stamp.to_physical().is_between(epoch_us(file.start - SLACK), epoch_us(file.end + SLACK), closed="left"),
            f"create_time {{create_time}} is not within a day of {file.start:%Y-%m-%d}; it is another file's, fetch it again",
        ),
        _off_grid(stamp, "create_time"),
    )
    _check_slots(told, "create_time")
    return {"snapshot_at": _grid(at)}


def _grid(at: pl.Expr) -> pl.Expr:
    return at.dt.truncate(SNAPSHOT_EVERY)


def _off_grid(at: pl.Expr, column: str) -> tuple[pl.Expr, str]:
    late = f"is more than {SNAPSHOT_JITTER_S} s after its {_SNAPSHOT_MIN} minutes; fetch it again"
    late_us = at.to_physical() % (SNAPSHOT_EVERY // MICROSECOND)
    return late_us > SNAPSHOT_JITTER_S * 1_000_000, f"{column} {{{column}}} {late}"


def _with_stamps(sheet: Sheet, at: pl.Expr) -> Sheet:
    return replace(sheet, frame=sheet.frame.with_columns(at.alias("stamp")))  # read once, asked about often


def _check_slots(sheet: Sheet, column: str) -> None:
    # The same stamp twice is for the gates; of two stamps nobody can tell which is the snapshot of their 5 minutes.
    stamp = sheet.frame["stamp"]
    if stamp.n_unique() == stamp.dt.truncate(SNAPSHOT_EVERY).n_unique():
        return
    first = pl.col(column).first().over(_grid(pl.col("stamp")))
    told = replace(sheet, frame=sheet.frame.with_columns(first_stamp=first))
    message = f"{column} {{{column}}} lies in the same {_SNAPSHOT_MIN} minutes as {{first_stamp}}; fetch it again"
    told.check((pl.col(column) != pl.col("first_stamp"), message))


def _liquidations(sheet: Sheet, file: ArchiveFile) -> _Columns:
    unit = "ms" if sheet.frame.is_empty() else epoch_unit(sheet, "time", file.start, file.end)
    contract = cm_contract(file.symbol)
    size = contract_size_quote(contract)
    return {
        "liquidated_at": _instant("time", unit),
        "ordinal": pl.int_range(pl.len(), dtype=pl.Int64()).over("time"),
        "contract": pl.lit(contract, pl.String()),
        "contract_size_quote": pl.lit(size, pl.Float64()),
        "notional_quote": pl.col("filled_contracts") * size,
    }


def _other_symbol(symbol: str) -> tuple[pl.Expr, str]:
    return pl.col("symbol") != symbol, f"symbol {{symbol}} is not {symbol}; it is another instrument's, fetch it again"


def _instant(column: str, unit: str) -> pl.Expr:
    return (pl.col(column) * US_PER_UNIT[unit]).cast(INSTANT)


def _rows(dataset: Dataset, frame: pl.DataFrame, made: _Columns, *, symbol: str, source: str) -> pl.DataFrame:
    """Take the table's columns: those made, symbol and source, and the rest as they were read."""
    table = dataset.table
    known = {**made, "symbol": pl.lit(symbol, pl.String()), "source": pl.lit(source, pl.String())}
    rows = frame.select_seq(known.get(column.name, pl.col(column.name)).alias(column.name) for column in table.columns)
    in_order = len(table.key) == len(("symbol", "instant")) and rows[dataset.instant].is_sorted()
    return rows if in_order else rows.sort(table.key, maintain_order=True)

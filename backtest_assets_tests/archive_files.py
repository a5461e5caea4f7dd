"""Files of the exchange's public archive, written by hand: single zips of given rows, or a whole local archive."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import numpy as np
import polars as pl

from backtest_assets.domain.clock import month_end, month_of, month_start
from backtest_assets.domain.exchange import contract_size_quote
from backtest_assets.sources.archive.layout import (
    INTERVALS,
    ArchiveFile,
    cm_contract,
    daily_file,
    monthly_file,
)
from backtest_assets.sources.base import Dataset

KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
LIQUIDATION_HEADER = (
    "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
    "accumulated_fill_quantity"
)
KLINES = (Dataset.UM_OHLCV, Dataset.SPOT_OHLCV)
REQUIRED = (Dataset.UM_OHLCV, Dataset.UM_FUNDING, Dataset.SPOT_OHLCV)
SPOT_IN_US = datetime(2025, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
Unit = Literal["ms", "us"]
T = TypeVar("T")


def there(found: T | None) -> T:
    """What is known to be there: the monthly file of a dataset that has some, a listing, a number."""
    assert found is not None
    return found


def zip_of(members, *, level=6):
    """A zip of `(name, bytes)` pairs with a fixed clock, so equal members give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=level)
    return buffer.getvalue()


def member_zip(file: ArchiveFile, csv: bytes, *, level: int = 6) -> bytes:
    """A zip that holds the CSV under the name the archive gives it."""
    return zip_of([(f"{file.stem}.csv", csv)], level=level)


def checksum_text(content: bytes, file: ArchiveFile) -> str:
    """The exchange's `.CHECKSUM` of a file: no newline at its end."""
    return f"{hashlib.sha256(content).hexdigest()}  {file.name}"


def csv_of(frame: pl.DataFrame, *, header: str | None) -> bytes:
    """Rows as the exchange writes them, under a header line if there is one."""
    text = frame.write_csv(include_header=False).encode()
    return text if header is None else f"{header}\n".encode() + text


def kline_csv(frame: pl.DataFrame, *, header: bool, unit: Unit) -> bytes:
    """Raw kline rows as the archive's text, with epochs in `ms` or `us`."""
    one = MS if unit == "ms" else timedelta(microseconds=1)
    length = pl.duration(minutes=pl.col("interval_min"))
    columns = frame.select(
        pl.col("open_at").dt.epoch(unit),
        "open",
        "high",
        "low",
        "close",
        "volume_base",
        (pl.col("open_at") + length - one).dt.epoch(unit).alias("close_at"),
        pl.col("volume_quote").fill_null(0.0),
        pl.col("n_trades").fill_null(0),
        pl.col("taker_buy_base").fill_null(0.0),
        pl.col("taker_buy_quote").fill_null(0.0),
        pl.lit(0).alias("unused"),
    )
    return csv_of(columns, header=KLINE_HEADER if header else None)


def kline_zip(file: ArchiveFile, frame: pl.DataFrame, *, header: bool | None = None, unit: Unit | None = None) -> bytes:
    """Raw kline rows as a zip; header and unit are those the exchange gives that market and time, unless named."""
    is_spot = file.dataset is Dataset.SPOT_OHLCV
    header = not is_spot if header is None else header
    unit = unit or ("us" if is_spot and file.start >= SPOT_IN_US else "ms")
    return member_zip(file, kline_csv(frame, header=header, unit=unit))


def funding_csv(frame: pl.DataFrame) -> bytes:
    """Raw settlements as the archive's text."""
    columns = frame.select(
        pl.col("received_at").dt.epoch("ms"), pl.col("funding_interval_h").cast(pl.Int64), "funding_rate"
    )
    return csv_of(columns, header=FUNDING_HEADER)


def funding_zip(file: ArchiveFile, frame: pl.DataFrame) -> bytes:
    """Raw settlements as a zip."""
    return member_zip(file, funding_csv(frame))


def metrics_csv(frame: pl.DataFrame) -> bytes:
    """Raw open interest as the archive's text."""
    columns = frame.select(
        pl.col("snapshot_at").dt.strftime("%Y-%m-%d %H:%M:%S"),
        "symbol",
        "open_interest_base",
        "open_interest_quote",
        "top_trader_account_ratio",
        "top_trader_position_ratio",
        "account_ratio",
        "taker_volume_ratio",
    )
    return csv_of(columns, header=METRICS_HEADER)


def metrics_zip(file: ArchiveFile, frame: pl.DataFrame) -> bytes:
    """Raw open interest as a zip."""
    return member_zip(file, metrics_csv(frame))


def liquidation_csv(frame: pl.DataFrame, *, header: bool = True) -> bytes:
    """Raw liquidations as the archive's text."""
    columns = frame.select(
        pl.col("liquidated_at").dt.epoch("ms"),
        "order_side",
        pl.lit("LIMIT").alias("order_type"),
        pl.lit("IOC").alias("time_in_force"),
        pl.col("filled_contracts").alias("original_quantity"),
        pl.col("average_price").alias("price"),
        "average_price",
        pl.lit("FILLED").alias("order_status"),
        pl.col("filled_contracts").alias("last_fill_quantity"),
        "filled_contracts",
    )
    return csv_of(columns, header=LIQUIDATION_HEADER if header else None)


def liquidation_zip(file: ArchiveFile, frame: pl.DataFrame, *, header: bool = True) -> bytes:
    """Raw liquidations as a zip."""
    return member_zip(file, liquidation_csv(frame, header=header))


ZIPS = {
    Dataset.UM_OHLCV: kline_zip,
    Dataset.SPOT_OHLCV: kline_zip,
    Dataset.UM_FUNDING: funding_zip,
    Dataset.UM_OPEN_INTEREST: metrics_zip,
    Dataset.UM_LIQUIDATIONS: liquidation_zip,
}


def archive_zip(file: ArchiveFile, rows: pl.DataFrame) -> bytes:
    """The zip of a file, given rows of its raw table; rows outside the file's stretch are left out."""
    at = pl.col(file.dataset.instant)
    return ZIPS[file.dataset](file, rows.filter((at >= file.start) & (at < file.end)))


def put(root, file: ArchiveFile, content: bytes, *, checksum: bool = True) -> None:
    """Write a file below an archive's root, with its `.CHECKSUM` beside it."""
    path = root / file.key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if checksum:
        path.with_name(f"{path.name}.CHECKSUM").write_text(checksum_text(content, file))


def put_csv(root, file: ArchiveFile, csv: bytes) -> None:
    """Write the bare member where the zip would be, as local mirrors do."""
    path = (root / file.key).with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv)


def days_of(month: str) -> list[datetime]:
    """Midnights of a month."""
    start, end = month_start(month), month_end(month)
    return [start + timedelta(days=n) for n in range((end - start).days)]


def daily_files(dataset: Dataset, symbol: str, month: str, interval: str = "15m") -> list[ArchiveFile]:
    """The daily files of a month."""
    return [file for day in days_of(month) if (file := daily_file(dataset, symbol, day, interval))]


def made_rows(dataset: Dataset, symbol: str, month: str, interval: str = "15m", *, seed: int = 0) -> pl.DataFrame:
    """A month of made rows of any raw table; a pure function of its arguments, months fit together.

    Spot and um of a symbol share one path; prices are of cents, funding is every 8 hours, snapshots every 5 minutes.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{dataset}{symbol}{month}".encode())])
    made = {
        Dataset.UM_FUNDING: _funding,
        Dataset.UM_OPEN_INTEREST: _open_interest,
        Dataset.UM_LIQUIDATIONS: _liquidations,
    }
    rows = (
        made[dataset](rng, month, symbol)
        if dataset in made
        else _klines(rng, dataset, symbol, month, interval, seed=seed)
    )
    return dataset.table.conform(rows.with_columns(symbol=pl.lit(symbol), source=pl.lit("archive_dir")))


def write_archive(
    folder,
    symbols: Iterable[str],
    months: Iterable[str],
    *,
    interval: str = "15m",
    datasets: Collection[Dataset] = REQUIRED,
    daily: Collection[str] = (),
    seed: int = 0,
    checksum: bool = True,
) -> list[ArchiveFile]:
    """Write a whole local archive of made rows.

    Args:
        folder: its root; `data/..` is created below.
        symbols: instruments.
        months: labels `YYYY-MM`.
        interval: of the klines.
        datasets: what to write; open interest and liquidations are daily always.
        daily: months whose klines are written by day instead of by month.
        seed: of the made rows.
        checksum: whether each zip gets a `.CHECKSUM`.

    Returns:
        The files written.
    """
    months = tuple(months)
    written: list[ArchiveFile] = []
    for symbol in symbols:
        for dataset in datasets:
            for month in months:
                whole = monthly_file(dataset, symbol, month, interval)
                by_day = whole is None or (month in daily and dataset in KLINES)
                files = daily_files(dataset, symbol, month, interval) if by_day else [there(whole)]
                rows = made_rows(dataset, symbol, month, interval, seed=seed)
                for file in files:
                    put(folder, file, archive_zip(file, rows), checksum=checksum)
                written += files
    return written


def _instants(month: str, minutes: int) -> pl.Series:
    start, end = month_start(month), month_end(month)
    return pl.datetime_range(start, end, f"{minutes}m", closed="left", time_unit="us", time_zone="UTC", eager=True)


def _closes(symbol: str, month: str, seed: int, minutes: int) -> np.ndarray:
    """Closes of a month, the last of the month before first: a bridge between prices that the months agree on."""
    n = len(_instants(month, minutes))
    first, last = (_level(symbol, label, seed) for label in (month, month_of(month_end(month))))
    steps = np.random.default_rng([seed, zlib.crc32(f"{symbol}{month}".encode())]).standard_normal(n)
    walk = np.concatenate([[0.0], np.cumsum(steps * 0.002 * np.sqrt(minutes / 15))])
    bridge = walk - np.linspace(0, 1, n + 1) * walk[-1]
    return np.round(np.exp(np.log(first) + np.linspace(0, 1, n + 1) * np.log(last / first) + bridge), 2)


def _level(symbol: str, month: str, seed: int) -> float:
    noise = np.random.default_rng([seed, zlib.crc32(f"level {symbol} {month}".encode())]).normal()
    return round(1_000.0 * float(np.exp(0.05 * noise)), 2)


def _klines(rng, dataset: Dataset, symbol: str, month: str, interval: str, *, seed: int) -> pl.DataFrame:
    minutes = INTERVALS[interval]
    at = _instants(month, minutes)
    closes = _closes(symbol, month, seed, minutes) * (0.9995 if dataset is Dataset.SPOT_OHLCV else 1.0)
    opens, closes = closes[:-1], closes[1:]
    wick = np.abs(rng.normal(0, 0.0005, (2, len(at))))
    volume = np.round(rng.lognormal(3, 0.5, len(at)), 3)
    bought = np.round(volume * rng.uniform(0.3, 0.7, len(at)), 3)
    return pl.DataFrame(
        {
            "open_at": at,
            "interval_min": np.full(len(at), minutes),
            "open": np.round(opens, 2),
            "high": np.round(np.maximum(opens, closes) * (1 + wick[0]), 2),
            "low": np.round(np.minimum(opens, closes) * (1 - wick[1]), 2),
            "close": np.round(closes, 2),
            "volume_base": volume,
            "volume_quote": np.round(volume * (opens + closes) / 2, 5),
            "n_trades": rng.integers(1, 5_000, len(at)),
            "taker_buy_base": bought,
            "taker_buy_quote": np.round(bought * (opens + closes) / 2, 5),
            "unused": np.zeros(len(at)),
        }
    ).with_columns(
        close_at=pl.col("open_at")
        + timedelta(minutes=minutes)
        - (MS if dataset is Dataset.UM_OHLCV or month < "2025-01" else timedelta(microseconds=1))
    )


def _funding(rng, month: str, symbol: str) -> pl.DataFrame:  # noqa: ARG001  # one signature for all makers
    at = _instants(month, 8 * 60)
    late_ms = rng.integers(0, 20, len(at))
    return pl.DataFrame({"settled_at": at}).with_columns(
        received_at=pl.col("settled_at") + pl.Series(1_000 * late_ms).cast(pl.Duration("us")),
        funding_rate=pl.Series(np.round(rng.normal(1e-4, 1e-4, len(at)), 8)),
        funding_interval_h=pl.lit(8.0),
    )


def _open_interest(rng, month: str, symbol: str) -> pl.DataFrame:  # noqa: ARG001  # one signature for all makers
    at = _instants(month, 5)
    base = np.round(80_000 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(at)))), 3)
    ratios = np.round(rng.uniform(0.5, 2, (4, len(at))), 8)
    return pl.DataFrame(
        {
            "snapshot_at": at,
            "open_interest_base": base,
            "open_interest_quote": np.round(base * 1_000, 5),
            "top_trader_account_ratio": ratios[0],
            "top_trader_position_ratio": ratios[1],
            "account_ratio": ratios[2],
            "taker_volume_ratio": ratios[3],
        }
    )


def _liquidations(rng, month: str, symbol: str) -> pl.DataFrame:
    days = (month_end(month) - month_start(month)).days
    offsets_ms = np.unique(rng.integers(0, days * 86_400_000, 20 * days))
    contract = cm_contract(symbol)
    filled_contracts = rng.integers(1, 500, len(offsets_ms)).astype(float)
    return pl.DataFrame({"filled_contracts": filled_contracts}).with_columns(
        liquidated_at=pl.lit(month_start(month)) + pl.Series(1_000 * offsets_ms).cast(pl.Duration("us")),
        ordinal=pl.lit(0),
        contract=pl.lit(contract),
        order_side=pl.Series(rng.choice(["BUY", "SELL"], len(offsets_ms))),
        average_price=pl.Series(np.round(rng.uniform(900, 1_100, len(offsets_ms)), 1)),
        contract_size_quote=pl.lit(contract_size_quote(contract)),
        notional_quote=pl.col("filled_contracts") * contract_size_quote(contract),
    )

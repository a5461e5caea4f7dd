"""Asking a source for a whole month, as most tests do."""

from datetime import UTC, datetime

import polars as pl

from backtest_assets.sources.base import Dataset, Slice, Source

LATER = datetime(2026, 6, 1, tzinfo=UTC)


def month_rows(source: Source, dataset: Dataset, symbol: str, month: str) -> pl.DataFrame:
    return source.fetch(Slice.of_month(dataset, symbol, month), as_of=LATER).frame


def month_print(source: Source, dataset: Dataset, symbol: str, month: str) -> str:
    return source.fingerprint(Slice.of_month(dataset, symbol, month), as_of=LATER)

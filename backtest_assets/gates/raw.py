"""Questions about raw rows, asked before they are published: here klines; settlements, snapshots and orders have their own.

What a source gave wrong is an ERROR here. What it did not give is a remark: a month may come in parts, and how much may be
missing is decided where it is used, by the gates of the clean tables.
"""

import math
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import MINUTE_US, epoch_us
from backtest_assets.domain.exchange import KLINE_MINUTES
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limit_gate, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.listed import listing_gates
from backtest_assets.gates.rows import (
    bar_span,
    inside_partition,
    is_amount,
    is_on,
    market_gates,
    missing_share,
    no_duplicates,
    tail_age,
)

_PRICE_ROUNDING: Final = (
    1e-4  # relative; some sources round traded values, while a unit mistake is a factor of ten or more
)
_PRICES: Final = ("open", "high", "low", "close")
_VALUES: Final = (*_PRICES, "volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
_INGEST: Final = "ingest the missing days; what stays missing is an explicit gap in the bars, and their gates decide"


def _on_grid(evidence: Evidence) -> pl.Series:
    own = evidence.frame["interval_min"]
    usual = own.mode().max()  # so that a few odd klines are named, not the many others
    if not isinstance(usual, int) or usual not in KLINE_MINUTES:
        return pl.repeat(value=False, n=own.len(), dtype=pl.Boolean(), eager=True)
    return (own == usual) & is_on(evidence.frame["open_at"], timedelta(minutes=usual))


def _closed(evidence: Evidence) -> pl.Series:
    length_us = evidence.frame["interval_min"] * MINUTE_US
    return evidence.frame["open_at"].to_physical() + length_us <= epoch_us(evidence.as_of)


def _ohlc_sane(evidence: Evidence) -> pl.Series:
    rows = evidence.frame
    opened, high, low, close, volume = (rows[name] for name in (*_PRICES, "volume_base"))
    ordered = (low <= opened) & (low <= close) & (opened <= high) & (close <= high)
    kept = ordered & (low > 0) & (high < math.inf) & is_amount(volume)
    optional = (
        is_amount(rows["volume_quote"]),
        rows["n_trades"] >= 0,
        is_amount(rows["taker_buy_base"]) & (rows["taker_buy_base"] <= volume),
        is_amount(rows["taker_buy_quote"]) & (rows["taker_buy_quote"] <= rows["volume_quote"]),
    )
    for one in optional:
        kept &= one if one.null_count() == 0 else one.fill_null(value=True)  # null is "the source lacks it"
    return kept


def _odd_values(evidence: Evidence) -> Measured:
    rows = evidence.frame
    base, value = rows["volume_base"], rows["volume_quote"]
    if base.null_count():
        return float("nan"), f"{base.null_count()} klines have no volume"
    traded = (value.is_not_null()) & ((base > 0) | (value > 0))
    n_traded = int(traded.sum())
    if not n_traded:
        return 0.0, "no kline says what was traded in quote units"
    within = (value >= rows["low"] * base * (1 - _PRICE_ROUNDING)) & (
        value <= rows["high"] * base * (1 + _PRICE_ROUNDING)
    )
    odd = traded & ~within.fill_null(value=False)
    n_odd = int(odd.sum())
    text = f"{n_odd} of {n_traded} klines with a volume"
    shown = (
        rows.select("symbol", "open_at", "low", "high", "volume_base", "volume_quote").filter(odd) if n_odd else None
    )
    return (n_odd / n_traded, text) if shown is None else (n_odd / n_traded, text, shown)


def _missing_klines(evidence: Evidence) -> Measured:
    minutes = evidence.frame["interval_min"].max()
    if not isinstance(minutes, int) or minutes not in KLINE_MINUTES:
        return float("nan"), f"no kline says a length of {KLINE_MINUTES} minutes"
    span = bar_span(evidence, evidence.frame)
    return missing_share(evidence.frame["open_at"], span, timedelta(minutes=minutes), "klines")


def _kline_gates(gap_share_max: str) -> tuple[Gate, ...]:
    return market_gates(
        inside_partition("open_at"),
        *listing_gates("open_at"),
        no_duplicates("open_at"),
        rows_gate(
            "on_grid",
            f"Every kline opens on the UTC grid of its interval, one of {KLINE_MINUTES} minutes and one in the month.",
            breaking(_on_grid, ("symbol", "open_at", "interval_min")),
            fix="the times are shifted or intervals are mixed: mend the source's file and ingest again",
        ),
        rows_gate(
            "only_closed_bars",
            "No kline is younger than the moment of asking.",
            breaking(_closed, ("symbol", "open_at", "close")),
            fix="what is not closed yet will still change: leave it out of the source and ingest again later",
        ),
        rows_gate(
            "ohlc_sane",
            "Prices are finite and > 0, low <= open, close <= high; volumes >= 0, taker buys no more than the total.",
            breaking(_ohlc_sane, ("open_at", *_VALUES)),
            fix="the source's rows are corrupt: get the month from the exchange's archive again",
        ),
        limited_gate(
            "value_at_a_price",
            "Share of klines whose volume_quote / volume_base is no price between low and high; null values are not judged.",
            _odd_values,
            setting="odd_value_share_max",
            fix="the units of the two volumes do not fit: check whether they are base and quote units, not contracts or "
            "thousands, and ingest again; leave volume_quote empty where it is unknown",
        ),
        limited_gate(
            "coverage",
            "Share of the month's expected klines that are missing (R33, R35); a remark, because a month may come in parts.",
            _missing_klines,
            setting=gap_share_max,
            fix=f"bars of this month would be refused: {_INGEST}",
            severity=Severity.WARN,
        ),
        limit_gate(
            "complete",
            "Every expected kline is there; a remark, because exchanges do close now and then.",
            _missing_klines,
            limit=0,
            unit="share of klines",
            fix=_INGEST,
            severity=Severity.WARN,
        ),
        tail_age("open_at"),
    )


GATES_RAW_UM_OHLCV: Final = _kline_gates("um_gap_share_max")
GATES_RAW_SPOT_OHLCV: Final = _kline_gates("spot_gap_share_max")

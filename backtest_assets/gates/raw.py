"""Questions about raw rows, asked before they are published; cleaning them and judging their completeness stay out.

What a source gave wrong is an ERROR here. What it did not give is a remark: a month may come in parts, and how much may be
missing is decided where it is used, by the gates of the clean tables.
"""

import math
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import Measured, breaking, limit_gate, limited_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.listed import listing_gates
from backtest_assets.gates.rows import (
    bar_span,
    in_us,
    inside_partition,
    market_gates,
    missing_share,
    no_duplicates,
    tail_age,
)
from backtest_assets.gates.settlements import changes_confirmed, settlements_complete
from backtest_assets.research.bars.calendar import expected_span

KLINE_MINUTES: Final = (1, 5, 15)
"""Lengths of klines that bars can be made from [min]."""

FUNDING_INTERVALS_H: Final = (1.0, 2.0, 4.0, 8.0)
"""Intervals the exchange settles at [h]; each divides a day, so 00:00 UTC is a settlement of all of them."""

CONTRACT_SIZE_QUOTE: Final = {"BTCUSD_PERP": 100.0}
"""Face value of a COIN-M contract [USD]; 10 for every coin that is not named."""

_OTHER_SIZE_QUOTE: Final = 10.0
_SNAPSHOT: Final = timedelta(minutes=5)  # distance of two open interest snapshots
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE_US: Final = 60_000_000
_HOUR_US: Final = 3_600_000_000
_QUOTES: Final = r"(USDT|USDC|BUSD)$"
_ROUNDING: Final = 1e-9  # relative; a product is rounded once
_PRICE_ROUNDING: Final = (
    1e-4  # relative; some sources round traded values, while a unit mistake is a factor of ten or more
)
_TELLING_H: Final = 240.0  # no 10 days of BTC, ETH or SOL had a median |rate| above 0.17 %; shorter storms had 2 %
_PRICES: Final = ("open", "high", "low", "close")
_VALUES: Final = (*_PRICES, "volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
_RATIOS: Final = ("top_trader_account_ratio", "top_trader_position_ratio", "account_ratio", "taker_volume_ratio")
_INGEST: Final = "ingest the missing days; what stays missing is an explicit gap in the bars, and their gates decide"
_TAIL: Final = "top the month up, or look whether the source still delivers"


def _on_grid(evidence: Evidence) -> pl.Series:
    own = evidence.frame["interval_min"]
    usual = own.mode().max()  # so that a few odd klines are named, not the many others
    if not isinstance(usual, int) or usual not in KLINE_MINUTES:
        return pl.repeat(value=False, n=own.len(), dtype=pl.Boolean(), eager=True)
    return (own == usual) & _is_on(evidence.frame["open_at"], timedelta(minutes=usual))


def _is_on(at: pl.Series, step: timedelta) -> pl.Series:
    return at.to_physical() % (step // _MICROSECOND) == 0


def _until(evidence: Evidence, instant: str) -> pl.Series:
    return evidence.frame[instant].to_physical() <= in_us(evidence.as_of)


def _closed(evidence: Evidence) -> pl.Series:
    length_us = evidence.frame["interval_min"] * _MINUTE_US
    return evidence.frame["open_at"].to_physical() + length_us <= in_us(evidence.as_of)


def _ohlc_sane(evidence: Evidence) -> pl.Series:
    rows = evidence.frame
    opened, high, low, close, volume = (rows[name] for name in (*_PRICES, "volume_base"))
    ordered = (low <= opened) & (low <= close) & (opened <= high) & (close <= high)
    kept = ordered & (low > 0) & (high < math.inf) & _is_amount(volume)
    optional = (
        _is_amount(rows["volume_quote"]),
        rows["n_trades"] >= 0,
        _is_amount(rows["taker_buy_base"]) & (rows["taker_buy_base"] <= volume),
        _is_amount(rows["taker_buy_quote"]) & (rows["taker_buy_quote"] <= rows["volume_quote"]),
    )
    for one in optional:
        kept &= one if one.null_count() == 0 else one.fill_null(value=True)  # null is "the source lacks it"
    return kept


def _is_amount(values: pl.Series) -> pl.Series:
    return (values >= 0) & (values < math.inf)  # false for NaN, which Polars sorts above infinity


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
        no_duplicates("open_at"),
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
        tail_age("open_at", _TAIL),
    )


GATES_RAW_UM_OHLCV: Final = _kline_gates("um_gap_share_max")
GATES_RAW_SPOT_OHLCV: Final = _kline_gates("spot_gap_share_max")


def _largest_rate(evidence: Evidence) -> Measured:
    rows = evidence.frame.select("settled_at", "funding_rate", "funding_interval_h")
    rates = np.abs(rows["funding_rate"].to_numpy())  # null becomes NaN
    worst = rows[[int(np.argmax(rates))]]  # NaN counts as the largest
    return float(rates.max()), f"the largest |rate| of {rows.height} is at {worst['settled_at'][0]}", worst


def _median_rate(evidence: Evidence) -> Measured:
    rates, hours = evidence.frame["funding_rate"], evidence.frame["funding_interval_h"]
    if rates.null_count() or hours.null_count():
        return float("nan"), "some settlements have no rate or no interval"
    if (days := hours.sum() / 24) < _TELLING_H / 24:
        return 0.0, f"{days:g} days of settlements are too few to tell, it takes {_TELLING_H / 24:g}"
    median = rates.abs().median()
    return (median if isinstance(median, float) else float("nan")), f"half of {rates.len()} rates are below"


GATES_RAW_UM_FUNDING: Final = market_gates(
    inside_partition("settled_at"),
    *listing_gates("settled_at"),
    rows_gate(
        "interval_known",
        f"The interval is one of {', '.join(f'{hours:g}' for hours in FUNDING_INTERVALS_H)} h.",
        breaking(
            lambda evidence: evidence.frame["funding_interval_h"].is_in(FUNDING_INTERVALS_H),
            ("settled_at", "funding_interval_h"),
        ),
        fix="without its interval a rate cannot be booked: mend the source's interval column and ingest again",
    ),
    rows_gate(
        "on_grid",
        "Every settlement is on the exact hour of its interval's UTC grid.",
        breaking(
            lambda evidence: (
                evidence.frame["settled_at"].to_physical() % (evidence.frame["funding_interval_h"] * _HOUR_US) == 0
            ),
            ("settled_at", "received_at", "funding_interval_h"),
        ),
        fix="the stamps are more than 5 s off, or the interval is wrong: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_settled",
        "No settlement lies after the moment of asking.",
        breaking(partial(_until, instant="settled_at"), ("settled_at", "funding_rate")),
        fix="a rate that is not settled yet will still change: leave it out of the source and ingest again later",
    ),
    no_duplicates("settled_at"),
    limited_gate(
        "rate_bounded",
        "|rate| is finite and no unit mistake.",
        _largest_rate,
        setting="funding_rate_max",
        fix="the rate is not a fraction per interval: check the source's unit (0.0001 is 1 bp) and ingest again",
    ),
    limited_gate(
        "median_rate_bounded",
        "The median |rate| is that of a fraction, not of a percentage: quiet months in percent stay below the largest rate.",
        _median_rate,
        setting="funding_rate_median_max",
        fix="the rates look like percent: check the source's unit (0.0001 is 1 bp) and ingest again",
    ),
    limited_gate(
        "rate_usual",
        "|rate| is not unusual; a remark, because extreme markets do pay such rates.",
        _largest_rate,
        setting="funding_rate_usual",
        fix="such a rate is rare: look at the exchange's announcement before trusting it",
        severity=Severity.WARN,
    ),
    settlements_complete(Severity.WARN),
    changes_confirmed(),
    tail_age("settled_at", _TAIL),
)


def _missing_snapshots(evidence: Evidence) -> Measured:
    newest, month = evidence.frame["snapshot_at"].max(), evidence.partition["month"]
    if not isinstance(newest, datetime):
        return float("nan"), "no snapshot says when it was"
    # A tail of an open month that has not arrived is no hole; once the month is over, `newest` is not used.
    span = expected_span(month, as_of=evidence.as_of, listing=evidence.listing, newest_close=newest)
    return missing_share(evidence.frame["snapshot_at"], span, _SNAPSHOT, "snapshots")


def _counts_sane(evidence: Evidence) -> pl.Series:
    rows = evidence.frame
    kept = _is_amount(rows["open_interest_base"]) & _is_amount(rows["open_interest_quote"])
    for name in _RATIOS:
        ratio = _is_amount(rows[name])
        kept &= ratio if ratio.null_count() == 0 else ratio.fill_null(value=True)  # null is "the source lacks it"
    return kept


GATES_RAW_UM_OPEN_INTEREST: Final = market_gates(
    inside_partition("snapshot_at"),
    rows_gate(
        "on_grid",
        "Every snapshot is on the 5-minute UTC grid.",
        breaking(lambda evidence: _is_on(evidence.frame["snapshot_at"], _SNAPSHOT), ("symbol", "snapshot_at")),
        fix="the times are shifted or in another zone: mend the source's file and ingest again",
    ),
    rows_gate(
        "only_taken",
        "No snapshot lies after the moment of asking.",
        breaking(partial(_until, instant="snapshot_at"), ("symbol", "snapshot_at")),
        fix="the clock of the source or of this machine is wrong: mend it and ingest again",
    ),
    rows_gate(
        "counts_sane",
        "Open interest is finite and >= 0, and so are the ratios that the source has.",
        breaking(_counts_sane, ("snapshot_at", "open_interest_base", "open_interest_quote")),
        fix="the source's rows are corrupt: get the days from the exchange's archive again",
    ),
    no_duplicates("snapshot_at"),
    limited_gate(
        "coverage",
        "Share of the month's expected snapshots that are missing; a remark, because bars only use fresh ones.",
        _missing_snapshots,
        setting="open_interest_missing_share_max",
        fix="ingest the missing days; where no snapshot is fresh, open interest is null",
        severity=Severity.WARN,
    ),
    tail_age("snapshot_at", _TAIL),
)


def _size_right(evidence: Evidence) -> pl.Series:
    rows, notional = evidence.frame, evidence.frame["filled_contracts"] * evidence.frame["contract_size_quote"]
    size = rows["contract"].replace_strict(CONTRACT_SIZE_QUOTE, default=_OTHER_SIZE_QUOTE, return_dtype=pl.Float64())
    close = (rows["notional_quote"] - notional).abs() <= _ROUNDING * notional
    positive = (rows["filled_contracts"] > 0) & (rows["notional_quote"] > 0) & (rows["notional_quote"] < math.inf)
    return close & positive & (rows["contract_size_quote"] == size)


def _numbered(evidence: Evidence) -> pl.Series:
    position = pl.int_range(pl.len()).over("liquidated_at")
    return evidence.frame.select(pl.col("ordinal") == position).to_series()


GATES_RAW_UM_LIQUIDATIONS: Final = market_gates(
    inside_partition("liquidated_at"),
    rows_gate(
        "only_filled",
        "No order lies after the moment of asking.",
        breaking(partial(_until, instant="liquidated_at"), ("symbol", "liquidated_at")),
        fix="the clock of the source or of this machine is wrong: mend it and ingest again",
    ),
    rows_gate(
        "contract_is_the_twin",
        "The contract is the COIN-M perpetual of the symbol's coin: BTCUSDT is read beside BTCUSD_PERP.",
        breaking(
            lambda evidence: (
                evidence.frame["contract"] == evidence.frame["symbol"].str.replace(_QUOTES, "") + "USD_PERP"
            ),
            ("symbol", "liquidated_at", "contract"),
        ),
        fix="orders of another coin say nothing here: mend the source and ingest again",
    ),
    rows_gate(
        "side_known",
        "An order buys or sells: BUY closes a short, SELL closes a long.",
        breaking(
            lambda evidence: evidence.frame["order_side"].is_in(("BUY", "SELL")),
            ("symbol", "liquidated_at", "ordinal", "order_side"),
        ),
        fix="without a side nobody knows who was liquidated: mend the source and ingest again",
    ),
    rows_gate(
        "notional_is_contracts",
        "The notional is contracts x the contract's size in USD (100 for BTC, else 10) and > 0; the price has no part in it.",
        breaking(
            _size_right,
            ("liquidated_at", "ordinal", "contract", "filled_contracts", "contract_size_quote", "notional_quote"),
        ),
        fix="COIN-M contracts have a face value in USD: mend the source and ingest again",
    ),
    rows_gate(
        "ordinals_count",
        "Orders of one instant are numbered 0, 1, 2: none is lost, none is doubled.",
        breaking(_numbered, ("symbol", "liquidated_at", "ordinal")),
        fix="orders of this instant were merged wrongly: ingest the month again",
    ),
)
"""A month without any order is refused like every empty month: no file and no order look alike here."""

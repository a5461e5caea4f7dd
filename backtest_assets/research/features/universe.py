"""Which symbols may be traded in which month, by what was known before it; absence of evidence means not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, month_start
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SettingsError
from backtest_assets.tables.features import UNIVERSE

_DAY: Final = timedelta(days=1)


def build_universe(
    bars: pl.DataFrame,
    *,
    symbols: Sequence[str],
    months: Sequence[str],
    listings: Mapping[str, Listing | None],
    top_n: int,
    lookback_days: int,
) -> pl.DataFrame:
    """Rank the symbols of every month by what they traded in the days strictly before it.

    A symbol is eligible that was listed before the month and has bars in the lookback, and with `top_n` is among the largest.
    A symbol whose listing nobody knows counts as listed once it has bars.

    One exception: in the first month nothing may have been ingested before it. Then, and only without `top_n` (no volume, no
    rank), a symbol without any earlier bar is eligible if the catalogue says that it was listed before the month, or if
    its listing is unknown and the month's first bar is real; that row is known at the close of that bar.

    Args:
        bars: rows of `bars_um` in and before the months, any symbols.
        symbols: instruments of the run.
        months: UTC months `YYYY-MM` of the run, oldest first.
        listings: when each symbol traded; absent or None if nobody knows.
        top_n: symbols that are eligible in a month; 0 for all.
        lookback_days: days before the month that are summed.

    Returns:
        Rows of `universe`, one per month and symbol. The traded value of a bar is `volume_quote`, or where that is unknown
        volume_base x close; equal values rank by the symbol's name.

    Raises:
        SettingsError: if top_n is below 0 or lookback_days below 1.

    Knows:
        bars with known_at up to the month's first instant; under the exception the month's first bar, at its known_at.
    """
    if top_n < 0 or lookback_days < 1:
        message = f"universe: top_n is {top_n}, lookback_days is {lookback_days}; give at least 0 and 1"
        raise SettingsError(message)
    real = bars.filter(~pl.col("is_gap") & pl.col("symbol").is_in(list(symbols)))
    daily = _daily(real)
    rows: list[dict[str, object]] = []
    for month in months:
        start = month_start(month)
        window = daily.filter(pl.col("day").is_between(start - lookback_days * _DAY, start, closed="left"))
        traded = {str(row["symbol"]): _Traded.of(row) for row in _summed(window).iter_rows(named=True)}
        seen = _starting(real, start) if month == months[0] and not top_n else None
        standings = [_Standing.of(symbol, start, listings.get(symbol), traded, seen) for symbol in symbols]
        rows += [{"month": month, **row} for row in _ranked(standings, top_n)]
    return UNIVERSE.conform(pl.DataFrame(rows, schema=UNIVERSE.schema))


@dataclass(frozen=True, slots=True)
class _Traded:
    value: float
    measure: str
    n_days: int

    @classmethod
    def of(cls, row: Mapping[str, float]) -> "_Traded":
        n_quote, n_bars = row["n_quote"], row["n_bars"]
        measure = "volume_quote" if n_quote == n_bars else "mixed" if n_quote else "base_x_close"
        return cls(row["value"], measure, int(row["n_days"]))


@dataclass(frozen=True, slots=True)
class _Starting:
    """The state of things at the start of a run that may have no history."""

    with_history: frozenset[str]
    with_first_bar: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Standing:
    symbol: str
    known_at: datetime
    traded: _Traded | None
    is_listed: bool
    reason: str  # what it is if no top_n stands in its way

    @classmethod
    def of(
        cls,
        symbol: str,
        start: datetime,
        listing: Listing | None,
        traded_by: Mapping[str, _Traded],
        starting: _Starting | None,
    ) -> "_Standing":
        traded = traded_by.get(symbol)
        if listing is not None and listing.listed_at >= start:
            return cls(symbol, start, traded, is_listed=False, reason="not_listed")
        if listing is not None and listing.delisted_at is not None and listing.delisted_at <= start:
            return cls(symbol, start, traded, is_listed=False, reason="delisted")
        if traded is not None:
            return cls(symbol, start, traded, is_listed=True, reason="ranked")
        if starting is None or symbol in starting.with_history:
            return cls(symbol, start, None, is_listed=listing is not None, reason="no_bars")
        if listing is not None:
            return cls(symbol, start, None, is_listed=True, reason="no_history_yet")
        is_seen = symbol in starting.with_first_bar
        return cls(symbol, start + BAR, None, is_listed=is_seen, reason="no_history_yet" if is_seen else "no_bars")

    @property
    def place(self) -> tuple[float, str]:
        """Sort key of its rank."""
        return (-self.traded.value if self.traded else 0.0, self.symbol)


def _ranked(standings: Sequence[_Standing], top_n: int) -> list[dict[str, object]]:
    ranked = sorted((one for one in standings if one.reason == "ranked"), key=lambda one: one.place)
    rank_of = {one.symbol: rank for rank, one in enumerate(ranked, start=1)}
    rows: list[dict[str, object]] = []
    for one in standings:
        rank = rank_of.get(one.symbol)
        is_below = top_n > 0 and rank is not None and rank > top_n
        rows.append(
            {
                "symbol": one.symbol,
                "known_at": one.known_at,
                "dollar_volume_quote": one.traded and one.traded.value,
                "volume_measure": one.traded and one.traded.measure,
                "n_days": one.traded.n_days if one.traded else 0,
                "rank": rank,
                "is_listed": one.is_listed,
                "is_eligible": one.reason in {"ranked", "no_history_yet"} and not is_below,
                "reason": "below_top_n" if is_below else one.reason,
            }
        )
    return rows


def _daily(real: pl.DataFrame) -> pl.DataFrame:
    value = pl.coalesce("volume_quote", pl.col("volume_base") * pl.col("close"))
    return (
        real.with_columns(value=value)
        .filter(pl.col("value").is_finite())
        .group_by("symbol", day=pl.col("open_at").dt.truncate("1d"))
        .agg(pl.col("value").sum(), n_quote=pl.col("volume_quote").count(), n_bars=pl.len())
        .sort("symbol", "day")
    )


def _summed(window: pl.DataFrame) -> pl.DataFrame:
    return window.group_by("symbol", maintain_order=True).agg(
        pl.col("value", "n_quote", "n_bars").sum(), n_days=pl.len()
    )


def _starting(real: pl.DataFrame, start: datetime) -> _Starting:
    before = real.filter(pl.col("known_at") <= start)["symbol"].unique()
    first = real.filter(pl.col("open_at") == start)["symbol"].unique()
    return _Starting(frozenset(before.to_list()), frozenset(first.to_list()))

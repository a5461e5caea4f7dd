"""Whether sampled events are beyond their trailing thresholds, and sampled other bars are not: each window sorted anew.

Nothing of the families' code is used, nor their rolling quantiles: plain slices of the past and `numpy.quantile`. The numbers
are those of the declared definitions, written a second time. Shocks are counted whole elsewhere (`shocks_recounted`), and
aftershocks follow from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import BAR, HOUR_US, epoch_us
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.gates.foresight import random_of
from backtest_assets.gates.gate import Evidence

N_SAMPLED: Final = 64
"""Candidates of each family, and bars that are none, whose thresholds are counted anew [bars]."""

_Floats: TypeAlias = NDArray[np.float64]
_Found: TypeAlias = tuple[str, str, datetime, float | None, float | None]
_QUARTER, _MONTH, _FIVE_DAYS, _DAY, _LEAST_WIDE = 8_640, 2_880, 480, 96, 480
_LAG, _STAYS, _BACK = 8, 32, 3
_WIDE_LAG, _WIDE_VACUUM, _REVERTED_Z = 1.25, 1.3, 0.5
_SAME_HOURS, _LEAST_HOURS = 30, 20
_CLOSE: Final = 1e-9
_FACTOR: Final = {Variant.CENTRE.value: 1.0, Variant.RATE_MINUS.value: 0.9, Variant.RATE_PLUS.value: 1.1}
_RATE: Final = {
    EventType.LIQUIDITY_REFILL_LAG_WINDOW: 0.01,
    EventType.LIQUIDITY_ABSENCE_WINDOW: 0.20,
    EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: 0.01,
    EventType.CROSS_VENUE_DESYNC: 0.01,
    EventType.LIQUIDITY_VACUUM: 0.05,
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW: 0.02,
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: 0.20,
    EventType.FUNDING_EXTREME_ONSET: 0.05,
    EventType.FUNDING_ACCELERATION: 0.05,
    EventType.FUNDING_PERSISTENCE_WINDOW: 0.15,
    EventType.FUNDING_NORMALIZATION: 0.50,
}
_FUNDING: Final = (
    EventType.FUNDING_EXTREME_ONSET,
    EventType.FUNDING_ACCELERATION,
    EventType.FUNDING_PERSISTENCE_WINDOW,
    EventType.FUNDING_NORMALIZATION,
)
_WHOLE: Final = (
    EventType.LIQUIDITY_REFILL_LAG_WINDOW,
    EventType.LIQUIDITY_ABSENCE_WINDOW,
    EventType.CROSS_VENUE_DESYNC,
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
)
"""Families whose whole trigger is asked of bars that are no candidates: it needs one series and its confirmation."""


def unlike_thresholds(evidence: Evidence) -> pl.DataFrame:
    """Return sampled candidates whose threshold another count does not give, and sampled bars that were passed over.

    Args:
        evidence: rows of `event_candidates`, with `bars_um`, `features` and `settlements_um`.

    Returns:
        `event_type`, `symbol`, `onset_at`, `threshold` stored (null where the bar is no candidate) and `counted`.
    """
    rng = random_of(evidence)
    markets = {symbol: _Market.of(evidence, symbol) for symbol in evidence.settings.symbol_list}
    of_family = evidence.frame.partition_by("event_type", as_dict=True)
    found: list[_Found] = []
    for family in evidence.settings.event_types:
        events = of_family.get((family.value,), evidence.frame.clear())
        if family in _RATE:
            chosen = events[np.sort(rng.permutation(events.height)[:N_SAMPLED])]
            found += (
                _told(row, counted) for row, counted in _recounted(family, chosen, markets) if counted is not None
            )
        if family in _WHOLE:
            for symbol, market in markets.items():
                mine = events.filter((pl.col("variant") == Variant.CENTRE.value) & (pl.col("symbol") == symbol))
                found += _passed_over(family, market, mine, rng, N_SAMPLED // len(markets))
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")


_SCHEMA: Final = {
    "event_type": pl.String,
    "symbol": pl.String,
    "onset_at": pl.Datetime("us", "UTC"),
    "threshold": pl.Float64,
    "counted": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class _Market:
    """Bars and settlements of one symbol; row i of `bars` and of `features` is the bar `first` + i bars."""

    symbol: str
    first: datetime
    bars: pl.DataFrame
    features: pl.DataFrame
    settled_us: NDArray[np.int64]
    size: _Floats
    interval_h: _Floats

    @classmethod
    def of(cls, evidence: Evidence, symbol: str) -> "_Market":
        def mine(name: str, at: str) -> pl.DataFrame:
            rows = evidence.inputs[name].filter(pl.col("symbol") == symbol)
            return rows if rows[at].is_sorted() else rows.sort(at)

        bars, features, settled = (
            mine("bars_um", "open_at"),
            mine("features", "open_at"),
            mine("settlements_um", "settled_at"),
        )
        hours = settled["funding_interval_h"].cast(pl.Float64).to_numpy()
        size = np.abs(settled["funding_rate"].to_numpy() * 8.0 / hours)
        at = settled["settled_at"].dt.epoch("us").to_numpy()
        return cls(symbol, bars["open_at"][0], bars, features, at, size, hours)

    def row(self, open_at: datetime) -> int:
        return (open_at - self.first) // BAR

    def values(self, name: str, begin: int, end: int) -> _Floats:
        """Return a feature of the bars [begin, end), NaN where unknown."""
        return self.features[name][max(begin, 0) : max(end, 0)].to_numpy()

    def at(self, name: str, row: int) -> float:
        values = self.values(name, row, row + 1)
        return float(values[0]) if row >= 0 and values.size else np.nan

    def settlement(self, at: datetime) -> int:
        """Return the newest settlement at or before an instant, -1 without any."""
        return int(np.searchsorted(self.settled_us, epoch_us(at), side="right")) - 1


def _told(row: dict[str, Any], counted: float) -> _Found:
    return row["event_type"], row["symbol"], row["onset_at"], row["threshold"], counted


def _recounted(
    family: EventType, events: pl.DataFrame, markets: dict[str, _Market]
) -> Iterator[tuple[dict[str, Any], float | None]]:
    """Give the events whose stored threshold is not the one counted, or that are not beyond it; None if all is well."""
    for row in events.iter_rows(named=True):
        if row["variant"] not in _FACTOR or row["symbol"] not in markets:
            yield row, np.nan
            continue
        market, rate = markets[row["symbol"]], _RATE[family] * _FACTOR[row["variant"]]
        counted = _threshold(family, row, market, rate)
        is_close = row["threshold"] is not None and abs(row["threshold"] - counted) <= _CLOSE * abs(counted)
        is_thin = family is not EventType.LIQUIDITY_VACUUM or _is_thin(market, market.row(row["onset_at"]), row, rate)
        yield row, None if is_close and is_thin else counted


def _threshold(family: EventType, event: dict[str, Any], market: _Market, rate: float) -> float:
    row = market.row(event["onset_at"])
    if family is EventType.FUNDING_EXTREME_REVERSAL_WINDOW:
        return _settled(market, market.settlement(event["onset_at"]), rate, days=90, is_jump=False)
    if family in _FUNDING:
        at = market.settlement(event["known_at"])
        grows = family is EventType.FUNDING_ACCELERATION
        fixed = 0.5 if family is EventType.FUNDING_NORMALIZATION else rate  # what is usual has no variants
        return _settled(market, at, fixed, days=30, is_jump=True, grows=grows)
    if family is EventType.LIQUIDITY_ABSENCE_WINDOW:
        return _same_hour(market, row, "rv_12" if event["measure"] == "volatility" else "volume_quote_ratio_2880", rate)
    if family is EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW:
        return _quantile(market.values("compression_ratio", row - 1 - _QUARTER, row - 1), rate, _MONTH)
    if family is EventType.LIQUIDITY_VACUUM:
        move, level = np.abs(market.values("logret_1", row - _DAY, row)), event["severity"] * event["threshold"]
        moved = row - move.size + np.flatnonzero(np.abs(move - level) <= _CLOSE * level)
        return _beyond(market, "logret_1", int(moved[-1]), rate) if moved.size else np.nan
    name = {
        EventType.CROSS_VENUE_DESYNC: "basis_z_96",
        EventType.LIQUIDITY_REFILL_LAG_WINDOW: "logret_1",
        EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: event["measure"].replace("log_return", "logret_1"),
    }[family]
    return _beyond(market, name, row, rate)


def _quantile(past: _Floats, q: float, least: int) -> float:
    seen = past[~np.isnan(past)]
    return float(np.quantile(seen, q)) if seen.size >= least else np.nan


def _beyond(market: _Market, name: str, row: int, rate: float) -> float:
    return _quantile(np.abs(market.values(name, row - _QUARTER, row)), 1.0 - rate, _MONTH)


def _same_hour(market: _Market, row: int, name: str, rate: float) -> float:
    days = [row - _DAY * back for back in range(1, _SAME_HOURS + 1)]
    return _quantile(np.array([market.at(name, day) for day in days]), rate, _LEAST_HOURS)


def _settled(market: _Market, at: int, rate: float, *, days: int, is_jump: bool, grows: bool = False) -> float:
    begin = int(np.searchsorted(market.settled_us, int(market.settled_us[at]) - days * 24 * HOUR_US))
    past = np.array([_growth(market, i) for i in range(begin, at)]) if grows else market.size[begin:at]
    is_known = ~np.isnan(past)
    if market.interval_h[begin:at][is_known].sum() < days * 24 / 3:
        return np.nan
    method = "inverted_cdf" if is_jump else "linear"
    return float(np.quantile(past[is_known], 1.0 - rate, method=method))


def _growth(market: _Market, at: int) -> float:
    """Return by how much the rate grew over eight hours, 0 if it fell, NaN where the earlier one is missing."""
    instant = int(market.settled_us[at]) - 8 * HOUR_US
    before = int(np.searchsorted(market.settled_us, instant, side="right")) - 1
    if before < 0 or instant - market.settled_us[before] >= market.interval_h[before] * HOUR_US:
        return np.nan
    return max(float(market.size[at] - market.size[before]), 0.0)


def _is_thin(market: _Market, row: int, event: dict[str, Any], rate: float) -> bool:
    """Say whether the first two bars of a vacuum are wide and trade less for it than other wide bars did."""
    begin = max(row - _QUARTER - _FIVE_DAYS, 0)
    bars, width = market.bars[begin : row + 2], market.values("range_frac", begin, row + 2)
    words = market.features["volume_measure"][begin : row + 2]
    by_price = (bars["volume_base"] * bars["close"]).to_numpy()
    traded = np.where(
        (words == "volume_quote").fill_null(value=False), _ratio(bars["volume_quote"].to_numpy()), _ratio(by_price)
    )
    wide = _ratio(width)
    is_wide = (wide > _WIDE_VACUUM) & words.is_not_null().to_numpy()
    depth = np.divide(traded, wide, out=np.full(wide.size, np.nan), where=is_wide)
    return event["measure"] == words[-2] and all(
        depth[t] < _quantile(depth[max(t - _QUARTER, 0) : t], rate, _LEAST_WIDE)
        for t in (depth.size - 2, depth.size - 1)
    )


def _ratio(values: _Floats) -> _Floats:
    past = pl.Series(values, nan_to_null=True)
    return (past / past.rolling_median(_FIVE_DAYS, min_samples=_FIVE_DAYS // 3)).cast(pl.Float64).to_numpy()


def _passed_over(
    family: EventType, market: _Market, events: pl.DataFrame, rng: np.random.Generator, n_bars: int
) -> Iterator[_Found]:
    """Give sampled bars whose trigger is true although they are no candidate."""
    taken = {market.row(at) for at in events["onset_at"]}
    rows = _likely(family, market)
    for row in rng.choice(rows, min(n_bars, rows.size), replace=False).tolist():
        counted = _fires(family, market, row) if row not in taken else np.nan
        if not np.isnan(counted):
            yield family.value, market.symbol, market.first + row * BAR, None, counted


def _likely(family: EventType, market: _Market) -> NDArray[np.int64]:
    """Return the bars that may trigger: one in fifty by size, funding hours, closes outside the day's range."""
    if family is EventType.LIQUIDITY_ABSENCE_WINDOW:
        every = timedelta(hours=8) // BAR
        return np.arange(market.row(market.first.replace(hour=0, minute=0)) % every, market.features.height, every)
    if family is EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW:
        out = (market.bars["close"] > market.features["high_prev_96"]) | (
            market.bars["close"] < market.features["low_prev_96"]
        )
        return np.flatnonzero(out.fill_null(value=False).to_numpy())
    name = "basis_z_96" if family is EventType.CROSS_VENUE_DESYNC else "logret_1"
    size = np.abs(market.values(name, 0, market.features.height))
    known = size[~np.isnan(size)]
    return np.flatnonzero(size >= np.quantile(known, 0.98)) if known.size else np.array([], dtype=np.int64)


def _fires(family: EventType, market: _Market, row: int) -> float:
    """Return the threshold that a bar is beyond with all that confirms it, NaN if it is not."""
    rate = _RATE[family]
    if family is EventType.LIQUIDITY_ABSENCE_WINDOW:
        return _absence(market, row, rate)
    if family is EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW:
        threshold = _quantile(market.values("compression_ratio", row - 1 - _QUARTER, row - 1), rate, _MONTH)
        is_on = market.at("compression_ratio", row - 1) <= threshold and market.at("rv_96", row) > 0
        return threshold if is_on else np.nan
    name = "basis_z_96" if family is EventType.CROSS_VENUE_DESYNC else "logret_1"
    threshold, before = _beyond(market, name, row, rate), _beyond(market, name, row - 1, rate)
    size = abs(market.at(name, row))
    crosses = size > threshold * (1 + _CLOSE) and abs(market.at(name, row - 1)) < before * (1 - _CLOSE)
    confirmed = _stays if family is EventType.CROSS_VENUE_DESYNC else _lags
    return threshold if crosses and confirmed(market, row) else np.nan


def _absence(market: _Market, row: int, rate: float) -> float:
    name = "rv_12" if np.isnan(market.at("volume_quote_ratio_2880", row)) else "volume_quote_ratio_2880"
    hour_before = row - timedelta(hours=8) // BAR
    threshold, before = _same_hour(market, row, name, rate), _same_hour(market, hour_before, name, rate)
    is_real = not market.bars["is_gap"][row]
    is_first = market.at(name, hour_before) >= before * (1 + _CLOSE)
    return threshold if is_real and is_first and 0 < market.at(name, row) < threshold * (1 - _CLOSE) else np.nan


def _stays(market: _Market, row: int) -> bool:
    z = market.values("basis_z_96", row, row + _STAYS + 1)
    out = np.sign(z[0]) * z[1:]
    back = out < _REVERTED_Z
    runs = back[2:] & back[1:-1] & back[:-2]
    return bool(out.size == _STAYS and not np.isnan(out).any() and out[-1] >= _REVERTED_Z and not runs.any())


def _lags(market: _Market, row: int) -> bool:
    width, day = market.values("range_frac", row, row + _LAG + 1), market.values("range_frac", row - _DAY, row)
    usual = _quantile(day, 0.5, _DAY * 2 // 3)
    return bool(width.size == _LAG + 1 and (width > _WIDE_LAG * usual * (1 + _CLOSE)).all())

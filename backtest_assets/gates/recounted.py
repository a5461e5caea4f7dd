"""Features counted once more by another way than `build_features`: whole windows, plain loops, joins on time."""

import bisect
import math
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.clock import HOUR_US
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.past import unlike
from backtest_assets.research.features.persistence import HIGH_SHARE, LEAST, RUN, WINDOW

N_SAMPLED: Final = 48
"""Bars per symbol whose windows are counted anew: a wrong window, measure or base is wrong nearly everywhere [bars]."""

_KEY: Final = ("symbol", "open_at")
_RANKS: Final = {"rv_pct_2880": (2_880, 960), "rv_pct_17280": (17_280, 5_760)}
_MONTH, _MONTH_LEAST = 2_880, 960
_DAY, _DAY_LEAST = 96, 64
_CHANGES: Final = {
    "open_interest_log_change_4": timedelta(hours=1),
    "open_interest_log_change_96": timedelta(days=1),
}
_SPARE_US: Final = 900_000_000  # a settlement may come a bar late
_Floats = NDArray[np.float64]


def unlike_samples(evidence: Evidence) -> pl.DataFrame:
    """Return sampled bars whose ranks, traded value or spread another count of the whole window does not give."""
    columns = ("high", "low", "close", "volume_base", "volume_quote")
    bars = evidence.inputs["bars_um"].select(*_KEY, *columns)
    found: list[pl.DataFrame] = []
    counted = ("rv_96", *_RANKS, "volume_quote_ratio_2880", "volume_measure", "spread_est_96_bps")
    for stored in evidence.frame.select(*_KEY, *counted).partition_by("symbol"):
        beside = bars.filter(pl.col("symbol") == stored["symbol"][0])
        joined = stored.join(beside, on=_KEY, how="left", maintain_order="left")
        at = np.unique(np.linspace(0, joined.height - 1, N_SAMPLED).astype(np.int64))
        again = pl.DataFrame([_counted(joined, int(t)) for t in at], schema=_sampled_schema(stored), orient="row")
        found.append(unlike(stored[at], again))
    return pl.concat(found)


def _sampled_schema(stored: pl.DataFrame) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in stored.schema.items() if name != "rv_96"}


def _counted(rows: pl.DataFrame, t: int) -> dict[str, object]:
    def back(name: str, n_bars: int) -> _Floats:
        return rows[name][max(t - n_bars + 1, 0) : t + 1].to_numpy()

    ranks = {name: _rank(back("rv_96", window), least) for name, (window, least) in _RANKS.items()}
    by_price, quote = back("volume_base", _MONTH) * back("close", _MONTH), back("volume_quote", _MONTH)
    is_quoted = not (np.isnan(quote) & ~np.isnan(by_price)).any()
    ratio = _over_median(quote if is_quoted else by_price)
    measure = None if ratio is None else "volume_quote" if is_quoted else "base_x_close"
    spread = _spread(back("high", _DAY + 1), back("low", _DAY + 1))
    key = {name: rows[name][t] for name in _KEY}
    return {
        **key,
        **ranks,
        "volume_quote_ratio_2880": ratio,
        "volume_measure": measure,
        "spread_est_96_bps": spread,
    }


def _rank(window: _Floats, least: int) -> float | None:
    own, seen = window[-1], window[~np.isnan(window)]
    if seen.size < least or np.isnan(own):
        return None
    return (np.count_nonzero(seen < own) + (np.count_nonzero(seen == own) + 1) / 2) / seen.size


def _over_median(window: _Floats) -> float | None:
    seen = window[~np.isnan(window)]
    if seen.size < _MONTH_LEAST or np.isnan(window[-1]) or not np.median(seen) > 0:
        return None
    return window[-1] / np.median(seen)


def _spread(high: _Floats, low: _Floats) -> float | None:
    """Average the pairs of the paper, one after the other."""
    pairs: list[float] = []
    for i in range(1, high.size):
        if np.isnan(high[i - 1 : i + 1]).any():
            continue
        beta = math.log(high[i] / low[i]) ** 2 + math.log(high[i - 1] / low[i - 1]) ** 2
        gamma = math.log(max(high[i - 1 : i + 1]) / min(low[i - 1 : i + 1])) ** 2
        alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / (3 - 2 * math.sqrt(2)) - math.sqrt(
            gamma / (3 - 2 * math.sqrt(2))
        )
        pairs.append(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)))
    mean = math.fsum(pairs) / len(pairs) * 1e4 if len(pairs) >= _DAY_LEAST else math.nan
    return mean if mean > 0 else None


def unlike_positioning(evidence: Evidence) -> pl.DataFrame:
    """Return the rows whose open interest and liquidations `positioning_um` does not give."""
    flows = ("liquidated_long_quote", "liquidated_short_quote")
    held = evidence.inputs["positioning_um"].select(
        *_KEY, "open_interest_quote", *flows, _log=pl.col("open_interest_base").log()
    )
    again = evidence.frame.select(_KEY).join(held, on=_KEY, how="left", maintain_order="left")
    for name, ago in _CHANGES.items():
        earlier = held.select("symbol", open_at=pl.col("open_at") + ago, _earlier="_log")
        change = again.join(earlier, on=_KEY, how="left", maintain_order="left")
        again = again.with_columns((change["_log"] - change["_earlier"]).fill_nan(None).alias(name))
    sums = [
        rows.with_columns(
            pl.Series(f"{name}_{_DAY}", _whole_sums(rows[name].to_numpy()), nan_to_null=True) for name in flows
        )
        for rows in again.drop("_log").partition_by("symbol", maintain_order=True)
    ]
    return unlike(evidence.frame, pl.concat(sums))


def _whole_sums(values: _Floats) -> _Floats:
    padded = np.concatenate([np.full(_DAY - 1, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, _DAY).sum(axis=1)


class _State(NamedTuple):
    symbol: str
    funding_settled_at: int
    is_persistent: bool | None
    since: int | None
    severity: float | None


def unlike_persistence(evidence: Evidence) -> pl.DataFrame:
    """Return the rows whose funding state a walk over the settlements does not give."""
    settled = evidence.inputs["settlements_um"].sort("symbol", "settled_at")
    states = [state for rows in settled.partition_by("symbol") for state in _walk(rows)]
    instant = evidence.frame.schema["funding_settled_at"]
    table = pl.DataFrame(
        states,
        schema={
            "symbol": pl.String,
            "funding_settled_at": pl.Int64,
            "is_persistent": pl.Boolean,
            "since": pl.Int64,
            "severity": pl.Float64,
        },
        orient="row",
    ).with_columns(pl.col("funding_settled_at", "since").cast(instant))
    rows = evidence.frame.select(*_KEY, "known_at", "funding_settled_at", "funding_rate")
    joined = rows.join(table, on=["symbol", "funding_settled_at"], how="left", maintain_order="left")
    is_known = pl.col("funding_rate").is_not_null() & pl.col("is_persistent").is_not_null()
    age_h = (pl.col("known_at") - pl.col("since")).dt.total_microseconds() / HOUR_US
    again = joined.select(
        *_KEY,
        is_funding_persistent=pl.when(is_known).then("is_persistent"),
        funding_persistence_age_h=pl.when(is_known).then(pl.when("is_persistent").then(age_h).otherwise(0.0)),
        funding_persistence_severity=pl.when(is_known).then("severity"),
    )
    return unlike(evidence.frame, again)


def _walk(rows: pl.DataFrame) -> list[_State]:
    symbol = str(rows["symbol"][0])
    states: list[_State] = []
    sizes: list[float] = []
    smaller: list[float] = []  # the window, in order of size
    run: list[int] = []
    last_us, last_rate = 0, 0.0
    for at_us, rate, hours in rows.select(
        pl.col("settled_at").dt.epoch("us"), pl.col("funding_rate") * 8.0 / pl.col("funding_interval_h"), "funding_interval_h"
    ).iter_rows():  # fmt: skip
        share = bisect.bisect_left(smaller, abs(rate)) / len(smaller) if len(smaller) >= LEAST else None
        is_next = at_us - last_us <= hours * HOUR_US + _SPARE_US and np.sign(rate) == np.sign(last_rate)
        run = [] if share is None or share < HIGH_SHARE else [*run, at_us] if is_next else [at_us]
        is_on = len(run) >= RUN
        states.append(
            _State(
                symbol,
                at_us,
                None if share is None else is_on,
                run[0] if is_on else None,
                None if share is None else share - HIGH_SHARE if is_on else 0.0,
            )
        )
        sizes.append(abs(rate))
        bisect.insort(smaller, abs(rate))
        if len(sizes) > WINDOW:
            smaller.remove(sizes[-WINDOW - 1])
        last_us, last_rate = at_us, rate
    return states

"""What every slice is asked, counted again by DuckDB over the ledger's rows, and the identities its numbers keep.

The drawdown at bars and the error of alpha have no second count here; they are stats/'s own tests' business.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any, Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.ask import broken
from backtest_assets.gates.executed import near
from backtest_assets.gates.sql import ask_sqls
from backtest_assets.research.walkforward.costs import COST_MULTIPLES
from backtest_assets.stats.sharpe import DAYS_PER_YEAR

_LEAST_DAYS: Final = 3
_YEAR: Final = math.sqrt(DAYS_PER_YEAR)
_TRADES: Final = """
SELECT coalesce(blueprint_id, 'portfolio') AS scope, count(*) AS n_trades, avg((net_pnl > 0)::INT) AS win_rate,
    avg((side > 0)::INT) AS long_share, avg((side < 0)::INT) AS short_share, avg(n_bars_held) AS hold_mean_bars,
    median(n_bars_held) AS hold_median_bars, avg(mae_frac) * 1e4 AS mae_mean_bps, avg(mfe_frac) * 1e4 AS mfe_mean_bps,
    sum(2 * exposure) AS turnover
FROM trades GROUP BY GROUPING SETS ((blueprint_id), ()) HAVING count(*) > 0"""
_PARTS: Final = """
SELECT coalesce(l.blueprint_id, 'portfolio') AS scope, l.symbol, t.side, sum(abs(l.exposure_after)) AS gross_held,
    sum(l.exposure_after) AS net_held, sum(l.net_pnl) AS net
FROM ledger l JOIN trades t USING (trade_id) GROUP BY GROUPING SETS ((l.blueprint_id, l.symbol, t.side), (l.symbol, t.side))"""
_DAYS: Final = """
WITH held AS (
    SELECT blueprint_id, day, bar, sum(net_pnl) AS net, sum(abs(exposure_after)) AS gross
    FROM ledger GROUP BY GROUPING SETS ((blueprint_id, day, bar), (day, bar))
), per_day AS (
    SELECT coalesce(blueprint_id, 'portfolio') AS scope, day, product(greatest(1 + net, 0)) - 1 AS earned,
        max(gross) AS peak
    FROM held GROUP BY ALL
), laid AS (
    SELECT scope, day, market.earned AS market, coalesce(per_day.earned, 0) AS earned, coalesce(peak, 0) AS peak
    FROM scopes CROSS JOIN market LEFT JOIN per_day USING (scope, day)
), centred AS (SELECT *, earned - avg(earned) OVER (PARTITION BY scope) AS z FROM laid)
SELECT scope, count(*) AS n, max(peak) AS peak, product(1 + earned) AS ending, avg(earned) AS mean, var_samp(earned) AS variance,
    avg(z ** 2) AS m2, avg(z ** 3) AS m3, avg(z ** 4) AS m4, avg(least(earned, 0) ** 2) AS downside,
    max(earned) = min(earned) AS is_still, max(market) > min(market) AS market_moves,
    CASE WHEN is_still OR NOT market_moves THEN NULL ELSE covar_pop(earned, market) / var_pop(market) END AS beta,
    CASE WHEN is_still OR NOT market_moves THEN NULL ELSE corr(earned, market) END AS correlation, avg(market) AS market_mean
FROM centred GROUP BY scope"""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a set of slices was measured on: one window.

    Attributes:
        ledger: ledger rows of the window's trades.
        trades: the window's trades.
        bars: table bars_um.
        start: first instant of the window.
        end: first instant after it.
    """

    ledger: pl.DataFrame
    trades: pl.DataFrame
    bars: pl.DataFrame
    start: datetime
    end: datetime


def measured_differently(frame: pl.DataFrame, rows: Rows, scopes: Sequence[str], *, run: ResearchRun) -> pl.DataFrame:
    """Return the metrics of a window that are not what its rows say; null must meet null.

    Args:
        frame: `scope`, `metric`, `value`.
        rows: what they were measured on.
        scopes: portfolio and blueprints.
        run: gives the symbols.
    """
    benchmark = _held(rows, run.symbol_list)
    frames = {
        "ledger": rows.ledger.select(
            "trade_id",
            "blueprint_id",
            "symbol",
            "exposure_after",
            "net_pnl",
            day=pl.col("open_at").dt.date(),
            bar=pl.col("open_at").dt.epoch("us"),
        ),
        "trades": rows.trades.select(
            "trade_id", "blueprint_id", "side", "exposure", "net_pnl", "n_bars_held", "mae_frac", "mfe_frac"
        ),
        "market": benchmark.daily,
        "scopes": pl.DataFrame({"scope": list(scopes)}),
    }
    traded, laid, parts = ask_sqls((_TRADES, _DAYS, _PARTS), frames)
    of_trades, of_days = _by_scope(traded), _by_scope(laid)
    counted: list[tuple[str, str, float | None]] = []
    for scope in scopes:
        day = of_days[scope]
        numbers = dict(_trades(of_trades.get(scope)))
        numbers |= dict(_ratios(day)) | dict(_line(day, benchmark))
        numbers |= dict(_parts(parts.filter(pl.col("scope") == scope), run.symbol_list, (rows.end - rows.start) // BAR))
        numbers["gross_exposure_max"] = day["peak"]
        counted += [(scope, name, value) for name, value in numbers.items()]
    schema = {"scope": pl.String, "metric": pl.String, "expected": pl.Float64}
    both = pl.DataFrame(counted, schema=schema, orient="row", strict=False).join(
        frame.select("scope", "metric", "value"), on=["scope", "metric"], how="left"
    )
    is_null = pl.col("value").is_null() & pl.col("expected").is_null()
    listed = pl.concat_str("scope", "metric", separator="|").is_in(
        frame.select(pl.concat_str("scope", "metric", separator="|")).to_series().implode()
    )
    return broken(both, listed & (is_null | near(pl.col("value"), pl.col("expected"))))


def unreconciled(frame: pl.DataFrame, keys: Sequence[str], *, run: ResearchRun) -> pl.DataFrame:
    """Return the slices whose numbers do not add up: by side, by symbol, at multiples of the costs, per fill.

    Args:
        frame: `metric`, `value` and the keys.
        keys: what names a slice.
        run: gives symbols and the cost model.
    """
    wide = frame.pivot("metric", index=list(keys), values="value")

    def col(name: str) -> pl.Expr:
        return pl.col(name)

    def of_symbols(name: str) -> pl.Expr:
        return pl.sum_horizontal(*(f"{name}_of_{symbol}" for symbol in run.symbol_list), ignore_nulls=False)

    cost, earned = col("fees") + col("slippage"), col("gross") + col("funding")
    multiples = [near(col(f"net_at_{m:g}x_costs"), earned - m * cost) for m in COST_MULTIPLES]
    even = pl.when(earned > 0).then(near(col("break_even_bps") * BPS * col("turnover"), earned))
    fell = col("max_drawdown") < 0
    return broken(
        wide,
        near(col("net"), col("net_long") + col("net_short"))
        & near(col("net"), of_symbols("net"))
        & near(col("gross_exposure_mean"), col("long_exposure_mean") + col("short_exposure_mean"))
        & near(col("net_exposure_mean"), col("long_exposure_mean") - col("short_exposure_mean"))
        & near(col("gross_exposure_mean"), of_symbols("gross_exposure_mean"))
        & near(col("net_exposure_mean"), of_symbols("net_exposure_mean"))
        & (col("gross_exposure_mean") <= col("gross_exposure_max") + _ROUNDING)
        & near(col("net_at_1x_costs"), col("net"))
        & pl.all_horizontal(multiples)
        & near(cost, col("turnover") * run.cost.per_side_bps * BPS)
        & even.otherwise(col("break_even_bps").is_null())
        & pl.when(fell).then(near(col("calmar") * -col("max_drawdown"), col("annual_growth"))).otherwise(col("calmar").is_null()),
    )  # fmt: skip


_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class _Held:
    """Buy and hold, counted again: `day` and `earned` of every day, the whole return and the deepest drawdown."""

    daily: pl.DataFrame
    whole: float | None
    deepest: float | None


def _held(rows: Rows, symbols: Sequence[str]) -> _Held:
    """Hold equal weights from each symbol's first open; Polars fills what the stage did with arrays."""
    clock = pl.datetime_range(rows.start, rows.end, BAR, closed="left", time_unit="us", time_zone="UTC", eager=True)
    inside = pl.col("open_at").is_between(rows.start, rows.end, closed="left") & pl.col("close").is_not_null()
    real = (
        rows.bars.select("symbol", "open_at", "open", "close")
        .filter(inside, pl.col("symbol").is_in(list(symbols)))
        .sort("open_at")
    )
    first = dict(real.group_by("symbol").agg(pl.col("open").first()).iter_rows())
    closes = clock.alias("open_at").to_frame().join(real.pivot("symbol", index="open_at", values="close"), on="open_at", how="left", maintain_order="left")  # fmt: skip
    values = [pl.col(symbol).forward_fill() / price for symbol, price in first.items()]
    waiting = len(symbols) - len(first)
    equity = pl.sum_horizontal(*(value.fill_null(1.0) for value in values), pl.lit(float(waiting))) / len(symbols)
    curve = closes.select("open_at", equity=equity)
    last = curve.group_by(day=pl.col("open_at").dt.date(), maintain_order=True).agg(pl.col("equity").last())
    daily = last.select("day", earned=pl.col("equity") / pl.col("equity").shift(1, fill_value=1.0) - 1.0)
    if not first:
        return _Held(daily, None, None)
    peak = pl.max_horizontal(pl.col("equity").cum_max(), 1.0)
    whole, deepest = curve.select(pl.col("equity").last() - 1.0, (pl.col("equity") / peak - 1.0).min().alias("d")).row(
        0
    )
    return _Held(daily, whole, min(deepest, 0.0))


def _by_scope(rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["scope"]: row for row in rows.to_dicts()}


def _trades(row: Mapping[str, Any] | None) -> Iterator[tuple[str, float | None]]:
    names = (
        "win_rate",
        "long_share",
        "short_share",
        "hold_mean_bars",
        "hold_median_bars",
        "mae_mean_bps",
        "mfe_mean_bps",
    )
    yield from ((name, row[name] if row else None) for name in names)
    yield from ((name, row[name] if row else 0.0) for name in ("n_trades", "turnover"))


def _ratios(day: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    n, mean = day["n"], day["mean"]
    yield "annual_growth", day["ending"] ** (DAYS_PER_YEAR / n) - 1.0
    yield "sortino_daily_annualised", mean / math.sqrt(day["downside"]) * _YEAR if day["downside"] > 0 else None
    if n < _LEAST_DAYS or day["is_still"]:
        names = ("sharpe_daily_annualised", "sharpe_ci_low", "sharpe_ci_high", "psr_2012", "min_track_record_2012")
        yield from ((name, None) for name in names)
        return
    sharpe = mean / math.sqrt(day["variance"])
    skew, kurtosis = day["m3"] / day["m2"] ** 1.5, day["m4"] / day["m2"] ** 2
    shape = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    error = math.sqrt(shape / (n - 1))
    yield "sharpe_daily_annualised", sharpe * _YEAR
    yield "sharpe_ci_low", (sharpe - NormalDist().inv_cdf(0.975) * error) * _YEAR
    yield "sharpe_ci_high", (sharpe + NormalDist().inv_cdf(0.975) * error) * _YEAR
    yield "psr_2012", NormalDist().cdf(sharpe / error)
    yield "min_track_record_2012", 1.0 + shape * (NormalDist().inv_cdf(0.95) / sharpe) ** 2 if sharpe > 0 else None


def _line(day: Mapping[str, Any], benchmark: _Held) -> Iterator[tuple[str, float | None]]:
    beta = day["beta"] if day["n"] >= _LEAST_DAYS else None
    yield "benchmark_return", benchmark.whole
    yield "benchmark_max_drawdown", benchmark.deepest
    yield "beta", beta
    yield "benchmark_correlation", day["correlation"] if beta is not None else None
    yield "alpha_annual", None if beta is None else (day["mean"] - beta * day["market_mean"]) * DAYS_PER_YEAR


def _parts(parts: pl.DataFrame, symbols: Sequence[str], n_bars: int) -> Iterator[tuple[str, float]]:
    rows = parts.to_dicts()

    def total(name: str, **own: object) -> float:
        return math.fsum(row[name] for row in rows if all(row[key] == value for key, value in own.items()))

    yield "gross_exposure_mean", total("gross_held") / n_bars
    yield "net_exposure_mean", total("net_held") / n_bars
    for side, name in ((1, "long"), (-1, "short")):
        yield f"{name}_exposure_mean", total("gross_held", side=side) / n_bars
        yield f"net_{name}", total("net", side=side)
    for symbol in symbols:
        yield f"net_of_{symbol}", total("net", symbol=symbol)
        yield f"gross_exposure_mean_of_{symbol}", total("gross_held", symbol=symbol) / n_bars
        yield f"net_exposure_mean_of_{symbol}", total("net_held", symbol=symbol) / n_bars

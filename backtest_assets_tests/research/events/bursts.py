"""Evidence for the families of bursts and thin markets: slow readers, truncation, planted markets, noise without drift."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.sources.synthetic.market import generate_market
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import ORIGIN, SYMBOLS, random_market
from backtest_assets_tests.scenario import settled

Detect = Callable[[MarketView], pl.DataFrame]
Event = tuple[int, int, int, int, float, float]
N_CUTS = 8
N_SEEDS = 30


def trailing(values: np.ndarray, q: float) -> np.ndarray:
    """Quantile of the 8,640 values before each bar, by sorting each window anew."""
    result = np.full(values.size, np.nan)
    for t in range(1, values.size):
        window = values[max(t - 8640, 0) : t]
        window = window[~np.isnan(window)]
        if window.size >= 2880:
            result[t] = np.quantile(window, q)
    return result


def crossings(values: np.ndarray, rate: float) -> list[tuple[int, float]]:
    """(bar, threshold) wherever a value reaches its threshold and the one before did not."""
    threshold = trailing(values, 1 - rate)
    pairs = ((t, threshold[t]) for t in range(1, values.size))
    return [(t, level) for t, level in pairs if values[t] >= level > 0 and values[t - 1] < threshold[t - 1]]


def fates(spans: Iterable[tuple[int, int, float]]) -> list[str]:
    """(known row, free row, quality) -> status, in order."""
    free, found = -1, []
    for known, free_row, quality in spans:
        found.append("low_quality" if quality < 0.8 else "accepted" if known >= free else "cooldown")
        free = free_row if found[-1] == "accepted" else free
    return found


def rows_of(view: MarketView, events: Iterable[Event]) -> list[tuple[object, ...]]:
    """(onset, known, exit, free, severity, threshold) of each event -> what `shown` must give."""
    listed = sorted(events, key=lambda event: event[1])
    quality, opens, n_bars = view.features["coverage_2880"], view.bars["open_at"], view.bars.height
    words = fates((known, free, quality[known]) for _, known, _, free, _, _ in listed)
    return [
        (opens[o], opens[k] + BAR, opens[e] + BAR if e < n_bars else None, 0, round(s, 9), round(t, 9), word)
        for (o, k, e, _, s, t), word in zip(listed, words, strict=True)
    ]


def shown(found: pl.DataFrame) -> list[tuple[object, ...]]:
    return found.select(
        "onset_at", "known_at", "exit_at", "side", pl.col("severity", "threshold").round(9), "status"
    ).rows()


def onsets(found: pl.DataFrame, view: MarketView) -> list[int]:
    """Rows at which the events set in."""
    return [(at - view.bars["open_at"][0]) // BAR for at in found["onset_at"]]


def random_view(seed: int, n_days: int, symbols: tuple[str, ...] = SYMBOLS) -> MarketView:
    """The random market, gaps and all, with random volume that one bar in fifty lacks."""
    market = random_market(seed, n_days=n_days)
    rng = np.random.default_rng(seed)
    n = market.bars.height
    lacks = pl.Series(rng.random(n) < 0.02) | pl.col("is_gap")
    drawn = pl.when(~lacks).then(pl.Series(np.exp(rng.standard_normal(n))))
    quote = pl.when(pl.col("volume_quote").is_not_null()).then(drawn * pl.col("close") * 1.0001)
    bars = market.bars.with_columns(volume_base=drawn, volume_quote=quote).filter(pl.col("symbol").is_in(symbols))
    return MarketView(
        bars, build_features(bars, BARS_SPOT.empty(), market.funding, POSITIONING_UM.empty()), market.funding
    )


def changed_pasts(detect: Detect, view: MarketView) -> list[str]:
    """Cuts at which events known by then differ when nothing after the cut exists."""
    full, known = detect(view), pl.col("known_at")
    instants = view.bars["known_at"].unique().sort()
    first, last = instants[0], instants[-1]
    changed: list[str] = []
    for share in np.linspace(0.45, 0.99, N_CUTS):
        cut = first + timedelta(seconds=share * (last - first).total_seconds())
        ended = pl.when(pl.col("exit_at") <= cut).then("exit_at").alias("exit_at")
        bars = view.bars.filter(known <= cut)
        past = MarketView(
            bars, build_features(bars, BARS_SPOT.empty(), view.funding, POSITIONING_UM.empty()), view.funding
        )
        try:
            assert_frame_equal(full.filter(known <= cut).with_columns(ended), detect(past))
        except AssertionError as difference:
            changed.append(f"at {cut}: {difference}")
    return changed


def made(close: np.ndarray, wick: np.ndarray | float = 0.0, volume: np.ndarray | float = 1.0) -> MarketView:
    """A market of these closes; each bar reaches `wick` (fraction) beyond open and close; NaN is a gap."""
    before = np.concatenate([close[:1], close[:-1]])
    opens, is_gap = np.where(np.isnan(before), close, before), np.isnan(close)
    values = {
        "open": opens,
        "high": np.fmax(opens, close) * (1 + wick),
        "low": np.fmin(opens, close) * (1 - wick),
        "close": close,
        "volume_base": np.broadcast_to(volume, close.shape),
    }
    bars = BARS_UM.conform(
        scenario.bars(close.size, gaps=np.flatnonzero(is_gap).tolist()).with_columns(
            *(pl.Series(name, np.where(is_gap, np.nan, value), nan_to_null=True) for name, value in values.items()),
            volume_quote=pl.lit(None, dtype=pl.Float64),
        )
    )
    funding = settled(scenario.settlements([1e-4] * (close.size // 32)))
    return MarketView(bars, build_features(bars, BARS_SPOT.empty(), funding, POSITIONING_UM.empty()), funding)


def still(n_days: int = 60) -> MarketView:
    """A market in which no price ever changes."""
    return made(np.full(n_days * 96, 100.0))


def calm(seed: int, n_days: int) -> tuple[np.random.Generator, np.ndarray]:
    """Log returns of a calm market, 10 bps per bar."""
    rng = np.random.default_rng(seed)
    return rng, 0.001 * rng.standard_normal(n_days * 96)


def recall_and_precision(planted: Iterable[int], found: Iterable[int], *, within: int = 0) -> tuple[float, float]:
    """Share of plants with an event at most `within` bars later, and share of events so explained."""
    late = np.array(sorted(found))[None, :] - np.array(sorted(planted))[:, None]
    matched = (late >= 0) & (late <= within)
    return float(matched.any(axis=1).mean()), float(matched.any(axis=0).mean())


@cache
def noise(seed: int, *, loose_volume: bool = False) -> MarketView:
    """150 days of a driftless GARCH market with jumps; with `loose_volume`, volume has nothing to do with volatility."""
    (symbol,) = generate_market(seed, SYMBOLS[:1], ORIGIN, ORIGIN + timedelta(days=150)).values()
    keyed = symbol.klines.with_columns(known_at=pl.col("open_at") + BAR, is_gap=pl.lit(value=False))
    bars = BARS_UM.conform(keyed.select(BARS_UM.schema.names()))
    if loose_volume:
        drawn = pl.Series(np.exp(np.random.default_rng(seed).standard_normal(bars.height)))
        bars = bars.with_columns(volume_quote=drawn, volume_base=drawn / pl.col("close"))
    funding = settled(symbol.funding)
    return MarketView(bars, build_features(bars, BARS_SPOT.empty(), funding, POSITIONING_UM.empty()), funding)


def drift_t(detect: Detect, n_bars: int, *, loose_volume: bool = False) -> tuple[int, float]:
    """Accepted events on `N_SEEDS` driftless markets, and t over seeds of their mean return from the next open."""
    means: list[float] = []
    n_events = 0
    for seed in range(1, N_SEEDS + 1):
        view = noise(seed, loose_volume=loose_volume)
        after = view.bars.select(known_at="open_at", ahead=pl.col("open").shift(-n_bars) / pl.col("open") - 1)
        accepted = detect(view).filter(pl.col("status") == "accepted")
        ahead = accepted.join(after, on="known_at")["ahead"].drop_nulls().to_numpy()
        n_events += ahead.size
        means += [ahead.mean()] if ahead.size else []
    return n_events, float(np.mean(means) / np.std(means, ddof=1) * np.sqrt(len(means)))


def usual(values: np.ndarray, window: int, least: int) -> np.ndarray:
    """Median of the bar and those before it, by sorting each window anew."""
    result = np.full(values.size, np.nan)
    for t in range(values.size):
        past = values[max(t + 1 - window, 0) : t + 1]
        past = past[~np.isnan(past)]
        if past.size >= least:
            result[t] = np.median(past)
    return result


def traded(bars: pl.DataFrame, window: int = 2880, least: int = 960) -> np.ndarray:
    """Traded value over its median, in quote where the source gives it throughout 30 days, else base times close."""
    quote, base = column(bars, "volume_quote"), column(bars, "volume_base") * column(bars, "close")
    by_quote, by_base = quote / usual(quote, window, least), base / usual(base, window, least)
    lacks = np.isnan(quote) & ~np.isnan(base)
    has_quote = [not lacks[max(t - 2879, 0) : t + 1].any() for t in range(lacks.size)]
    return np.where(has_quote, by_quote, by_base)


def column(frame: pl.DataFrame, name: str) -> np.ndarray:
    return frame[name].cast(pl.Float64).to_numpy()

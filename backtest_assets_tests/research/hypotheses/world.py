"""A small market of random events whose truth is known, with its outcomes measured by brute force."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BARS_PER_DAY
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun, run_from_dict
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.rules import hold_neighbours
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets.tables.outcomes import EVENT_OUTCOMES
from backtest_assets_tests.measures import random_measures
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SD_BPS = 20.0
FIRST = (
    EventType.VOL_SHOCK_RELAXATION,
    EventType.FUNDING_EXTREME_REVERSAL_WINDOW,
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW,
)
"""Families whose events the market's own generator draws; the others have one each, so that a new family moves no price."""


@dataclass(frozen=True, slots=True)
class Plant:
    """An edge of `bps` over the 16 bars after events of `family`, in the direction of the rule `sign` of its base."""

    family: EventType = EventType.VOL_SHOCK_RELAXATION
    bps: float = 0.0
    sign: int = 1


@dataclass(frozen=True, slots=True)
class World:
    run: ResearchRun
    bars: pl.DataFrame
    context: pl.DataFrame
    events: pl.DataFrame
    outcomes: pl.DataFrame
    phase1: pl.DataFrame
    opens: dict[str, np.ndarray] = field(repr=False)


def make_run(n_days: int, **settings: object) -> ResearchRun:
    first = datetime(2021, 1, 1, tzinfo=UTC)
    last = first + timedelta(days=n_days - 1)
    given: dict[str, object] = {
        "run_id": "w",
        "symbols": ",".join(SYMBOLS),
        "source": "synthetic",
        "start": f"{first:%Y-%m-%d}",
    }
    return run_from_dict(given | {"end": f"{last:%Y-%m-%d}"} | settings)


def make_world(
    seed: int,
    *,
    n_days: int = 500,
    n_events: int = 250,
    plant: Plant | None = None,
    drift_bps: float = 0.0,
    **settings: object,
) -> World:
    """Make a market of two symbols with `n_events` events per symbol and family that phase 2 enumerates."""
    run = make_run(n_days, **settings)
    rng = np.random.default_rng(seed)
    rng_of = {f: rng if f in FIRST else np.random.default_rng([seed, i]) for i, f in enumerate(EventType)}
    n_bars = n_days * BARS_PER_DAY
    events = pl.concat(
        _events(run, family, s, rng_of[family], n_events=n_events, n_bars=n_bars)
        for family in run.phase2_families
        for s in SYMBOLS
    )
    opens = {s: _opens(events, s, plant or Plant(), rng, drift_bps=drift_bps, n_bars=n_bars) for s in SYMBOLS}
    outcomes = pl.concat(_outcomes(run, events, s, opens[s], rng_of) for s in SYMBOLS)
    bars = BARS_UM.conform(pl.concat(_bars(run, s, opens[s]) for s in SYMBOLS))
    context = MARKET_CONTEXT.conform(pl.concat(_context(run, s, n_bars, rng) for s in SYMBOLS))
    registry = EVENT_REGISTRY.conform(events.drop("bar"))
    return World(run, bars, context, registry, EVENT_OUTCOMES.conform(outcomes), phase1_of(run.event_types), opens)


@cache
def planted_world() -> tuple[World, pl.DataFrame]:
    """The world with an edge of 45 bps after volatility shocks, and its hypotheses, kept for the tests of a process."""
    w = make_world(1, plant=Plant(bps=45))
    return w, score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)


def _events(
    run: ResearchRun, family: EventType, symbol: str, rng: np.random.Generator, *, n_events: int, n_bars: int
) -> pl.DataFrame:
    bar = np.sort(rng.choice(np.arange(1, n_bars - 300), n_events, replace=False))
    side = rng.choice([-1, 1], n_events) if family.is_sided else np.zeros(n_events, dtype=int)
    severity = rng.uniform(1, 2, n_events)
    frames = []
    for variant in Variant:
        shift = {"centre": 0, "rate_minus": 0, "rate_plus": 1}[variant]
        keep = rng.random(n_events) < (0.9 if variant is Variant.RATE_MINUS else 1.0)
        at = [run.window[0] + int(b + shift) * BAR for b in bar[keep]]
        ids = [hashlib.sha256(f"{family}{variant}{symbol}{b}".encode()).hexdigest()[:16] for b in bar[keep]]
        frames.append(
            pl.DataFrame(
                {
                    "variant": [variant.value] * len(at),
                    "event_id": ids,
                    "event_type": [family.value] * len(at),
                    "symbol": [symbol] * len(at),
                    "onset_at": [t - BAR for t in at],
                    "known_at": at,
                    "exit_at": [None] * len(at),
                    "side": side[keep],
                    "severity": severity[keep],
                    "threshold": [1.0] * len(at),
                    "measure": ["volatility"] * len(at),
                    "definition_version": ["v1"] * len(at),
                    "parameter_digest": [f"p_{variant.value}"] * len(at),
                    "quality": [1.0] * len(at),
                    "bar": bar[keep] + shift,
                },
                schema_overrides={"side": pl.Int8, "exit_at": pl.Datetime("us", "UTC")},
            ).cast({"onset_at": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")})
        )
    return pl.concat(frames)


def _opens(
    events: pl.DataFrame, symbol: str, plant: Plant, rng: np.random.Generator, *, drift_bps: float, n_bars: int
) -> np.ndarray:
    moves = rng.standard_t(5, n_bars) * SD_BPS * np.sqrt(3 / 5) + drift_bps
    own = events.filter(
        pl.col("symbol") == symbol, pl.col("event_type") == plant.family, pl.col("variant") == Variant.CENTRE
    )
    for bar, side in own.select("bar", "side").iter_rows():
        moves[bar : bar + 16] += plant.sign * plant.bps / 16 * (side or 1)
    return 100.0 * np.cumprod(np.concatenate(([1.0], 1 + moves / 1e4)))[:n_bars]


def _bars(run: ResearchRun, symbol: str, opens: np.ndarray) -> pl.DataFrame:
    start = run.window[0]
    at = [start + i * BAR for i in range(len(opens))]
    nothing = pl.lit(None)
    return pl.DataFrame({"open_at": at, "open": opens}).with_columns(
        pl.col("open_at").cast(pl.Datetime("us", "UTC")),
        symbol=pl.lit(symbol),
        known_at=pl.col("open_at").cast(pl.Datetime("us", "UTC")) + BAR,
        high=pl.col("open") * 1.001,
        low=pl.col("open") * 0.999,
        close="open",
        volume_base=1.0,
        volume_quote=1.0,
        n_trades=nothing.cast(pl.Int64),
        taker_buy_base=1.0,
        taker_buy_quote=1.0,
        is_gap=False,
    )


def _context(run: ResearchRun, symbol: str, n_bars: int, rng: np.random.Generator) -> pl.DataFrame:
    start = run.window[0]
    at = [start + (i - 1) * BAR for i in range(n_bars + 1)]

    def draw(*labels: str) -> np.ndarray:
        return np.repeat(rng.choice(labels, n_bars // 200 + 1), 200)[: n_bars + 1]

    return pl.DataFrame({"open_at": at}).with_columns(
        pl.col("open_at").cast(pl.Datetime("us", "UTC")),
        symbol=pl.lit(symbol),
        known_at=pl.col("open_at").cast(pl.Datetime("us", "UTC")) + BAR,
        vol_regime=pl.Series(draw("low", "mid", "high")),
        bull_bear=pl.Series(draw("bull", "bear")),
        funding_regime=pl.Series(draw("negative", "neutral", "positive", "unknown")),
        compression_state=pl.lit("open"),
        liquidity_regime=pl.lit("usual"),
        session=pl.Series(np.resize(np.repeat(["asia", "eu", "us"], 32), n_bars + 1)),
        **random_measures(n_bars + 1, np.random.default_rng([len(symbol), n_bars])),
    )


def _outcomes(
    run: ResearchRun,
    events: pl.DataFrame,
    symbol: str,
    opens: np.ndarray,
    rng_of: Mapping[EventType, np.random.Generator],
) -> pl.DataFrame:
    rows: list[tuple[object, ...]] = []
    start, splits = run.window[0], run.splits
    own = events.filter(pl.col("symbol") == symbol)
    entries = sorted({0, *run.entry_delays})
    centre = sorted({(e + d, h) for e in entries for d in {0, 1, *run.delays} for h in HOLD_GRID_BARS})
    centre += [(e, n) for e in entries for h in HOLD_GRID_BARS for n in hold_neighbours(h)]
    for event in own.iter_rows(named=True):
        split = splits.split_of(event["known_at"])
        if split is None or split is Split.TEST:
            continue
        is_centre = event["variant"] == "centre"
        alone = [(e, h) for e in entries for h in HOLD_GRID_BARS]
        cells = centre if is_centre else alone
        rows += [
            _outcome(event, split, delay, hold, opens, start=start, control=0, bar=event["bar"])
            for delay, hold in cells
        ]
        if is_centre and event["bar"] > 200:
            back = event["bar"] - int(rng_of[EventType(event["event_type"])].integers(100, 200))
            if splits.split_of(start + back * BAR) == split:
                rows += [_outcome(event, split, e, h, opens, start=start, control=1, bar=back) for e, h in alone]
    return pl.DataFrame(rows, schema=EVENT_OUTCOMES.schema, orient="row")


def _outcome(
    event: dict[str, Any],
    split: Split,
    delay: int,
    hold: int,
    opens: np.ndarray,
    *,
    start: datetime,
    control: int,
    bar: int,
) -> tuple[object, ...]:
    entry, leave = bar + delay, bar + delay + hold
    first, last = opens[entry], opens[leave]
    path = opens[entry:leave]
    days, bps, shares = [], [], []
    if event["variant"] == "centre" and control == 0:
        edges = [entry, *range((entry // 96 + 1) * 96, leave, 96), leave]
        for a, b in pairwise(edges):
            days.append((start + a * BAR).date())
            bps.append((opens[b] - opens[a]) / first * 1e4)
            shares.append((b - a) / hold)
        bps[-1] -= hold / 100  # a funding of one basis point per 100 bars, paid at the end
    return (
        event["variant"], event["event_id"], control, event["event_type"], event["symbol"],
        start + bar * BAR, split.value, event["side"], delay, hold,
        start + entry * BAR, start + leave * BAR, first, last, (last / first - 1) * 1e4, hold / 100,
        min(0.0, (path.min() * 0.999 / first - 1) * 1e4), max(0.0, (path.max() * 1.001 / first - 1) * 1e4),
        float(np.sqrt(np.mean(np.diff(np.log(opens[entry : leave + 1])) ** 2)) * 1e4), days, bps, shares,
    )  # fmt: skip

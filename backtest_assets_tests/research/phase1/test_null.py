"""Random instants through the match of the true events: nothing follows them, so t should be about 1 in root mean square."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.research.outcomes.measure import price_holds, requests
from backtest_assets.research.phase1.criteria import DAY_METRICS, METRICS, MOVE_METRICS
from backtest_assets.research.phase1.placebo import train_view
from backtest_assets.research.phase1.sets import Measured, matched_sets
from backtest_assets.stats.matched import compare_sets
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets_tests.properties.random_market import a_run
from backtest_assets_tests.real_market import real_market
from backtest_assets_tests.research.events.evidence import driftless_view

N_INSTANTS: Final = 250
MOST_RMS: Final = 1.45
"""Of 24 t [1]: an honest 1.0 is beyond it one time in a thousand were they independent. Measured 0.8 to 1.4 (over 60 to 150 draws
1.0 to 1.3); in bps with days as clusters volatility shows 1.5 on the real market."""
LEAST_RMS: Final = 0.6


def random_instants(rng: np.random.Generator, view: MarketView, run: ResearchRun) -> pl.DataFrame:
    """Events at random bars of train, half long and half short, each over after four hours."""
    train = run.splits[Split.TRAIN]
    known = pl.col("known_at").is_between(train.start + timedelta(days=60), train.last_entry, closed="left")
    bars = view.bars.filter(known, ~pl.col("is_gap"))
    chosen = bars[np.sort(rng.choice(bars.height, N_INSTANTS, replace=False))].select(
        "symbol", "known_at", onset_at="open_at", exit_at=pl.col("known_at") + timedelta(hours=4)
    )
    told = chosen.with_columns(
        variant=pl.lit("centre"),
        event_id=pl.format("{}", pl.int_range(pl.len())),
        event_type=pl.lit("directional_exhaustion_after_forced_flow"),
        side=pl.Series(rng.choice([-1, 1], N_INSTANTS)),
    )
    rest = EVENT_REGISTRY.sample(1, N_INSTANTS).drop(told.columns)
    return EVENT_REGISTRY.conform(pl.concat([told, rest], how="horizontal"))


def measured(view: MarketView, events: pl.DataFrame, run: ResearchRun) -> Measured:
    controls = match_controls(view.bars, view.features, events, run=run)
    wanted = requests(events, controls, run=run).filter(
        pl.col("delay_bars") == 0, pl.col("hold_bars").is_in(HOLD_GRID_BARS)
    )
    barriers = measure_barriers(view.bars, view.features, events, controls, run=run)
    return Measured(price_holds(view.bars, view.funding, wanted), barriers, controls)


def in_bps(found: Measured) -> Measured:
    """The same as if every daily sigma were one: volatility and range in bps again."""
    return Measured(found.outcomes, found.barriers.with_columns(barrier_bps=pl.lit(1.0)), found.controls)


def t_of(found: Measured, *, by_days: bool = False) -> np.ndarray:
    (sets,) = matched_sets(found).values()
    assert sets.days.size > 0.9 * N_INSTANTS
    clusters = sets.days if by_days else sets.clusters
    return compare_sets(sets.values, clusters, np.random.default_rng(0)).t


def rms(t: Sequence[np.ndarray], metrics: Sequence[str]) -> np.ndarray:
    squares = np.stack(t)[:, [METRICS.index(metric) for metric in metrics]] ** 2
    return np.sqrt(squares.mean(axis=0))


@cache
def synthetic(seed: int) -> tuple[MarketView, ResearchRun]:
    view = driftless_view(seed, 900)
    first, last = view.bars["open_at"].min(), view.bars["open_at"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    run = a_run(first + timedelta(days=40), end)
    symbols = ",".join(view.bars["symbol"].unique().sort())
    run = ResearchRun(run_id="null", symbols=symbols, start=run.start, end=run.end, source="synthetic:1")
    return train_view(view, run=run), run


@cache
def real() -> tuple[MarketView, ResearchRun]:
    market = real_market()
    return train_view(market.view, run=market.run), market.run


@cache
def found(kind: str) -> tuple[Measured, ...]:
    """Twenty-four sets of random instants: of four years of bitcoin and ether, or one of each of as many markets."""
    drawn: list[Measured] = []
    for seed in range(24):
        view, run = real() if kind == "real" else synthetic(seed)
        drawn.append(measured(view, random_instants(np.random.default_rng([5, seed]), view, run), run))
    return tuple(drawn)


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_errors_are_as_large_as_what_random_instants_show(kind):
    t = [t_of(one) for one in found(kind)]
    assert (rms(t, METRICS) <= MOST_RMS).all()
    assert (rms(t, METRICS) >= LEAST_RMS).all()


def test_volatility_in_bps_by_days_would_have_errors_too_small():
    t = [t_of(in_bps(one), by_days=True) for one in found("real")]
    assert (rms(t, DAY_METRICS[:1]) > MOST_RMS).all()
    own = rms([t_of(one) for one in found("real")], MOVE_METRICS)
    assert own.tolist() == pytest.approx(rms(t, MOVE_METRICS).tolist())

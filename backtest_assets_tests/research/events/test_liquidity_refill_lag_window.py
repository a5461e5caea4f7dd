from functools import partial

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.events.families import liquidity_refill_lag_window
from backtest_assets.research.events.families.liquidity_refill_lag_window import RefillLag
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.tables.bars import BARS_SPOT, POSITIONING_UM
from backtest_assets_tests.research.events import bursts

detect = partial(liquidity_refill_lag_window.detect, params=RefillLag())
MOVE = 50 * 96
WIDE, NARROW = 0.01, 0.0005


def jump(
    *, n_wide: int = 9, moves: int = 1, lost: int | None = None, at: tuple[int, ...] = (MOVE,), seed: int = 1
) -> MarketView:
    """Calm, but for `moves` bars of 3 % from each of `at`; `n_wide` bars from there on are wide; bar `lost` is a gap."""
    _, logret = bursts.calm(seed, 60 if len(at) == 1 else 200)
    wick = np.full(logret.size, NARROW)
    for start in at:
        logret[start : start + moves] = 0.03 * (-1) ** np.arange(moves)
        wick[start : start + n_wide] = WIDE
    close = 100 * np.exp(np.cumsum(logret))
    close[[] if lost is None else [lost]] = np.nan
    return bursts.made(close, wick)


def test_eight_wide_bars_after_a_move_are_known_when_the_eighth_closes():
    view = jump()
    (event,) = detect(view).to_dicts()
    known = view.bars["known_at"]
    assert (view.bars["open_at"][MOVE], known[MOVE + 8], known[MOVE + 8 + 48], 0, "accepted") == tuple(
        event[name] for name in ("onset_at", "known_at", "exit_at", "side", "status")
    )
    past = np.abs(bursts.column(view.features, "logret_1")[1:MOVE])
    assert pytest.approx((np.quantile(past, 0.99), 0.03)) == (
        event["threshold"],
        event["severity"] * event["threshold"],
    )


def shaped(before: np.ndarray, onset: float, after: float) -> MarketView:
    """A jump between bars, with the wicks of the bars before it, of its own bar and of the eight after it."""
    _, logret = bursts.calm(1, 60)
    logret[MOVE - before.size - 1 : MOVE + 9] = 0
    logret[MOVE] = 0.03
    wick = np.full(logret.size, NARROW)
    wick[MOVE - before.size : MOVE] = before
    wick[MOVE], wick[MOVE + 1 : MOVE + 9] = onset, after
    made = bursts.made(100 * np.exp(np.cumsum(logret)), wick)
    is_move = pl.int_range(pl.len()) == MOVE
    top, bottom = pl.col("close") * (1 + onset), pl.col("close") * (1 - onset)
    bars = made.bars.with_columns(
        pl.when(is_move).then("close").otherwise("open").alias("open"),
        pl.when(is_move).then(top).otherwise("high").alias("high"),
        pl.when(is_move).then(bottom).otherwise("low").alias("low"),
    )
    return MarketView(bars, build_features(bars, BARS_SPOT.empty(), made.funding, POSITIONING_UM.empty()), made.funding)


@pytest.mark.parametrize(
    ("before", "onset", "after", "n_events"),
    [
        (np.repeat([0.001, 0.003], 48), 0.0026, 0.0026, 1),  # 1.3 times the median of exactly these 96 bars
        (np.repeat([0.001, 0.003], 48), 0.0024, 0.0026, 0),
        (np.repeat([0.001, 0.003], 48), 0.0026, 0.0024, 0),
        (np.zeros(96), 0.0026, 0.0026, 0),
    ],
    ids=["wide enough", "the move's own bar is narrow", "the bars after it are narrow", "nothing is usual"],
)
def test_wide_is_more_than_five_quarters_of_the_median_of_the_day_before(before, onset, after, n_events):
    assert n_events == detect(shaped(before, onset, after)).height


@pytest.mark.parametrize(
    "view",
    [jump(n_wide=8), jump(lost=MOVE + 4), jump(lost=MOVE + 8), jump(lost=MOVE - 1), jump(moves=0)],
    ids=["the last bar is narrow", "a gap within", "a gap at the end", "a gap before the move", "wide without a move"],
)
def test_a_move_is_not_confirmed_when(view):
    assert 0 == detect(view).height


def test_moves_that_follow_each_other_are_one_event():
    assert [MOVE] == bursts.onsets(detect(jump(moves=4, n_wide=14)), jump())


def test_it_is_not_known_before_the_last_wide_bar_closes():
    view = jump()
    heights = []
    for last in (MOVE + 7, MOVE + 8):
        seen = pl.col("open_at") <= view.bars["open_at"][last]
        heights.append(detect(MarketView(view.bars.filter(seen), view.features.filter(seen), view.funding)).height)
    assert [0, 1] == heights


def test_refill_lags_are_those_a_slow_reader_finds():
    view = bursts.random_view(28, 100, ("SYNAUSDT",))
    high, low, close = (bursts.column(view.bars, name) for name in ("high", "low", "close"))
    width = (high - low) / close
    events = []
    for t, level in bursts.crossings(np.abs(bursts.column(view.features, "logret_1")), 0.01):
        day = width[max(t - 96, 0) : t]
        day = day[~np.isnan(day)]
        window = width[t : t + 9]
        if day.size >= 64 and window.size == 9 and all(bar > 1.25 * np.median(day) for bar in window):
            severity = abs(np.log(close[t] / close[t - 1])) / level
            events.append((t, t + 8, t + 56, t + 56, severity, level))
    expected = bursts.rows_of(view, events)
    assert {"accepted", "cooldown"} <= {row[-1] for row in expected}
    assert expected == bursts.shown(detect(view))


def test_a_market_that_stands_still_has_no_refill_lags():
    assert 0 == detect(bursts.still()).height


def test_the_past_does_not_change_when_the_future_comes():
    assert [] == bursts.changed_pasts(detect, bursts.random_view(3, 100))


def test_planted_lags_are_found_and_nothing_else():
    lags, refilled = tuple(range(35 * 96, 199 * 96, 701)), tuple(range(36 * 96, 199 * 96, 701))
    view = jump(at=lags, seed=2)
    wick = np.where(np.isin(np.arange(view.bars.height), refilled), WIDE, 0.0)  # these are wide for one bar only
    wide = view.bars.with_columns(high=pl.col("high") * (1 + wick))
    view = MarketView(wide, view.features, view.funding)
    found = bursts.onsets(detect(view), view)
    assert (1.0, 1.0) == bursts.recall_and_precision(lags, found)


@pytest.mark.parametrize("n_bars", [16, 96])
def test_without_drift_a_refill_lag_does_not_foretell_the_price(n_bars):
    n_events, t = bursts.drift_t(detect, n_bars)
    assert n_events > 350
    assert abs(t) < 3

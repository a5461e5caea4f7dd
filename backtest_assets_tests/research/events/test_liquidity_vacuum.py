from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.events.families import liquidity_vacuum
from backtest_assets.research.events.families.liquidity_vacuum import Vacuum
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.research.events import bursts

detect = partial(liquidity_vacuum.detect, params=Vacuum())
OFTEN = Vacuum(rate=0.35)
MOVE = 50 * 96


def thinned(
    thin: tuple[int, ...], *, moves: tuple[int, ...] = (MOVE,), lost: int | None = None, n_days: int = 60
) -> MarketView:
    """Bars of two widths, traded in proportion, but for moves of 3 % and thin bars; bar `lost` is a gap."""
    _, logret = bursts.calm(1, n_days)
    logret[list(moves)] = 0.03
    close = 100 * np.exp(np.cumsum(logret))
    close[[] if lost is None else [lost]] = np.nan
    number = np.arange(close.size)
    is_thin, width = np.isin(number, thin), np.where(number % 9 < 4, 2.0, 1.0)
    view = bursts.made(close, volume=np.where(is_thin, 0.3, width) / close)
    given = pl.when(~pl.col("is_gap")).then(pl.Series(1e-3 * np.where(is_thin, 20.0, width))).alias("range_frac")
    return replace(view, features=view.features.with_columns(given))


def test_two_thin_bars_after_a_move_are_known_when_the_second_closes():
    view = thinned((MOVE + 5, MOVE + 6))
    (event,) = detect(view).to_dicts()
    known = view.bars["known_at"]
    assert (view.bars["open_at"][MOVE + 5], known[MOVE + 6], known[MOVE + 7], 0, "accepted") == tuple(
        event[name] for name in ("onset_at", "known_at", "exit_at", "side", "status")
    )


def test_the_severity_is_that_of_the_newest_move_and_its_threshold_the_past_of_that_move():
    view = thinned((MOVE + 5, MOVE + 6), moves=(MOVE - 20, MOVE + 4))
    (event,) = detect(view).to_dicts()
    past = np.abs(bursts.column(view.features, "logret_1")[1 : MOVE + 4])
    assert pytest.approx((np.quantile(past, 0.95), 0.03)) == (
        event["threshold"],
        event["severity"] * event["threshold"],
    )


@pytest.mark.parametrize(
    "view",
    [
        thinned((MOVE + 5, MOVE + 7)),
        thinned((MOVE + 5, MOVE + 6, MOVE + 7), lost=MOVE + 6),
        thinned((MOVE + 5, MOVE + 6), lost=MOVE + 4),
        thinned(()),
    ],
    ids=["one thin bar at a time", "a gap within", "a gap before", "no thin bar"],
)
def test_there_is_no_vacuum_with(view):
    assert 0 == detect(view).height


def test_a_vacuum_that_lasts_is_one_event_and_over_after_a_day_at_the_latest():
    for n_bars, length in ((4, 4), (96, 96), (120, 96)):
        view = thinned(tuple(range(MOVE + 5, MOVE + 5 + n_bars)))
        (event,) = liquidity_vacuum.detect(view, params=Vacuum(rate=0.1)).to_dicts()  # a day of thin bars is not usual
        assert view.bars["known_at"][MOVE + 5 + length] == event["exit_at"]


@pytest.mark.parametrize(("distance", "n_events"), [(1, 1), (96, 1), (97, 0), (-2, 0)])
def test_a_vacuum_sets_in_within_a_day_after_the_move(distance, n_events):
    view = thinned((MOVE + distance, MOVE + distance + 1))
    rare = Vacuum(rate=1e-4)  # the calm market itself does not move by so much within the day
    assert n_events == liquidity_vacuum.detect(view, params=rare).height


def deep_enough(depth: np.ndarray, rate: float) -> np.ndarray:
    """What all but a share of the wide bars of the 90 days before had, by sorting each window anew."""
    level = np.full(depth.size, np.nan)
    for t in range(depth.size):
        past = depth[max(t - 8640, 0) : t]
        past = past[~np.isnan(past)]
        level[t] = np.quantile(past, rate) if past.size >= 480 else np.nan
    return level


def test_bars_on_as_little_volume_for_their_width_as_other_wide_bars_are_not_thin():
    view = thinned((MOVE + 5, MOVE + 6))
    usual = view.bars.with_columns(volume_base=pl.col("volume_base") * pl.when(pl.col("volume_base") * pl.col("close") < 0.5).then(200 / 3).otherwise(1.0))  # fmt: skip
    assert 0 == detect(replace(view, bars=usual)).height


def test_a_quiet_bar_that_is_not_wide_is_not_thin():
    view = thinned((MOVE + 5, MOVE + 6))
    narrow = view.features.with_columns(pl.col("range_frac").clip(upper_bound=0.00129))
    assert 0 == detect(replace(view, features=narrow)).height


def test_vacuums_are_those_a_slow_reader_finds():
    view = bursts.random_view(28, 80, ("SYNAUSDT",))
    high, low, close = (bursts.column(view.bars, name) for name in ("high", "low", "close"))
    width = (high - low) / close
    width = width / bursts.usual(width, 480, 160)
    has_measure = ~np.isnan(bursts.traded(view.bars))
    depth = np.where((width > 1.3) & has_measure, bursts.traded(view.bars, 480, 160) / width, np.nan)
    thin = depth < deep_enough(depth, OFTEN.rate)
    moves = bursts.crossings(np.abs(bursts.column(view.features, "logret_1")), OFTEN.rate)
    events = []
    for t in range(1, thin.size - 1):
        before = [(row, level) for row, level in moves if t - 96 <= row < t]
        if thin[t] and thin[t + 1] and not thin[t - 1] and not np.isnan(close[t - 1]) and before:
            row, level = before[-1]
            end = next((e for e in range(t + 2, min(t + 96, thin.size)) if not thin[e]), t + 96)
            severity = abs(np.log(close[row] / close[row - 1])) / level
            events.append((t, t + 1, end, end + 12, severity, level))
    expected = bursts.rows_of(view, events)
    assert {"accepted", "cooldown"} <= {row[-1] for row in expected}
    found = liquidity_vacuum.detect(view, params=OFTEN)
    assert expected == bursts.shown(found)
    measured = view.features.select(onset_at="open_at", said="volume_measure")
    assert (
        found["measure"].to_list()
        == found.join(measured, on="onset_at", how="left", maintain_order="left")["said"].to_list()
    )
    assert {"volume_quote", "base_x_close"} == set(found["measure"])


def test_a_market_that_stands_still_has_no_vacuums():
    assert 0 == detect(bursts.still()).height


def test_the_past_does_not_change_when_the_future_comes():
    assert [] == bursts.changed_pasts(detect, bursts.random_view(3, 100))


def test_planted_vacuums_are_found_and_nothing_else():
    moves = tuple(range(40 * 96, 199 * 96, 501))
    onsets = [move + 3 + number % 40 for number, move in enumerate(moves)]
    single = [onset + 20 for onset in onsets]  # one thin bar is not a vacuum
    view = thinned((*onsets, *(onset + 1 for onset in onsets), *single), moves=moves, n_days=200)
    found = bursts.onsets(detect(view), view)
    assert (1.0, 1.0) == bursts.recall_and_precision(onsets, found)


@pytest.mark.parametrize("n_bars", [16, 96])
def test_without_drift_a_vacuum_does_not_foretell_the_price(n_bars):
    often = partial(liquidity_vacuum.detect, params=OFTEN)
    n_events, t = bursts.drift_t(often, n_bars, loose_volume=True)
    assert n_events > 4_000
    assert abs(t) < 3

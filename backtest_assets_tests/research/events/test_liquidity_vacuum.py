from functools import partial

import numpy as np
import pytest

from backtest_assets.research.events.families import liquidity_vacuum
from backtest_assets.research.events.families.liquidity_vacuum import Vacuum
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.research.events import bursts

detect = partial(liquidity_vacuum.detect, params=Vacuum())
MOVE = 50 * 96


def thinned(
    thin: tuple[int, ...], *, moves: tuple[int, ...] = (MOVE,), lost: int | None = None, n_days: int = 60
) -> MarketView:
    """Calm, but for moves of 3 % and bars that are wide on a third of the volume; bar `lost` is a gap."""
    _, logret = bursts.calm(1, n_days)
    logret[list(moves)] = 0.03
    close = 100 * np.exp(np.cumsum(logret))
    close[[] if lost is None else [lost]] = np.nan
    is_thin = np.isin(np.arange(close.size), thin)
    return bursts.made(close, np.where(is_thin, 0.01, 0.0005), np.where(is_thin, 0.3, 1.0))


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
        (event,) = detect(view).to_dicts()
        assert view.bars["known_at"][MOVE + 5 + length] == event["exit_at"]


@pytest.mark.parametrize(("distance", "n_events"), [(1, 1), (96, 1), (97, 0), (-2, 0)])
def test_a_vacuum_sets_in_within_a_day_after_the_move(distance, n_events):
    view = thinned((MOVE + distance, MOVE + distance + 1))
    rare = Vacuum(rate=1e-4)  # the calm market itself does not move by so much within the day
    assert n_events == liquidity_vacuum.detect(view, params=rare).height


def test_vacuums_are_those_a_slow_reader_finds():
    view = bursts.random_view(28, 80, ("SYNAUSDT",))
    high, low, close = (bursts.column(view.bars, name) for name in ("high", "low", "close"))
    width = (high - low) / close
    thin = (bursts.traded(view.bars) < 0.65) & (width > 1.3 * bursts.usual(width, 2880, 960))
    moves = bursts.crossings(np.abs(bursts.column(view.features, "logret_1")), 0.05)
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
    assert expected == bursts.shown(detect(view))


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
    n_events, t = bursts.drift_t(detect, n_bars, loose_volume=True)
    assert n_events > 4_000
    assert abs(t) < 3

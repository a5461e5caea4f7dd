from functools import partial

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.events.families import liquidity_absence_window
from backtest_assets.research.events.families.liquidity_absence_window import Absence
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.research.events import bursts

detect = partial(liquidity_absence_window.detect, params=Absence())
MORNING = 50 * 96 + 32  # 08:00 UTC of day 50
SLOT = 32  # bars from one funding hour to the next


def trading(volumes: dict[int, float], *, seed: int = 1, n_days: int = 60) -> MarketView:
    """A calm market whose volume wavers around 1, but for these bars; NaN = the source lacks it."""
    rng, logret = bursts.calm(seed, n_days)
    volume = np.exp(0.05 * rng.standard_normal(logret.size))
    volume[list(volumes)] = list(volumes.values())
    return bursts.made(100 * np.exp(np.cumsum(logret)), 0.0005, volume)


def test_an_empty_funding_hour_after_one_that_was_not_is_known_at_its_first_close():
    view = trading({MORNING - SLOT: 3.0, MORNING: 0.1})
    (event,) = detect(view).filter(pl.col("onset_at") == view.bars["open_at"][MORNING]).to_dicts()
    known = view.bars["known_at"]
    assert (known[MORNING], known[MORNING + 96], 0) == (event["known_at"], event["exit_at"], event["side"])
    value = bursts.column(view.bars, "volume_base") * bursts.column(view.bars, "close")
    activity = value / bursts.usual(value, 2880, 960)
    assert pytest.approx(np.quantile(activity[MORNING % 96 : MORNING : 96][-30:], 0.2)) == event["threshold"]
    assert pytest.approx(activity[MORNING]) == event["threshold"] / event["severity"]


def at_rows(volumes: dict[int, float]) -> set[int]:
    view = trading(volumes)
    return set(bursts.onsets(detect(view), view)) & set(volumes)


def test_an_absence_that_lasts_is_one_event():
    before = {MORNING - SLOT: 3.0}
    assert {MORNING} == at_rows(before | {MORNING + SLOT * i: 0.1 for i in range(5)})


@pytest.mark.parametrize("before", [0.1, np.nan], ids=["absent already", "unknown"])
def test_an_absence_is_an_onset_only_if_the_hour_before_is_known_not_to_be_one(before):
    assert MORNING not in at_rows({MORNING - SLOT: before, MORNING: 0.1})


@pytest.mark.parametrize("row", [MORNING + 4, MORNING + 1, MORNING - 1, MORNING + 16])
def test_hours_without_a_settlement_are_not_looked_at(row):
    assert set() == at_rows({row: 0.1})


def test_no_trade_at_all_is_an_outage_and_not_an_absence():
    assert set() == at_rows({MORNING - SLOT: 3.0, MORNING: 0.0})


@pytest.mark.parametrize("is_gap", [False, True])
def test_where_no_volume_is_known_volatility_stands_in_but_not_on_a_gap(is_gap):
    _, logret = bursts.calm(1, 60)
    logret[MORNING - SLOT - 11 : MORNING - SLOT + 1] *= 3
    logret[MORNING - 11 : MORNING + 1] *= 0.05
    close = 100 * np.exp(np.cumsum(logret))
    close[[MORNING] if is_gap else []] = np.nan
    view = bursts.made(close, 0.0005, np.nan)
    rv = bursts.column(view.features, "rv_12")[MORNING]
    found = detect(view).filter(pl.col("onset_at") == view.bars["open_at"][MORNING])
    activity = (found["threshold"] / found["severity"]).to_list()
    assert ([] if is_gap else [pytest.approx(rv)]) == activity
    assert rv > 0


def test_a_gap_is_no_absence_and_neither_is_the_hour_after_it():
    _, logret = bursts.calm(1, 60)
    close = 100 * np.exp(np.cumsum(logret))
    close[[MORNING, MORNING + 2 * SLOT]] = np.nan
    volume = np.where(np.isin(np.arange(close.size), [MORNING + SLOT, MORNING + 2 * SLOT]), 0.1, 1.0)
    rows = bursts.onsets(detect(bursts.made(close, 0.0005, volume)), bursts.still())
    assert set() == set(rows) & {MORNING, MORNING + SLOT, MORNING + 2 * SLOT}


def test_absences_are_those_a_slow_reader_finds():
    view = bursts.random_view(28, 100, ("SYNAUSDT",))
    traded = bursts.traded(view.bars)
    rv = np.where(view.bars["is_gap"], np.nan, bursts.column(view.features, "rv_12"))

    def state(t: int, series: np.ndarray) -> tuple[float, float]:
        """Activity over threshold, and the threshold."""
        past = np.array([series[t - 96 * day] for day in range(1, 31) if t - 96 * day >= 0])
        past = past[~np.isnan(past)]
        level = np.quantile(past, 0.2) if past.size >= 20 else np.nan
        return series[t] / level, level

    events = []
    for t in range(32, traded.size, 32):
        series = rv if np.isnan(traded[t]) else traded
        (now, level), (before, _) = state(t, series), state(t - 32, series)
        if now < 1 <= before:
            events.append((t, t, t + 96, t + 96, 1 / now, level))
    expected = bursts.rows_of(view, events)
    assert {"accepted", "cooldown"} <= {row[-1] for row in expected}
    assert expected == bursts.shown(detect(view))


def test_a_market_that_stands_still_has_no_absences():
    assert 0 == detect(bursts.still()).height


def test_the_past_does_not_change_when_the_future_comes():
    assert [] == bursts.changed_pasts(detect, bursts.random_view(3, 100))


def test_planted_absences_are_found_and_nothing_else():
    planted = range(0, 200 * 96, 5 * SLOT)
    view = trading(dict.fromkeys(planted, 0.2), seed=2, n_days=200)
    found = bursts.onsets(detect(view), view)
    assert min(found) < 35 * 96
    assert (1.0, 1.0) == bursts.recall_and_precision((row for row in planted if row >= min(found)), found)


@pytest.mark.parametrize("n_bars", [16, 96])
def test_without_drift_an_absence_does_not_foretell_the_price(n_bars):
    n_events, t = bursts.drift_t(detect, n_bars)
    assert n_events > 1_000
    assert abs(t) < 3

from functools import partial

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.event import Variant
from backtest_assets.research.events.families import vol_aftershock_window, vol_shock_relaxation
from backtest_assets.research.events.families.vol_aftershock_window import Aftershock
from backtest_assets.research.events.families.vol_shock_relaxation import VolShock
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.research.events import bursts

detect = partial(vol_aftershock_window.detect, params=Aftershock())
BURST = 50 * 96
LENGTH = 24


def burst(*, lost: int | None = None, seed: int = 1, at: tuple[int, ...] = (BURST,), n_days: int = 60) -> MarketView:
    """Calm, but for 24 bars of ten times the volatility from each of `at`; bar `lost` is a gap."""
    rng, logret = bursts.calm(seed, n_days)
    for start in at:
        logret[start : start + LENGTH] = 0.01 * rng.choice([-1.0, 1.0], LENGTH)
    close = 100 * np.exp(np.cumsum(logret))
    close[[] if lost is None else [lost]] = np.nan
    return bursts.made(close)


def test_the_window_opens_at_the_third_quiet_bar_and_lasts_a_day():
    view = burst()
    (event,) = detect(view).filter(pl.col("onset_at") > view.bars["open_at"][BURST]).head(1).to_dicts()
    quiet = BURST + LENGTH + 11 + 2  # three hours of volatility have left the burst behind, then two more bars
    ratio = bursts.column(view.features, "rv_ratio_288")
    known = view.bars["known_at"]
    assert (view.bars["open_at"][quiet], known[quiet], known[quiet + 96], 0, "accepted") == tuple(
        event[name] for name in ("onset_at", "known_at", "exit_at", "side", "status")
    )
    assert pytest.approx(ratio[BURST : quiet + 1].max()) == event["severity"] * event["threshold"]


def test_a_shock_whose_end_is_a_gap_has_no_window():
    end = BURST + LENGTH + 13
    ends = [bursts.onsets(detect(burst(lost=lost)), burst()) for lost in (None, end)]
    assert [1, 0] == [rows.count(end) for rows in ends]


def test_windows_are_those_a_slow_reader_finds():
    view = bursts.random_view(34, 100, ("SYNAUSDT",))
    ratio, gap = bursts.column(view.features, "rv_ratio_288"), view.bars["is_gap"].to_list()
    never = 10**9

    def end(onset: int) -> int:
        quiet = 0
        for t in range(onset + 1, ratio.size):
            quiet = quiet + 1 if ratio[t] <= 1.25 else 0
            if quiet == 3:
                return t
        return never

    shocks = [(t, end(t), level) for t, level in bursts.crossings(ratio, 0.01) if not gap[t]]
    quality = view.features["coverage_2880"]
    words = bursts.fates((t, e + 12, quality[t]) for t, e, _ in shocks)
    assert {"accepted", "cooldown"} <= set(words)
    parents = [shock for shock, word in zip(shocks, words, strict=True) if word == "accepted" and shock[1] < never]
    events = [
        (e, e, e + 96, e + 96, np.nanmax(ratio[t : e + 1]) / level, level) for t, e, level in parents if not gap[e]
    ]
    expected = bursts.rows_of(view, events)
    assert {"accepted", "cooldown"} == {row[-1] for row in expected}
    assert expected == bursts.shown(detect(view))


def test_every_ended_accepted_shock_of_the_same_variant_has_one_window_and_no_two_windows_overlap():
    view = bursts.noise(1)
    for variant in Variant:
        shocks = vol_shock_relaxation.detect(view, params=VolShock().at(variant))
        ends = shocks.filter(pl.col("status") == "accepted")["exit_at"].drop_nulls()
        found = vol_aftershock_window.detect(view, params=Aftershock().at(variant))
        assert ends.to_list() == found["known_at"].to_list()
        accepted = found.filter(pl.col("status") == "accepted")
        assert accepted.height >= 3
        assert bool((accepted["known_at"] >= accepted["exit_at"].shift(1)).drop_nulls().all())


def test_a_market_that_stands_still_has_no_aftershocks():
    assert 0 == detect(bursts.still()).height


def test_the_past_does_not_change_when_the_future_comes():
    assert [] == bursts.changed_pasts(detect, bursts.random_view(3, 100))


def test_planted_bursts_are_found_and_little_else():
    at = tuple(range(40 * 96, 200 * 96, 1901))
    view = burst(seed=2, at=at, n_days=200)
    found = bursts.onsets(detect(view), view)
    recall, precision = bursts.recall_and_precision((start + LENGTH for start in at), found, within=18)
    assert pytest.approx((8 / 9, 0.8)) == (recall, precision)


@pytest.mark.parametrize("n_bars", [16, 96])
def test_without_drift_the_window_does_not_foretell_the_price(n_bars):
    n_events, t = bursts.drift_t(detect, n_bars)
    assert n_events > 250
    assert abs(t) < 3

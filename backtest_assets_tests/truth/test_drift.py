"""The martingale test in small, and that it can fail: families that see the future are refused."""

from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets_tests.truth import drift
from backtest_assets_tests.truth.drift import Days, families, gathered, judged, measured, samples

N_MARKETS, N_DAYS = 9, 220
ABSENCE = EventType.LIQUIDITY_ABSENCE_WINDOW.value
REVERSAL = EventType.FUNDING_EXTREME_REVERSAL_WINDOW.value


@cache
def told(arm: str) -> pl.DataFrame:
    return judged(gathered(measured(arm, seed, N_DAYS) for seed in range(N_MARKETS)))


@pytest.mark.parametrize("arm", drift.ARMS)
def test_no_family_foretells_a_market_without_drift(arm):
    broken = told(arm).filter(~pl.col("is_martingale"))
    assert [] == broken.select("family", "kind", "hold").rows()


@pytest.mark.parametrize("arm", drift.ARMS)
def test_every_family_and_hold_is_asked_signed_where_it_has_a_side(arm):
    cells = set(told(arm).select("family", "kind", "hold").rows())
    holds = (4, 16, 48, 96)
    assert cells == {(f.value, "unsigned", h) for f in EventType for h in holds} | {
        (f.value, "signed", h) for f in EventType if f.is_sided for h in holds
    }
    assert told(arm).filter(pl.col("n_days") >= 10).height == told(arm).height
    counted = told(arm).select(pl.col("n_beyond").sum() / pl.col("n_samples").sum()).item()
    assert 0 < counted < 0.09


def refused(detect, arm="garch", n_markets=N_MARKETS):
    made = gathered(measured(arm, seed, N_DAYS, {"leaky": detect}) for seed in range(n_markets))
    return set(judged(made).filter(~pl.col("is_martingale")).select("kind", "hold").rows())


def with_the_next_bar(view):
    """Absences with the side of the bar that opens when they are known."""
    after = view.bars.select("symbol", known_at="open_at", up=pl.col("close") > pl.col("open"))
    found = families()[ABSENCE](view).join(after, on=["symbol", "known_at"], how="left", maintain_order="left")
    return found.with_columns(side=pl.when(pl.col("up").fill_null(value=True)).then(1).otherwise(-1))


def with_the_next_day(view):
    """Absences with the side in which the next day ends."""
    ahead = (pl.col("open").shift(-96) > pl.col("open")).over("symbol")
    found = families()[ABSENCE](view).join(
        view.bars.select("symbol", known_at="open_at", up=ahead), on=["symbol", "known_at"], how="left", maintain_order="left"
    )  # fmt: skip
    return found.with_columns(side=pl.when(pl.col("up").fill_null(value=True)).then(1).otherwise(-1))


def only_before_gains(view):
    """Absences that are kept where the price will rise, without a side."""
    return with_the_next_day(view).filter(pl.col("side") > 0).with_columns(side=pl.lit(0))


def backdated(view):
    """Funding reversals known when funding settled, before the move that confirms them."""
    return families()[REVERSAL](view).with_columns(known_at=pl.col("onset_at"))


def a_bar_early(view):
    """Funding reversals known one bar before the close that confirms them."""
    return families()[REVERSAL](view).with_columns(known_at=pl.col("known_at") - BAR)


def test_a_side_that_knows_the_next_bar_is_refused():
    assert {("signed", 4), ("signed", 16)} <= refused(with_the_next_bar)
    assert ("unsigned", 4) not in refused(with_the_next_bar)


def test_a_side_that_knows_the_next_day_is_refused_on_every_hold():
    assert {("signed", hold) for hold in (4, 16, 48, 96)} <= refused(with_the_next_day)


def test_events_chosen_by_what_comes_after_them_are_refused_without_a_side():
    assert {("unsigned", hold) for hold in (4, 16, 48, 96)} == refused(only_before_gains)


@pytest.mark.parametrize("leak", [backdated, a_bar_early])
def test_a_backdated_known_at_is_refused(leak):
    assert ("signed", 4) in refused(leak, n_markets=2 * N_MARKETS) or ("signed", 96) in refused(
        leak, n_markets=2 * N_MARKETS
    )


def test_a_family_that_never_fires_is_not_a_martingale_but_unknown():
    none = judged(gathered([measured("garch", 1, 60, {"silent": lambda view: families()[ABSENCE](view).clear()})]))
    assert [False] * 4 == none["is_martingale"].to_list()
    assert {0} == set(none["n_events"])


def noise(seed: int, n_days: int, mean: float = 0.0) -> Days:
    drawn = np.random.default_rng(seed).standard_normal(n_days) + mean
    return Days(drawn, np.ones(n_days), n_days)


def test_a_sample_is_as_many_markets_as_give_the_days_it_needs():
    tested = samples([noise(seed, 25) for seed in range(10)])
    assert 3 == len(tested)  # 75 days each; the tenth market is left over
    assert all(0 < p <= 1 for p, _ in tested)


def test_the_rate_of_false_alarms_is_the_nominal_one():
    tested = samples([noise(seed, drift.LEAST_DAYS) for seed in range(4000)])
    beyond = np.mean([p <= drift.NOMINAL for p, _ in tested])
    assert beyond == pytest.approx(drift.NOMINAL, abs=0.012)


def test_a_drift_of_a_fifth_of_a_days_sd_breaks_both_bounds():
    cell = ("f", "unsigned", 4)
    (honest,) = judged({cell: [noise(seed, 60) for seed in range(100)]}).to_dicts()
    (leaky,) = judged({cell: [noise(seed, 60, 0.2) for seed in range(100)]}).to_dicts()
    assert honest["is_martingale"]
    assert leaky["n_beyond"] > leaky["n_beyond_max"]
    assert leaky["t"] > leaky["t_max"]
    assert not leaky["is_martingale"]


def test_returns_are_booked_from_the_next_open_to_the_open_at_the_end_of_the_hold():
    view = drift.ARMS["garch"](1, 60)
    at = view.bars["open_at"][3000]
    event = families()[ABSENCE](view).head(1).with_columns(
        symbol=pl.lit("SYNAUSDT"), known_at=pl.lit(at), side=pl.lit(-1), status=pl.lit("accepted")
    )  # fmt: skip
    days = dict(drift.days_of(view, {"one": lambda _: event}))
    opens = dict(view.bars.filter(pl.col("symbol") == "SYNAUSDT").select("open_at", "open").iter_rows())
    for hold in (4, 16, 48, 96):
        gross = (opens[at + hold * timedelta(minutes=15)] / opens[at] - 1) * 1e4
        assert gross == pytest.approx(days["one", "unsigned", hold].sums.sum())
        assert -gross == pytest.approx(days["one", "signed", hold].sums.sum())
        assert 1.0 == pytest.approx(days["one", "signed", hold].shares.sum())

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.families.funding_extreme_onset import FundingOnset, detect
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.research.events.evidence import (
    changed_pasts,
    crowded_rates,
    fates,
    recall_and_precision,
    settled_number,
    view_of,
    view_of_rates,
)
from backtest_assets_tests.research.events.slow_crowd import SlowCrowd

MARKET = random_market(28, n_days=120)


def onsets(rates) -> list[int]:
    found = detect(view_of_rates(np.asarray(rates)), params=FundingOnset())
    return [settled_number(known) for known in found["known_at"]]


def test_a_settlement_above_95_percent_of_30_days_is_known_when_it_settles():
    rates = [1e-4, 1.1e-4] * 50 + [-9e-4, -9e-4] + [1e-4] * 8
    (event,) = detect(view_of_rates(np.asarray(rates)), params=FundingOnset()).to_dicts()
    settled_at = scenario.MONDAY + 100 * timedelta(hours=8)
    assert (settled_at - BAR, settled_at, settled_at + 96 * BAR) == (
        event["onset_at"], event["known_at"], event["exit_at"],
    )  # fmt: skip
    assert (1, pytest.approx(9e-4 / 1.1e-4), pytest.approx(1.1e-4), "accepted") == (
        event["side"], event["severity"], event["threshold"], event["status"],
    )  # fmt: skip


def test_an_extreme_that_lasts_fires_once_and_a_new_one_fires_again():
    calm = [1e-4, 1.1e-4] * 50
    assert [100, 105] == onsets([*calm, 5e-4, 6e-4, 7e-4, 1e-4, 1e-4, 8e-4, 8e-4])


@pytest.mark.parametrize("rates", [[1e-4] * 120, [0.0] * 120, [-1e-4] * 120, [1e-4, 1.1e-4] * 60, [0.0] * 119 + [1.0]])
def test_funding_that_stands_still_or_has_no_measure_of_the_usual_never_fires(rates):
    assert [] == onsets(rates)


def test_a_past_of_less_than_ten_days_is_no_measure():
    assert [] == onsets([*[1e-4, 1.1e-4] * 14, 1e-4, 9e-4, 1e-4])
    assert [31] == onsets([*[1e-4, 1.1e-4] * 15, 1e-4, 9e-4, 1e-4])


def test_rates_are_compared_per_eight_hours_whatever_the_interval():
    slow = scenario.settlements([1e-4, 1.1e-4] * 50)
    fast = scenario.settlements([0.5e-4] * 9 + [2e-4], start=scenario.MONDAY + 100 * timedelta(hours=8), interval_h=4.0)
    bars = scenario.bars(110 * 32)
    view = view_of(bars)
    found = detect(type(view)(bars, view.features, pl.concat([slow, fast])), params=FundingOnset())
    assert [scenario.MONDAY + timedelta(hours=836)] == found["known_at"].to_list()
    assert [pytest.approx(4e-4 / 1.1e-4)] == found["severity"].to_list()


def test_missing_settlements_and_bars_are_tolerated():
    rates = [1e-4, 1.1e-4] * 50 + [9e-4] + [1e-4] * 9
    bars = scenario.bars(110 * 32, gaps=(*range(40, 60), *range(3195, 3203)))
    view = view_of(bars, rates=np.asarray(rates))
    thinned = type(view)(bars, view.features, view.funding.filter(pl.int_range(pl.len()) % 10 != 7))
    assert [100] == [settled_number(known) for known in detect(thinned, params=FundingOnset())["known_at"]]


def test_the_slow_reader_finds_the_same_on_a_random_market():
    for symbol in SYMBOLS:
        crowd = SlowCrowd(MARKET, symbol)
        extreme = [crowd.rank(crowd.size, i) for i in range(len(crowd.size))]
        found = [i for i in range(1, len(extreme)) if extreme[i] >= 0.95 > extreme[i - 1]]
        expected = crowd.rows([(i, i, i) for i in found])
        assert len(expected) >= 5
        assert expected == crowd.as_rows(detect(MARKET.view, params=FundingOnset()))
        assert {"accepted"} <= set(fates([crowd.window(i) for i in found]))


def test_the_past_does_not_change():
    assert [] == changed_pasts(detect, FundingOnset(), MARKET.view)


def test_planted_extremes_are_found():
    planted, found = set(), []
    for seed in range(4):
        rates = crowded_rates(seed)
        at = np.arange(100, 400, 20)
        rates[at] *= -5.0
        planted |= {1000 * seed + int(i) for i in at}
        found += [1000 * seed + i for i in onsets(rates)]
    recall, precision = recall_and_precision(planted, found)
    print(f"recall {recall:.3f}, precision {precision:.3f}, {len(found)} found")  # noqa: T201  # seen with pytest -s
    assert recall >= 0.95  # noise that is extreme one settlement earlier takes an onset away
    assert precision >= 0.6  # 5 % of noise is beyond its own quantile

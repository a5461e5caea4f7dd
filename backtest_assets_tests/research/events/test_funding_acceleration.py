from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.families.funding_acceleration import FundingAcceleration, detect
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.research.events.evidence import (
    changed_pasts,
    crowded_rates,
    recall_and_precision,
    settled_number,
    view_of_rates,
)
from backtest_assets_tests.research.events.slow_crowd import SlowCrowd

MARKET = random_market(29, n_days=120)
CALM = [1e-4, 1.1e-4] * 50


def accelerations(rates) -> list[int]:
    found = detect(view_of_rates(np.asarray(rates)), params=FundingAcceleration())
    return [settled_number(known) for known in found["known_at"]]


def test_growth_above_95_percent_of_30_days_is_known_when_it_settles():
    (event,) = detect(view_of_rates(np.asarray([*CALM, 3e-4, 3e-4, 1e-4])), params=FundingAcceleration()).to_dicts()
    settled_at = scenario.MONDAY + 100 * timedelta(hours=8)
    assert (settled_at - BAR, settled_at) == (event["onset_at"], event["known_at"])
    assert (-1, pytest.approx(1.9e-4 / 1e-5), pytest.approx(1e-5)) == (
        event["side"], event["severity"], event["threshold"],
    )  # fmt: skip


def test_growth_that_goes_on_fires_once_and_a_fall_never():
    assert [100] == accelerations([*CALM, 3e-4, 6e-4, 9e-4, 1e-4, 1e-4])


def test_falls_count_as_no_growth_so_that_a_third_of_ups_is_enough_of_a_past():
    assert [102] == accelerations([1e-4, 0.9e-4, 1.2e-4] * 34 + [5e-4, 1e-4])


@pytest.mark.parametrize("rates", [[1e-4] * 120, [0.0] * 120, [1e-4, 1.1e-4] * 60, list(np.linspace(9e-4, 1e-4, 120))])
def test_funding_that_stands_still_swings_as_usual_or_falls_never_fires(rates):
    assert [] == accelerations(rates)


def test_growth_over_a_missing_settlement_is_unknown():
    view = view_of_rates(np.asarray([*CALM, 1e-4, 3e-4, 3e-4]))
    assert 1 == detect(view, params=FundingAcceleration()).height
    lost = view.funding.filter(pl.int_range(pl.len()) != 100)
    assert 0 == detect(type(view)(view.bars, view.features, lost), params=FundingAcceleration()).height


def test_the_slow_reader_finds_the_same_on_a_random_market():
    for symbol in SYMBOLS:
        crowd = SlowCrowd(MARKET, symbol)
        growth = [np.nan, *(max(b - a, 0.0) for a, b in pairwise(crowd.size))]
        rank = [crowd.rank(growth, i) for i in range(len(growth))]
        found = [i for i in range(2, len(rank)) if rank[i] >= 0.95 > rank[i - 1]]
        assert len(found) >= 5
        assert crowd.rows([(i, i, i) for i in found]) == crowd.as_rows(
            detect(MARKET.view, params=FundingAcceleration())
        )


def test_the_past_does_not_change():
    assert [] == changed_pasts(detect, FundingAcceleration(), MARKET.view)


def test_planted_jumps_are_found_and_slow_rises_are_not():
    planted, found = set(), []
    for seed in range(4):
        rates = crowded_rates(seed)
        for start in range(100, 361, 40):
            rates[start : start + 10] += 3e-4  # a jump
            rates[start + 20 : start + 30] += np.linspace(0, 4e-5, 10)  # as high after three days as usual noise
            planted.add(1000 * seed + start)
        found += [1000 * seed + i for i in accelerations(rates)]
    recall, precision = recall_and_precision(planted, found)
    print(f"recall {recall:.3f}, precision {precision:.3f}, {len(found)} found")  # noqa: T201  # seen with pytest -s
    assert recall >= 0.95
    assert precision >= 0.3  # plants are 2 % of the settlements, the family fires on 5 %

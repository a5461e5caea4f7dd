from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.families.funding_persistence_window import FundingPersistence, detect
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.research.events.evidence import (
    changed_pasts,
    crowded_rates,
    recall_and_precision,
    settled_number,
    view_of,
    view_of_rates,
)
from backtest_assets_tests.research.events.slow_crowd import SlowCrowd

MARKET = random_market(33, n_days=150)
CALM = [1e-4, 1.1e-4] * 50


def spells(rates) -> list[int]:
    found = detect(view_of_rates(np.asarray(rates)), params=FundingPersistence())
    return [settled_number(known) for known in found["known_at"]]


def test_a_day_of_high_funding_sets_in_at_its_first_and_is_known_at_its_third_settlement():
    view = view_of_rates(np.asarray([*CALM, 2e-4, 3e-4, 4e-4, 5e-4, 1e-4]))
    (event,) = detect(view, params=FundingPersistence()).to_dicts()
    first, third = (scenario.MONDAY + n * timedelta(hours=8) for n in (100, 102))
    assert (first - BAR, third, third + 96 * BAR if view.bars["known_at"][-1] >= third + 96 * BAR else None) == (
        event["onset_at"], event["known_at"], event["exit_at"],
    )  # fmt: skip
    assert (-1, pytest.approx(4e-4 / 1.1e-4)) == (event["side"], event["severity"])


def test_two_settlements_are_no_day_and_a_spell_fires_once_however_long_it_lasts():
    assert [] == spells([*CALM, 2e-4, 2e-4, 1e-4, 2e-4, 2e-4, 1e-4])
    assert [102] == spells([*CALM, *(1e-3 * 1.1**i for i in range(10))])


def test_a_change_of_sign_begins_a_new_spell():
    assert [104] == spells([*CALM, 3e-4, 3e-4, -3e-4, -4e-4, -5e-4])


@pytest.mark.parametrize("rates", [[1e-4] * 120, [0.0] * 120, [-1e-4] * 120, [1e-4, 1.1e-4] * 60])
def test_constant_funding_is_never_persistent(rates):
    assert [] == spells(rates)


def test_a_missing_settlement_breaks_a_spell():
    view = view_of_rates(np.asarray([*CALM, 2e-4, 3e-4, 4e-4, 5e-4, 1e-4]))
    for lost in (100, 101, 102, 103):
        kept = view.funding.filter(pl.int_range(pl.len()) != lost)
        found = detect(type(view)(view.bars, view.features, kept), params=FundingPersistence())
        assert {100: [103], 103: [102]}.get(lost, []) == [settled_number(known) for known in found["known_at"]]


def test_a_day_of_four_hour_funding_is_six_settlements():
    slow = scenario.settlements(CALM)
    fast = scenario.settlements([2e-4] * 8 + [0.5e-4], start=scenario.MONDAY + 100 * timedelta(hours=8), interval_h=4.0)
    bars = scenario.bars(110 * 32)
    view = view_of(bars)
    found = detect(type(view)(bars, view.features, pl.concat([slow, fast])), params=FundingPersistence())
    assert [scenario.MONDAY + timedelta(hours=820)] == found["known_at"].to_list()


def test_the_slow_reader_finds_the_same_on_a_random_market():
    n_found = 0
    for symbol in SYMBOLS:
        crowd = SlowCrowd(MARKET, symbol)
        rank = [crowd.rank(crowd.size, i) for i in range(len(crowd.size))]
        found: list[tuple[int, int, int]] = []
        run: list[int] = []
        for i, share in enumerate(rank):
            if run and (not share >= 0.85 or crowd.rate[i] * crowd.rate[run[-1]] <= 0):
                run = []
            if share >= 0.85:
                run = [*run, i]
                if len(run) == 3:
                    found.append((run[0], i, i))
        n_found += len(found)
        assert crowd.rows(found) == crowd.as_rows(detect(MARKET.view, params=FundingPersistence()))
    assert n_found >= 8


def test_the_past_does_not_change():
    assert [] == changed_pasts(detect, FundingPersistence(), MARKET.view)


def test_planted_spells_are_found_and_pairs_of_high_settlements_are_not():
    planted, found = set(), []
    for seed in range(4):
        rates = crowded_rates(seed)
        for start in range(110, 390, 40):
            rates[start : start + 4] += 4e-4 * np.arange(1, 5)
            rates[start + 20 : start + 22] += 4e-4
            planted.add(1000 * seed + start + 2)
        found += [1000 * seed + i for i in spells(rates)]
    recall, precision = recall_and_precision(planted, found)
    print(f"recall {recall:.3f}, precision {precision:.3f}, {len(found)} found")  # noqa: T201  # seen with pytest -s
    assert recall >= 0.95  # a high settlement of noise before it completes a spell earlier
    assert precision >= 0.8

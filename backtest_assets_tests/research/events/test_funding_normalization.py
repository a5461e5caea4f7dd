from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.families.funding_normalization import FundingNormalization, detect
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.research.events.evidence import (
    changed_pasts,
    crowded_rates,
    recall_and_precision,
    settled_number,
    view_of_rates,
)
from backtest_assets_tests.research.events.slow_crowd import SlowCrowd, with_restless_funding

MARKET = with_restless_funding(random_market(35, n_days=150))
CALM = [0.9e-4, 1e-4, 1.1e-4] * 33 + [1e-4]
ABOVE = 1.05e-4  # larger than two thirds


def normal_at(rates) -> list[int]:
    found = detect(view_of_rates(np.asarray(rates)), params=FundingNormalization())
    return [settled_number(known) for known in found["known_at"]]


def test_the_first_usual_settlement_within_a_day_of_an_extreme_is_the_event():
    rates = [*CALM, -9e-4, ABOVE, 0.9e-4, 1e-4]
    (event,) = detect(view_of_rates(np.asarray(rates)), params=FundingNormalization()).to_dicts()
    settled_at = scenario.MONDAY + 102 * timedelta(hours=8)
    assert (settled_at - BAR, settled_at) == (event["onset_at"], event["known_at"])
    assert (1, pytest.approx(9.0), pytest.approx(1e-4)) == (
        event["side"], event["severity"], event["threshold"],
    )  # fmt: skip


def test_an_extreme_normalises_once():
    assert [101] == normal_at([*CALM, 9e-4, 1e-4, ABOVE, 1e-4])


def test_a_day_and_a_settlement_later_is_too_late():
    assert [103] == normal_at([*CALM, 9e-4, ABOVE, ABOVE, 1e-4])
    assert [] == normal_at([*CALM, 9e-4, ABOVE, ABOVE, ABOVE, 1e-4])


def test_the_last_extreme_counts():
    assert [105] == normal_at([*CALM, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4, 1e-4])


@pytest.mark.parametrize("rates", [[1e-4] * 120, [0.0] * 120, [1e-4, 1.1e-4] * 60])
def test_funding_that_stands_still_has_nothing_to_come_down_from(rates):
    assert [] == normal_at(rates)


def test_settlements_missing_in_between_do_not_lengthen_the_day():
    view = view_of_rates(np.asarray([*CALM, 9e-4, ABOVE, ABOVE, 1e-4, 1e-4]))
    for lost, expected in ((101, [103]), (103, [])):
        kept = view.funding.filter(pl.int_range(pl.len()) != lost)
        found = detect(type(view)(view.bars, view.features, kept), params=FundingNormalization())
        assert expected == [settled_number(known) for known in found["known_at"]]


def test_the_slow_reader_finds_the_same_on_a_random_market():
    n_found = 0
    for symbol in SYMBOLS:
        crowd = SlowCrowd(MARKET, symbol)
        rank = [crowd.rank(crowd.size, i) for i in range(len(crowd.size))]
        found: list[tuple[int, int, int]] = []
        for i in range(1, len(rank)):
            for j in range(i - 1, max(i - 4, -1), -1):
                if not rank[i] < 0.5 <= rank[j]:
                    break
                if rank[j] >= 0.95:
                    found.append((i, i, j))
                    break
        n_found += len(found)
        assert crowd.rows(found) == crowd.as_rows(detect(MARKET.view, params=FundingNormalization()))
    assert n_found >= 8


def test_the_past_does_not_change():
    assert [] == changed_pasts(detect, FundingNormalization(), MARKET.view)


def test_planted_ends_of_extremes_are_found_and_slow_ends_are_not():
    planted, found = set(), []
    for seed in range(4):
        rates = crowded_rates(seed)
        for start in range(110, 390, 40):
            rates[start : start + 3] = 8e-4, 9e-4, 0.3e-4  # back at once
            rates[start + 20 : start + 26] = 8e-4, 5e-4, 4e-4, 3e-4, 2e-4, 0.3e-4  # back after 40 hours
            planted.add(1000 * seed + start + 2)
        found += [1000 * seed + i for i in normal_at(rates)]
    recall, precision = recall_and_precision(planted, found)
    print(f"recall {recall:.3f}, precision {precision:.3f}, {len(found)} found")  # noqa: T201  # seen with pytest -s
    assert recall >= 0.99
    assert precision >= 0.5

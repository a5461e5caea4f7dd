from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.features.persistence import funding_persistence
from backtest_assets.tables.bars import SETTLEMENTS_UM
from backtest_assets_tests import scenario

USUAL = [1e-4, 2e-4] * 15
"""Thirty settlements: just enough to compare with."""


def active(rates: list[float], interval_h: float = 8.0) -> list[bool | None]:
    return funding_persistence(scenario.settlements(rates, interval_h=interval_h))["is_funding_persistent"].to_list()


def test_the_state_begins_with_the_third_extreme_settlement_and_ends_with_the_first_usual_one():
    states = funding_persistence(scenario.settlements([*USUAL, 5e-4, 6e-4, 7e-4, 8e-4, 1e-4, 9e-4]))
    assert [None] * 30 + [False, False, True, True, False, False] == states["is_funding_persistent"].to_list()
    first = scenario.MONDAY + 30 * timedelta(hours=8)
    assert [None] * 32 + [first, first, None, None] == states["persistent_since"].to_list()
    severity = states["funding_persistence_severity"][30:].to_list()
    assert pytest.approx([0.0, 0.0, 0.15, 0.15, 0.0, 0.0]) == severity
    assert states["settled_at"].equals(states["known_at"])


@pytest.mark.parametrize("rate", [0.0, 1e-4, -3e-4])
def test_a_rate_that_stands_still_is_never_persistent(rate):
    assert [None] * 30 + [False] * 90 == active([rate] * 120)


def test_a_plateau_stops_being_extreme_once_it_is_what_is_usual():
    states = active([*USUAL, *[5e-4] * 120])
    assert {True} == set(states[32:36])
    assert False is states[36]  # of the 36 before it 6 are as large: 83 % are smaller


def test_negative_rates_persist_too_and_a_change_of_sign_begins_anew():
    assert [False, False, True] == active([*USUAL, -5e-4, -6e-4, -7e-4])[30:]
    assert [False, False, False, False, True] == active([*USUAL, 5e-4, 6e-4, -7e-4, -8e-4, -9e-4])[30:]


def test_what_comes_before_a_missing_settlement_does_not_count():
    whole = scenario.settlements([*USUAL, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4])
    holed = whole.filter(pl.int_range(pl.len()) != 31)
    assert [False, False, False, True] == funding_persistence(holed)["is_funding_persistent"].to_list()[30:]


def test_rates_of_another_interval_are_compared_per_eight_hours():
    rows = pl.concat(
        [
            scenario.settlements(USUAL),
            scenario.settlements([2e-4] * 3, start=scenario.MONDAY + timedelta(days=9, hours=20), interval_h=4.0),
        ]
    )
    assert [False, False, True] == funding_persistence(rows)["is_funding_persistent"].to_list()[30:]


def test_random_settlements_of_two_symbols_agree_with_plain_python_in_any_order():
    rng = np.random.default_rng(5)
    rates = {symbol: np.round(1e-4 * rng.standard_t(3, 400).cumsum() / 10, 5) for symbol in ("AUSDT", "BUSDT")}
    frame = pl.concat([scenario.settlements(list(values), symbol=name) for name, values in rates.items()])
    states = funding_persistence(frame.sample(fraction=1.0, shuffle=True, seed=2))
    for symbol, values in rates.items():
        size = np.abs(values)
        extreme = [t >= 30 and np.mean(size[max(t - 90, 0) : t] < size[t]) >= 0.85 for t in range(values.size)]
        expected = [
            None if t < 30 else all(extreme[t - 2 : t + 1]) and len(set(np.sign(values[t - 2 : t + 1]))) == 1
            for t in range(values.size)
        ]
        assert expected == states.filter(pl.col("symbol") == symbol)["is_funding_persistent"].to_list()
        assert 5 < sum(one or False for one in expected)


def test_no_settlements_give_no_rows():
    assert funding_persistence(SETTLEMENTS_UM.empty()).is_empty()

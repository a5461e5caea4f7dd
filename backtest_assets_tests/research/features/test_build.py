import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import TableError
from backtest_assets.research.features.build import build_features
from backtest_assets.tables.bars import BARS_SPOT
from backtest_assets.tables.features import FEATURES
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(11, n_days=60)
NO_SPOT, NO_FUNDING = BARS_SPOT.empty(), RAW_UM_FUNDING.empty()


def present(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def test_values_agree_with_brute_force_on_gappy_bars():
    rows = MARKET.features.filter(pl.col("symbol") == "SYNAUSDT")
    bars = MARKET.bars.filter(pl.col("symbol") == "SYNAUSDT")
    close, high, low = (bars[name].to_numpy() for name in ("close", "high", "low"))
    logret = np.concatenate([[np.nan], np.diff(np.log(close))])
    rv12 = np.array(
        [
            np.sqrt(np.mean(present(logret[max(t - 11, 0) : t + 1]) ** 2))
            if present(logret[max(t - 11, 0) : t + 1]).size >= 8
            else np.nan
            for t in range(close.size)
        ]
    )
    at = np.random.default_rng(0).choice(np.flatnonzero(~np.isnan(close[3200:])) + 3200, 40, replace=False)
    width = np.array(
        [
            (np.nanmax(high[max(t - 95, 0) : t + 1]) - np.nanmin(low[max(t - 95, 0) : t + 1])) / close[t]
            for t in range(close.size)
        ]
    )
    width[:63] = np.nan
    for t in map(int, at):
        shown = rows.row(t, named=True)
        day = present(logret[t - 95 : t + 1])
        expected = {
            "rv_12": rv12[t],
            "rv_ratio_288": rv12[t] / np.median(present(rv12[t - 287 : t + 1])),
            "rv_96": np.std(day, ddof=1),
            "range_96_frac": width[t],
            "high_prev_96": np.nanmax(high[t - 96 : t]),
            "low_prev_96": np.nanmin(low[t - 96 : t]),
            "compression_ratio": width[t] / np.median(present(width[t - 2879 : t + 1])),
            "coverage_2880": np.mean(~np.isnan(close[t - 2879 : t + 1])),
        }
        assert pytest.approx(expected, rel=1e-9) == {name: shown[name] for name in expected}


def test_one_missing_bar_costs_one_return_pair_and_no_month():
    features = build_features(scenario.bars(40 * 96, gaps=[3000]), NO_SPOT, NO_FUNDING)
    assert [2999, 3002] == [
        features["logret_1"][:3001].is_not_null().sum(),
        3002 * features["logret_1"][3002:3003].is_not_null().sum(),
    ]
    assert [True, True, False] == features["logret_1"].is_null()[3000:3003].to_list()
    for name in ("rv_12", "rv_ratio_288", "rv_96", "rv_pct_2880", "high_prev_96"):
        assert 0 == features[name][3000:].null_count()
    assert 1 == features["range_96_frac"][3000:].null_count()


def test_what_needs_history_is_null_before_its_stated_coverage():
    features = build_features(scenario.bars(1200), NO_SPOT, NO_FUNDING)
    first = {
        name: features[name].is_not_null().arg_true()[0]
        for name in ("rv_12", "rv_96", "rv_ratio_288", "rv_pct_2880", "high_prev_96")
    }
    assert {"rv_12": 8, "rv_96": 64, "rv_ratio_288": 8 + 95, "rv_pct_2880": 64 + 959, "high_prev_96": 64} == first


def test_without_spot_the_basis_is_null_and_with_it_it_is_the_distance_of_closes():
    bars = scenario.calm_week()
    assert bars.height == build_features(bars, NO_SPOT, NO_FUNDING)["basis_bps"].null_count()
    with_spot = build_features(bars, scenario.spot_missing(), NO_FUNDING)
    assert pytest.approx((101.0 / 100.0 - 1.0) * 1e4) == with_spot["basis_bps"][0]
    assert 4 * 96 == with_spot["basis_bps"].null_count()


def test_funding_counts_from_its_settlement_until_its_interval_and_one_bar_are_over():
    funding = scenario.settlements([1e-4, 2e-4])
    features = build_features(scenario.calm_week(), NO_SPOT, funding)
    rows = features.with_columns(hour=(pl.col("known_at") - scenario.MONDAY).dt.total_minutes() / 60)
    assert {7.75: 1e-4, 8.0: 2e-4, 16.0: 2e-4, 16.25: 2e-4, 16.5: None} == {
        hour: rows.filter(pl.col("hour") == hour)["funding_rate"][0] for hour in (7.75, 8.0, 16.0, 16.25, 16.5)
    }
    assert 32.0 == rows.filter(pl.col("hour") == 40.0)["funding_age_h"][0]


def test_a_rate_of_another_interval_is_scaled_to_eight_hours():
    features = build_features(scenario.calm_week(), NO_SPOT, scenario.settlements([1e-4] * 60, interval_h=4.0))
    assert pytest.approx(2e-4) == features["funding_rate_8h"][50]


def test_the_order_of_rows_and_symbols_does_not_matter():
    shuffled = [
        frame.sample(fraction=1.0, shuffle=True, seed=1) for frame in (MARKET.bars, MARKET.spot_bars, MARKET.funding)
    ]
    assert_frame_equal(MARKET.features, build_features(*shuffled))


def test_a_symbol_does_not_see_the_other():
    one = pl.col("symbol") == "SYNBUSDT"
    assert_frame_equal(
        MARKET.features.filter(one), build_features(MARKET.bars.filter(one), MARKET.spot_bars, MARKET.funding)
    )


def test_no_bars_give_no_rows():
    assert_frame_equal(FEATURES.empty(), build_features(scenario.bars(4).clear(), NO_SPOT, NO_FUNDING))


def test_a_hole_in_the_grid_is_refused_and_named():
    holed = scenario.bars(96).filter(pl.col("open_at") != scenario.MONDAY + 40 * BAR)
    with pytest.raises(TableError, match=r"symbol SYNAUSDT: the 15-minute grid breaks after 2024-01-01 09:45"):
        build_features(holed, NO_SPOT, NO_FUNDING)

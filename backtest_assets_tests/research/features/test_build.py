import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import TableError
from backtest_assets.research.features.build import build_features
from backtest_assets.tables.bars import BARS_SPOT, POSITIONING_UM
from backtest_assets.tables.features import FEATURES
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(11, n_days=60)
NO_SPOT, NO_FUNDING, NO_POSITIONS = BARS_SPOT.empty(), RAW_UM_FUNDING.empty(), POSITIONING_UM.empty()
BARS = MARKET.bars.filter(pl.col("symbol") == "SYNAUSDT")
ROWS = MARKET.features.filter(pl.col("symbol") == "SYNAUSDT")
POSITIONS = MARKET.positioning.filter(pl.col("symbol") == "SYNAUSDT")


def present(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def test_values_agree_with_brute_force_on_gappy_bars():
    rows = ROWS
    close, high, low = (BARS[name].to_numpy() for name in ("close", "high", "low"))
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


def test_liquidity_agrees_with_brute_force_on_gappy_bars():
    close, high, low, base, quote, bought = (
        BARS[name].to_numpy() for name in ("close", "high", "low", "volume_base", "volume_quote", "taker_buy_base")
    )
    imbalance = np.array([2 * b / v - 1 if v > 0 else np.nan for b, v in zip(bought, base, strict=True)])
    pairs = np.array([np.nan, *(pair_spread(high[t - 1 : t + 1], low[t - 1 : t + 1]) for t in range(1, close.size))])
    at = np.random.default_rng(1).choice(np.flatnonzero(~np.isnan(imbalance[1500:])) + 1500, 60, replace=False)
    measures = set()
    for t in map(int, at):
        month = slice(max(t - 2879, 0), t + 1)
        value, other = quote[month], (base * close)[month]
        measure = "base_x_close" if (np.isnan(value) & ~np.isnan(other)).any() else "volume_quote"
        chosen = value if measure == "volume_quote" else other
        spread = 1e4 * np.nanmean(pairs[t - 95 : t + 1])
        shown = ROWS.row(t, named=True)
        assert (measure, spread > 0) == (shown["volume_measure"], shown["spread_est_96_bps"] is not None)
        expected = {
            "range_frac": (high[t] - low[t]) / close[t],
            "volume_quote_ratio_2880": chosen[-1] / np.nanmedian(chosen),
            "taker_imbalance": imbalance[t],
            "taker_imbalance_96": np.nanmean(imbalance[t - 95 : t + 1]),
            **({"spread_est_96_bps": spread} if spread > 0 else {}),
        }
        assert pytest.approx(expected, rel=1e-9) == {name: shown[name] for name in expected}
        measures.add(measure)
    assert {"base_x_close", "volume_quote"} == measures


def pair_spread(high: np.ndarray, low: np.ndarray) -> float:
    beta = float(np.sum(np.log(high / low) ** 2))
    gamma = float(np.log(high.max() / low.min()) ** 2)
    k = 3 - 2 * np.sqrt(2)
    alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    return 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))


def test_positions_agree_with_brute_force_and_a_sum_needs_all_its_bars():
    held, longs = POSITIONS["open_interest_base"].to_numpy(), POSITIONS["liquidated_long_quote"].to_numpy()
    assert POSITIONS["open_interest_quote"].equals(ROWS["open_interest_quote"])
    assert POSITIONS["liquidated_long_quote"].equals(ROWS["liquidated_long_quote"])
    expected = {
        "open_interest_log_change_4": [np.log(held[t] / held[t - 4]) if t >= 4 else np.nan for t in range(held.size)],
        "open_interest_log_change_96": [
            np.log(held[t] / held[t - 96]) if t >= 96 else np.nan for t in range(held.size)
        ],
        "liquidated_long_quote_96": [np.sum(longs[t - 95 : t + 1]) if t >= 95 else np.nan for t in range(held.size)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(values, ROWS[name].to_numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
        assert 0 < ROWS[name][96:].null_count() < held.size / 5


def test_what_the_data_lack_is_null_and_never_0():
    nothing = pl.lit(None, dtype=pl.Float64)
    bars = MARKET.bars.with_columns(volume_quote=nothing, taker_buy_base=nothing)
    features = build_features(bars, NO_SPOT, NO_FUNDING, NO_POSITIONS)
    lacking = [name for name in features.columns if features[name].null_count() == features.height]
    assert [
        "rv_pct_17280",
        "taker_imbalance",
        "taker_imbalance_96",
        "open_interest_quote",
        "open_interest_log_change_4",
        "open_interest_log_change_96",
        "liquidated_long_quote",
        "liquidated_short_quote",
        "liquidated_long_quote_96",
        "liquidated_short_quote_96",
        "basis_bps",
        "basis_z_96",
        "funding_rate",
        "funding_rate_8h",
        "funding_age_h",
        "funding_settled_at",
        "is_funding_persistent",
        "funding_persistence_age_h",
        "funding_persistence_severity",
    ] == lacking
    assert {"base_x_close", None} == set(features["volume_measure"])


def test_a_bar_without_trades_has_volume_0_and_no_imbalance():
    idle = pl.col("open_at") == scenario.MONDAY + 1500 * BAR
    bars = scenario.bars(1600).with_columns(
        pl.when(~idle).then(name).otherwise(0.0).alias(name)
        for name in ("volume_base", "volume_quote", "taker_buy_base")
    )
    row = build_features(bars, NO_SPOT, NO_FUNDING, NO_POSITIONS).row(1500, named=True)
    assert (0.0, None, 0.0) == (
        row["volume_quote_ratio_2880"],
        row["taker_imbalance"],
        row["taker_imbalance_96"],
    )


def test_a_market_without_any_trade_has_no_usual_volume():
    bars = scenario.bars(1600).with_columns(volume_base=0.0, volume_quote=0.0)
    features = build_features(bars, NO_SPOT, NO_FUNDING, NO_POSITIONS)
    assert [1600, 1600] == [features[name].null_count() for name in ("volume_quote_ratio_2880", "volume_measure")]


def test_funding_that_stays_high_is_shown_from_the_bar_on_which_that_is_known_until_the_rate_is_stale():
    funding = scenario.settlements([1e-4 * (1 + number % 2) for number in range(30)] + [5e-4] * 4)
    features = build_features(scenario.bars(12 * 96), NO_SPOT, funding, NO_POSITIONS)
    hours = (features["known_at"] - scenario.MONDAY).dt.total_minutes() / 60
    active = features.with_columns(hour=hours).filter("is_funding_persistent")
    assert [32 * 8.0, 33 * 8.0 + 8.25] == [active["hour"][0], active["hour"][-1]]
    assert [16.0, 32.25] == [active["funding_persistence_age_h"][0], active["funding_persistence_age_h"][-1]]
    assert pytest.approx(30 / 32 - 0.85) == active["funding_persistence_severity"][0]
    later = features.with_columns(hour=hours).filter(pl.col("hour") > 33 * 8.0 + 8.25)
    assert {None} == set(later["is_funding_persistent"])


def test_one_missing_bar_costs_one_return_pair_and_no_month():
    features = build_features(scenario.bars(40 * 96, gaps=[3000]), NO_SPOT, NO_FUNDING, NO_POSITIONS)
    assert [2999, 3002] == [
        features["logret_1"][:3001].is_not_null().sum(),
        3002 * features["logret_1"][3002:3003].is_not_null().sum(),
    ]
    assert [True, True, False] == features["logret_1"].is_null()[3000:3003].to_list()
    for name in ("rv_12", "rv_ratio_288", "rv_96", "rv_pct_2880", "high_prev_96"):
        assert 0 == features[name][3000:].null_count()
    assert 1 == features["range_96_frac"][3000:].null_count()


def test_what_needs_history_is_null_before_its_stated_coverage():
    features = build_features(scenario.bars(1200), NO_SPOT, NO_FUNDING, NO_POSITIONS)
    first = {
        name: features[name].is_not_null().arg_true()[0]
        for name in ("rv_12", "rv_96", "rv_ratio_288", "rv_pct_2880", "high_prev_96", "taker_imbalance_96",
                     "volume_quote_ratio_2880")
    }  # fmt: skip
    assert {"rv_12": 8, "rv_96": 64, "rv_ratio_288": 8 + 95, "rv_pct_2880": 64 + 959, "high_prev_96": 64,
            "taker_imbalance_96": 63, "volume_quote_ratio_2880": 959} == first  # fmt: skip


def test_without_spot_the_basis_is_null_and_with_it_it_is_the_distance_of_closes():
    bars = scenario.calm_week()
    assert bars.height == build_features(bars, NO_SPOT, NO_FUNDING, NO_POSITIONS)["basis_bps"].null_count()
    with_spot = build_features(bars, scenario.spot_missing(), NO_FUNDING, NO_POSITIONS)
    assert pytest.approx((101.0 / 100.0 - 1.0) * 1e4) == with_spot["basis_bps"][0]
    assert 4 * 96 == with_spot["basis_bps"].null_count()


def test_funding_counts_from_its_settlement_until_its_interval_and_one_bar_are_over():
    funding = scenario.settlements([1e-4, 2e-4])
    features = build_features(scenario.calm_week(), NO_SPOT, funding, NO_POSITIONS)
    rows = features.with_columns(hour=(pl.col("known_at") - scenario.MONDAY).dt.total_minutes() / 60)
    assert {7.75: 1e-4, 8.0: 2e-4, 16.0: 2e-4, 16.25: 2e-4, 16.5: None} == {
        hour: rows.filter(pl.col("hour") == hour)["funding_rate"][0] for hour in (7.75, 8.0, 16.0, 16.25, 16.5)
    }
    assert 32.0 == rows.filter(pl.col("hour") == 40.0)["funding_age_h"][0]


def test_a_rate_of_another_interval_is_scaled_to_eight_hours():
    features = build_features(
        scenario.calm_week(), NO_SPOT, scenario.settlements([1e-4] * 60, interval_h=4.0), NO_POSITIONS
    )
    assert pytest.approx(2e-4) == features["funding_rate_8h"][50]


def test_the_order_of_rows_and_symbols_does_not_matter():
    inputs = (MARKET.bars, MARKET.spot_bars, MARKET.funding, MARKET.positioning)
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=1) for frame in inputs]
    assert_frame_equal(MARKET.features, build_features(*shuffled))


def test_a_symbol_does_not_see_the_other():
    one = pl.col("symbol") == "SYNBUSDT"
    assert_frame_equal(
        MARKET.features.filter(one),
        build_features(MARKET.bars.filter(one), MARKET.spot_bars, MARKET.funding, MARKET.positioning),
    )


def test_no_bars_give_no_rows():
    assert_frame_equal(FEATURES.empty(), build_features(scenario.bars(4).clear(), NO_SPOT, NO_FUNDING, NO_POSITIONS))


def test_a_hole_in_the_grid_is_refused_and_named():
    holed = scenario.bars(96).filter(pl.col("open_at") != scenario.MONDAY + 40 * BAR)
    with pytest.raises(TableError, match=r"symbol SYNAUSDT: the 15-minute grid breaks after 2024-01-01 09:45"):
        build_features(holed, NO_SPOT, NO_FUNDING, NO_POSITIONS)

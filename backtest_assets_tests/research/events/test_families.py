from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import Variant
from backtest_assets.research.events.families import (
    funding_extreme_reversal_window,
    range_compression_breakout_window,
    vol_shock_relaxation,
)
from backtest_assets.research.events.families.funding_extreme_reversal_window import FundingReversal
from backtest_assets.research.events.families.range_compression_breakout_window import Breakout
from backtest_assets.research.events.families.vol_shock_relaxation import VolShock
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(28, n_days=70)
SYMBOL = "SYNAUSDT"
BARS = MARKET.bars.filter(pl.col("symbol") == SYMBOL)
FEATURES = MARKET.features.filter(pl.col("symbol") == SYMBOL)
COLUMNS = ("onset_at", "known_at", "exit_at", "side", "status")


def trailing(values: np.ndarray, q: float) -> np.ndarray:
    """Quantile of the 8,640 values before each bar, by sorting each window anew."""
    result = np.full(values.size, np.nan)
    for t in range(1, values.size):
        window = values[max(t - 8640, 0) : t]
        window = window[~np.isnan(window)]
        if window.size >= 2880:
            result[t] = np.quantile(window, q)
    return result


def accepted_in_order(candidates: list[tuple[int, int, float]]) -> list[str]:
    """(known row, free row, quality) -> status."""
    free, fates = -1, []
    for known, free_row, quality in candidates:
        if quality < 0.8:
            fates.append("low_quality")
        elif known >= free:
            fates.append("accepted")
            free = free_row
        else:
            fates.append("cooldown")
    return fates


def as_rows(found: pl.DataFrame) -> list[tuple[object, ...]]:
    return found.filter(pl.col("symbol") == SYMBOL).select(COLUMNS).rows()


def known_at(row: int):
    return FEATURES["known_at"][row] if row < FEATURES.height else None


def test_vol_shocks_are_those_a_slow_reader_finds():
    ratio, gap = FEATURES["rv_ratio_288"].to_numpy(), FEATURES["is_gap"].to_numpy()
    threshold = trailing(ratio, 0.99)
    onsets = [
        t for t in range(1, ratio.size) if ratio[t] >= threshold[t] and ratio[t - 1] < threshold[t - 1] and not gap[t]
    ]

    def end(onset: int) -> int:
        quiet = 0
        for t in range(onset + 1, ratio.size):
            quiet = quiet + 1 if ratio[t] <= 1.25 else 0
            if quiet == 3:
                return t
        return 10**9

    fates = accepted_in_order([(t, end(t) + 12, FEATURES["coverage_2880"][t]) for t in onsets])
    expected = [
        (FEATURES["open_at"][t], known_at(t), known_at(end(t)), 0, fate) for t, fate in zip(onsets, fates, strict=True)
    ]
    assert {"accepted", "cooldown"} == set(fates)
    assert expected == as_rows(vol_shock_relaxation.detect(MARKET.view, params=VolShock()))


def test_breakouts_are_those_a_slow_reader_finds():
    close, ratio = BARS["close"].to_numpy(), FEATURES["compression_ratio"].to_numpy()
    high, low = BARS["high"].to_numpy(), BARS["low"].to_numpy()
    threshold = trailing(ratio, 0.2)
    expected_rows: list[tuple[int, int]] = []
    for t in range(97, close.size):
        top, bottom = np.nanmax(high[t - 96 : t]), np.nanmin(low[t - 96 : t])
        side = 1 if close[t] > top else -1 if close[t] < bottom else 0
        if side and ratio[t - 1] <= threshold[t - 1]:
            expected_rows.append((t, side))
    fates = accepted_in_order([(t, t + 96, FEATURES["coverage_2880"][t]) for t, _ in expected_rows])
    expected = [
        (BARS["open_at"][t], known_at(t), known_at(t + 96), side, fate)
        for (t, side), fate in zip(expected_rows, fates, strict=True)
    ]
    assert {"accepted", "cooldown"} <= set(fates)
    assert expected == as_rows(range_compression_breakout_window.detect(MARKET.view, params=Breakout()))


def test_funding_reversals_are_those_a_slow_reader_finds():
    funding = MARKET.funding.filter(pl.col("symbol") == SYMBOL)
    size, at = funding["funding_rate"].abs().to_list(), funding["settled_at"].to_list()
    close, rv = BARS["close"].to_list(), FEATURES["rv_96"].to_list()

    def threshold(i: int) -> float:
        past = [size[j] for j in range(i) if at[j] >= at[i] - timedelta(days=90)]
        return np.quantile(past, 0.98) if len(past) >= 90 and np.quantile(past, 0.98) > np.median(past) else np.inf

    found: list[tuple[int, int, int]] = []
    for i in range(1, len(at)):
        if not (size[i] > threshold(i) and size[i - 1] <= threshold(i - 1)):
            continue
        row = (at[i] - BARS["open_at"][0]) // BAR - 1
        side = -1 if funding["funding_rate"][i] > 0 else 1
        for t in range(row + 1, min(row + 97, len(close))):
            if None not in (close[t], close[row]) and side * np.log(close[t] / close[row]) > 4 * rv[row]:
                found.append((t, i, side))
                break
    found.sort()
    fates = accepted_in_order([(t, t + 96, FEATURES["coverage_2880"][t]) for t, _, _ in found])
    expected = [
        (at[i], known_at(t), known_at(t + 96), side, fate) for (t, i, side), fate in zip(found, fates, strict=True)
    ]
    assert expected
    assert expected == as_rows(funding_extreme_reversal_window.detect(MARKET.view, params=FundingReversal()))


def reversals(rates: list[float], closes: list[float] | None = None) -> pl.DataFrame:
    bars = scenario.bars(len(rates) * 32)
    if closes is not None:
        close = pl.Series(closes)
        bars = BARS_UM.conform(bars.with_columns(open=close, high=close + 0.5, low=close - 0.5, close=close))
    funding = scenario.settlements(rates)
    features = build_features(bars, BARS_SPOT.empty(), funding, POSITIONING_UM.empty())
    return funding_extreme_reversal_window.detect(MarketView(bars, features, funding), params=FundingReversal())


@pytest.mark.parametrize("rates", [[1e-4] * 120, [0.0] * 120, [-1e-4] * 120, [1e-4, 1.1e-4] * 60])
def test_funding_that_stands_still_or_stays_within_what_is_usual_is_never_extreme(rates):
    assert 0 == reversals(rates).height


def test_an_extreme_without_a_move_against_the_crowd_is_no_event():
    rates = [1e-4, 1.1e-4] * 55 + [9e-4] + [1e-4] * 9
    rising = [100.0 + 0.01 * i for i in range(120 * 32)]
    assert 0 == reversals(rates, rising).height


def test_the_crowd_is_proven_wrong_by_the_first_close_beyond_four_sd():
    rates = [1e-4, 1.1e-4] * 55 + [9e-4] + [1e-4] * 9
    closes = [100.0 * (1.001 if i % 2 else 1.0) for i in range(120 * 32)]  # one bar's sd is 0.001
    settled = 110 * 32
    for i in range(settled + 10, len(closes)):
        closes[i] *= 0.99
    (event,) = reversals(rates, closes).to_dicts()
    assert (-1, scenario.MONDAY + 110 * timedelta(hours=8), scenario.MONDAY + (settled + 11) * BAR) == (
        event["side"], event["onset_at"], event["known_at"],
    )  # fmt: skip


def test_events_after_days_without_bars_are_of_low_quality_and_block_nobody():
    lost = pl.col("open_at").is_between(FEATURES["open_at"][3400], FEATURES["open_at"][4000])
    prices = [pl.when(~lost).then(pl.col(name)).alias(name) for name in ("open", "high", "low", "close", "volume_base")]
    bars = MARKET.bars.with_columns(*prices, is_gap=lost | pl.col("is_gap"))
    features = build_features(bars, MARKET.spot_bars, MARKET.funding, MARKET.positioning)
    found = range_compression_breakout_window.detect(MarketView(bars, features, MARKET.funding), params=Breakout())
    is_low = pl.col("status") == "low_quality"
    assert {True, False} == set(found.select(is_low).to_series())
    assert found.select((is_low == (pl.col("quality") < 0.8)).all()).item()
    counted = found.filter(~is_low)
    assert "accepted" == counted.sort("known_at")["status"][0]


def test_a_market_without_volatility_has_no_events():
    still = BARS_UM.conform(
        scenario.bars(60 * 96).with_columns(pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close"))
    )
    funding = scenario.settlements([1e-4] * 180)
    features = build_features(still, BARS_SPOT.empty(), funding, POSITIONING_UM.empty())
    assert 0 == vol_shock_relaxation.detect(MarketView(still, features, funding), params=VolShock()).height
    assert 0 == range_compression_breakout_window.detect(MarketView(still, features, funding), params=Breakout()).height
    assert (
        0
        == funding_extreme_reversal_window.detect(MarketView(still, features, funding), params=FundingReversal()).height
    )


def test_variants_change_the_rate_by_a_tenth_and_the_digest():
    shock = VolShock()
    assert pytest.approx((0.01, 0.009, 0.011)) == tuple(shock.at(variant).rate for variant in Variant)
    assert 3 == len({shock.at(variant).digest for variant in Variant})
    assert shock.digest == shock.at(Variant.CENTRE).digest

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.research.context.build import build_context
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.features.build import build_features
from backtest_assets.tables.bars import BARS_SPOT, POSITIONING_UM
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.features import FEATURES
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(11, n_days=60)


def features_of(bars: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    return build_features(bars, BARS_SPOT.empty(), funding, POSITIONING_UM.empty())


def test_volatility_and_trend_words_follow_their_features():
    row = features_of(scenario.bars(5), scenario.settlements([1e-4]))
    changed = row.with_columns(
        rv_pct_2880=pl.Series([None, 1 / 3, 0.34, 2 / 3, 0.67]), trend_ret_96=pl.Series([None, 0.0, 0.1, -0.1, 0.1])
    )
    context = build_context(changed)
    assert ["unknown", "low", "mid", "mid", "high"] == context["vol_regime"].to_list()
    assert ["unknown", "unknown", "bull", "bear", "bull"] == context["bull_bear"].to_list()


def test_compression_and_liquidity_words_follow_their_features():
    changed = features_of(scenario.bars(5), scenario.settlements([1e-4])).with_columns(
        compression_ratio=pl.Series([None, 0.0, 0.8, 0.81, 5.0]),
        volume_quote_ratio_2880=pl.Series([None, 0.0, 0.5, 0.51, 2.0]),
    )
    context = build_context(changed)
    assert ["unknown", "compressed", "compressed", "open", "open"] == context["compression_state"].to_list()
    assert ["unknown", "thin", "thin", "usual", "heavy"] == context["liquidity_regime"].to_list()


def test_a_regime_added_here_is_no_new_hypothesis():
    names = {c.name for c in Condition.declared(EventType.VOL_SHOCK_RELAXATION, ("A", "B"))}
    assert set() == {name for name in names if name.startswith(("compression", "liquidity"))}


def test_sessions_change_at_the_hour_in_which_the_row_is_known():
    context = build_context(features_of(scenario.bars(96), scenario.settlements([1e-4])))
    hours = dict(zip(context["known_at"].dt.strftime("%H:%M"), context["session"], strict=True))
    assert ("asia", "eu", "eu", "us", "asia") == tuple(
        hours[at] for at in ("07:45", "08:00", "15:45", "16:00", "00:00")
    )


def test_funding_that_stands_still_is_neutral_and_missing_funding_is_unknown():
    bars = scenario.bars(40 * 96)
    still = build_context(features_of(bars, scenario.settlements([1e-4] * 121)))
    assert {"unknown": 2880, "neutral": 960} == dict(still["funding_regime"].value_counts().iter_rows())
    missing = build_context(features_of(bars, scenario.settlements([])))
    assert {"unknown"} == set(missing["funding_regime"])


@pytest.mark.parametrize(("rate", "word"), [(5e-4, "positive"), (-5e-4, "negative"), (1e-4, "neutral")])
def test_funding_is_judged_against_what_was_usual_before_it(rate, word):
    bars = scenario.bars(40 * 96)
    context = build_context(features_of(bars, scenario.settlements([1e-4] * 110 + [rate] * 11)))
    assert word == context["funding_regime"][110 * 32]


def test_funding_thirds_agree_with_polars_own_rolling_quantile():
    rate = pl.col("funding_rate_8h")
    third = [
        rate.rolling_quantile(q, "linear", window_size=8640, min_samples=2880).shift(1).over("symbol")
        for q in (1 / 3, 2 / 3)
    ]
    expected = MARKET.features.select(
        pl.when(pl.any_horizontal(rate.is_null(), *(t.is_null() for t in third))).then(pl.lit("unknown"))
        .when(rate < third[0] - 1e-15).then(pl.lit("negative"))
        .when(rate > third[1] + 1e-15).then(pl.lit("positive"))
        .otherwise(pl.lit("neutral"))
        .alias("funding_regime")
    )  # fmt: skip
    assert_frame_equal(expected, MARKET.context.select("funding_regime"))


def test_no_features_give_no_rows():
    assert_frame_equal(MARKET_CONTEXT.empty(), build_context(FEATURES.empty()))

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.errors import SettingsError
from backtest_assets.research.events.conditions import SEVERITY_MIN_EVENTS, Condition, attach_conditions
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets_tests.measures import unknown_measures

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def events_at(hours, **columns: object):
    at = [T0 + h * HOUR for h in hours]
    given = {
        "variant": "centre", "event_type": "vol_shock_relaxation", "symbol": "BTCUSDT", "side": 0, "severity": 1.0,
        "threshold": 1.0, "measure": "volatility", "definition_version": "v1", "parameter_digest": "p", "quality": 1.0,
    }  # fmt: skip
    frame = pl.DataFrame({"event_id": [str(i) for i in range(len(at))], "known_at": at}).with_columns(
        pl.col("known_at").cast(pl.Datetime("us", "UTC")), exit_at=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    filled = {k: pl.Series(k, v) if isinstance(v, list) else pl.lit(v) for k, v in (given | columns).items()}
    frame = frame.with_columns(onset_at=pl.col("known_at") - timedelta(minutes=15), **filled)
    return EVENT_REGISTRY.conform(frame.with_columns(pl.col("side").cast(pl.Int8)))


def context_at(hours, symbol="BTCUSDT", **labels: str):
    at = [T0 + h * HOUR for h in hours]
    given = {
        "vol_regime": "low",
        "bull_bear": "bull",
        "funding_regime": "neutral",
        "compression_state": "open",
        "liquidity_regime": "usual",
        "session": "asia",
    } | labels
    frame = pl.DataFrame({"known_at": at}).with_columns(pl.col("known_at").cast(pl.Datetime("us", "UTC")))
    return MARKET_CONTEXT.conform(
        frame.with_columns(
            symbol=pl.lit(symbol),
            open_at=pl.col("known_at") - timedelta(minutes=15),
            **unknown_measures(),
            **{k: pl.lit(v) for k, v in given.items()},
        )
    )


def holds(name, events, context):
    return attach_conditions(events, context).select(Condition(name).holds.alias("x"))["x"].to_list()


def test_a_condition_is_answered_from_the_context_row_known_with_the_event():
    context = pl.concat([context_at([0], session="eu"), context_at([1], session="us")])
    assert holds("session_eu", events_at([0, 1]), context) == [True, False]


def test_without_a_context_row_every_condition_but_all_is_false():
    events = events_at([0], side=1, event_type="range_compression_breakout_window")
    family = EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW
    answers = {c.name: holds(c.name, events, context_at([7])) for c in Condition.declared(family, ("BTCUSDT", "X1"))}
    assert {name for name, answer in answers.items() if answer == [True]} == {"all"}


def test_unknown_regimes_satisfy_no_condition():
    context = context_at([0], vol_regime="unknown", bull_bear="unknown", funding_regime="unknown")
    names = [c.name for c in Condition.declared(EventType.VOL_SHOCK_RELAXATION, ("BTCUSDT", "X1"))]
    true = [name for name in names if holds(name, events_at([0]), context) == [True]]
    assert true == ["all", "session_asia", "symbol_BTCUSDT"]


def test_the_context_of_another_symbol_is_not_used():
    assert holds("session_asia", events_at([0]), context_at([0], symbol="ETHUSDT")) == [False]


def test_side_conditions_follow_the_side_of_the_event():
    events = events_at([0, 1], side=[1, -1])
    assert holds("event_side_up", events, context_at([0, 1])) == [True, False]
    assert holds("event_side_down", events, context_at([0, 1])) == [False, True]


def test_severity_is_high_against_strictly_earlier_events_only():
    n = SEVERITY_MIN_EVENTS
    severities = [1.0] * n + [2.0, 0.5]
    events = events_at(range(n + 2), severity=severities)
    assert holds("severity_high", events, context_at(range(n + 2))) == [False] * n + [True, False]
    one_less = events.filter(pl.col("event_id") != "0")
    assert holds("severity_high", one_less, context_at(range(n + 2)))[n - 1] is False


def test_events_known_at_the_same_instant_do_not_see_each_other():
    n = SEVERITY_MIN_EVENTS
    events = events_at([*range(n - 1), n, n], severity=[1.0] * (n - 1) + [9.0, 9.0])
    assert holds("severity_high", events, context_at(range(n + 1)))[-2:] == [False, False]


def test_answers_do_not_depend_on_the_order_of_rows_or_on_later_events():
    hours = list(range(60))
    events = events_at(hours, severity=[float(h * 37 % 11) for h in hours])
    context = context_at(hours)
    whole = attach_conditions(events, context)
    mixed = attach_conditions(events.sample(fraction=1, shuffle=True, seed=3), context.reverse())
    assert_frame_equal(whole, mixed.sort("known_at"))
    early = events.filter(pl.col("known_at") <= T0 + 40 * HOUR)
    assert_frame_equal(whole.head(41), attach_conditions(early, context))


def test_a_single_symbol_has_no_symbol_condition_and_an_unsided_family_no_side():
    names = [c.name for c in Condition.declared(EventType.VOL_SHOCK_RELAXATION, ("BTCUSDT",))]
    assert names == [
        "all", "severity_high", "funding_pct_8640>=0.8", "funding_pct_8640<=0.2", "open_interest_log_change_96>=0.05",
        "open_interest_log_change_96<=-0.05", "vol_regime_low", "vol_regime_mid", "vol_regime_high",
        "funding_regime_negative", "funding_regime_neutral", "funding_regime_positive", "bull_bear_bull", "bull_bear_bear",
        "session_asia", "session_eu", "session_us",
    ]  # fmt: skip


def test_a_sided_family_asks_its_side_before_the_market_and_symbols_last():
    names = [c.name for c in Condition.declared(EventType.FUNDING_EXTREME_ONSET, ("BTCUSDT", "X1"))]
    assert (names[:4], names[-2:]) == (
        ["all", "event_side_up", "event_side_down", "severity_high"],
        ["symbol_BTCUSDT", "symbol_X1"],
    )


@pytest.mark.parametrize("name", ["", "session_mars", "symbol_", "vol_regime_unknown", "ALL"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(SettingsError, match="no condition is called"):
        Condition(name)

from datetime import datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.tables.events import EVENT_CONTROLS, EVENT_REGISTRY
from backtest_assets.tables.features import FEATURES
from backtest_assets_tests import scenario
from backtest_assets_tests.properties.random_market import a_run, random_market

MARKET = random_market(7)
START = scenario.MONDAY
RUN = a_run(START, START + timedelta(days=30))
NO_CONTROLS = EVENT_CONTROLS.empty()
SIGMA = 0.001
"""rv_96 of the scenes: a daily sigma of about 98 bps."""


def an_event(known_at: datetime) -> pl.DataFrame:
    return EVENT_REGISTRY.conform(
        EVENT_REGISTRY.sample(1, n_rows=1).with_columns(
            variant=pl.lit("centre"),
            symbol=pl.lit(scenario.SYMBOL),
            known_at=pl.lit(known_at).cast(EVENT_REGISTRY.schema["known_at"]),
            onset_at=pl.lit(known_at - 2 * BAR).cast(EVENT_REGISTRY.schema["known_at"]),
        )
    )


def scene(highs: dict[int, float], lows: dict[int, float], gaps: tuple[int, ...] = ()) -> pl.DataFrame:
    """Bars at 100 that touch other prices in some bars."""
    row = pl.int_range(pl.len())
    bars = scenario.bars(30 * 96, gaps=gaps).with_columns(open=pl.lit(100.0), close=pl.lit(100.0))
    bars = bars.with_columns(
        high=row.replace_strict(highs, default=100.0, return_dtype=pl.Float64),
        low=row.replace_strict(lows, default=100.0, return_dtype=pl.Float64),
    )
    real = [pl.when(~pl.col("is_gap")).then(pl.col(n)).alias(n) for n in ("open", "high", "low", "close")]
    return bars.with_columns(real)


def features_of(bars: pl.DataFrame, rv: dict[int, float] | None = None) -> pl.DataFrame:
    """Features that know volatility only; other rows than those given have none."""
    row = pl.int_range(pl.len())
    known = pl.lit(SIGMA) if rv is None else row.replace_strict(rv, default=None, return_dtype=pl.Float64)
    nothing = [pl.lit(None, dtype).alias(n) for n, dtype in FEATURES.schema.items() if n not in bars.columns]
    made = bars.select("symbol", "open_at", "known_at", "is_gap", *nothing)
    return FEATURES.conform(made.with_columns(rv_96=known, coverage_2880=pl.lit(1.0)))


AT = 2 * 96
KNOWN = START + timedelta(days=2)


def one(bars: pl.DataFrame, features: pl.DataFrame | None = None) -> dict[str, object]:
    found = measure_barriers(
        bars, features_of(bars) if features is None else features, an_event(KNOWN), NO_CONTROLS, run=RUN
    )
    (row,) = found.to_dicts()
    return row


def test_ages_count_from_the_entry_bar_and_a_touch_is_not_beyond():
    sigma = 100 * SIGMA * 96**0.5
    row = one(scene({AT - 1: 200.0, AT: 100 + sigma, AT + 4: 101.0}, {AT + 95: 99.0, AT + 96: 50.0}))
    expected = {"up_bars": 5, "down_bars": 96, "bars_watched": 96, "ends_early": False, "entry_price": 100.0}
    assert expected == {name: row[name] for name in expected}
    assert pytest.approx(100 * sigma) == row["barrier_bps"]
    assert row["entered_at"] == KNOWN


def test_the_entry_bar_itself_can_touch():
    row = one(scene({AT: 101.0}, {AT: 99.0}))
    assert (1, 1) == (row["up_bars"], row["down_bars"])


def test_a_gap_censors_and_what_comes_after_it_is_not_seen():
    row = one(scene({AT + 9: 101.0}, {AT + 3: 99.0}, gaps=(AT + 8,)))
    expected = {"up_bars": None, "down_bars": 4, "bars_watched": 8, "ends_early": True}
    assert expected == {name: row[name] for name in expected}


def test_the_end_of_the_data_censors():
    bars = scene({}, {}).head(AT + 10)
    assert (10, True) == (one(bars)["bars_watched"], one(bars)["ends_early"])


def test_sigma_is_of_the_bar_before_the_onset_and_no_other():
    # onset two bars before it is known: the bar known at the onset opens three bars before the entry
    bars = scene({}, {})
    assert pytest.approx(1e4 * 0.002 * 96**0.5) == one(bars, features_of(bars, {AT - 3: 0.002}))["barrier_bps"]
    for other in (AT - 4, AT - 2, AT - 1, AT):
        found = measure_barriers(bars, features_of(bars, {other: 0.002}), an_event(KNOWN), NO_CONTROLS, run=RUN)
        assert found.is_empty()


def test_an_entry_on_a_gap_and_a_volatility_of_nothing_have_no_barrier():
    for bars, rv in ((scene({}, {}, gaps=(AT,)), None), (scene({}, {}), {AT - 3: 0.0})):
        found = measure_barriers(bars, features_of(bars, rv), an_event(KNOWN), NO_CONTROLS, run=RUN)
        assert found.is_empty()


def test_barriers_agree_with_a_slow_reader():
    bars = {s: f.sort("open_at") for (s,), f in MARKET.bars.partition_by("symbol", as_dict=True).items()}
    rv = {(s, at): x for s, at, x in MARKET.features.select("symbol", "known_at", "rv_96").iter_rows()}
    events = {row["event_id"]: row for row in MARKET.events.filter(pl.col("variant") == "centre").iter_rows(named=True)}
    assert MARKET.barriers.height > 350
    assert MARKET.barriers["control_no"].n_unique() > 1
    assert MARKET.barriers["ends_early"].any()
    for row in MARKET.barriers.iter_rows(named=True):
        frame, event = bars[row["symbol"]], events[row["event_id"]]
        first = frame["open_at"][0]
        entry = (row["known_at"] - first) // BAR
        lag = event["known_at"] - (event["onset_at"] - (event["onset_at"] - first) % BAR)
        sigma = rv[row["symbol"], row["known_at"] - lag] * 96**0.5
        price, watched, up, down = frame["open"][entry], 0, None, None
        for bar in frame[entry : entry + 96].iter_rows(named=True):
            if bar["is_gap"]:
                break
            watched += 1
            up = watched if up is None and bar["high"] > price * (1 + sigma) else up
            down = watched if down is None and bar["low"] < price * (1 - sigma) else down
        expected = (watched, up, down, watched < 96, price, pytest.approx(sigma * 1e4))
        names = ("bars_watched", "up_bars", "down_bars", "ends_early", "entry_price", "barrier_bps")
        assert expected == tuple(row[name] for name in names)


def test_the_test_window_is_never_read():
    cut = MARKET.run.splits[Split.TEST].start
    sealed = pl.col("open_at") < cut
    bars, features = MARKET.bars.filter(sealed), MARKET.features.filter(sealed)
    assert_frame_equal(
        MARKET.barriers, measure_barriers(bars, features, MARKET.events, MARKET.controls, run=MARKET.run)
    )
    assert {"train", "validation"} == set(MARKET.barriers["split"])


def test_without_events_there_are_no_barriers():
    none = MARKET.events.clear()
    assert measure_barriers(MARKET.bars, MARKET.features, none, NO_CONTROLS, run=MARKET.run).is_empty()

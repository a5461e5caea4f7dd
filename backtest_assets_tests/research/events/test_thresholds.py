"""The one evaluator of numbers: what it answers, what it refuses, how it is written, and where its neighbours lie."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.errors import SettingsError
from backtest_assets.research.events.asked import ASKED
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.events.thresholds import MEASURES, RANKS, Operator, Threshold, threshold_of
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets_tests.measures import random_measures
from backtest_assets_tests.research.events.test_conditions import events_at

T0 = datetime(2024, 1, 1, tzinfo=UTC)
N_BARS = 600
SYMBOLS = ("BTCUSDT", "ETHUSDT")

PLAIN = {
    ">": lambda now, _, value, __: now > value,
    ">=": lambda now, _, value, __: now >= value,
    "<": lambda now, _, value, __: now < value,
    "<=": lambda now, _, value, __: now <= value,
    "==": lambda now, _, value, __: now == value,
    "in_range": lambda now, _, value, high: value <= now <= high,
    "crosses_above": lambda now, before, value, _: before is not None and before <= value < now,
    "crosses_below": lambda now, before, value, _: before is not None and now < value <= before,
}


def a_context(seed: int) -> pl.DataFrame:
    """Two symbols whose measures change every other bar, with a hole of ten bars in each."""
    rng = np.random.default_rng(seed)
    at = pl.Series([T0 + i * BAR for i in range(N_BARS)], dtype=pl.Datetime("us", "UTC"))
    words = dict.fromkeys(
        ("vol_regime", "bull_bear", "funding_regime", "compression_state", "liquidity_regime", "session"),
        pl.lit("none"),
    )
    rows = [
        pl.DataFrame({"known_at": at})
        .with_columns(
            symbol=pl.lit(s), open_at=pl.col("known_at") - BAR, **words, **random_measures(N_BARS, rng, spell=2)
        )
        .filter(~pl.int_range(pl.len()).is_between(100, 109))
        for s in SYMBOLS
    ]
    return MARKET_CONTEXT.conform(pl.concat(rows))


CONTEXT = a_context(1)
EVENTS = pl.concat(
    events_at(np.linspace(0, (N_BARS + 3) / 4, 2 * N_BARS).round(2).tolist(), symbol=s).with_columns(
        pl.col("known_at").dt.truncate("15m")
    )
    for s in SYMBOLS
)
ATTACHED = attach_conditions(EVENTS, CONTEXT)
ROW_AT = {(row["symbol"], row["known_at"]): row for row in CONTEXT.to_dicts()}


def by_hand(threshold: Threshold) -> list[bool]:
    """Ask every event in a plain loop over the context's rows."""
    answers = []
    for event in EVENTS.to_dicts():
        row = ROW_AT.get((event["symbol"], event["known_at"]), {})
        past = ROW_AT.get((event["symbol"], event["known_at"] - BAR), {})
        now, before = row.get(threshold.column), past.get(threshold.column)
        ask = PLAIN[threshold.operator.value]
        answers.append(now is not None and ask(now, before, threshold.value, threshold.high))
    return answers


def answered(name: str, attached: pl.DataFrame = ATTACHED) -> list[bool]:
    return attached.select(Condition(name).holds.alias("x"))["x"].to_list()


@pytest.mark.parametrize("text", sorted({text for texts in ASKED.values() for text in texts}))
def test_declared_thresholds_answer_as_a_plain_loop_does(text):
    threshold = threshold_of(text)
    assert threshold is not None
    expected = by_hand(threshold)
    assert expected == answered(text)
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("operator", list(Operator))
@pytest.mark.parametrize("column", MEASURES)
def test_every_operator_on_every_measure_answers_as_a_plain_loop_does(operator, column):
    known = CONTEXT[column].drop_nulls()
    low, high = known.quantile(0.3, "nearest"), known.quantile(0.6, "nearest")
    threshold = Threshold.of(column, operator.value, low, high if operator is Operator.IN_RANGE else None)
    expected = by_hand(threshold)
    assert expected == answered(threshold.text)
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("operator", list(Operator))
def test_what_is_unknown_holds_for_no_operator(operator):
    threshold = Threshold.of("basis_z_96", operator.value, -9.0, 9.0 if operator is Operator.IN_RANGE else None)
    for unknown in (None, math.nan, math.inf, -math.inf):
        blind = ATTACHED.with_columns(basis_z_96=pl.lit(unknown, pl.Float64))
        assert not any(answered(threshold.text, blind))


def test_a_crossing_needs_the_bar_before_and_not_the_row_before():
    """The row after a hole of ten bars has a row before it, but no bar."""
    after = EVENTS.filter(pl.col("known_at") == T0 + 110 * BAR)
    before = CONTEXT.filter(pl.col("known_at") == T0 + 99 * BAR)
    assert after.height
    assert before.height == len(SYMBOLS)
    attached = attach_conditions(after, CONTEXT.with_columns(basis_z_96=pl.when(pl.col("known_at") <= T0 + 99 * BAR).then(-1.0).otherwise(1.0)))  # fmt: skip
    assert not any(answered("basis_z_96 crosses_above 0", attached))
    assert all(answered("basis_z_96>0", attached))


def test_answers_do_not_change_when_the_future_is_taken_away():
    now = T0 + 300 * BAR
    early = attach_conditions(EVENTS.filter(pl.col("known_at") <= now), CONTEXT.filter(pl.col("known_at") <= now))
    for operator in Operator:
        text = Threshold.of("rv_pct_2880", operator, 0.4, 0.7 if operator is Operator.IN_RANGE else None).text
        assert answered(text)[: early.height // 2] == answered(text, early)[: early.height // 2]
        whole = ATTACHED.filter(pl.col("known_at") <= now)
        assert answered(text, whole) == answered(text, early)


@given(
    st.sampled_from(MEASURES),
    st.sampled_from(list(Operator)),
    st.floats(-1e9, 1e9, allow_nan=False),
    st.floats(0, 1e9, allow_nan=False),
)
def test_a_threshold_is_read_back_from_its_text_and_its_slug_is_a_name(column, operator, value, width):
    threshold = Threshold.of(column, operator, value, value + width if operator is Operator.IN_RANGE else None)
    assert threshold == threshold_of(threshold.text)
    assert Condition(threshold.text).name == threshold.text
    assert threshold.slug.replace("_", "a").isalnum()


def test_slugs_tell_the_two_sides_and_signs_apart():
    texts = ("basis_z_96>=1", "basis_z_96<=1", "basis_z_96>=-1", "basis_z_96>1", "basis_z_96>=0.1", "basis_z_96>=1e-07")
    slugs = [Condition(text).slug for text in texts]
    assert slugs[0] == "basis_z_96_ge_1"
    assert len(set(slugs)) == len(texts)


@pytest.mark.parametrize("operator", ["zscore_gt", "zscore_lt"])
def test_x7_operators_that_no_instant_answers_are_refused_by_name(operator):
    with pytest.raises(SettingsError, match=f"'{operator}' of basis_bps: a z-score needs a window"):
        Condition(f"basis_bps {operator} 2")
    with pytest.raises(SettingsError, match="there are >, >=, <"):
        Threshold.of("basis_z_96", "about", 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mfe_bps>=0.8", "there is no 'mfe_bps' in market_context"),
        ("vol_regime>=0.8", "there is no 'vol_regime'"),
        ("rv_pct_2880>=0.80", "write 'rv_pct_2880>=0.8'"),
        ("rv_pct_2880>=8e-1", "write 'rv_pct_2880>=0.8'"),
        ("rv_pct_2880>=-0", "write 'rv_pct_2880>=0'"),
        ("rv_pct_2880>=much", "'much' is neither a number nor a range"),
        ("rv_pct_2880>=nan", "give finite numbers"),
        ("rv_pct_2880>=inf", "give finite numbers"),
        ("rv_pct_2880>=0.2..0.8", "in_range needs two numbers, every other operator one"),
        ("rv_pct_2880 in_range 0.2", "in_range needs two numbers"),
        ("rv_pct_2880 in_range 0.8..0.2", "ends below its start"),
        ("rv_pct_2880 >= 0.8", "no condition is called"),
        ("rv_pct_2880=0.8", "no condition is called"),
    ],
)
def test_a_threshold_that_cannot_be_asked_says_why(text, why):
    with pytest.raises(SettingsError, match=why.replace("(", r"\(")):
        Condition(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rv_pct_2880>=0.8", ("rv_pct_2880>=0.82", "rv_pct_2880>=0.78")),
        ("rv_pct_2880<=0.2", ("rv_pct_2880<=0.18", "rv_pct_2880<=0.22")),
        ("basis_z_96>=1", ("basis_z_96>=0.9", "basis_z_96>=1.1")),
        ("basis_z_96<=-1", ("basis_z_96<=-0.9", "basis_z_96<=-1.1")),
        ("basis_z_96 in_range -1..1", ("basis_z_96 in_range -0.9..0.9", "basis_z_96 in_range -1.1..1.1")),
        ("basis_z_96==1", ()),
        ("session_us", ()),
        ("all", ()),
    ],
)
def test_r13_a_threshold_is_moved_by_a_tenth_and_a_rank_by_a_tenth_of_its_share(text, expected):
    assert expected == tuple(near.name for near in Condition(text).neighbours)


@pytest.mark.parametrize("family", EventType)
def test_every_family_asks_both_sides_of_its_thresholds_and_each_has_two_neighbours(family):
    declared = [threshold_of(text) for text in ASKED[family]]
    assert 2 <= len(declared) <= 6
    assert len(set(declared)) == len(declared)
    for low, high in zip(declared[::2], declared[1::2], strict=True):
        assert low is not None
        assert high is not None
        assert low.column == high.column
        assert {low.operator.value[0], high.operator.value[0]} == {"<", ">"}
        for threshold in (low, high):
            assert len({threshold, *threshold.neighbours}) == 3


def test_the_measures_are_the_numbers_of_market_context():
    assert MEASURES == (
        "rv_pct_2880", "funding_pct_8640", "funding_persistence_age_h", "basis_z_96", "volume_quote_ratio_2880",
        "spread_pct_2880", "open_interest_log_change_96",
    )  # fmt: skip
    assert {"rv_pct_2880", "funding_pct_8640", "spread_pct_2880"} == RANKS


def test_the_bar_before_is_fifteen_minutes_before():
    assert timedelta(minutes=15) == BAR

"""Research and execution choose the same events: for every declared condition of every family, on one market."""

from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.events.thresholds import Operator, Threshold
from backtest_assets.research.hypotheses.trades import asked_events
from backtest_assets.research.simulation.orders import OrderBook
from backtest_assets.research.simulation.prices import Market
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.properties.test_causality import a_blueprint, blueprints_of

MARKET = random_market(7)
PRICES = Market.read(MARKET.bars, MARKET.funding, run=MARKET.run)
ASKED = asked_events(MARKET.events, MARKET.context, run=MARKET.run).filter(pl.col("variant") == "centre")


def ordered(family: EventType, conditions: list[str]) -> dict[str, set[str]]:
    """Event ids that the simulation acts on, by condition; one blueprint for each."""
    rule = SideRule.WITH_EVENT if family.is_sided else SideRule.LONG
    specs = [replace(a_blueprint(family, rule, name, 16, MARKET.run), blueprint_id=name) for name in conditions]
    row = blueprints_of(MARKET).head(1)
    rows = [
        row.with_columns(blueprint_id=pl.lit(s.blueprint_id), spec_json=pl.lit(s.to_json()), rank=pl.lit(n))
        for n, s in enumerate(specs)
    ]
    book = OrderBook.read(
        MARKET.events,
        MARKET.context,
        pl.concat(rows),
        PRICES,
        features=MARKET.features,
        bars=MARKET.bars,
        run=MARKET.run,
    )
    grouped = book.entries.rows.group_by("blueprint_id").agg("event_id")
    return {name: set[str]() for name in conditions} | {name: set(ids) for name, ids in grouped.iter_rows()}


@pytest.mark.parametrize("family", EventType)
def test_every_declared_condition_chooses_the_same_events_in_research_and_in_execution(family):
    names = [condition.name for condition in Condition.declared(family, SYMBOLS)]
    own = ASKED.filter(pl.col("event_type") == family.value)
    window = MARKET.run.window
    inside = set(MARKET.events.filter(pl.col("known_at").is_between(*window, closed="left"))["event_id"])
    found = ordered(family, names)
    for name in names:
        assert set(own.filter(pl.col(name))["event_id"]) == found[name] & inside
    assert set(own["event_id"]) == found["all"] & inside


@pytest.mark.parametrize("operator", list(Operator))
def test_every_operator_chooses_in_execution_what_a_plain_filter_would(operator):
    family = EventType.VOL_SHOCK_RELAXATION
    text = Threshold.of("basis_z_96", operator, -0.5, 1.0 if operator is Operator.IN_RANGE else None).text
    now = {(s, at): z for s, at, z in MARKET.context.select("symbol", "known_at", "basis_z_96").iter_rows()}
    step = MARKET.context["open_at"][1] - MARKET.context["open_at"][0]
    expected = set()
    for event in MARKET.events.filter(pl.col("event_type") == family.value, pl.col("variant") == "centre").to_dicts():
        z = now.get((event["symbol"], event["known_at"]))
        before = now.get((event["symbol"], event["known_at"] - step))
        answers = {
            ">": lambda z, _: z > -0.5, ">=": lambda z, _: z >= -0.5, "<": lambda z, _: z < -0.5,
            "<=": lambda z, _: z <= -0.5, "==": lambda z, _: z == -0.5, "in_range": lambda z, _: -0.5 <= z <= 1,
            "crosses_above": lambda z, b: b is not None and b <= -0.5 < z,
            "crosses_below": lambda z, b: b is not None and z < -0.5 <= b,
        }  # fmt: skip
        if z is not None and answers[operator.value](z, before):
            expected.add(event["event_id"])
    assert expected == ordered(family, [text])[text]

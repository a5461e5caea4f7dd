"""Research and execution choose the same events for every declared condition, and make the same trades of them.

For every family, side rule, delay and hold, on one market.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.bounds import CAPS
from backtest_assets.domain.clock import BAR, BAR_US
from backtest_assets.domain.entry import NODE_OPERATORS, ConditionNode
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.leave import Exit, Sizing
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.events.thresholds import Operator, Threshold
from backtest_assets.research.hypotheses.members import RULE, members_of
from backtest_assets.research.hypotheses.trades import asked_events
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.research.simulation.ledger import simulate_trades
from backtest_assets.research.simulation.orders import OrderBook
from backtest_assets.research.simulation.prices import Market
from backtest_assets.tables.events import EVENT_CONTROLS, EVENT_REGISTRY
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market
from backtest_assets_tests.properties.test_causality import a_blueprint, blueprints_of
from backtest_assets_tests.research.simulation.market import events_at

MARKET = random_market(7)
PRICES = Market.read(MARKET.bars, MARKET.funding, run=MARKET.run)
ASKED = asked_events(MARKET.events, MARKET.context, run=MARKET.run).filter(pl.col("variant") == "centre")


def ordered(family: EventType, conditions: list[str]) -> dict[str, set[str]]:
    """Event ids that the simulation acts on, by condition; one blueprint for each."""
    rule = SideRule.WITH_EVENT if family.is_sided else SideRule.LONG
    return acted_on(
        [replace(a_blueprint(family, rule, name, 16, MARKET.run), blueprint_id=name) for name in conditions]
    )


def acted_on(specs: list[Blueprint]) -> dict[str, set[str]]:
    """Event ids that the simulation acts on, by blueprint."""
    book = OrderBook.read(
        MARKET.events,
        MARKET.context,
        table_of(specs),
        PRICES,
        features=MARKET.features,
        bars=MARKET.bars,
        run=MARKET.run,
    )
    grouped = book.entries.rows.group_by("blueprint_id").agg("event_id")
    return {spec.blueprint_id: set[str]() for spec in specs} | {name: set(ids) for name, ids in grouped.iter_rows()}


def table_of(specs: list[Blueprint]) -> pl.DataFrame:
    """The blueprints, ranked in the order given, all executed."""
    row = blueprints_of(MARKET).head(1)
    return pl.concat(
        row.with_columns(blueprint_id=pl.lit(s.blueprint_id), spec_json=pl.lit(s.to_json()), rank=pl.lit(n))
        for n, s in enumerate(specs)
    )


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


def test_the_declared_thresholds_really_choose_on_this_market():
    names = [c.name for family in EventType for c in Condition.declared(family, SYMBOLS) if c.threshold]
    chosen = ASKED.select(pl.col(sorted(set(names))).sum()).row(0)
    assert sum(count > 0 for count in chosen) >= len(chosen) - 2
    assert max(chosen) < ASKED.height


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


@pytest.mark.parametrize("operator", NODE_OPERATORS)
def test_x7_every_node_that_the_schema_allows_is_answered_as_the_threshold_it_names(operator):
    high = 1.0 if operator == "in_range" else None
    plain = a_blueprint(EventType.VOL_SHOCK_RELAXATION, SideRule.LONG, "all", 16, MARKET.run)
    asked = replace(
        plain, entry=replace(plain.entry, condition_nodes=(ConditionNode("basis_z_96", operator, -0.5, high),))
    )
    text = Threshold.of("basis_z_96", operator, -0.5, high).text
    (found,) = acted_on([asked]).values()
    assert ordered(EventType.VOL_SHOCK_RELAXATION, [text])[text] == found
    assert found or operator == "=="


def test_the_schema_allows_the_operators_that_can_be_answered_and_no_other():
    assert set(Operator) == set(NODE_OPERATORS)


N_EVENTS = 24
"""Invented events of each family and symbol, beside the market's own: at any bar, gaps and ends of splits included."""
DELAYS = (0, 4)
FAR_APART = max(DELAYS) + max(HOLD_GRID_BARS) + 60
"""Bars after which no hold overlaps the next, a gap at its end included."""
BOTH = ("event_type", "condition", "side_rule", "delay_bars", "hold_bars", "event_id", "symbol")
NUMBERS = ("entry_price", "exit_price", "gross_bps", "cost_bps", "funding_bps", "net_bps")


def invented_events() -> pl.DataFrame:
    rng, n_bars = np.random.default_rng(5), 150 * 96
    start = (MARKET.run.window[0] - MARKET.bars["open_at"][0]) // BAR
    frames = [
        events_at(
            sorted(rng.choice(np.arange(start, n_bars), N_EVENTS, replace=False).tolist()),
            symbol=symbol,
            sides=rng.choice([-1, 1], N_EVENTS).tolist() if family.is_sided else None,
            event_type=pl.lit(family.value),
            event_id=pl.format("{}_{}", pl.lit(family.value), pl.col("event_id")),
        )
        for family in EventType
        for symbol in SYMBOLS
    ]
    own = MARKET.events.filter(pl.col("variant") == "centre")
    return EVENT_REGISTRY.conform(pl.concat([own, *frames]))


def lanes(events: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Parts of the events in which no two of a family and symbol are near: each is traded as if it were alone."""
    free: dict[tuple[str, str], list[int]] = {}
    lane: list[int] = []
    ordered = events.sort("known_at", "event_id")
    known = ordered["known_at"].dt.epoch("us") // BAR_US
    for key, bar in zip(ordered.select("event_type", "symbol").iter_rows(), known, strict=True):
        ends = free.setdefault(key, [])
        mine = next((i for i, end in enumerate(ends) if end <= bar), len(ends))
        ends[mine:] = [bar + FAR_APART, *ends[mine + 1 :]]
        lane.append(mine)
    yield from ordered.with_columns(lane=pl.Series(lane)).partition_by("lane", include_key=False)


def plain_rules() -> list[Blueprint]:
    """The plain rule of every hypothesis: no level that a bar reaches, size and caps that bind nothing."""
    run, specs = MARKET.run, []
    for family in EventType:
        conditions = ("all", "session_us") if "session_us" in declared(family) else ("all", declared(family)[-1])
        rules = ("with_event", "against_event") if family.is_sided else ("long", "short")
        for condition, rule, delay, hold in (
            (condition, SideRule(rule), delay, hold)
            for condition in conditions
            for rule in rules
            for delay in DELAYS
            for hold in HOLD_GRID_BARS
        ):
            base = a_blueprint(family, SideRule.LONG, condition, hold, run)
            specs.append(
                replace(
                    base,
                    blueprint_id="|".join((family, condition, rule, str(delay), str(hold))),
                    direction={"long": "long", "short": "short"}.get(rule, "conditional"),
                    entry=replace(base.entry, side_rule=rule, delay_bars=delay),
                    exit=Exit(hold, "percent", 0.9, "percent", 0.9),
                    sizing=Sizing("fixed_fraction", 0.5, 1e4, 1e4, portfolio_risk_budget=1e4, symbol_risk_budget=1e4),
                )
            )
    return specs


def declared(family: EventType) -> list[str]:
    return [condition.name for condition in Condition.declared(family, SYMBOLS)]


@cache
def simulated() -> pl.DataFrame:
    """The simulator's trades of train and validation, one lane of events after another."""
    events, rules = invented_events(), table_of(plain_rules())
    inputs = {"features": MARKET.features, "run": replace(MARKET.run, **dict.fromkeys(CAPS, 100.0))}
    lists = [
        simulate_trades(MARKET.bars, MARKET.funding, lane, MARKET.context, rules, **inputs) for lane in lanes(events)
    ]
    trades = pl.concat(lists).filter(pl.col("split").is_in(["train", "validation"]))
    assert {"time"} == set(trades["exit_reason"])
    named = trades["blueprint_id"].str.split_exact("|", 4).struct.rename_fields(BOTH[:5]).struct.unnest()
    per_notional = 1e4 / pl.col("exposure")
    return pl.concat([named, trades.drop("event_type", strict=False)], how="horizontal").select(
        *BOTH, "entered_at", "exited_at", pl.col("side").cast(pl.Int8), "split", "entry_price", "exit_price",
        gross_bps=pl.col("gross_pnl") * per_notional, cost_bps=(pl.col("fee") + pl.col("slippage")) * per_notional,
        funding_bps=pl.col("funding_pnl") * per_notional, net_bps=pl.col("net_pnl") * per_notional,
    ).sort(BOTH)  # fmt: skip


@cache
def researched() -> pl.DataFrame:
    """Research's trades of the same hypotheses."""
    events = invented_events()
    outcomes = measure_outcomes(MARKET.bars, MARKET.funding, events, EVENT_CONTROLS.empty(), run=MARKET.run)
    ids = pl.DataFrame({"hypothesis_id": [spec.blueprint_id for spec in plain_rules()]})
    rules = ids.with_columns(pl.col("hypothesis_id").str.split_exact("|", 4).struct.rename_fields(RULE).struct.unnest())
    rules = rules.cast({"delay_bars": pl.Int32, "hold_bars": pl.Int32})
    members = members_of(rules, outcomes, events, MARKET.context, run=MARKET.run)
    carried = ("event_id", "direction", "entered_at", "exited_at", "entry_price", "exit_price", "gross", "pnl")
    sign = pl.col("sign")
    return members.joined(*carried[:-1]).join(members.trades.select("trade", "pnl"), on="trade").select(
        pl.col("hypothesis_id").str.split_exact("|", 4).struct.rename_fields(BOTH[:5]).struct.unnest(), "event_id", "symbol",
        "entered_at", "exited_at", side=(sign * pl.col("direction")).cast(pl.Int8), split="split", entry_price="entry_price",
        exit_price="exit_price", gross_bps=sign * pl.col("gross"), cost_bps=pl.lit(members.cost_bps),
        funding_bps=sign * (pl.col("pnl") - pl.col("gross")), net_bps="net",
    ).sort(BOTH)  # fmt: skip


@pytest.mark.parametrize("family", EventType)
def test_the_trades_of_every_hypothesis_are_the_same_in_research_and_in_the_simulator_bar_for_bar(family):
    ours, theirs = (frame.filter(pl.col("event_type") == family.value) for frame in (simulated(), researched()))
    assert ours.drop(NUMBERS).equals(theirs.drop(NUMBERS))
    assert np.allclose(ours.select(NUMBERS), theirs.select(NUMBERS), rtol=1e-12, atol=1e-8)
    met = set(ours.select("condition", "side_rule", "delay_bars", "hold_bars").iter_rows())
    assert 2 * 2 * len(DELAYS) * len(HOLD_GRID_BARS) == len(met)
    assert {-1, 1} == set(ours["side"])
    assert bool((ours["funding_bps"] != 0).any())


def test_a_simulator_that_costs_less_or_leaves_later_would_be_seen():
    ours, theirs = simulated(), researched()
    assert ours.height > 10_000
    assert not ours.drop(NUMBERS).equals(theirs.drop(NUMBERS).with_columns(pl.col("exited_at") + BAR))
    assert not np.allclose(ours["net_bps"], theirs["net_bps"] + 1e-6, rtol=1e-12, atol=1e-8)

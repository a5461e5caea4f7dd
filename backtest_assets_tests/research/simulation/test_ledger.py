import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.blueprint import Blueprint, ConditionNode, Confirmation, Invalidation, Overlay, SymbolScope
from backtest_assets.domain.bounds import CAPS
from backtest_assets.domain.clock import BAR
from backtest_assets.domain.cost import CostModel
from backtest_assets.domain.event import SideRule
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError, SettingsError, TableError
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.research.simulation.ledger import Simulation, simulate_ledger, simulate_trades
from backtest_assets.tables.events import EVENT_CONTROLS
from backtest_assets.tables.simulation import SIMULATION_LEDGER, TRADES
from backtest_assets_tests.research.simulation.market import (
    START,
    A,
    B,
    a_run,
    blueprint,
    blueprints_of,
    context_of,
    events_at,
    features_of,
    funding_at,
    no_funding,
    random_bars,
    random_events,
    set_bars,
)

RUN = a_run(symbols=A)
FLAT = (100.0, 100.0, 100.0, 100.0)


def simulated(bars, *specs: Blueprint, events=None, funding=None, features=None, run=RUN):
    wanted = events if events is not None else events_at([100])
    return Simulation.of(
        bars,
        funding if funding is not None else no_funding(),
        wanted,
        context_of(bars),
        blueprints_of(*(specs or (blueprint(),))),
        features=features if features is not None else features_of(bars),
        run=run,
    )


def test_a_worked_long_trade_books_marks_costs_and_funding_bar_by_bar():
    bars = set_bars({31: (100, 103, 100, 102), 32: (102, 104, 101, 101), 34: (105, 106, 104, 106)})
    rates = [0.0, 0.001, 0.002] + [0.0] * 60
    found = simulated(bars, blueprint(time_stop=4), events=events_at([30]), funding=funding_at({A: rates}))
    (trade,) = found.trades.to_dicts()
    # bar 32 opens at 08:00 with the second settlement, priced at the close known then: 102
    funding = -0.5 * 0.001 * 102 / 100
    assert pytest.approx(
        {
            "gross_pnl": 0.5 * 0.05,
            "fee": 0.5 * 8e-4,
            "slippage": 0.5 * 4e-4,
            "funding_pnl": funding,
            "net_pnl": 0.025 - 6e-4 + funding,
        },
        abs=1e-15,
    ) == {name: trade[name] for name in ("gross_pnl", "fee", "slippage", "funding_pnl", "net_pnl")}
    assert tuple(trade[name] for name in ("exit_reason", "n_bars_held", "entered_at", "exited_at", "known_at")) == (
        "time",
        4,
        START + 30 * BAR,
        START + 34 * BAR,
        START + 35 * BAR,
    )
    assert pytest.approx([0.0, 0.01, -0.005, -0.005, 0.025], abs=1e-15) == found.ledger["gross_pnl"].to_list()
    assert found.ledger["exposure_before"].to_list() == [0.0, 0.5, 0.5, 0.5, 0.5]
    assert found.ledger["exposure_after"].to_list() == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert pytest.approx([3e-4, 0, 0, 0, 3e-4]) == (found.ledger["fee"] + found.ledger["slippage"]).to_list()
    assert pytest.approx([0, 0, funding, 0, 0]) == found.ledger["funding_pnl"].to_list()


def test_a_gap_inside_a_hold_is_carried_and_booked_on_the_next_real_bar():
    bars = set_bars({101: None, 102: None, 103: (110, 110, 110, 110)})
    found = simulated(bars, blueprint(time_stop=8))
    assert pytest.approx([0, 0, 0, 0.05, -0.05, 0, 0, 0, 0], abs=1e-15) == found.ledger["gross_pnl"].to_list()
    assert found.ledger["exposure_after"].to_list()[:-1] == [0.5] * 8


def test_a_trigger_whose_entry_bar_is_a_gap_is_not_entered():
    assert simulated(set_bars({100: None})).trades.is_empty()


def test_the_delay_counts_from_the_instant_the_event_is_known():
    (entered,) = simulated(set_bars({}), blueprint(delay=7)).trades["entered_at"]
    assert entered == START + 107 * BAR


def test_a_position_held_over_the_last_bar_of_the_run_leaves_at_its_close():
    last = 20 * 96 - 1
    found = simulated(set_bars({last: (100, 101, 99, 101)}), events=events_at([last - 1]))
    assert found.trades.select("exit_reason", "exit_price", "split").rows() == [("end_of_data", 101.0, "purged")]


def test_a_position_still_open_where_the_data_end_is_in_the_ledger_and_not_in_the_trades():
    found = simulated(set_bars({}, n_bars=102))
    assert (found.trades.height, found.ledger.height) == (0, 2)
    assert found.ledger["exposure_after"].to_list() == [0.5, 0.5]


def test_the_symbol_cap_shrinks_the_later_blueprint_and_the_gross_cap_the_other_symbol():
    bars = pl.concat([set_bars({}), set_bars({}, symbol=B)])
    events = pl.concat([events_at([100]), events_at([100], symbol=B)])
    specs = [blueprint(name, scale=0.6, symbol_cap=0.8, gross_cap=1.5) for name in ("first", "second")]
    found = simulated(bars, *specs, events=events, run=a_run(**dict.fromkeys(CAPS, 9.0)))
    sizes = found.trades.select("blueprint_id", "symbol", "exposure").sort("blueprint_id", "symbol").rows()
    assert [
        ("first", A, 0.6),
        ("first", B, 0.6),
        ("second", A, pytest.approx(0.2)),
        ("second", B, pytest.approx(0.1)),
    ] == sizes


def test_the_strictest_cap_of_all_blueprints_holds_for_all():
    specs = [blueprint("wide", scale=0.9), blueprint("strict", scale=0.3, gross_cap=0.4)]
    assert simulated(set_bars({}), *specs).trades["exposure"].to_list() == [0.4]


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({"max_strategy_exposure": 0.5}, [0.4, 0.1, 0.4, 0.1]),
        ({"max_symbol_exposure": 0.5}, [0.4, 0.4, 0.1, 0.1]),
        ({"max_gross_exposure": 0.9}, [0.4, 0.4, 0.1]),
        ({"max_net_exposure": 1.0}, [0.4, 0.4, 0.2]),
        ({"max_new_exposure": 0.7}, [0.4, 0.3]),
    ],
)
def test_d7_a_cap_of_the_run_holds_over_all_blueprints_and_symbols(caps, expected):
    bars = pl.concat([set_bars({}), set_bars({}, symbol=B)])
    events = pl.concat([events_at([100]), events_at([100], symbol=B)])
    specs = [blueprint(name, scale=0.4, symbol_cap=9.0, gross_cap=9.0) for name in ("first", "second")]
    found = simulated(bars, *specs, events=events, run=a_run(**{**dict.fromkeys(CAPS, 9.0), **caps}))
    assert pytest.approx(expected) == found.trades.sort("blueprint_id", "symbol")["exposure"].to_list()


def test_the_better_rank_is_served_first_and_without_room_there_is_no_trade():
    found = simulated(set_bars({}), blueprint("z_best", scale=1.0), blueprint("a_next", scale=1.0))
    assert found.trades["blueprint_id"].to_list() == ["z_best"]


def test_only_centre_events_of_the_family_and_scope_trigger():
    events = pl.concat(
        [
            events_at([200], variant=pl.lit("rate_plus")),
            events_at([300], event_type=pl.lit("range_compression_breakout_window")),
            events_at([400], symbol=B),
            events_at([500]),
        ]
    )
    bars = pl.concat([set_bars({}), set_bars({}, symbol=B)])
    found = simulated(bars, blueprint(symbols=[A]), events=events, run=a_run())
    assert found.trades["event_id"].to_list() == ["e_AAAUSDT_500"]


def test_conditions_are_asked_of_the_context_known_at_the_trigger():
    known_on_day_1, known_on_day_2 = 96 + 40, 2 * 96 + 40
    found = simulated(
        set_bars({}), blueprint(conditions=["vol_regime_high"]), events=events_at([known_on_day_1, known_on_day_2])
    )
    assert [START + known_on_day_2 * BAR] == found.trades["triggered_at"].to_list()


def test_side_rules_follow_the_event():
    events = events_at([100, 200], sides=[1, -1])
    for rule, expected in (
        (SideRule.WITH_EVENT, [1, -1]),
        (SideRule.AGAINST_EVENT, [-1, 1]),
        (SideRule.SHORT, [-1, -1]),
    ):
        assert expected == simulated(set_bars({}), blueprint(side_rule=rule), events=events).trades["side"].to_list()


def test_what_cannot_be_obeyed_is_refused():
    with pytest.raises(TableError, match="needs an event with a side"):
        simulated(set_bars({}), blueprint(side_rule=SideRule.WITH_EVENT))
    with pytest.raises(RefusedError, match="judged with fees"):
        simulated(set_bars({}), blueprint(cost=CostModel(1.0, 2.0)))
    with pytest.raises(RefusedError, match="trades multi_symbol BBBUSDT"):
        simulated(set_bars({}), blueprint(symbols=[B]))
    everything = replace(blueprint(), symbol_scope=SymbolScope("all", (A, B)))
    with pytest.raises(RefusedError, match="trades all"):
        simulated(set_bars({}), everything)
    with pytest.raises(SettingsError, match="no metric is called 'tea'"):
        simulated(set_bars({}), blueprint(leave={"invalidation": Invalidation("tea", ">", 1.0)}))
    with pytest.raises(SettingsError, match="no condition"):
        simulated(set_bars({}), blueprint(conditions=["moon_full"]))
    with pytest.raises(TableError, match="off the 15-minute grid"):
        simulated(set_bars({}), events=events_at([100], known_at=pl.col("known_at") + pl.duration(minutes=1)))


def test_a_missing_settlement_while_holding_is_refused_and_elsewhere_is_not():
    holed = no_funding(symbols=[A]).filter(pl.col("settled_at") != START + 128 * BAR)
    with pytest.raises(RefusedError, match="settlements_um, symbol AAAUSDT"):
        simulated(set_bars({}), events=events_at([126]), funding=holed)
    assert simulated(set_bars({}), events=events_at([300]), funding=holed).trades.height == 1


def test_holding_long_over_the_whole_sample_without_costs_is_buy_and_hold():
    rng = np.random.default_rng(5)
    bars = random_bars(rng, symbols=[A])
    run = a_run(symbols=A, fees_bps=0.0, slippage_bps=0.0)
    spec = blueprint(scale=1.0, stop=0.999, target=9.0, time_stop=10_000, cost=run.cost)
    found = simulated(bars, spec, events=events_at([0]), run=run)
    last_close = bars["close"].drop_nulls()[-1]
    assert pytest.approx(last_close / 100.0 - 1.0, abs=1e-12) == found.ledger["net_pnl"].sum()


def test_execution_equals_research_to_the_last_basis_point():
    rng = np.random.default_rng(11)
    run = a_run(40, phase2_delay_grid_bars="0,4")
    bars = random_bars(rng, n_bars=40 * 96)
    funding = funding_at({s: rng.normal(0, 5e-4, 121).tolist() for s in (A, B)})
    events = random_events(rng, 60, n_bars=40 * 96)
    outcomes = measure_outcomes(bars, funding, events, EVENT_CONTROLS.empty(), run=run)
    n_compared = 0
    for rule in (SideRule.LONG, SideRule.SHORT, SideRule.WITH_EVENT, SideRule.AGAINST_EVENT):
        for hold, delay in ((4, 0), (16, 4), (96, 0)):
            spec = blueprint(side_rule=rule, time_stop=hold, delay=delay, stop=0.95, target=9.0)
            trades = simulated(bars, spec, events=events, funding=funding, run=run).trades
            research = outcomes.filter(variant="centre", control_no=0, delay_bars=delay, hold_bars=hold)
            both = trades.join(research, on="event_id", suffix="_research")
            assert both["entered_at"].equals(both["entered_at_research"], check_names=False) if both.height else True
            expected = both["side"] * (both["gross_bps"] - both["funding_bps"]) - run.cost.round_trip_bps
            assert np.allclose(expected, both["net_pnl"] / both["exposure"] * 1e4, rtol=0, atol=1e-9)
            n_compared += both.height
    assert n_compared > 300


def test_trades_take_the_split_of_their_trigger():
    plan = RUN.splits
    train, test = plan[Split.TRAIN], plan[Split.TEST]
    bars = [(at - START) // BAR for at in (train.start, train.last_entry - 2 * BAR, train.last_entry, test.start)]
    found = simulated(set_bars({}), blueprint(time_stop=1), events=events_at(bars))
    assert found.trades["split"].to_list() == ["train", "train", "purged", "test"]


def test_a_trade_that_a_gap_carries_over_the_end_of_its_split_is_purged():
    """It would be told by prices that belong to the next split, the sealed test among them."""
    train = RUN.splits[Split.TRAIN]
    last, end = ((at - START) // BAR for at in (train.last_entry, train.end))
    for first_real, label in ((end - 1, "train"), (end, "purged")):
        bars = set_bars(dict.fromkeys(range(last, first_real)))
        found = simulated(bars, blueprint(time_stop=2), events=events_at([last - 2]))
        exits = [(START + first_real * BAR, label)]
        assert found.trades.select("exited_at", "split").rows() == exits


@pytest.mark.parametrize("simulate", [simulate_trades, simulate_ledger])
@pytest.mark.parametrize("noise", [False, True])
def test_what_is_known_by_an_instant_never_changes(simulate, noise):
    rng = np.random.default_rng(3)
    run, bars = a_run(), random_bars(rng)
    funding = funding_at({s: rng.normal(0, 5e-4, 61).tolist() for s in (A, B)})
    events = random_events(rng, 80)
    specs = blueprints_of(
        blueprint("a", time_stop=16, stop=0.01, target=0.02, scale=0.4),
        blueprint(
            "b", side_rule=SideRule.SHORT, time_stop=48, delay=4, stop=0.02, target=0.01, conditions=["vol_regime_mid"]
        ),
        blueprint("c", side_rule=SideRule.WITH_EVENT, time_stop=96, scale=0.9),
    )
    whole = simulate(bars, funding, events, context_of(bars), specs, features=features_of(bars), run=run)
    assert whole.height > 50
    other = random_bars(np.random.default_rng(99))
    for cut in rng.integers(96, 20 * 96, 12):
        t = START + int(cut) * BAR
        then = pl.col("known_at") <= t
        known = bars.filter(then)
        if noise:
            known = pl.concat([known, other.filter(~then)])
        part = simulate(
            known,
            funding if noise else funding.filter(pl.col("settled_at") <= t),
            events.filter(then),
            context_of(known).filter(then),
            specs,
            features=features_of(known).filter(then),
            run=run,
        )
        assert whole.filter(then).equals(part.filter(then))


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(4)
    bars, events = random_bars(rng), random_events(rng, 80)
    specs = blueprints_of(blueprint("a", stop=0.01), blueprint("b", delay=4, scale=0.9))
    frames = (bars, no_funding(), events, context_of(bars), specs)
    whole = simulate_ledger(*frames, features=features_of(bars), run=a_run())
    assert whole.equals(
        simulate_ledger(
            *(f.sample(fraction=1.0, shuffle=True, seed=1) for f in frames),
            features=features_of(bars).sample(fraction=1.0, shuffle=True, seed=1),
            run=a_run(),
        )
    )


def test_without_events_or_executed_blueprints_nothing_happens():
    bars = set_bars({})
    for events, specs in ((events_at([]), blueprints_of(blueprint())), (events_at([5]), blueprints_of())):
        frames = (bars, no_funding(), events, context_of(bars), specs)
        assert TRADES.empty().equals(simulate_trades(*frames, features=features_of(bars), run=RUN))
        assert SIMULATION_LEDGER.empty().equals(simulate_ledger(*frames, features=features_of(bars), run=RUN))


def known(bars, number, **values: float | None):
    """Features that are unknown but for what is known when bar `number` opens."""
    then = pl.col("known_at") == START + number * BAR
    return features_of(bars, **{name: pl.when(then).then(value) for name, value in values.items()})


def test_b6_the_trigger_latches_and_waits_for_the_longer_of_delay_and_arming():
    for delay, arm, wait in ((4, 0, 4), (0, 8, 8), (4, 8, 8), (30, 8, 30)):
        (trade,) = simulated(set_bars({}), blueprint(delay=delay, entry={"arm_bars": arm})).trades.to_dicts()
        assert trade["entered_at"] == START + (100 + wait) * BAR
        assert trade["triggered_at"] == START + 100 * BAR


def test_the_longer_of_cooldown_and_lockout_keeps_the_rule_out():
    events = events_at([100, 106, 110, 120])
    for cooldown, lockout, entered in ((0, 0, [100, 106, 120]), (2, 6, [100, 120]), (6, 2, [100, 120])):
        spec = blueprint(cooldown=cooldown, entry={"reentry_lockout_bars": lockout})
        trades = simulated(set_bars({}), spec, events=events).trades
        assert [START + n * BAR for n in entered] == trades["entered_at"].to_list()


def test_stops_and_targets_are_multiples_of_what_is_known_at_the_entry():
    bars = set_bars(dict.fromkeys(range(80, 104), (100, 102, 98, 100)))
    ranged = blueprint(
        delay=4, leave={"stop_type": "range_pct", "stop_value": 0.5, "target_type": "range_pct", "target_value": 2.0}
    )
    (trade,) = simulated(bars, ranged, features=known(bars, 104, range_96_frac=0.06)).trades.to_dicts()
    assert pytest.approx([97.0, 112.0]) == [trade["stop_price"], trade["target_price"]]
    averaged = blueprint(
        delay=4, leave={"stop_type": "atr", "stop_value": 2.0, "target_type": "atr", "target_value": 3.0}
    )
    (trade,) = simulated(bars, averaged).trades.to_dicts()
    assert pytest.approx([92.0, 112.0]) == [trade["stop_price"], trade["target_price"]]


def test_what_a_distance_needs_and_is_not_known_blocks_the_entry():
    holed = set_bars({95: None})
    for leave in (
        {"stop_type": "range_pct", "stop_value": 0.5},
        {"target_type": "atr", "target_value": 2.0},
        {"trailing_stop_type": "range_pct", "trailing_stop_value": 1.0},
    ):
        assert simulated(holed, blueprint(leave=leave)).trades.is_empty()
    bars = set_bars({})
    assert simulated(bars, blueprint(leave={"stop_type": "range_pct", "stop_value": 50.0}),
                     features=known(bars, 100, range_96_frac=0.06)).trades.is_empty()  # fmt: skip


def test_a_trailing_stop_and_a_break_even_move_the_last_stop():
    bars = set_bars({101: (100, 110, 100, 110), 102: (110, 110, 104, 105)})
    trail = blueprint(stop=0.05, time_stop=9, leave={"trailing_stop_type": "percent", "trailing_stop_value": 0.04})
    (trade,) = simulated(bars, trail).trades.to_dicts()
    assert (trade["exit_reason"], trade["exit_price"], trade["stop_price"], trade["last_stop_price"]) == (
        "trailing_stop", pytest.approx(106.0), 95.0, pytest.approx(106.0),
    )  # fmt: skip
    even = blueprint(stop=0.05, time_stop=9, leave={"break_even_r": 1.0})
    falls = set_bars({101: (100, 110, 100, 110), 102: (110, 110, 99, 101)})
    (trade,) = simulated(falls, even).trades.to_dicts()
    assert (trade["exit_reason"], trade["exit_price"], trade["last_stop_price"]) == ("break_even_stop", 100.0, 100.0)


def test_an_invalidation_ends_the_position_at_the_open_at_which_it_is_known():
    bars, spec = set_bars({}), blueprint(time_stop=9, leave={"invalidation": Invalidation("basis_bps", ">", 20.0)})
    basis = pl.when(pl.col("known_at") == START + 103 * BAR).then(30.0).otherwise(1.0)
    (trade,) = simulated(bars, spec, features=features_of(bars, basis_bps=basis)).trades.to_dicts()
    assert (trade["exit_reason"], trade["exited_at"]) == ("invalidation", START + 103 * BAR)
    for at_entry in (30.0, None):
        then = pl.when(pl.col("known_at") == START + 100 * BAR).then(at_entry).otherwise(1.0)
        assert simulated(bars, spec, features=features_of(bars, basis_bps=then)).trades.is_empty()


@pytest.mark.parametrize(
    ("sizing", "expected"),
    [
        ({"mode": "fixed_risk", "position_scale": None, "risk_per_trade": 0.004}, 0.2),
        ({"mode": "fixed_risk", "position_scale": None, "risk_per_trade": 0.03}, 1.0),
        ({"mode": "fixed_risk", "position_scale": None, "risk_per_trade": 0.03, "max_position_scale": 0.7}, 0.7),
        ({"mode": "vol_target", "position_scale": None, "target_vol": 0.12}, 0.12 / (0.002 * np.sqrt(35040))),
        ({"symbol_risk_budget": 0.005}, 0.25),
        ({"portfolio_risk_budget": 0.004}, 0.2),
    ],
)
def test_w3_sizes_are_what_the_mode_says_under_caps_and_budgets(sizing, expected):
    bars = set_bars({})
    found = simulated(bars, blueprint(stop=0.02, sizing=sizing), features=known(bars, 100, rv_96=0.002))
    assert pytest.approx([expected]) == found.trades["exposure"].to_list()


def test_a_volatility_target_without_a_volatility_is_not_entered():
    sizing = {"mode": "vol_target", "position_scale": None, "target_vol": 0.12}
    assert simulated(set_bars({}), blueprint(sizing=sizing)).trades.is_empty()


def test_w3_a_throttle_scales_the_size_and_a_skip_enters_nothing():
    half = Overlay("risk_throttle", (("size_scale", 0.25),))
    assert simulated(set_bars({}), blueprint(overlays=[half])).trades["exposure"].to_list() == [0.125]
    assert simulated(set_bars({}), blueprint(overlays=[Overlay("entry_gate_skip")])).trades.is_empty()


GUARDS = [
    (Overlay("spread_guard", (("max_spread_bps", 8.0),)), "spread_est_96_bps", 8.0, 8.1),
    (Overlay("funding_guard", (("max_abs_funding_bps", 12.0),)), "funding_rate_8h", -0.0012, -0.0013),
    (Overlay("cross_venue_guard", (("max_desync_bps", 12.0),)), "basis_bps", -12.0, -12.5),
]


@pytest.mark.parametrize(("overlay", "column", "passes", "blocks"), GUARDS)
def test_a_guard_is_asked_of_what_is_known_at_the_entry_and_blocks_what_it_cannot_see(overlay, column, passes, blocks):
    bars, spec = set_bars({}), blueprint(delay=4, overlays=[overlay])
    assert simulated(bars, spec, features=known(bars, 104, **{column: passes})).trades.height == 1
    assert simulated(bars, spec, features=known(bars, 104, **{column: blocks})).trades.is_empty()
    assert simulated(bars, spec, features=known(bars, 100, **{column: passes})).trades.is_empty()


def test_a_liquidity_guard_is_asked_of_the_bar_before_the_entry():
    spec = blueprint(overlays=[Overlay("liquidity_guard", (("min_notional", 1e5),))])
    for number, value, n in ((100, 1e5, 1), (100, 9e4, 0), (99, 1e5, 0)):
        then = pl.when(pl.col("known_at") == START + number * BAR).then(value)
        assert simulated(set_bars({}).with_columns(volume_quote=then), spec).trades.height == n


def test_a_session_guard_is_asked_at_the_entry():
    for session, n in (("eu", 1), ("all", 1), ("us", 0)):
        spec = blueprint(overlays=[Overlay("session_guard", (("session", session),))])
        assert simulated(set_bars({}), spec).trades.height == n


@pytest.mark.parametrize("at", ["known_at", "entry"])
@pytest.mark.parametrize(
    ("name", "column", "passes", "blocks"),
    [
        ("refill_persistence_pass", "volume_quote_ratio_2880", 1.0, 0.99),
        ("vacuum_refill_confirmation", "volume_quote_ratio_2880", 1.0, 0.99),
    ],
)
def test_b6_a_confirmation_is_asked_when_it_says(at, name, column, passes, blocks):
    bars = set_bars({})
    spec = blueprint(delay=4, entry={"confirmations": (Confirmation(name, at),)})
    number, other = (100, 104) if at == "known_at" else (104, 100)
    assert simulated(bars, spec, features=known(bars, number, **{column: passes})).trades.height == 1
    assert simulated(bars, spec, features=known(bars, number, **{column: blocks})).trades.is_empty()
    assert simulated(bars, spec, features=known(bars, other, **{column: passes})).trades.is_empty()


def test_guarded_confirmations_use_the_limit_of_their_overlay_when_they_are_asked():
    bars = set_bars({})
    spec = blueprint(
        delay=4, overlays=[GUARDS[2][0]], entry={"confirmations": (Confirmation("cross_venue_consensus_pass"),)}
    )
    for at_trigger, n in ((5.0, 1), (20.0, 0), (None, 0)):
        basis = pl.when(pl.col("known_at") == START + 100 * BAR).then(at_trigger).otherwise(1.0)
        assert simulated(bars, spec, features=features_of(bars, basis_bps=basis)).trades.height == n


def test_a_breakout_is_confirmed_by_a_move_as_large_as_three_quarters_of_its_past():
    bars, rng = set_bars({}), np.random.default_rng(0)
    moves = rng.normal(0, 0.01, bars.height)
    spec = blueprint(entry={"confirmations": (Confirmation("breakout_confirmation"),)})
    numbers = list(range(200, 1200, 7))
    found = simulated(
        bars, spec, features=features_of(bars, logret_1=pl.lit(pl.Series(moves))), events=events_at(numbers)
    )
    # the row known when bar n opens is that of bar n - 1
    expected = [n for n in numbers if abs(moves[n - 1]) >= np.quantile(np.abs(moves[n - 96 : n]), 0.75)]
    assert [START + n * BAR for n in expected] == found.trades["entered_at"].to_list()
    assert 10 < len(expected) < 100


def test_a_regime_is_stable_within_one_sigma_of_its_own_range():
    bars, rng = set_bars({}), np.random.default_rng(1)
    ratio = rng.lognormal(0, 0.3, bars.height)
    spec = blueprint(entry={"confirmations": (Confirmation("regime_stability_pass"),)})
    numbers = list(range(200, 1200, 7))
    found = simulated(
        bars, spec, features=features_of(bars, compression_ratio=pl.lit(pl.Series(ratio))), events=events_at(numbers)
    )

    def z(n) -> float:
        past = ratio[n - 96 : n]
        return abs(past[-1] - past.mean()) / past.std(ddof=1)

    expected = [n for n in numbers if z(n) <= 1]
    assert [START + n * BAR for n in expected] == found.trades["entered_at"].to_list()
    assert 50 < len(expected) < len(numbers)


def test_any_condition_is_enough_where_the_logic_says_so():
    names = ["vol_regime_high", "session_us"]
    events = events_at([96 + 40, 2 * 96 + 40])
    for logic, n in (("all", 0), ("any", 1)):
        spec = blueprint(conditions=names, entry={"condition_logic": logic})
        assert simulated(set_bars({}), spec, events=events).trades.height == n


def test_x7_a_node_that_the_evaluator_does_not_know_is_refused_by_name():
    spec = blueprint(entry={"condition_nodes": (ConditionNode("tea_leaves", ">=", 0.8),)})
    with pytest.raises(SettingsError, match=r"blueprint bp: no threshold tea_leaves >= 0.8: there is no 'tea_leaves'"):
        simulated(set_bars({}), spec)


@pytest.mark.parametrize("noise", [False, True])
def test_what_guards_and_new_exits_do_is_known_when_it_is_done(noise):
    rng = np.random.default_rng(5)
    bars, other, run = random_bars(rng), random_bars(np.random.default_rng(98)), a_run()
    events = random_events(rng, 80)
    specs = blueprints_of(
        blueprint("a", time_stop=48, scale=0.3, leave={
            "stop_type": "atr", "stop_value": 3.0, "trailing_stop_type": "range_pct", "trailing_stop_value": 0.2, "break_even_r": 1.0,
        }),
        blueprint("b", delay=4, overlays=[GUARDS[2][0]], entry={"confirmations": (Confirmation("breakout_confirmation", "entry"),)},
                  sizing={"mode": "vol_target", "position_scale": None, "target_vol": 0.2}),
        blueprint("c", time_stop=48, scale=0.3, leave={"invalidation": Invalidation("basis_bps", "<", -12.0)}),
    )  # fmt: skip

    def seen(frame) -> pl.DataFrame:
        move = (pl.col("close") / pl.col("open") - 1).fill_null(0.0)
        return features_of(
            frame, range_96_frac=0.02 + move.abs(), basis_bps=move * 1500, rv_96=0.004 + move.abs(), logret_1=move
        )

    whole = simulate_trades(bars, no_funding(), events, context_of(bars), specs, features=seen(bars), run=run)
    assert {"trailing_stop", "invalidation", "time"} <= set(whole["exit_reason"])
    assert set(whole["blueprint_id"]) == {"a", "b", "c"}
    for cut in rng.integers(96, 20 * 96, 12):
        then = pl.col("known_at") <= START + int(cut) * BAR
        now = pl.concat([bars.filter(then), other.filter(~then)]) if noise else bars.filter(then)
        part = simulate_trades(
            now, no_funding(), events.filter(then), context_of(now), specs, features=seen(now), run=run
        )
        assert whole.filter(then).equals(part.filter(then))


def test_ten_blueprints_on_two_symbols_and_four_years_take_half_a_second():
    rng = np.random.default_rng(1)
    n_days = 1460
    run, bars = a_run(n_days), random_bars(rng, n_bars=n_days * 96)
    frames = (bars, no_funding(n_days), random_events(rng, 400, n_bars=n_days * 96), context_of(bars))
    specs = blueprints_of(*(blueprint(f"b{i}", time_stop=(4, 16, 48, 96)[i % 4], scale=0.1) for i in range(10)))
    features = features_of(bars)
    Simulation.of(*frames, specs, features=features, run=run)
    begin = time.process_time()
    found = Simulation.of(*frames, specs, features=features, run=run)
    assert time.process_time() - begin <= 0.5
    assert found.trades.height > 5_000

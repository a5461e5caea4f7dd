from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from backtest_assets.domain.blueprint import Confirmation, Invalidation, Overlay, blueprint_from_json
from backtest_assets.domain.bounds import CAPS
from backtest_assets.domain.clock import BAR
from backtest_assets.gates.simulation import GATES_BACKTEST_METRICS, GATES_SIMULATION_LEDGER, GATES_TRADES
from backtest_assets_tests.research.simulation.asking import all_null, answers, red, spoil
from backtest_assets_tests.research.simulation.market import B
from backtest_assets_tests.research.simulation.results import every_field, random_results

DONE = random_results()
GATES = {
    "simulation_ledger": GATES_SIMULATION_LEDGER,
    "trades": GATES_TRADES,
    "backtest_metrics": GATES_BACKTEST_METRICS,
}
LEDGER, TRADES, METRICS = (DONE.frames[name] for name in GATES)
EACH = [pytest.param(name, gate, id=f"{name}-{gate.name}") for name, gates in GATES.items() for gate in gates]
INSIDE = LEDGER.with_row_index().filter((pl.col("exposure_before") != 0) & (pl.col("exposure_after") != 0))["index"][0]
ENTRY = LEDGER.with_row_index().filter((pl.col("exposure_before") == 0) & (pl.col("exposure_after") != 0))["index"][0]


def blocking(name, frame, **inputs: pl.DataFrame):
    return red(DONE, name, GATES[name], frame, {**DONE.frames, **inputs})


@pytest.mark.parametrize("name", GATES)
def test_what_the_simulator_books_passes(name):
    assert set() == blocking(name, DONE.frames[name])


@pytest.mark.parametrize("name", GATES)
def test_gate_names_are_unique_and_say_their_limit(name):
    assert len({gate.name for gate in GATES[name]}) == len(GATES[name])
    assert all("Limit" in gate.about for gate in GATES[name])


@pytest.mark.parametrize(("name", "gate"), EACH)
def test_every_gate_is_red_on_an_empty_frame_nulls_and_missing_inputs(name, gate):
    frame = DONE.frames[name]
    for shown, inputs in ((frame.clear(), DONE.frames), (all_null(frame), DONE.frames)):
        (answer,) = answers(DONE, name, (gate,), shown, inputs)
        assert not answer.verdict.passed
    (crash,) = answers(DONE, name, (gate,), frame.select(frame.columns[0]), {})
    assert crash.blocks


LEDGER_SPOILT = {
    "net_is_the_sum": spoil(LEDGER, INSIDE, net_pnl=pl.col("net_pnl") + 1e-8),
    "positions_unbroken": LEDGER.filter(pl.int_range(pl.len()) != INSIDE),
    "marks_are_prices": spoil(LEDGER, INSIDE, mark_to=pl.col("mark_to") * 1.001),
    "gross_from_marks": spoil(LEDGER, INSIDE, gross_pnl=pl.col("gross_pnl") + 1e-8),
    "funding_once_per_settlement": spoil(LEDGER, INSIDE, funding_pnl=pl.col("funding_pnl") + 1e-8),
    "inside_scope": spoil(LEDGER, INSIDE, blueprint_id="unknown"),
    "caps_hold_per_bar": spoil(LEDGER, INSIDE, exposure_after=1.5),
}


@pytest.mark.parametrize("gate", LEDGER_SPOILT)
def test_one_spoilt_ledger_row_is_caught_by_its_gate(gate):
    assert gate in blocking("simulation_ledger", LEDGER_SPOILT[gate])


def test_an_entry_on_a_gap_is_caught():
    row = LEDGER.row(ENTRY, named=True)
    hit = (pl.col("symbol") == row["symbol"]) & (pl.col("open_at") == row["open_at"])
    bars = DONE.frames["bars_um"].with_columns(
        pl.when(hit).then(pl.lit(value=True)).otherwise("is_gap").alias("is_gap")
    )
    assert "no_entry_on_a_gap" in blocking("simulation_ledger", LEDGER, bars_um=bars)


def test_a_position_left_open_is_caught():
    last = LEDGER.filter(pl.col("trade_id") == LEDGER["trade_id"][-1])["open_at"].max()
    assert "positions_unbroken" in blocking("simulation_ledger", LEDGER.filter(pl.col("open_at") < last))


def test_funding_charged_twice_or_from_other_rates_is_caught():
    twice = LEDGER.with_columns(pl.col("funding_pnl") * 2)
    rates = DONE.frames["settlements_um"].with_columns(pl.col("funding_rate") * 1.5)
    assert "funding_once_per_settlement" in blocking("simulation_ledger", twice)
    assert "funding_once_per_settlement" in blocking("simulation_ledger", LEDGER, settlements_um=rates)


def test_a_blueprint_outside_its_symbols_is_caught():
    moved = LEDGER.with_columns(
        pl.when(pl.col("blueprint_id") == "c").then(pl.lit(B)).otherwise("symbol").alias("symbol")
    )
    assert "inside_scope" in blocking("simulation_ledger", moved)


def at(reason):
    return TRADES.with_row_index().filter(pl.col("exit_reason") == reason, pl.col("n_bars_held") > 1)["index"][0]


TRADES_SPOILT = {
    "trades_equal_ledger": spoil(TRADES, 3, funding_pnl=pl.col("funding_pnl") + 1e-8),
    "splits_add_up": spoil(TRADES, 3, split="somewhere"),
    "pnl_from_fills": spoil(TRADES, 3, fee=pl.col("fee") * 1.001),
    "fills_inside_bars": spoil(TRADES, at("stop"), exit_price=pl.col("exit_price") * 0.5),
    "exits_obey_the_rule": spoil(TRADES, at("time"), exit_reason="stop"),
    "no_exit_missed": spoil(
        TRADES, at("time"), exited_at=pl.col("exited_at") + 300 * BAR, stop_price=pl.col("entry_price") * 0.999
    ),
    "triggered_by_an_event": spoil(TRADES, 3, side=-pl.col("side")),
    "one_position_at_a_time": spoil(TRADES, 3, exited_at=pl.col("exited_at") + 2000 * BAR),
    "caps_hold_at_entries": spoil(TRADES, 3, exposure=1.01),
    "splits_labelled": spoil(TRADES, 3, split="test"),
}


@pytest.mark.parametrize("gate", TRADES_SPOILT)
def test_one_spoilt_trade_is_caught_by_its_gate(gate):
    assert gate in blocking("trades", TRADES_SPOILT[gate])


def test_a_trade_or_a_ledger_row_too_many_is_caught():
    assert "trades_equal_ledger" in blocking("trades", TRADES.head(-1))
    without = LEDGER.filter(pl.col("trade_id") != TRADES["trade_id"][3])
    assert {"trades_equal_ledger", "splits_add_up"} <= blocking("trades", TRADES, simulation_ledger=without)


def test_an_exit_later_than_the_first_touch_is_caught():
    bars, row = DONE.frames["bars_um"], TRADES.row(at("time"), named=True)
    hit = (pl.col("symbol") == row["symbol"]) & (pl.col("open_at") == row["entered_at"] + BAR)
    crash = bars.with_columns(pl.when(hit).then(pl.col("low") * 0.5).otherwise("low").alias("low"))
    assert "no_exit_missed" in blocking("trades", TRADES, bars_um=crash)


def test_an_event_that_is_not_registered_is_caught():
    events = DONE.frames["event_registry"].join(TRADES.head(1), on="event_id", how="anti")
    assert "triggered_by_an_event" in blocking("trades", TRADES, event_registry=events)


def test_blueprints_that_hardly_trade_are_a_remark():
    few = TRADES.filter(pl.col("blueprint_id") != "c")
    found = {a.verdict.gate: a for a in answers(DONE, "trades", GATES_TRADES, few)}
    assert (found["few_trades"].verdict.passed, found["few_trades"].blocks) == (False, False)
    assert "c" in found["few_trades"].verdict.detail


METRICS_SPOILT = {
    "one missing": ("metric_set_complete", METRICS.head(-1)),
    "one of test": ("metric_set_complete", spoil(METRICS, 0, split="test")),
    "a null sum": ("metric_set_complete", METRICS.with_columns(pl.when(pl.col("metric") != "net").then("value"))),
    "another equity": (
        "metrics_equal_ledger",
        METRICS.with_columns(
            pl.when(pl.col("metric") == "ending_equity").then(pl.col("value") + 1e-8).otherwise("value")
        ),
    ),
    "another net": (
        "metrics_equal_ledger",
        METRICS.with_columns(pl.when(pl.col("metric") == "net").then(pl.col("value") + 1e-8).otherwise("value")),
    ),
}


@pytest.mark.parametrize("case", METRICS_SPOILT)
def test_spoilt_metrics_are_caught(case):
    gate, frame = METRICS_SPOILT[case]
    named = frame.rename({frame.columns[-1]: "value"}) if "value" not in frame.columns else frame
    assert gate in blocking("backtest_metrics", named)


@pytest.mark.parametrize("cap", CAPS)
def test_exposure_beyond_a_cap_of_the_run_is_caught_at_the_fill_and_at_the_close(cap):
    stricter = replace(DONE, run=replace(DONE.run, **{cap: 0.3}))
    assert "caps_hold_at_entries" in red(stricter, "trades", GATES_TRADES, TRADES)
    if cap != "max_new_exposure":  # what is entered at once is seen in the trades alone
        assert "caps_hold_per_bar" in red(stricter, "simulation_ledger", GATES_SIMULATION_LEDGER, LEDGER)


RICH = random_results(11, specs=every_field)
RICH_TRADES = RICH.frames["trades"]


def rich(frame, **inputs: pl.DataFrame):
    return red(RICH, "trades", GATES_TRADES, frame, {**RICH.frames, **inputs})


def test_every_field_that_execution_obeys_is_counted_again_by_the_gates():
    assert set(RICH_TRADES["blueprint_id"]) == {"a", "b", "c"}
    reasons = {"stop", "trailing_stop", "break_even_stop", "target", "time", "invalidation"}
    assert reasons <= set(RICH_TRADES["exit_reason"])
    assert set() == rich(RICH_TRADES)
    assert set() == red(
        RICH, "simulation_ledger", GATES_SIMULATION_LEDGER, RICH.frames["simulation_ledger"], RICH.frames
    )


def first(reason):
    return RICH_TRADES.with_row_index().filter(pl.col("exit_reason") == reason, pl.col("n_bars_held") > 1)["index"][0]


def respecified(name, **parts: Any):  # noqa: ANN401  # any field
    """The blueprints, one of them with other fields than it was traded with."""
    specs = [blueprint_from_json(text) for text in RICH.frames["blueprints"]["spec_json"]]
    changed = [
        replace(s, **{k: replace(getattr(s, k), **v) if isinstance(v, dict) else v for k, v in parts.items()})
        if s.blueprint_id == name else s
        for s in specs
    ]  # fmt: skip
    return RICH.frames["blueprints"].with_columns(spec_json=pl.Series([s.to_json() for s in changed]))


OTHERWISE = {
    "another stop": ("exits_obey_the_rule", respecified("a", exit={"stop_value": 1.6})),
    "another target": ("exits_obey_the_rule", respecified("c", exit={"target_value": 0.7})),
    "another trail": ("exits_obey_the_rule", respecified("a", exit={"trailing_stop_value": 0.5})),
    "a nearer trail": ("no_exit_missed", respecified("a", exit={"trailing_stop_value": 0.1})),
    "another break even": ("exits_obey_the_rule", respecified("b", exit={"break_even_r": 0.4})),
    "another invalidation": ("invalidation_obeyed", respecified("c", exit={"invalidation": Invalidation("basis_bps", ">", 9.0)})),
    "a later invalidation": ("invalidation_obeyed", respecified("c", exit={"invalidation": Invalidation("basis_bps", ">", 25.0)})),
    "no invalidation": ("invalidation_obeyed", respecified("c", exit={"invalidation": None})),
    "a longer arming": ("triggered_by_an_event", respecified("a", entry={"arm_bars": 4})),
    "a longer lockout": ("one_position_at_a_time", respecified("a", entry={"reentry_lockout_bars": 500})),
    "a stricter liquidity": ("guards_held", respecified("a", overlays=(Overlay("liquidity_guard", (("min_notional", 290.0),)),))),
    "a stricter session": ("guards_held", respecified("a", overlays=(Overlay("session_guard", (("session", "us"),)),))),
    "a guard nobody can see": ("guards_held", respecified("a", overlays=(Overlay("spread_guard", (("max_spread_bps", 8.0),)),))),
    "a funding nobody can see": ("guards_held", respecified("a", overlays=(Overlay("funding_guard", (("max_abs_funding_bps", 8.0),)),))),
    "a stricter desync": ("guards_held", respecified("b", overlays=(Overlay("cross_venue_guard", (("max_desync_bps", 2.0),)),))),
    "a skip": ("guards_held", respecified("b", overlays=(Overlay("entry_gate_skip"), Overlay("cross_venue_guard", (("max_desync_bps", 12.0),))))),
    "other confirmations": ("guards_held", respecified("b", entry={"confirmations": (Confirmation("refill_persistence_pass"),)})),
    "an unstable regime": ("guards_held", respecified("b", entry={"confirmations": (Confirmation("regime_stability_pass"),)})),
    "a smaller risk": ("size_as_asked", respecified("a", sizing={"risk_per_trade": 0.003})),
    "a smaller volatility": ("size_as_asked", respecified("b", sizing={"target_vol": 0.1})),
    "a smaller scale": ("size_as_asked", respecified("c", sizing={"position_scale": 0.2})),
    "a smaller cap": ("size_as_asked", respecified("a", sizing={"max_position_scale": 0.01})),
    "a smaller symbol budget": ("caps_hold_at_entries", respecified("c", sizing={"symbol_risk_budget": 0.1})),
    "a smaller portfolio budget": ("caps_hold_at_entries", respecified("c", sizing={"portfolio_risk_budget": 0.1})),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERWISE)
def test_execution_that_disobeys_a_field_is_caught_by_its_gate(case):
    gate, blueprints = OTHERWISE[case]
    assert gate in rich(RICH_TRADES, blueprints=blueprints)


def test_a_moved_stop_that_is_told_wrongly_is_caught():
    row = first("trailing_stop")
    assert "exits_obey_the_rule" in rich(spoil(RICH_TRADES, row, exit_reason="stop"))
    assert "exits_obey_the_rule" in rich(spoil(RICH_TRADES, row, last_stop_price=pl.col("stop_price")))
    assert {"guards_held", "size_as_asked", "invalidation_obeyed"} <= rich(
        spoil(RICH_TRADES, row, blueprint_id="unknown")
    )

"""The law of time: f(data known by t) = f(all data) up to t, and also when everything after t is another market.

Every public function of the causal rooms is found by walking the package. A parameter is provided by its name; to
teach a new one, add it to PROVIDERS (and, if its rows are known by another column than `known_at`, to ROW_TIME).
"""

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import backtest_assets.research
from backtest_assets.domain.blueprint import Blueprint, Entry, Evaluation, Exit, Lineage, Sizing, SymbolScope
from backtest_assets.domain.clock import month_end, month_of, month_start, months_between
from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.events.view import MarketView
from backtest_assets.tables.blueprints import BLUEPRINTS
from backtest_assets.tables.candidates import EDGE_CANDIDATES
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets.tables.raw import RAW_UM_FUNDING, RAW_UM_LIQUIDATIONS, RAW_UM_OHLCV, RAW_UM_OPEN_INTEREST
from backtest_assets_tests.properties.random_market import ORIGIN, SYMBOLS, RandomMarket, random_market

SCORING_ROOMS = {"walkforward", "promotions", "report"}
"""They read results; the rows they score are causal already."""
FUTURE_ROOMS = {"outcomes", "phase1", "hypotheses"}
"""The future's own room, and the rooms that learn from it on train windows."""

LEDGERS = {"bars.calendar", "bars.instants", "bars.coverage", "events.funnel", "events.told", "blueprints.told"}
"""They say what the archive holds at `as_of`, or sum up a whole run: not what a market was; no causal room reads them."""

N_CUTS = 8
MARKET = random_market(7)
OTHER = random_market(8)
END = ORIGIN + timedelta(days=150)
MONTH = month_of(ORIGIN + timedelta(days=100))

ROW_TIME = ("event_known_at", "known_at")
"""When a row is known: the first of these columns that a frame has. A frame with neither is timeless, compared whole."""


def raw_of(market: RandomMarket) -> pl.DataFrame:
    inside = pl.col("open_at").is_between(month_start(MONTH), month_end(MONTH), closed="left")
    rows = market.bars.filter(inside & (pl.col("symbol") == SYMBOLS[0]) & ~pl.col("is_gap"))
    nothing = pl.lit(None)
    return RAW_UM_OHLCV.conform(
        rows.drop("known_at", "is_gap").with_columns(
            interval_min=pl.lit(15), close_at=nothing, unused=nothing, source=pl.lit("random")
        )
    )


def open_interest_of(market: RandomMarket) -> pl.DataFrame:
    """A snapshot at every close and five minutes before; it is published five minutes later."""
    value = pl.col("close").fill_null(1.0)
    counted = pl.concat(
        [
            market.bars.select("symbol", open_interest_base=value, snapshot_at=pl.col("known_at") - early)
            for early in (timedelta(minutes=5), timedelta(0))
        ]
    )
    nothing = dict.fromkeys(RAW_UM_OPEN_INTEREST.schema.names(), pl.lit(None)).items()
    made = counted.with_columns(open_interest_quote="open_interest_base", source=pl.lit("random"))
    return RAW_UM_OPEN_INTEREST.conform(made.with_columns(**{n: v for n, v in nothing if n not in made.columns}))


def liquidations_of(market: RandomMarket) -> pl.DataFrame:
    """A liquidated long in every bar that is not a gap."""
    made = market.bars.filter(~pl.col("is_gap")).select(
        "symbol", liquidated_at=pl.col("open_at") + timedelta(minutes=7), ordinal=pl.lit(0), contract=pl.lit("SYN"),
        order_side=pl.lit("SELL"), average_price="close", filled_contracts=pl.lit(1.0), contract_size_quote="close",
        notional_quote="close", source=pl.lit("random"),
    )  # fmt: skip
    return RAW_UM_LIQUIDATIONS.conform(made)


def raw_funding_of(market: RandomMarket) -> pl.DataFrame:
    inside = pl.col("settled_at").is_between(month_start(MONTH), month_end(MONTH), closed="left")
    rows = market.funding.filter(inside & (pl.col("symbol") == SYMBOLS[0]))
    return RAW_UM_FUNDING.conform(
        rows.select(
            "symbol",
            "settled_at",
            "funding_rate",
            "funding_interval_h",
            received_at="settled_at",
            source=pl.lit("random"),
        )
    )


def a_blueprint(family: EventType, rule: SideRule, condition: str, hold: int, run: ResearchRun) -> Blueprint:
    return Blueprint(
        f"bp_{family.value}_{rule.value}", run.run_id, family, "long" if rule is SideRule.LONG else "conditional", SymbolScope("multi_symbol", SYMBOLS),
        Entry((family.value,), (condition,), rule, 0, 0), Exit(hold, "percent", 0.01, "percent", 0.015),
        Sizing("fixed_fraction", 0.5, 1.0, 1.0), Evaluation(run.fees_bps, run.slippage_bps, funding_included=True),
        Lineage("h", "test", run.start, run.end),
    )  # fmt: skip


def blueprints_of(market: RandomMarket) -> pl.DataFrame:
    made = [
        a_blueprint(EventType.VOL_SHOCK_RELAXATION, SideRule.LONG, "all", 16, market.run),
        a_blueprint(EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, SideRule.WITH_EVENT, "vol_regime_low", 48, market.run),
        a_blueprint(EventType.FUNDING_EXTREME_REVERSAL_WINDOW, SideRule.AGAINST_EVENT, "severity_high", 96, market.run),
    ]
    rows = [
        {
            "rank": rank, "blueprint_id": b.blueprint_id, "hypothesis_id": "h", "event_type": b.event_type.value,
            "condition": b.entry.conditions[0], "direction": b.direction, "side_rule": b.entry.side_rule.value,
            "symbols": ",".join(SYMBOLS), "delay_bars": 0, "time_stop_bars": b.exit.time_stop_bars, "stop_frac": 0.01,
            "known_at": ORIGIN, "is_fallback": False, "exit_quantile": 0.95, "n_entries_train": 9, "time_exit_train_bps": 9.0, "with_exits_train_bps": 9.0,
            "target_frac": 0.015, "t_train": 5.0 - rank, "is_executed": True, "behaviour_digest": b.behaviour_digest,
            "spec_json": b.to_json(),
        }
        for rank, b in enumerate(made, start=1)
    ]  # fmt: skip
    return BLUEPRINTS.conform(pl.DataFrame(rows))


def hypotheses_of(_: RandomMarket) -> pl.DataFrame:
    chosen = HYPOTHESES.sample(1).with_columns(
        status=pl.lit("selected"), condition=pl.lit("all"), side_rule=pl.lit("long"),
        event_type=pl.lit(EventType.VOL_SHOCK_RELAXATION.value),
        adverse_q95_train_bps=pl.lit(80.0), favourable_q95_train_bps=pl.lit(90.0), is_eligible=pl.lit(value=True),
        hold_bars=pl.lit(16, pl.Int32), delay_bars=pl.lit(0, pl.Int32), n_run=pl.lit(500), net_mean_train_bps=pl.lit(1e4),
        stressed_mean_train_bps=pl.lit(5.0), cost_ratio_train=pl.lit(0.2), delay_robustness_score=pl.lit(0.7),
        gate_validation=pl.lit(value=True), gate_multiplicity=pl.lit(value=True), t_train=pl.lit(5.0),
    )  # fmt: skip
    return HYPOTHESES.conform(chosen)


def edge_candidates_of(sight: "Sight") -> pl.DataFrame:
    names = hypotheses_of(sight.market)["hypothesis_id"]
    yes = dict.fromkeys(("is_selected", "is_evidence", "is_robust"), pl.lit(value=True))
    return EDGE_CANDIDATES.sample(1, names.len()).with_columns(candidate_id=names, **yes)


def checklist_of(_: RandomMarket) -> pl.DataFrame:
    return RESEARCH_CHECKLIST.sample(1).with_columns(decision=pl.lit("PROMOTE"), is_passed=pl.lit(value=True))


@dataclasses.dataclass(frozen=True)
class Sight:
    """A market and the instant at which it is looked at."""

    market: RandomMarket
    now: datetime

    def seen(self, frame: pl.DataFrame) -> pl.DataFrame:
        return up_to(frame, self.now)


PROVIDERS: dict[str, Callable[[Sight], object]] = {
    "raw": lambda s: raw_of(s.market),
    "raw_funding": lambda s: raw_funding_of(s.market),
    "open_interest": lambda s: open_interest_of(s.market),
    "liquidations": lambda s: liquidations_of(s.market),
    "liquidation_days": lambda _: [(ORIGIN + timedelta(days=number)).date() for number in range(150)],
    "max_age_min": lambda _: 30.0,
    "symbols": lambda _: SYMBOLS,
    "months": lambda _: months_between(ORIGIN, END),
    "listings": lambda _: {},
    "listing": lambda _: None,
    "top_n": lambda _: 0,
    "lookback_days": lambda _: 30,
    "symbol": lambda _: SYMBOLS[0],
    "month": lambda _: MONTH,
    "as_of": lambda s: s.now,
    "bars": lambda s: s.market.bars,
    "spot_bars": lambda s: s.market.spot_bars,
    "funding": lambda s: s.market.funding,
    "positioning": lambda s: s.market.positioning,
    "features": lambda s: s.seen(s.market.features),
    "view": lambda s: MarketView(s.market.bars, s.seen(s.market.features), s.market.funding),
    "universe": lambda s: s.seen(s.market.universe),
    "context": lambda s: s.seen(s.market.context),
    "candidates": lambda s: s.seen(s.market.candidates),
    "events": lambda s: s.seen(s.market.events),
    "controls": lambda s: s.seen(s.market.controls),
    "blueprints": lambda s: blueprints_of(s.market),
    "hypotheses": lambda s: hypotheses_of(s.market),
    "checklist": lambda s: checklist_of(s.market),
    "edge_candidates": lambda s: hypotheses_of(s.market).select(
        candidate_id="hypothesis_id",
        is_selected=pl.lit(value=True),
        is_evidence=pl.lit(value=True),
        is_robust=pl.lit(value=True),
        fail_reasons=pl.lit(""),
    ),
    "naive": lambda s: hypotheses_of(s.market).select("hypothesis_id", is_passed=pl.lit(value=True)),
    "run": lambda s: s.market.run,
}


OF_ROOM: dict[str, dict[str, Callable[[Sight], object]]] = {"blueprints": {"candidates": edge_candidates_of}}
"""What a name means in one room only: candidates of blueprints are edges, of events they are events."""


def causal_functions() -> list[Callable[..., object]]:
    found: list[Callable[..., object]] = []
    prefix = f"{backtest_assets.research.__name__}."
    for info in pkgutil.walk_packages(backtest_assets.research.__path__, prefix):
        module_name = info.name.removeprefix(prefix)
        if module_name.split(".")[0] in SCORING_ROOMS | FUTURE_ROOMS or module_name in LEDGERS:
            continue
        module = importlib.import_module(info.name)
        members = inspect.getmembers(module, inspect.isfunction)
        found += [f for name, f in members if f.__module__ == info.name and not name.startswith("_")]
    return found


def argument(name: str, hint: type, sight: Sight) -> object:
    if name in PROVIDERS:
        return PROVIDERS[name](sight)
    if dataclasses.is_dataclass(hint):
        return hint()  # a family's frozen parameters: its declared defaults
    pytest.fail(f"parameter {name!r} is unknown here: add it to PROVIDERS in {__file__}, or make the function private")


def call(function: Callable[..., object], sight: Sight) -> pl.DataFrame:
    hints = typing.get_type_hints(function)
    own = OF_ROOM.get(name_of(function).split(".")[0], {})
    arguments = {
        name: own[name](sight) if name in own else argument(name, hints[name], sight)
        for name in inspect.signature(function).parameters
    }
    result = function(**arguments)
    if not isinstance(result, pl.DataFrame):
        pytest.fail(
            f"{function.__qualname__} returns {type(result).__name__}: public functions of causal rooms return frames; make it private"
        )
    return result


def up_to(frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The rows known at an instant, as they were known then."""
    time = next((name for name in ROW_TIME if name in frame.columns), None)
    known = frame if time is None else frame.filter(pl.col(time) <= now)
    if "exit_at" in frame.columns:
        known = known.with_columns(pl.when(pl.col("exit_at") <= now).then("exit_at").alias("exit_at"))
    return known


CUTS = sorted(
    ORIGIN + timedelta(microseconds=int(us))
    for us in np.random.default_rng(3).uniform(45 * 86_400e6, 149 * 86_400e6, N_CUTS)
)
PASTS = [Sight(MARKET.known_by(cut), cut) for cut in CUTS]
NOISE = [Sight(MARKET.with_future_of(OTHER, cut), END) for cut in CUTS]


def broken_cuts(function: Callable[..., object]) -> list[str]:
    full = call(function, Sight(MARKET, END))
    broken: list[str] = []
    for cut, past, noise in zip(CUTS, PASTS, NOISE, strict=True):
        for kind, seen in (("the future removed", past), ("the future replaced", noise)):
            try:
                assert_frame_equal(up_to(full, cut), up_to(call(function, seen), cut), rel_tol=1e-9, abs_tol=1e-12)
            except AssertionError as difference:
                broken.append(f"at {cut} with {kind}: {difference}")
    return broken


def name_of(function: Callable[..., object]) -> str:
    return f"{function.__module__.removeprefix('backtest_assets.research.')}.{function.__name__}"


@pytest.mark.parametrize("function", causal_functions(), ids=name_of)
def test_what_is_known_at_an_instant_does_not_depend_on_what_comes_after_it(function):
    assert [] == broken_cuts(function)


def test_the_walk_finds_the_rooms_it_must():
    rooms = {name_of(function).split(".")[0] for function in causal_functions()}
    assert {"bars", "features", "context", "events", "blueprints", "simulation"} <= rooms


def test_every_frame_the_law_is_tested_on_has_rows_at_every_cut():
    for market in (sight.market for sight in PASTS[2:]):
        frames = {
            "bars": market.bars,
            "spot_bars": market.spot_bars,
            "funding": market.funding,
            "positioning": market.positioning,
            "context": market.context,
            "candidates": market.candidates,
            "events": market.events,
            "controls": market.controls,
        }
        assert [] == [name for name, frame in frames.items() if frame.is_empty()]


def looks_one_bar_ahead(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select("symbol", "known_at", ahead=pl.col("close").shift(-1).over("symbol"))


def ranks_over_the_whole_sample(features: pl.DataFrame) -> pl.DataFrame:
    return features.select("symbol", "known_at", rank=pl.col("rv_96").rank() / pl.col("rv_96").count())


@pytest.mark.parametrize("leak", [looks_one_bar_ahead, ranks_over_the_whole_sample])
def test_a_leak_is_caught_at_every_cut_and_both_ways(leak):
    assert 2 * N_CUTS == len(broken_cuts(leak))


def needs_tea(tea: int) -> pl.DataFrame:
    return pl.DataFrame({"tea": [tea]})


def test_an_unknown_parameter_fails_and_says_how_to_teach_it():
    with pytest.raises(pytest.fail.Exception, match="'tea' is unknown here: add it to PROVIDERS"):
        broken_cuts(needs_tea)

"""The whole research chain without Dagster: the same functions, in the same order, on frames in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from backtest_assets.domain.clock import month_of, months_between, utc
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.research.blueprints.compile import compile_blueprints, reject_hypotheses
from backtest_assets.research.context.build import build_context
from backtest_assets.research.events.accepted import register_events
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.research.hypotheses.candidates import list_candidates
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.research.hypotheses.expectancy import measure_expectancy
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets.research.hypotheses.queue.build import build_queue
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.research.hypotheses.traps import judge_traps
from backtest_assets.research.hypotheses.trials import count_trials, list_trials
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.sets import Measured
from backtest_assets.research.promotions.allocate import allocate
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.promotions.evidence import MeasuredBlueprints, PromotionSources
from backtest_assets.research.promotions.neighbours import simulate_neighbours
from backtest_assets.research.promotions.strategies import StrategySources, list_strategies
from backtest_assets.research.simulation.ledger import simulate_ledger, simulate_trades
from backtest_assets.research.walkforward.splits import slice_metrics, summarise
from backtest_assets.sources.synthetic.market import SyntheticSymbol, generate_market
from backtest_assets.sources.synthetic.plant import Plant
from backtest_assets.tables.bars import BARS_SPOT, POSITIONING_UM
from backtest_assets.tables.registry import TABLES
from backtest_assets_tests.scenario import LATER, settled

SYMBOLS = ("SYNAUSDT", "SYNBUSDT")


@dataclass(frozen=True)
class Chain:
    """Every frame of a run by table name, and its decision."""

    run: ResearchRun
    frames: Mapping[str, pl.DataFrame]

    @property
    def decision(self) -> str:
        return self.frames["research_checklist"]["decision"][0]

    @property
    def selected(self) -> pl.DataFrame:
        return self.frames["hypotheses"].filter(pl.col("status") == "selected")

    @property
    def promoted(self) -> set[str]:
        if "promotions" not in self.frames:
            return set()
        return set(self.frames["promotions"].filter("is_promoted")["blueprint_id"])


def run_chain(
    seed: int,
    *,
    years: int = 4,
    fees_bps: float = 4.0,
    planted: Plant | None = None,
    drift: float = 0.0,
    skew: float = 0.0,
) -> Chain:
    run = ResearchRun(
        run_id=f"SEED_{seed}", symbols=",".join(SYMBOLS), start="2020-01-01", end=f"{2019 + years}-12-31", source=f"synthetic:{seed}",
        fees_bps=fees_bps, slippage_bps=fees_bps / 2,
    )  # fmt: skip
    market = generate_market(seed, SYMBOLS, *run.window, annual_drift=drift, jump_skew=skew, planted=planted)
    return chain_of(run, market)


def market_frames(market: Mapping[str, SyntheticSymbol]) -> dict[str, pl.DataFrame]:
    """Settlements, clean bars and features of an invented market."""
    bars = pl.concat([_bars(name, symbol.klines) for name, symbol in market.items()])
    funding = pl.concat([settled(symbol.funding) for symbol in market.values()])
    features = build_features(bars, BARS_SPOT.empty(), funding, POSITIONING_UM.empty())
    return {"settlements_um": funding, "bars_um": bars, "features": features}


def chain_of(run: ResearchRun, market: Mapping[str, SyntheticSymbol], *, phase1: pl.DataFrame | None = None) -> Chain:
    return chain_from(run, market_frames(market), phase1=phase1)


def chain_from(
    run: ResearchRun,
    market: Mapping[str, pl.DataFrame],
    *,
    phase1: pl.DataFrame | None = None,
    moved: Callable[[pl.DataFrame], pl.DataFrame] = lambda events: events,
) -> Chain:
    """The chain on settlements, bars and features; `phase1` and `moved` events stand in for the run's own."""
    frames = dict(market)
    frames["market_context"] = build_context(frames["features"])
    bars, funding = frames["bars_um"], frames["settlements_um"]
    frames["event_candidates"] = detect_events(MarketView(bars, frames["features"], funding), run=run)
    frames["event_registry"] = events = moved(register_events(frames["event_candidates"]))
    frames["event_controls"] = match_controls(bars, frames["features"], events, run=run)
    frames["event_outcomes"] = measure_outcomes(bars, funding, events, frames["event_controls"], run=run)
    controls = frames["event_controls"]
    frames["event_families"] = summarise_families(frames["event_candidates"], frames["features"], run=run)
    frames["event_barriers"] = measure_barriers(bars, frames["features"], events, controls, run=run)
    frames["phase1_hazards"] = build_hazards(frames["event_barriers"], run=run)
    measured = Measured(frames["event_outcomes"], frames["event_barriers"], controls)
    view = MarketView(bars, frames["features"], funding)
    weighed = weigh_families(measured, events, frames["event_families"], view, run=run) if phase1 is None else phase1
    frames["phase1_evidence"] = weighed
    frames["hypothesis_queue"] = build_queue(frames["features"], frames["phase1_evidence"], run=run)
    frames["hypotheses"] = score_hypotheses(
        frames["event_outcomes"],
        events,
        frames["market_context"],
        bars,
        frames["phase1_evidence"],
        run=run,
        queue=frames["hypothesis_queue"],
    )
    asked = (frames["event_outcomes"], events, frames["market_context"])
    frames["naive_entry"] = enter_naively(frames["hypotheses"], *asked, run=run)
    frames["expectancy"] = measure_expectancy(frames["hypotheses"], *asked, bars, run=run)
    frames["expectancy_traps"] = judge_traps(frames["hypotheses"], *asked, bars, run=run)
    known = [frames[name] for name in ("hypotheses", "naive_entry", "expectancy", "expectancy_traps")]
    frames["edge_candidates"] = list_candidates(*known, run=run)
    frames["research_checklist"] = decide(frames["hypotheses"], frames["edge_candidates"], run=run)
    compiled = (frames["hypotheses"], frames["research_checklist"], events, frames["market_context"], bars)
    told = {
        "edge_candidates": frames["edge_candidates"],
        "naive": frames["naive_entry"],
        "features": frames["features"],
    }
    frames["blueprints"] = compile_blueprints(*compiled, **told, run=run)
    frames["blueprint_rejections"] = reject_hypotheses(*compiled, **told, run=run)
    if frames["research_checklist"]["decision"][0] == "PROMOTE":
        inputs = (bars, funding, events, frames["market_context"], frames["blueprints"])
        frames["simulation_ledger"] = ledger = simulate_ledger(*inputs, features=frames["features"], run=run)
        frames["trades"] = trades = simulate_trades(*inputs, features=frames["features"], run=run)
        slices = [
            slice_metrics(ledger, trades, frames["market_context"], frames["blueprints"], bars, run=run, split=split)
            for split in (Split.TRAIN, Split.VALIDATION)
        ]
        frames["walkforward_summary"] = summarise(*slices)
        frames["blueprint_neighbours"] = simulate_neighbours(*inputs, features=frames["features"], run=run)
        ledger_of_run = list_trials(frames["hypotheses"], "outcomes", run=run)
        frames["trial_ledger"] = ledger_of_run
        named = ledger_of_run.with_columns(of_run_id=pl.lit(run.run_id), ledger_digest=pl.lit("ledger"))
        frames["trial_counts"] = count_trials(named, "outcomes")
        judged = MeasuredBlueprints.of(PromotionSources.of(frames), run=run)
        frames["promotions"] = promote(frames["walkforward_summary"], frames["blueprints"], judged, run=run)
        shared = ("promotions", "blueprints", "hypotheses", "simulation_ledger", "trades")
        frames["capital_allocation"] = allocate(*(frames[name] for name in shared), run=run)
    frames["strategy_candidates"] = list_strategies(StrategySources.of(frames), run=run)
    return Chain(run, {name: TABLES[name].conform(frame) for name, frame in frames.items()})


def _bars(symbol: str, klines: pl.DataFrame) -> pl.DataFrame:
    first, last = klines["open_at"][0], klines["open_at"][-1]
    months = months_between(utc(first.date()), last)
    by_month = klines.with_columns(month=pl.col("open_at").dt.strftime("%Y-%m")).partition_by(
        "month", as_dict=True, include_key=False
    )
    assert month_of(last) == months[-1]
    return pl.concat([clean_klines(by_month[(month,)], symbol=symbol, month=month, as_of=LATER) for month in months])

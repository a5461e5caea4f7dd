"""What discovery costs after the event stage, hypotheses to blueprints, gates included, warm: `make bench-hypotheses`.

    python -m backtest_assets_tests.benches.bench_hypotheses [--synthetic] [--years N] [--law]

Some 2,000 tested hypotheses of two symbols and four years, 2,000 draws of the bootstrap. Real prices where `../shared/data` is beside the
clone; and, there as elsewhere, an invented market with planted edges, because only what survives is examined and compiled.
Phase 1 lets every family in. CPU seconds of all threads, the smaller of two runs after one that compiles; peak memory is the
process's, imports, market and event stage included. `--law` fits exponents over three exceedance rates and over three
budgets of conditions.
"""

import argparse
import gc
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

import polars as pl

from backtest_assets.defs.reads import READS
from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.registry import GATES
from backtest_assets.research.blueprints.compile import compile_blueprints, reject_hypotheses
from backtest_assets.research.hypotheses.candidates import list_candidates
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.research.hypotheses.expectancy import measure_expectancy
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets.research.hypotheses.queue.build import build_queue
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.research.hypotheses.summary import summarise_inference
from backtest_assets.research.hypotheses.traps import judge_traps
from backtest_assets.research.hypotheses.trials import count_trials, list_trials
from backtest_assets.sources.synthetic.market import SyntheticSymbol, generate_market
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.benches.bench_events import (
    START,
    YEARS,
    clean_market,
    make_all,
    market_of,
    peak_mb,
    rates_times,
    show_law,
)  # fmt: skip
from backtest_assets_tests.properties.random_market import SYMBOLS, RandomMarket
from backtest_assets_tests.real_market import REAL
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of
from backtest_assets_tests.truth.edges import Edge, plant

BAR_CPU_S: Final = 10.0
"""Making and gates of all tables after the event stage, four years."""

EDGES: Final = (
    Edge(EventType.LIQUIDITY_ABSENCE_WINDOW, 16, 80.0),
    Edge(EventType.CROSS_VENUE_DESYNC, 4, 60.0),
    Edge(EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 16, 80.0),
)
"""Large enough that many hypotheses survive: examining, fitting and dry runs have work."""

ENTRY_DELAYS: Final = "0,4"
"""4,208 hypotheses are declared, of which some 2,000 have enough events to be tested."""

RATES: Final = (0.25, 1.0, 4.0)
BUDGETS: Final = (6, 12, 24)
"""Conditions of a family that are tested; a family has some twenty."""

Frames = Mapping[str, pl.DataFrame]
Made = dict[str, pl.DataFrame]
OUTCOMES_DIGEST: Final = "digest of the outcomes"


def _studied(frames: Frames, *more: str) -> list[pl.DataFrame]:
    return [frames[name] for name in ("event_outcomes", "event_registry", "market_context", *more)]


def _examined(frames: Frames) -> list[pl.DataFrame]:
    return [frames["hypotheses"], *_studied(frames, "bars_um")]


def _compiled(frames: Frames) -> list[pl.DataFrame]:
    names = ("hypotheses", "research_checklist", "event_registry", "market_context", "bars_um")
    return [frames[name] for name in names]


def _evidence(frames: Frames) -> dict[str, pl.DataFrame]:
    return {
        "features": frames["features"],
        "edge_candidates": frames["edge_candidates"],
        "naive": frames["naive_entry"],
    }


def _of_all_runs(frames: Frames) -> pl.DataFrame:
    return frames["trial_ledger"].with_columns(of_run_id=pl.lit("bench"), ledger_digest=pl.lit("its digest"))


MAKERS: Final[Mapping[str, Callable[[Frames, ResearchRun], pl.DataFrame]]] = MappingProxyType(
    {
        "hypotheses": lambda f, run: score_hypotheses(
            *_studied(f, "bars_um", "phase1_evidence"), run=run, queue=f["hypothesis_queue"]
        ),
        "inference_summary": lambda f, run: summarise_inference(
            *_studied(f, "bars_um", "hypotheses"), run=run, queue=f["hypothesis_queue"]
        ),
        "trial_ledger": lambda f, run: list_trials(f["hypotheses"], OUTCOMES_DIGEST, run=run),
        "naive_entry": lambda f, run: enter_naively(f["hypotheses"], *_studied(f), run=run),
        "expectancy": lambda f, run: measure_expectancy(*_examined(f), run=run),
        "expectancy_traps": lambda f, run: judge_traps(*_examined(f), run=run),
        "edge_candidates": lambda f, run: list_candidates(
            f["hypotheses"], f["naive_entry"], f["expectancy"], f["expectancy_traps"], run=run
        ),
        "research_checklist": lambda f, run: decide(f["hypotheses"], f["edge_candidates"], run=run),
        "blueprints": lambda f, run: compile_blueprints(*_compiled(f), **_evidence(f), run=run),
        "blueprint_rejections": lambda f, run: reject_hypotheses(*_compiled(f), **_evidence(f), run=run),
        "trial_counts": lambda f, _: count_trials(_of_all_runs(f), OUTCOMES_DIGEST),
    }
)
"""The tables of the stage in the order in which they are made."""


@dataclass(frozen=True)
class Known:
    """What discovery reads when the event stage is done."""

    run: ResearchRun
    frames: Frames

    @classmethod
    def of(cls, market: RandomMarket) -> "Known":
        run = replace(market.run, phase2_entry_delays_bars=ENTRY_DELAYS)
        made = make_all(replace(market, run=run), is_kept=True).tables
        frames = {"bars_um": market.bars, "phase1_evidence": phase1_of(), **made}
        frames["hypothesis_queue"] = build_queue(made["features"], frames["phase1_evidence"], run=run)
        return cls(run, frames)


@dataclass
class Spent:
    """CPU seconds of making each table and of its gates, rows and what the gates said."""

    making: dict[str, float] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)
    n_rows: dict[str, int] = field(default_factory=dict)
    red: list[str] = field(default_factory=list)
    frames: Made = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.making.values()) + sum(self.gates.values())


def discover(known: Known) -> Spent:
    """Make every table of the stage once and ask its gates."""
    spent, frames, partition = Spent(), dict(known.frames), Partition.of_run("bench")
    for name, make in MAKERS.items():
        begun = time.process_time()
        frames[name] = spent.frames[name] = make(frames, known.run)
        made = time.process_time()
        inputs = {read.table: frames[read.table] for read in READS[name] if read.table in frames}
        if name == "trial_counts":
            inputs["trial_ledger"] = _of_all_runs(frames)
        evidence = Evidence(
            table_named(name),
            partition,
            frames[name],
            known.run.window[1],
            run=known.run,
            inputs=inputs,
            digests={("event_outcomes", partition.label): OUTCOMES_DIGEST},
        )
        begun_gates = time.process_time()
        answers = ask_all(GATES[name], evidence)
        spent.making[name], spent.gates[name] = made - begun, time.process_time() - begun_gates
        spent.n_rows[name] = frames[name].height
        spent.red += [f"{name}.{one.verdict.gate}: {one.verdict.detail}" for one in answers if one.blocks]
    return spent


def warm(known: Known, n_runs: int = 2) -> Spent:
    """The cheapest of several runs after one that compiles, table by table."""
    discover(known)
    runs = [discover(known) for _ in range(n_runs)]
    return replace(
        runs[-1],
        making={name: min(run.making[name] for run in runs) for name in MAKERS},
        gates={name: min(run.gates[name] for run in runs) for name in MAKERS},
    )


def planted(n_years: int) -> RandomMarket:
    """An invented market with edges."""
    end = START + timedelta(days=365 * n_years)
    market: Mapping[str, SyntheticSymbol] = generate_market(7, SYMBOLS, START - timedelta(days=90), end)
    for edge in EDGES:
        market = plant(market, edge).market
    return clean_market(market, end)


def show(name: str, known: Known, n_years: int) -> bool:
    """Print what each table costs; say whether the sum keeps its bar and no gate is red."""
    spent = warm(known)
    print(f"\n{name + ', CPU s':<24}{'making':>8}{'gates':>8}{'rows':>10}")
    for table in MAKERS:
        print(f"  {table:<22}{spent.making[table]:8.2f}{spent.gates[table]:8.2f}{spent.n_rows[table]:10,}")
    tested = spent.frames["hypotheses"]["is_eligible"].sum()
    bar = BAR_CPU_S * n_years / YEARS[-1]
    print(
        f"hypotheses to blueprints: {spent.total:.2f} CPU s ({sum(spent.gates.values()):.2f} gates), "
        f"{spent.total / bar:.2f} of the bar of {bar:g} s; {spent.n_rows['hypotheses']:,} hypotheses, {tested:,} tested, "
        f"{spent.n_rows['edge_candidates']:,} candidates, {spent.n_rows['blueprints']} blueprints; peak {peak_mb():.0f} MB"
    )
    for red in spent.red:
        print(f"  red: {red}")
    return spent.total <= bar and not spent.red


def measure_law(n_years: int, n_runs: int = 3) -> bool:
    """Fit growth of the planted market's costs: in events, then in hypotheses."""
    market = planted(n_years)
    by_events, events = [], []
    for factor in RATES:
        with rates_times(factor):
            known = Known.of(market)
            by_events.append(_both(warm(known, n_runs)))
        events.append(known.frames["event_registry"].height)
    known = Known.of(market)
    by_budget, tested = [], []
    for budget in BUDGETS:
        spent = warm(replace(known, run=replace(known.run, phase2_max_conditions=budget)), n_runs)
        by_budget.append(_both(spent))
        tested.append(int(spent.frames["hypotheses"]["is_eligible"].sum()))
    kept = show_law("events", events, by_events)
    return show_law("tested hypotheses", tested, by_budget) and kept


def _both(spent: Spent) -> dict[str, float]:
    return {name: spent.making[name] + spent.gates[name] for name in MAKERS}


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench_hypotheses", description=__doc__)
    parser.add_argument("--synthetic", action="store_true", help="the planted market alone, also where the real one is")
    parser.add_argument("--years", type=int, default=YEARS[-1], choices=YEARS)
    parser.add_argument(
        "--law", action="store_true", help="fit growth in events and in hypotheses; ends with 1 if superlinear"
    )
    asked = parser.parse_args(args)
    warnings.simplefilter("ignore")
    print(f"imports: {time.process_time():.1f} CPU s, {peak_mb():.0f} MB")
    if asked.law:
        return 0 if measure_law(asked.years) else 1
    kept = True
    if REAL.exists() and not asked.synthetic:
        kept = show("real", Known.of(market_of(is_real=True, n_years=asked.years)), asked.years)
        gc.collect()
    return 0 if show("planted", Known.of(planted(asked.years)), asked.years) and kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

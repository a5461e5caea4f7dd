"""What the event stage costs, features to outcomes, warm, on two symbols and four years: `make bench-events`.

    python -m backtest_assets_tests.benches.bench_events [--synthetic] [--law] [--gates]

Real prices where `../shared/data` is beside the clone, an invented market of the same size elsewhere or when asked. CPU
seconds of all threads, the smaller of two runs after one that compiles; peak memory is the process's, imports and
the market included. `--law` fits exponents over one, two and four invented years and over three exceedance rates; `--gates` holds
the gates of each table against its making.
"""

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from unittest import mock

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, months_between
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.registry import GATES
from backtest_assets.research.context.build import build_context
from backtest_assets.research.events import detect
from backtest_assets.research.events.accepted import register_events
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.eligibility import drop_ineligible
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.registry import FAMILIES, Family
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.research.features.universe import build_universe
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.sources.synthetic.market import SyntheticSymbol, generate_market
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.properties.random_market import SYMBOLS, RandomMarket, a_run
from backtest_assets_tests.real_market import REAL, read_real_market
from backtest_assets_tests.scenario import settled

BAR_CPU_S, GOAL_CPU_S, BAR_MB = 12.0, 5.0, 600.0
BAR_EXPONENT = 1.15
LEAST_CPU_S = 0.2
"""Below it a table's cost is caches and the clock's noise, and its exponent says nothing."""
YEARS = (1, 2, 4)
RATES = (0.25, 1.0, 4.0)
"""Factors of every family's exceedance rate: sixteen times as many bars beyond it from first to last."""
MOST_RATE = 0.9
START = datetime(2022, 1, 1, tzinfo=UTC)


def invented(n_years: int) -> RandomMarket:
    end = START + timedelta(days=365 * n_years)
    return clean_market(generate_market(7, SYMBOLS, START - timedelta(days=90), end), end)


def clean_market(market: Mapping[str, SyntheticSymbol], end: datetime) -> RandomMarket:
    """Raw klines as clean bars, with the run that reads them."""
    made = market.values()

    def clean(rows: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(rows).with_columns(known_at=pl.col("open_at") + BAR, is_gap=pl.lit(value=False))

    bars, spot = clean([one.klines for one in made]), clean([one.spot for one in made])
    return RandomMarket(
        BARS_UM.conform(bars.select(BARS_UM.schema.names())),
        BARS_SPOT.conform(spot.select(BARS_SPOT.schema.names())),
        settled(pl.concat(one.funding for one in made)),
        a_run(START, end, phase2_delay_grid_bars="0,4,8,16,30"),
    )


def market_of(*, is_real: bool, n_years: int) -> RandomMarket:
    """The first years of the real market, or an invented one."""
    if not is_real:
        return invented(n_years)
    market, end = read_real_market(), START + timedelta(days=365 * n_years)
    if n_years == YEARS[-1]:
        return market
    past = market.known_by(end)
    run = replace(market.run, end=f"{end - timedelta(days=1):%Y-%m-%d}")
    return replace(past, run=run)


@dataclass
class Made:
    """CPU seconds and rows by table, and the tables if they were to be kept."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    n_rows: dict[str, int] = field(default_factory=dict)
    n_accepted: int = 0
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


def make_all(market: RandomMarket, *, is_kept: bool = False) -> Made:
    """Make every table of the stage once; what later ones do not read is let go, as in a run."""
    made = Made()

    def of(table: str, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        begun = time.process_time()
        rows = make()
        made.cpu_s[table], made.n_rows[table] = time.process_time() - begun, rows.height
        if is_kept:
            made.tables[table] = rows
        return rows

    events, controls = known(market, of)
    of("event_outcomes", lambda: measure_outcomes(market.bars, market.funding, events, controls, run=market.run))
    made.n_accepted = events.height
    return made


def known(market: RandomMarket, of: Callable[..., pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make what does not look ahead; give events and controls."""
    run, bars, funding, months = market.run, market.bars, market.funding, months_between(*market.run.window)
    features = of("features", lambda: build_features(bars, market.spot_bars, funding, POSITIONING_UM.empty()))
    universe = of(
        "universe",
        lambda: build_universe(bars, symbols=run.symbol_list, months=months, listings={}, top_n=0, lookback_days=30),
    )
    of("market_context", lambda: build_context(features))
    view = MarketView(bars, features, funding)
    candidates = of("event_candidates", lambda: drop_ineligible(detect.detect_events(view, run=run), universe))
    events = of("event_registry", lambda: register_events(candidates))
    of("event_families", lambda: summarise_families(candidates, features, run=run))
    return events, of("event_controls", lambda: match_controls(bars, features, events, run=run))


def warm(market: RandomMarket, n_runs: int = 2, *, is_kept: bool = False) -> Made:
    """The cheapest of several runs after one that compiles, table by table."""
    made = make_all(market)
    runs = [make_all(market) for _ in range(n_runs - is_kept)]
    runs += [make_all(market, is_kept=True)] if is_kept else []
    return replace(
        runs[-1],
        n_accepted=made.n_accepted,
        cpu_s={table: min(run.cpu_s[table] for run in runs) for table in made.cpu_s},
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit the power of size that costs grow with.

    >>> round(exponent([1, 2, 4], [3, 6, 12]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def show_law(name: str, sizes: Sequence[float], costs: Sequence[Mapping[str, float]]) -> bool:
    """Print the cost of each table by size; say whether every exponent of what costs anything keeps its bar."""
    print(f"\n{name:<22}" + "".join(f"{size:>12,.0f}" for size in sizes) + "   exponent")
    kept = True
    for table in (*costs[0], "all"):
        spent = [sum(cost.values()) if table == "all" else cost[table] for cost in costs]
        power = exponent(sizes, spent)
        is_kept = power <= BAR_EXPONENT or max(spent) < LEAST_CPU_S
        kept &= is_kept
        cells = "".join(f"{cpu_s:12.3f}" for cpu_s in spent)
        print(f"  {table:<20}{cells}{power:11.2f}{'' if is_kept else f'  over {BAR_EXPONENT}'}")
    return kept


@contextmanager
def rates_times(factor: float) -> Iterator[None]:
    """Let every family fire at another exceedance rate."""
    scaled = {
        name: Family(replace(family.definition, rate=min(family.definition.rate * factor, MOST_RATE)), family.detect)
        for name, family in FAMILIES.items()
    }
    with mock.patch.object(detect, "FAMILIES", MappingProxyType(scaled)):
        yield


def measure_law(years: Sequence[int] = YEARS, n_runs: int = 5) -> bool:
    """Fit growth on invented markets, whose years are alike: in bars, then in events of the longest."""
    by_bars, bars, market = [], [], invented(years[0])
    for n_years in years:
        market = invented(n_years)
        by_bars.append(warm(market, n_runs).cpu_s)
        bars.append(market.bars.height)
    kept = show_law("bars", bars, by_bars)
    by_events, events = [], []
    for factor in RATES:
        with rates_times(factor):
            made = warm(market, n_runs)
        by_events.append({table: s for table, s in made.cpu_s.items() if table.startswith("event_")})
        events.append(made.n_accepted)
    return show_law("accepted events", events, by_events) and kept


def show_gates(market: RandomMarket, made: Made) -> None:
    """Print what the gates of each table cost against its making."""
    tables = made.tables
    inputs = {
        "bars_um": market.bars, "bars_spot": market.spot_bars, "settlements_um": market.funding,
        "positioning_um": POSITIONING_UM.empty(), **tables,
    }  # fmt: skip
    print(f"\n{'gates, CPU s':<22}{'foresight':>12}{'others':>12}{'making':>12}")
    total: dict[str, float] = dict.fromkeys(("foresight", "others", "making"), 0.0)
    for table in tables:
        evidence = Evidence(
            table_named(table), Partition.of_run("bench"), tables[table], market.run.window[1], market.run, inputs
        )
        spent = {"foresight": 0.0, "others": 0.0, "making": made.cpu_s[table]}
        for gate in GATES[table]:
            gate.ask(evidence)
            begun = time.process_time()
            gate.ask(evidence)
            spent["foresight" if gate.name == "prefix_invariant" else "others"] += time.process_time() - begun
        print(f"  {table:<20}" + "".join(f"{s:12.2f}" for s in spent.values()))
        total = {kind: total[kind] + spent[kind] for kind in total}
    print(f"  {'all':<20}" + "".join(f"{s:12.2f}" for s in total.values()))
    print(
        f"  foresight {total['foresight'] / total['making']:.0%} of making, others {total['others'] / total['making']:.0%}"
    )


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench_events", description=__doc__)
    parser.add_argument("--synthetic", action="store_true", help="an invented market, also where the real one is")
    parser.add_argument("--years", type=int, default=YEARS[-1], choices=YEARS)
    parser.add_argument(
        "--law", action="store_true", help="fit growth in bars and in events; ends with 1 if superlinear"
    )
    parser.add_argument("--gates", action="store_true", help="the gates of each table against its making")
    asked = parser.parse_args(args)
    warnings.simplefilter("ignore")
    is_real = REAL.exists() and not asked.synthetic
    print(f"imports: {time.process_time():.1f} CPU s, {peak_mb():.0f} MB")
    if asked.law:
        return 0 if measure_law() else 1
    market = market_of(is_real=is_real, n_years=asked.years)
    n_bars = market.bars.height
    print(
        f"{'real' if is_real else 'invented'} market: {n_bars:,} bars of {len(market.run.symbol_list)} symbols, {peak_mb():.0f} MB"
    )
    made, peak = warm(market), peak_mb()
    for table, spent in made.cpu_s.items():
        print(f"  {table:<20}{spent:8.2f} s{made.n_rows[table]:>10,} rows")
    total, scale = sum(made.cpu_s.values()), asked.years / YEARS[-1]
    print(
        f"features to outcomes: {total:.2f} CPU s, {total / (BAR_CPU_S * scale):.2f} of the bar of {BAR_CPU_S * scale:g} s, "
        f"{total / (GOAL_CPU_S * scale):.2f} of the goal of {GOAL_CPU_S * scale:g} s; peak {peak:.0f} of {BAR_MB:.0f} MB"
    )
    if asked.gates:
        show_gates(market, warm(market, is_kept=True))
    return 0 if total <= BAR_CPU_S * scale and peak <= BAR_MB else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

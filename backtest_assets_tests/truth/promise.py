"""The promise, measured through the whole chain to the blueprints: `make promise` writes docs/evidence.

    python -m backtest_assets_tests.truth.promise [--null 200] [--planted 20] [--shuffles 100] [--years 4] [--processes 2]

- Null: markets whose simple returns are martingales, in four arms; a strict blueprint on one of them is false.
- Planted: an edge after the events of one family over 4, 16 or 48 bars, of a true net mean so many day-clustered standard
  errors above costs on train; beside the chain an oracle that tests only the true hypothesis at the same adjusted level.
- Real: what bitcoin and ether of 2022 to 2025 yield, and what is left of it when the events are moved by random weeks.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.criteria import MAX_ADJUSTED_P, MAX_VALIDATION_P
from backtest_assets.research.hypotheses.members import members_of
from backtest_assets.sources.synthetic.market import SyntheticSymbol, generate_market
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets_tests.chain import SYMBOLS, Chain, chain_from, market_frames
from backtest_assets_tests.real_market import REAL, read_real_market
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of
from backtest_assets_tests.scenario import settled
from backtest_assets_tests.truth.edges import Edge, plant, true_means
from backtest_assets_tests.truth.evidence import Found, broken_bounds, read, write
from backtest_assets_tests.truth.measure import in_processes

EVIDENCE: Final = Path(__file__).parents[2] / "docs" / "evidence"
HOLDS: Final = (4, 16, 48)
STRENGTHS: Final = (2, 4, 6, 8)
_NULL_SEEDS, _PLANTED_SEEDS = 50_000, 70_000


@dataclass(frozen=True)
class Arm:
    fees_bps: float = 4.0
    drift: float = 0.0
    skew: float = 0.0


ARMS: Final[Mapping[str, Arm]] = MappingProxyType(
    {
        "cost 12": Arm(),
        "cost 0": Arm(fees_bps=0.0),
        "drift +150 %/year": Arm(drift=1.5),
        "skewed jumps": Arm(skew=-1.0),
    }
)
"""Round-trip costs of 12 bps unless another is said."""


@dataclass(frozen=True)
class Null:
    """What the chain made of a market without an edge."""

    arm: str
    seed: int
    n_tested: int
    p_least: float
    n_selected: int
    n_blueprints: int
    decision: str


@dataclass(frozen=True)
class Planted:
    """What the chain and the oracle made of a market with one edge; the true hypothesis is of all events at the true hold.

    Attributes:
        strength: true net mean over day-clustered standard error on train, as asked; `strength_true` as it came out.
        n_train: events of the true hypothesis on train.
        has_data: the run's demands on how much data there is are met, ESS and trades of the plain rule.
        is_found: a blueprint of the right family and side.
        is_hold_right: the best of them has the true hold.
        n_false: blueprints whose true net mean is not above 0.
        lost_to: why the true hypothesis itself is no blueprint (`near_copy`: another stands for it); empty where it is one.
        is_oracle_rw, is_oracle_bonferroni: the true hypothesis alone, at the level of the step-down and of Bonferroni,
            and confirmed on validation.
        reported_bps, shrunken_bps, validation_bps: net means of the best right blueprint on train, there shrunken (less the
            drift), and on validation; NaN without one.
        true_bps: what its trades truly earn, net.
    """

    family: str
    hold_bars: int
    strength: int
    seed: int
    strength_true: float
    n_train: int
    is_eligible: bool
    has_data: bool
    is_found: bool
    is_hold_right: bool
    n_false: int
    lost_to: str
    is_oracle_rw: bool
    is_oracle_bonferroni: bool
    reported_bps: float
    shrunken_bps: float
    validation_bps: float
    true_bps: float


def run_of(seed: int, *, years: int, fees_bps: float = 4.0) -> ResearchRun:
    return ResearchRun(
        run_id=f"SEED_{seed}", symbols=",".join(SYMBOLS), start="2020-01-01", end=f"{2019 + years}-12-31",
        source=f"synthetic:{seed}", fees_bps=fees_bps, slippage_bps=fees_bps / 2,
    )  # fmt: skip


def market_of(seed: int, run: ResearchRun, arm: Arm = Arm()) -> dict[str, SyntheticSymbol]:
    return generate_market(seed, SYMBOLS, *run.window, annual_drift=arm.drift, jump_skew=arm.skew)


def null_market(asked: tuple[str, int, int]) -> Null:
    name, number, years = asked
    arm, seed = ARMS[name], _NULL_SEEDS + number
    run = run_of(seed, years=years, fees_bps=arm.fees_bps)
    chain = chain_from(run, market_frames(market_of(seed, run, arm)))
    return Null(name, seed, **_told(chain))


def _told(chain: Chain) -> dict[str, Any]:
    tested = chain.frames["hypotheses"].filter("is_eligible")
    return {
        "n_tested": tested.height,
        "p_least": tested.select(pl.col("p_rw").min()).item(),
        "n_selected": chain.selected.height,
        "n_blueprints": chain.frames["blueprints"].height,
        "decision": chain.decision,
    }


def planted_markets(asked: tuple[int, int]) -> list[Planted]:
    """Plant every edge that one noise can carry, one at a time: each family that has enough events, each hold and strength."""
    number, years = asked
    seed = _PLANTED_SEEDS + number
    run = run_of(seed, years=years)
    market = market_of(seed, run)
    return [
        planted_market(run, market, edge, strength=strength, seed=seed)
        for edge, strength in edges(chain_from(run, market_frames(market)))
    ]


def planted_market(
    run: ResearchRun, market: Mapping[str, SyntheticSymbol], edge: Edge, *, strength: int, seed: int
) -> Planted:
    bent = plant(market, edge)
    return judged(chain_from(run, market_frames(bent.market)), bent.drift, edge, strength=strength, seed=seed)


def edges(without: Chain) -> list[tuple[Edge, int]]:
    """Every edge to plant, sized by the day-clustered standard error on train that its hypothesis has without it."""
    tested = without.frames["hypotheses"].filter(
        "is_eligible", pl.col("condition") == "all", pl.col("side_rule").is_in([SideRule.LONG, SideRule.WITH_EVENT]),
        pl.col("hold_bars").is_in(HOLDS),
    )  # fmt: skip
    cost = without.run.cost.round_trip_bps
    return [
        (Edge(EventType(family), hold, cost + strength * error), strength)
        for family, hold, error in tested.sort("event_type", "hold_bars")
        .select("event_type", "hold_bars", "se_train_bps")
        .iter_rows()
        for strength in STRENGTHS
    ]


def judged(chain: Chain, drift: pl.DataFrame, edge: Edge, *, strength: int, seed: int) -> Planted:
    cost = chain.run.cost.round_trip_bps
    right = SideRule.WITH_EVENT if edge.family.is_sided else SideRule.LONG
    hypotheses = chain.frames["hypotheses"]
    (true,) = hypotheses.filter(
        pl.col("event_type") == edge.family.value, pl.col("condition") == "all", pl.col("side_rule") == right.value,
        pl.col("hold_bars") == edge.hold_bars,
    ).to_dicts()  # fmt: skip
    n_tested = hypotheses["is_eligible"].sum()
    is_tested = bool(true["is_eligible"])
    is_confirmed = is_tested and true["net_mean_validation_bps"] > 0 and true["p_validation"] <= MAX_VALIDATION_P
    made = _made(chain, drift)
    own = (pl.col("event_type") == edge.family.value) & (pl.col("side_rule") == right.value)
    best = made.filter(own).sort("rank").head(1).to_dicts()
    return Planted(
        edge.family.value, edge.hold_bars, strength, seed,
        strength_true=(edge.bps - cost) / true["se_train_bps"] if is_tested else float("nan"),
        n_train=true["n_train"],
        is_eligible=is_tested,
        has_data=is_tested and true["ess_run"] >= chain.run.phase2_min_ess and true["n_run"] >= chain.run.naive_min_trades,
        is_found=bool(best),
        is_hold_right=bool(best) and best[0]["hold_bars"] == edge.hold_bars,
        n_false=made.filter(pl.col("true_bps") <= 0).height,
        lost_to=_lost_to(chain, true["hypothesis_id"]) if is_tested else "too few events",
        is_oracle_rw=is_confirmed and true["p_rw"] <= MAX_ADJUSTED_P,
        is_oracle_bonferroni=is_confirmed and true["p_train"] * n_tested <= MAX_ADJUSTED_P,
        **{
            name: best[0][column] if best else float("nan")
            for name, column in (
                ("reported_bps", "net_mean_train_bps"), ("shrunken_bps", "shrunken_excess_mean_train_bps"),
                ("validation_bps", "net_mean_validation_bps"), ("true_bps", "true_bps"),
            )
        },
    )  # fmt: skip


def _made(chain: Chain, drift: pl.DataFrame) -> pl.DataFrame:
    """The blueprints with the numbers of their hypotheses and what these truly earn, by which a blueprint is right or false."""
    means = ("net_mean_train_bps", "shrunken_excess_mean_train_bps", "net_mean_validation_bps")
    own = chain.frames["hypotheses"].select("hypothesis_id", "hold_bars", *means)
    made = (
        chain.frames["blueprints"]
        .select("rank", "hypothesis_id", "event_type", "side_rule")
        .join(own, on="hypothesis_id")
    )
    if made.is_empty():
        return made.with_columns(true_bps=pl.lit(None, pl.Float64))
    sources = (chain.frames[name] for name in ("event_outcomes", "event_registry", "market_context"))
    chosen = chain.frames["hypotheses"].join(made, on="hypothesis_id", how="semi")
    trades = members_of(chosen, *sources, run=chain.run).joined("direction", "entered_at", "exited_at")
    true = true_means(trades, drift, cost_bps=chain.run.cost.round_trip_bps)
    return made.with_columns(true_bps=pl.col("hypothesis_id").replace_strict(true, return_dtype=pl.Float64))


def _lost_to(chain: Chain, hypothesis_id: str) -> str:
    told = chain.frames["blueprint_rejections"].filter(pl.col("hypothesis_id") == hypothesis_id)
    return ";".join(
        d if reason == "not_selected" else reason for reason, d in told.select("reason", "detail").iter_rows()
    )


def real_market_as_found() -> pl.DataFrame:
    """The checklist of real prices and the events that they have."""
    chain = chain_from(real().run, real_frames())
    n_blueprints = pl.lit(chain.frames["blueprints"].height)
    return chain.frames["research_checklist"].select(
        "decision", "gate", "is_passed", "detail", n_blueprints=n_blueprints
    )


def shuffled_market(number: int) -> Null:
    """Real prices, all events moved by the same random number of weeks around the window; phase 1 lets every family in."""
    run = real().run
    start, end = run.window
    n_weeks = (end - start).days // 7
    weeks = int(np.random.default_rng(number).integers(2, n_weeks - 1))
    span = timedelta(weeks=n_weeks)

    def moved(events: pl.DataFrame) -> pl.DataFrame:
        at = pl.col("known_at") + timedelta(weeks=weeks)
        by = (
            pl.when(at < start + span)
            .then(pl.lit(timedelta(weeks=weeks)))
            .otherwise(pl.lit(timedelta(weeks=weeks) - span))
        )
        inside = events.filter(pl.col("known_at") < start + span)
        return EVENT_REGISTRY.conform(inside.with_columns(pl.col("onset_at", "known_at", "exit_at") + by))

    return Null("real, shuffled", number, **_told(chain_from(run, real_frames(), phase1=phase1_of(), moved=moved)))


@cache
def real():
    return read_real_market()


@cache
def real_frames() -> dict[str, pl.DataFrame]:
    market = real()
    return {"settlements_um": settled(market.funding), "bars_um": market.bars, "features": market.features}


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="promise", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--null", type=int, default=200, help="markets without an edge per arm; of each kind 0 keeps what --out holds"
    )
    parser.add_argument("--planted", type=int, default=20, help="noises that every edge is planted into")
    parser.add_argument("--shuffles", type=int, default=100, help="shuffles of the real events")
    parser.add_argument("--years", type=int, default=4)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--out", type=Path, default=EVIDENCE, help="where the page, its figures and the rows are written"
    )
    asked = parser.parse_args(args)
    begun = time.perf_counter()
    with in_processes(asked.processes) as each:
        null = list(each(null_market, [(arm, n, asked.years) for arm in ARMS for n in range(asked.null)]))
        planted = [
            row for rows in each(planted_markets, [(n, asked.years) for n in range(asked.planted)]) for row in rows
        ]
        shuffled = list(each(shuffled_market, range(asked.shuffles))) if REAL.exists() else []
    before = read(asked.out)
    found = Found(
        _frame(null) if null else before.null,
        _frame(planted) if planted else before.planted,
        _frame(shuffled) if shuffled else before.shuffled,
        real_market_as_found() if REAL.exists() else before.real,
    )
    cpu_s = sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    print(write(found, asked.out))
    broken = broken_bounds(found)
    print("\n".join(broken) or "every bound kept", f"{cpu_s:.0f} CPU s, {time.perf_counter() - begun:.0f} s", sep="\n")
    return 1 if broken else 0


def _frame(rows: Sequence[Null | Planted]) -> pl.DataFrame:
    return pl.DataFrame([asdict(row) for row in rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

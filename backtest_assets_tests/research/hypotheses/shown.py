"""The evidence tables of a world, made in the order of the graph."""

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.candidates import list_candidates
from backtest_assets.research.hypotheses.expectancy import measure_expectancy
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets.research.hypotheses.traps import judge_traps
from backtest_assets_tests.research.hypotheses.world import World


def shown(w: World, hypotheses: pl.DataFrame, run: ResearchRun | None = None) -> dict[str, pl.DataFrame]:
    run = run or w.run
    sources = (hypotheses, w.outcomes, w.events, w.context)
    naive = enter_naively(*sources, run=run)
    expectancy = measure_expectancy(*sources, w.bars, run=run)
    traps = judge_traps(*sources, w.bars, run=run)
    candidates = list_candidates(hypotheses, naive, expectancy, traps, run=run)
    return {
        "naive_entry": naive,
        "expectancy": expectancy,
        "expectancy_traps": traps,
        "edge_candidates": candidates,
    }


def candidates_of(w: World, hypotheses: pl.DataFrame, run: ResearchRun | None = None) -> pl.DataFrame:
    return shown(w, hypotheses, run)["edge_candidates"]


def examined_of(w: World, hypotheses: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What the compiler is told of candidates and of naive entry."""
    known = shown(w, hypotheses)
    return {"edge_candidates": known["edge_candidates"], "naive": known["naive_entry"]}

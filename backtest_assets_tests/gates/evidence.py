"""Evidence about an honest random market, and the ways in which every gate must be red."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import polars as pl

from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Answer, Evidence, Gate, ask_all
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.properties.random_market import RandomMarket, random_market


@cache
def market() -> RandomMarket:
    return random_market(7)


def honest(name: str, frame: pl.DataFrame) -> Evidence:
    made = market()
    inputs = {
        "bars_um": made.bars, "bars_spot": made.spot_bars, "raw_um_funding": made.funding, "features": made.features,
        "market_context": made.context, "event_candidates": made.events, "event_controls": made.controls,
    }  # fmt: skip
    as_of = made.run.window[1]
    return Evidence(table_named(name), Partition.of_run("random"), frame, as_of, made.run, inputs)


def answer(gate: Gate, evidence: Evidence) -> Answer:
    (only,) = ask_all((gate,), evidence)
    return only


def red(gates: tuple[Gate, ...], evidence: Evidence) -> set[str]:
    return {a.verdict.gate for a in ask_all(gates, evidence) if not a.verdict.passed}


def with_inputs(evidence: Evidence, **changes: pl.DataFrame) -> Evidence:
    return replace(evidence, inputs={**evidence.inputs, **changes})


def hopeless(evidence: Evidence) -> Mapping[str, Evidence]:
    """Evidence under which no gate may be green: no rows, nothing but null, no inputs and no settings."""
    nothing = [pl.lit(None).cast(dtype).alias(name) for name, dtype in evidence.frame.schema.items()]
    return {
        "empty": replace(evidence, frame=evidence.frame.clear()),
        "all null": replace(evidence, frame=evidence.frame.with_columns(nothing)),
        "wrong columns": replace(evidence, frame=pl.DataFrame({"x": [1]}), inputs={}, run=None),
    }

"""R9: what phase 2 enumerates narrows nothing else; every table before it is the same, byte for byte."""

from dataclasses import replace
from io import BytesIO

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.sets import Measured
from backtest_assets_tests.properties.random_market import RandomMarket, random_market

WHOLE = random_market(11, 120)


def stored(frame: pl.DataFrame) -> bytes:
    kept = BytesIO()
    frame.write_parquet(kept)
    return kept.getvalue()


def tables(market: RandomMarket) -> dict[str, bytes]:
    run = market.run
    families = summarise_families(market.candidates, market.features, run=run)
    measured = Measured(market.outcomes, market.barriers, market.controls)
    frames = {
        "event_candidates": market.candidates,
        "event_families": families,
        "event_registry": market.events,
        "event_controls": market.controls,
        "event_outcomes": market.outcomes,
        "event_barriers": market.barriers,
        "phase1_hazards": build_hazards(market.barriers, run=run),
        "phase1_evidence": weigh_families(measured, market.events, families, market.view, run=run),
    }
    assert all(not frame.is_empty() for frame in frames.values())
    return {name: stored(frame) for name, frame in frames.items()}


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return tables(WHOLE)


@pytest.mark.parametrize("family", [EventType.VOL_SHOCK_RELAXATION, EventType.LIQUIDITY_VACUUM])
def test_a_narrowed_run_has_the_tables_of_the_whole_one_byte_for_byte(whole: dict[str, bytes], family: EventType):
    narrowed = tables(replace(WHOLE, run=replace(WHOLE.run, phase2_event_type=family.value)))
    assert [] == [name for name, content in whole.items() if content != narrowed[name]]

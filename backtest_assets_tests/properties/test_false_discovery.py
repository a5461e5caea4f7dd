"""The promise in small: noise promotes nothing, a planted edge is found on the right side and promoted."""

import pytest

from backtest_assets.domain.event import EventType
from backtest_assets.sources.synthetic.plant import Plant
from backtest_assets_tests.chain import run_chain

ARMS = {101: (4.0, 0.0, 0.0), 201: (0.0, 0.0, 0.0), 301: (4.0, 1.5, 0.0), 401: (4.0, 0.0, -1.0)}
"""First seed of cost 12, cost 0, drift and skewed jumps; one market of each here, more of them are slow, 200 `make promise`."""
NOISE = [
    pytest.param(first + n, *arm, id=f"seed-{first + n}", marks=[pytest.mark.slow] if n else [])
    for first, arm in ARMS.items()
    for n in range(6)
]


@pytest.mark.parametrize(("seed", "fees_bps", "drift", "skew"), NOISE)
def test_a_market_without_an_edge_promotes_nothing(seed: int, fees_bps: float, drift: float, skew: float):
    chain = run_chain(seed, fees_bps=fees_bps, drift=drift, skew=skew)
    assert chain.frames["hypotheses"]["is_eligible"].sum() > 50, "noise must really be tested"
    assert chain.promoted == set()
    assert chain.frames["blueprints"].is_empty()
    assert chain.decision == "KEEP_RESEARCH"


@pytest.mark.parametrize(
    ("event_type", "bps", "side_rule"),
    [
        (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, 60.0, "with_event"),
        (EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW, -60.0, "against_event"),
    ],
)
def test_a_strong_planted_edge_is_found_on_the_right_side_and_promoted(
    event_type: EventType, bps: float, side_rule: str
):
    chain = run_chain(7, planted=Plant(event_type, 16, bps))
    best = chain.selected.sort("t_train", descending=True).row(0, named=True)
    assert (event_type.value, side_rule) == (best["event_type"], best["side_rule"])
    assert best["t_train"] > 6
    assert chain.decision == "PROMOTE"
    assert chain.promoted
    assert set(chain.selected["event_type"]) == {event_type.value}

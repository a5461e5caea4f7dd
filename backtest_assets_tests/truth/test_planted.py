"""Recall and precision in small, and that the bounds can fail: the blind, the trigger-happy and the slow are refused."""

from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.research.events.registry import FAMILIES, Family
from backtest_assets_tests.truth import planted
from backtest_assets_tests.truth.planted import FLOORS, PLANTS, Hits, hits, judged

SEEDS = range(2)
DESYNC = EventType.CROSS_VENUE_DESYNC


@cache
def found(family: EventType) -> tuple[Hits, ...]:
    return tuple(hits(family, seed) for seed in SEEDS)


@pytest.mark.parametrize("family", list(EventType))
def test_planted_events_are_found_and_explain_what_is_found(family):
    (told,) = judged({family: list(found(family))}).to_dicts()
    assert told["is_found"], told
    assert told["n_planted"] >= 10


def test_every_family_is_planted_and_bounded():
    assert set(EventType) == set(PLANTS) == set(FLOORS)


def judged_as(monkeypatch: pytest.MonkeyPatch, detect) -> bool:
    monkeypatch.setattr(planted, "FAMILIES", {**FAMILIES, DESYNC: Family(FAMILIES[DESYNC].definition, detect)})
    return bool(judged({DESYNC: [hits(DESYNC, seed) for seed in SEEDS]})["is_found"][0])


def honest(view, *, params):
    return FAMILIES[DESYNC].detect(view, params=params)


def blind(view, *, params):
    """Nothing is ever found."""
    return honest(view, params=params).clear()


def half_blind(view, *, params):
    """Every other event is missed."""
    return honest(view, params=params).gather_every(2)


def slow(view, *, params):
    """Everything is known three bars late."""
    return honest(view, params=params).with_columns(pl.col("known_at") + 3 * BAR)


def early(view, *, params):
    """Everything is known a bar before it could be."""
    return honest(view, params=params).with_columns(pl.col("known_at") - BAR)


def trigger_happy(view, *, params):
    """Every event comes with another one ten hours later."""
    once = honest(view, params=params)
    return pl.concat([once, once.with_columns(pl.col("known_at") + 40 * BAR)]).sort("known_at")


def test_the_honest_detector_passes(monkeypatch):
    assert judged_as(monkeypatch, honest)


@pytest.mark.parametrize("detect", [blind, half_blind, slow, early, trigger_happy])
def test_bad_detectors_are_refused(monkeypatch, detect):
    assert not judged_as(monkeypatch, detect)


def test_nothing_planted_or_found_is_no_success():
    assert not judged({DESYNC: [Hits(0, 0, 0, 0)]})["is_found"][0]
    assert not judged({DESYNC: [Hits(50, 50, 0, 0)]})["is_found"][0]
    assert judged({DESYNC: [Hits(50, 50, 50, 50)]})["is_found"][0]

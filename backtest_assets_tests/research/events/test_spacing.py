from pathlib import Path

import numpy as np
import pytest

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.research.events.definition import Definition, Spacing
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.stats.scan import NEVER
from backtest_assets_tests.properties.random_market import random_market

PAGE = Path(__file__).parents[3] / "docs" / "spacing.md"
MARKET = random_market(7)


def test_the_page_tells_the_declared_rule_of_every_family():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    rules = [(family.value, made.definition.spacing) for family, made in FAMILIES.items()]
    told = [f"| {name} | {rule.until.replace('|', chr(92) + '|')} | {rule.rest_bars} |" for name, rule in rules]
    assert told == rows
    assert list(EventType) == [EventType(name) for name, _ in rules]


def test_every_variant_of_a_family_keeps_the_same_rule():
    for made in FAMILIES.values():
        assert {made.definition.spacing} == {made.definition.at(variant).spacing for variant in Variant}


def test_a_definition_without_a_rule_cannot_be():
    with pytest.raises(TypeError, match="spacing"):
        Definition(0.1)  # pyright: ignore[reportAbstractUsage]  # that is the point


def test_what_has_not_ended_frees_nobody_and_a_rest_comes_after_the_end():
    exits = np.array([5, NEVER])
    assert [17, NEVER] == Spacing("a quiet bar", rest_bars=12).free_row(exits).tolist()
    assert [5, NEVER] == Spacing.window(3).free_row(exits).tolist()
    assert ("3 bars after it is known", 3, 0) == (
        Spacing.window(3).until,
        Spacing.window(3).window_bars,
        Spacing.window(3).rest_bars,
    )


@pytest.mark.parametrize("family", [f for f, made in FAMILIES.items() if made.definition.spacing.window_bars])
def test_events_of_a_declared_window_last_exactly_that_long(family):
    own = MARKET.candidates.filter(event_type=family.value).drop_nulls("exit_at")
    lasted = (own["exit_at"] - own["known_at"]).dt.total_minutes().unique().to_list()
    assert [15 * (FAMILIES[family].definition.spacing.window_bars or 0)] == lasted

import polars as pl

from backtest_assets.research.blueprints.told import describe_blueprints, describe_rejections
from backtest_assets.tables.blueprints import BLUEPRINT_REJECTIONS, BLUEPRINTS


def test_blueprints_are_counted_by_family_beside_the_decision_that_opens_execution():
    made = BLUEPRINTS.sample(1, 3).with_columns(
        event_type=pl.Series(["b", "a", "b"]),
        is_executed=pl.Series([True, True, False]),
        is_fallback=pl.Series([False, True, False]),
    )
    assert {
        "compiled": "3",
        "within_top_k_and_family_filter": "2",
        "fallbacks": "1",
        "by_family": "b 2, a 1",
        "checklist": "KEEP_RESEARCH",
    } == describe_blueprints(made, decision="KEEP_RESEARCH")
    assert "none" == describe_blueprints(BLUEPRINTS.empty(), decision="PROMOTE")["by_family"]


def test_rejections_are_counted_by_reason_those_of_selected_hypotheses_apart():
    rejected = BLUEPRINT_REJECTIONS.sample(1, 3).with_columns(
        reason=pl.Series(["not_selected", "near_copy", "not_selected"]), is_selected=pl.Series([False, True, False])
    )
    assert {
        "by_reason": "not_selected 2, near_copy 1",
        "selected_by_reason": "near_copy 1",
    } == describe_rejections(rejected)
    assert {"by_reason": "none", "selected_by_reason": "none"} == describe_rejections(BLUEPRINT_REJECTIONS.empty())

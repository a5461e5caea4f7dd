"""What the UI tells of the blueprints: counts by family and by reason; nothing that decides reads it."""

from collections.abc import Mapping

import polars as pl

from backtest_assets.research.hypotheses.told import count_words


def describe_blueprints(blueprints: pl.DataFrame, *, decision: str) -> Mapping[str, str]:
    """Count the blueprints, those that are for execution, and say whether execution is open to them.

    Args:
        blueprints: table blueprints.
        decision: of the run's checklist.

    Returns:
        `compiled`, `within_top_k_and_family_filter`, `fallbacks`, `by_family`, and the `checklist`'s decision, without whose
        PROMOTE nothing is executed; for the operator.

    Knows:
        what blueprints knows.
    """
    return {
        "compiled": str(blueprints.height),
        "within_top_k_and_family_filter": str(blueprints.filter("is_executed").height),
        "fallbacks": str(blueprints.filter("is_fallback").height),
        "by_family": count_words(blueprints["event_type"]),
        "checklist": decision,
    }


def describe_rejections(blueprint_rejections: pl.DataFrame) -> Mapping[str, str]:
    """Count the tested hypotheses that are no blueprint, by reason.

    Args:
        blueprint_rejections: table blueprint_rejections.

    Returns:
        `by_reason`, and the same of those that passed every gate of the hypotheses as `selected_by_reason`, for the operator.

    Knows:
        what blueprint_rejections knows.
    """
    selected = blueprint_rejections.filter("is_selected")
    return {
        "by_reason": count_words(blueprint_rejections["reason"]),
        "selected_by_reason": count_words(selected["reason"]),
    }

"""What the UI tells of phase 1: a row per family; nothing that decides reads it."""

import polars as pl


def decisions_by_family(phase1_evidence: pl.DataFrame) -> pl.DataFrame:
    """Show the decision on every family with its clearest metric: the one with the smallest adjusted p.

    Args:
        phase1_evidence: table phase1_evidence.

    Returns:
        One row per family: `event_type`, `decision`, `ground`, `n_events`, then of the clearest metric `metric`, `n_matched`,
        `delta`, `ci_low`, `ci_high` and `p_family` (all null where no metric was tested), and `reason`.

    Knows:
        what phase1_evidence knows.
    """
    shown = ("metric", "n_matched", "delta", "ci_low", "ci_high", "p_family")
    clearest = phase1_evidence.sort(
        "p_family", pl.col("z").abs(), "metric", descending=[False, True, False], nulls_last=True
    )
    is_tested = pl.col("p_family").is_not_null()
    return (
        clearest.group_by("event_type", maintain_order=True)
        .agg(
            pl.col("decision", "ground", "n_events").first(),
            *(pl.when(is_tested).then(name).first().alias(name) for name in shown),
            pl.col("reason").first(),
        )
        .sort("event_type")
    )

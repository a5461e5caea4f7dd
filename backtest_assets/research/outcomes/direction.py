"""Which way an event points: outcomes are stored long, who signs them asks here."""

import polars as pl

from backtest_assets.domain.event import EventType


def direction_of_event() -> pl.Expr:
    """Return the side of the rule `long` (families without sides) or `with_event` (the others).

    Returns:
        Expression over `event_type` and `side`: +1, -1, or 0 where a family with sides has an event without one.

    Knows:
        the columns of its row.
    """
    return (
        pl.when(pl.col("event_type").is_in([family for family in EventType if family.is_sided]))
        .then(pl.col("side"))
        .otherwise(pl.lit(1, pl.Int8))
    )

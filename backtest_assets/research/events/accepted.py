"""The event_registry table: the events among the candidates; how a candidate got its fate stays out."""

import polars as pl

from backtest_assets.research.events.definition import IS_ACCEPTED
from backtest_assets.tables.events import EVENT_REGISTRY


def register_events(candidates: pl.DataFrame) -> pl.DataFrame:
    """Keep the accepted candidates: from here on an event is a row, and nobody asks for its fate again.

    Args:
        candidates: rows of `event_candidates`.

    Returns:
        Rows of `event_registry`, of every variant.

    Knows:
        of each row what its candidate knew at `known_at`.
    """
    return EVENT_REGISTRY.conform(candidates.filter(IS_ACCEPTED).select(EVENT_REGISTRY.schema.names()))

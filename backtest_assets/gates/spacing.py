"""Whether events keep their family's declared cooldown, told from their own columns; how they were accepted stays out."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.research.events.registry import FAMILIES

_SERIES: Final = ("variant", "event_type", "symbol")
_SPACINGS: Final = {family: FAMILIES[family].definition.spacing for family in EventType}
_WINDOW: Final = {f.value: s.window_bars * BAR for f, s in _SPACINGS.items() if s.window_bars is not None}
_REST: Final = {f.value: s.rest_bars * BAR for f, s in _SPACINGS.items()}


def too_soon(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events that are known before the one before them set their series free, or end otherwise than declared.

    A family whose events last a fixed time ends them by known_at alone, whatever `exit_at` says; of the others an event
    without `exit_at` has not ended, and nothing may follow it. What is unknown is too soon.

    Args:
        events: accepted rows of `event_candidates`, or rows of `event_registry`.
    """
    ends = pl.col("known_at") + _declared(_WINDOW)
    over = pl.coalesce(ends, "exit_at")
    ordered = events.sort("known_at").with_columns(
        free_from=(over + _declared(_REST)).shift(1).over(_SERIES),
        event_before=pl.col("event_id").shift(1).over(_SERIES),
        number=pl.int_range(pl.len()).over(_SERIES),
    )
    in_time = (pl.col("number") == 0) | (pl.col("known_at") >= pl.col("free_from"))
    ended = pl.when(pl.col("exit_at").is_null()).then(pl.lit(value=True)).otherwise(
        pl.coalesce(pl.col("exit_at") == ends, pl.col("exit_at") > pl.col("known_at"))
    )  # fmt: skip
    named = pl.all_horizontal(pl.col(*_SERIES, "event_id", "known_at").is_not_null())
    kept = (in_time & ended & named & pl.col("event_type").is_in(list(_REST))).fill_null(value=False)
    return ordered.filter(~kept).select(*_SERIES, "event_id", "known_at", "exit_at", "event_before", "free_from")


def _declared(spans: Mapping[str, timedelta]) -> pl.Expr:
    return pl.col("event_type").replace_strict(spans, default=None, return_dtype=pl.Duration("us"))

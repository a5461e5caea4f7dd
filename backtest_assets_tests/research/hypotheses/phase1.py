"""Phase-1 evidence as it is declared, by hand: what the queue reads of it and no more."""

from collections.abc import Iterable, Mapping

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.research.hypotheses.queue.placebos import PHASE1_SCHEMA

METRICS = (
    "realized_vol_bps",
    "range_bps",
    "tail_hit",
    "move_4_bars_bps",
    "move_16_bars_bps",
    "move_48_bars_bps",
    "move_96_bars_bps",
)
HONEST = {
    "n_matched": 200,
    "p_family": 0.15,
    "p_placebo": 0.4,
    "p_shuffled": 0.03,
    "decision": "pass",
    "reason": "an effect",
}
"""A family whose placebos show nothing."""


def phase1_of(
    families: Iterable[str] = tuple(EventType), changed: Mapping[str, Mapping[str, object]] | None = None
) -> pl.DataFrame:
    """One row per family and metric; `changed` gives other numbers to all metrics of a family."""
    rows = [
        {"event_type": str(family), "metric": metric, **HONEST, **(changed or {}).get(str(family), {})}
        for family in families
        for metric in METRICS
    ]
    return pl.DataFrame(rows, schema=PHASE1_SCHEMA)

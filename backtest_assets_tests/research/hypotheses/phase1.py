"""Phase-1 evidence by hand: the decisions and placebos that phase 2 and its queue read; the other numbers say nothing."""

from collections.abc import Iterable, Mapping

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.research.phase1.criteria import METRICS
from backtest_assets.tables.phase1 import PHASE1_EVIDENCE

HONEST = {
    "n_matched": 200,
    "p_family": 0.15,
    "p_placebo": 0.4,
    "shuffled_rejection_share": 10 / 199,
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
    told = pl.DataFrame(rows, schema={name: PHASE1_EVIDENCE.schema[name] for name in ("event_type", "metric", *HONEST)})
    rest = PHASE1_EVIDENCE.sample(1, len(rows)).drop(told.columns)
    return PHASE1_EVIDENCE.conform(pl.concat([rest, told], how="horizontal"))

"""A hypothesis' trades, added up anew from `event_outcomes` one by one: the other road to what research measured at once."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import polars as pl

from backtest_assets.domain.event import SideRule, Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.events.conditions import Condition, attach_conditions

Trade: TypeAlias = tuple[datetime, str, str, float]
"""known_at, symbol, split, net of costs and funding [bps]."""

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Traded:
    """The run's centre events with what their conditions are asked of, and their outcomes by delay and hold."""

    events: pl.DataFrame
    cells: Mapping[tuple[object, ...], pl.DataFrame]
    run: ResearchRun

    @classmethod
    def of(cls, evidence: Evidence) -> "Traded":
        """Read a table's inputs `event_registry`, `market_context` and `event_outcomes`."""
        attached = attach_conditions(evidence.inputs["event_registry"], evidence.inputs["market_context"])
        single = (pl.col("variant") == Variant.CENTRE) & (pl.col("control_no") == 0)
        cells = evidence.inputs["event_outcomes"].filter(single).partition_by("delay_bars", "hold_bars", as_dict=True)
        return cls(attached.filter(pl.col("variant") == Variant.CENTRE), cells, evidence.settings)

    def trades(self, row: Row) -> list[Trade]:
        """Return the trades of a hypothesis' row in the order in which they became known."""
        cell = self.cells.get((row["delay_bars"], row["hold_bars"]))
        if cell is None:
            return []
        members = self.events.filter(pl.col("event_type") == row["event_type"], Condition(row["condition"]).holds)
        own = cell.filter(pl.col("event_id").is_in(members["event_id"].to_list())).sort("known_at", "symbol")
        rule, cost = SideRule(row["side_rule"]), 2 * (self.run.fees_bps + self.run.slippage_bps)
        return [
            (known_at, symbol, split, rule.side(side) * (gross - funding) - cost)
            for known_at, symbol, split, side, gross, funding in own.select(
                "known_at", "symbol", "split", "side", "gross_bps", "funding_bps"
            ).iter_rows()
        ]


def shuffled(rows: Iterable[Row], run: ResearchRun) -> list[Row]:
    """Return rows in the order that the run's digest draws: nobody can choose which are measured again."""
    digest = run.digest
    return sorted(rows, key=lambda row: hashlib.sha256(f"{digest}{row['hypothesis_id']}".encode()).hexdigest())


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan

"""What phase 1 decided about each family. Keep what follows from it out (`criteria`)."""

from collections.abc import Mapping

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import TableError
from backtest_assets.research.phase1.criteria import FamilyDecision


def phase1_decisions(evidence: pl.DataFrame, *, run: ResearchRun) -> Mapping[EventType, str]:
    """Return the decision of every family of a run.

    Args:
        evidence: table phase1_evidence.
        run: gives the families.

    Returns:
        pass, freeze or not_run by family.

    Raises:
        TableError: if a family has no evidence, or not one decision.

    Knows:
        train statistics of the families.
    """
    decided: dict[EventType, str] = {}
    for family in run.event_types:
        found = evidence.filter(pl.col("event_type") == family.value)["decision"].unique().to_list()
        if len(found) != 1 or found[0] not in set(FamilyDecision):
            message = (
                f"table phase1_evidence, run {run.run_id}: {family} has the decisions {sorted(map(str, found))}, one of pass, "
                "freeze and not_run is needed; weigh the families of this run again"
            )
            raise TableError(message)
        decided[family] = str(found[0])
    return decided

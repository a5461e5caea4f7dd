"""What a report is made from: the run's published frames; nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import polars as pl

from backtest_assets.errors import RefusedError, TableError


@dataclass(frozen=True, slots=True)
class Execution:
    """The frames that exist only after the checklist said PROMOTE; each field is named after its table."""

    simulation_ledger: pl.DataFrame
    trades: pl.DataFrame
    backtest_metrics: pl.DataFrame
    walkforward_splits: pl.DataFrame
    walkforward_summary: pl.DataFrame
    walkforward_test: pl.DataFrame
    promotions: pl.DataFrame
    capital_allocation: pl.DataFrame


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """Everything a report says something about.

    Attributes:
        research_run, phase1_evidence, hypotheses, inference_summary, naive_entry, edge_candidates, trial_ledger,
            trial_counts, research_checklist, event_candidates, event_registry, blueprints, strategy_candidates,
            features: their tables.
        bars_um: perpetual bars of the run's symbols; needs `symbol`, `open_at`, `open`, `close`, `is_gap`.
        bars_spot: spot bars likewise; empty where there is no spot market.
        lineage: what was read, one row per `table`, `partition`, `digest`.
        execution: None unless the checklist says PROMOTE.
    """

    research_run: pl.DataFrame
    phase1_evidence: pl.DataFrame
    hypotheses: pl.DataFrame
    inference_summary: pl.DataFrame
    naive_entry: pl.DataFrame
    edge_candidates: pl.DataFrame
    trial_ledger: pl.DataFrame
    trial_counts: pl.DataFrame
    research_checklist: pl.DataFrame
    event_candidates: pl.DataFrame
    event_registry: pl.DataFrame
    blueprints: pl.DataFrame
    strategy_candidates: pl.DataFrame
    features: pl.DataFrame
    bars_um: pl.DataFrame
    bars_spot: pl.DataFrame
    lineage: pl.DataFrame
    execution: Execution | None

    @property
    def decision(self) -> str:
        """The checklist's one decision, PROMOTE, KEEP_RESEARCH or ERROR.

        Raises:
            RefusedError: if the checklist is empty, of two minds, says something else, or does not fit what was run.
        """
        decisions: list[str] = self.research_checklist["decision"].unique().sort().to_list()
        if decisions not in (["PROMOTE"], ["KEEP_RESEARCH"], ["ERROR"]):
            message = (
                f"report: research_checklist decides {decisions or 'nothing'}, not PROMOTE, KEEP_RESEARCH or ERROR; "
                "rebuild research_checklist"
            )
            raise RefusedError(message)
        if (decisions == ["PROMOTE"]) != (self.execution is not None):
            message = (
                f"report: research_checklist says {decisions[0]} but execution was {'' if self.execution else 'not '}run; "
                "rebuild the run from research_checklist on"
            )
            raise RefusedError(message)
        return decisions[0]


def inputs_from(frames: Mapping[str, pl.DataFrame], *, lineage: pl.DataFrame) -> ReportInputs:
    """Gather the inputs from frames by table name.

    Args:
        frames: every research table of `ReportInputs`; the tables of `Execution` all or none.
        lineage: what was read, one row per `table`, `partition`, `digest`.

    Returns:
        The inputs, with `execution` None where none of its tables is there.

    Raises:
        TableError: naming the tables that are missing.

    Knows:
        the whole run, test included: the report is written after every decision.
    """
    executed = {item.name: frames[item.name] for item in fields(Execution) if item.name in frames}
    wanted = [item.name for item in fields(ReportInputs) if item.name not in {"lineage", "execution"}]
    if executed:
        wanted += [item.name for item in fields(Execution)]
    missing = [name for name in wanted if name not in frames]
    if missing:
        message = f"report: tables {', '.join(missing)} are missing; materialise them first"
        raise TableError(message)
    research = {name: frames[name] for name in wanted if name not in executed}
    return ReportInputs(**research, lineage=lineage, execution=Execution(**executed) if executed else None)

"""The report's one way in: a run's frames become rows and a page; nothing is decided here and no clock is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.report.breakdown import breakdown_charts
from backtest_assets.research.report.charts import execution_charts
from backtest_assets.research.report.exports import exports_of
from backtest_assets.research.report.families import phase1_grid
from backtest_assets.research.report.funnel import funnel_rows
from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.measures import performance_grid, walkforward_grid
from backtest_assets.research.report.page import MAX_BYTES, Content, external_references, render
from backtest_assets.research.report.performance import (
    costs_grid,
    equity_frame,
    equity_rows,
    expectancy_grid,
    penalised_floors,
    read_test,
)
from backtest_assets.research.report.quality import coverage_grid, quality_grid
from backtest_assets.research.report.record import (
    allocation_grid,
    blueprint_rows,
    hypotheses_grid,
    inference_grid,
    lineage_grid,
    settings_grid,
    splits_grid,
    strategies_grid,
    trial_counts_grid,
    trial_rows,
)
from backtest_assets.research.report.row import Grid, Part, Row, report_table, rows_of
from backtest_assets.research.report.scatter import hypothesis_charts
from backtest_assets.research.report.study import event_study
from backtest_assets.research.report.verdict import Judgement, checklist_rows, judge, promotion_rows
from backtest_assets.tables.report import PAGE


@dataclass(frozen=True, slots=True)
class Report:
    """A finished report.

    Attributes:
        rows: table `report`.
        html: the page, one self-contained file.
        exports: the runbook's triage files, by name.
    """

    rows: pl.DataFrame
    html: bytes
    exports: Mapping[str, bytes]

    @property
    def files(self) -> Mapping[str, bytes]:
        """The page and its exports, by name."""
        return {PAGE: self.html, **self.exports}


def build_report(inputs: ReportInputs, *, run: ResearchRun) -> Report:
    """Write the report of a run.

    Args:
        inputs: the run's published frames.
        run: the settings they were made with.

    Returns:
        The rows and the page, which shows those rows; equal inputs give equal bytes.

    Raises:
        RefusedError: if the inputs contradict each other or the page would not be self-contained.
        TableError: if a number is infinite or two rows say the same item.

    Knows:
        the whole run, test included: the report is written after every decision.
    """
    judgement = judge(inputs)
    parts: dict[str, Part] = {
        "verdict": judgement.rows(inputs.decision),
        "checklist": checklist_rows(inputs),
        "promotions": promotion_rows(inputs.execution),
        "funnel": funnel_rows(inputs),
        "phase1": phase1_grid(inputs),
        **_execution_parts(inputs, judgement),
        "blueprints": blueprint_rows(inputs, judgement),
        "strategies": strategies_grid(inputs),
        "trials": trial_rows(inputs),
        "trial_counts": trial_counts_grid(inputs),
        "hypotheses": hypotheses_grid(inputs),
        "inference": inference_grid(inputs),
        "quality": quality_grid(inputs, run=run),
        "coverage": coverage_grid(inputs, run=run),
        "splits": splits_grid(inputs, run=run),
        "settings": settings_grid(inputs, run=run),
        "lineage": lineage_grid(inputs),
    }
    expectancy = parts.get("expectancy")
    reading = read_test(expectancy) if isinstance(expectancy, Grid) else None
    if reading is not None:
        parts["verdict"] = (*judgement.rows(inputs.decision), reading)
    shown = rows_of(parts)
    charts = {
        **execution_charts(inputs.execution, run=run),
        **breakdown_charts(inputs.execution),
        **event_study(inputs),
        **hypothesis_charts(inputs),
    }
    html = render(Content(run, judgement, parts, charts, _facts(shown), reading))
    exports = exports_of(inputs, report_table(shown), run=run)
    return Report(report_table((*shown, *_page_rows(html), *_export_rows(exports))), html, exports)


def _execution_parts(inputs: ReportInputs, judgement: Judgement) -> Mapping[str, Part]:
    if inputs.execution is None:
        return {}
    floors_bps = penalised_floors(inputs.blueprints, inputs.hypotheses)
    return {
        "expectancy": expectancy_grid(inputs.execution, judgement, floors_bps=floors_bps),
        "walkforward": walkforward_grid(inputs.execution),
        "performance": performance_grid(inputs.execution),
        "equity": equity_rows(equity_frame(inputs.execution)),
        "costs": costs_grid(inputs.execution),
        "allocation": allocation_grid(inputs.execution),
    }


def _facts(rows: tuple[Row, ...]) -> tuple[tuple[str, Row], ...]:
    """Pick the few numbers an operator asks for first; those the run does not have are left out."""
    found = {(row.section, row.item): row for row in rows}
    wanted = (
        ("Promoted", "verdict", "promoted_blueprints"),
        ("Test expectancy, promoted", "expectancy", "promoted/test/expectancy"),
        ("Test net P&L, promoted", "expectancy", "promoted/test/net_pnl"),
        ("Test expectancy, all executed", "expectancy", "portfolio/test/expectancy"),
        ("Test net P&L, all executed", "expectancy", "portfolio/test/net_pnl"),
        ("Hypotheses tested", "funnel", "eligible"),
        ("Tests made by this run", "hypotheses", "trials"),
        ("Trials of all runs", "trials", "n_trials_all"),
        ("Effective trials of all runs, at most", "trials", "effective_trials_all"),
        ("Deepest drawdown, all executed", "performance", "equity/max_drawdown"),
    )
    return tuple((label, found[section, item]) for label, section, item in wanted if (section, item) in found)


def _page_rows(html: bytes) -> tuple[Row, ...]:
    outside = external_references(html.decode())
    return (
        Row("page", "sha256", hashlib.sha256(html).hexdigest()),
        Row("page", "n_bytes", "", len(html), "bytes", "<=", MAX_BYTES, MAX_BYTES - len(html), is_passed=True),
        Row(
            "page",
            "external_references",
            ", ".join(outside),
            len(outside),
            "references",
            "<=",
            0,
            -len(outside),
            is_passed=not outside,
        ),
    )


def _export_rows(exports: Mapping[str, bytes]) -> tuple[Row, ...]:
    digests = ((name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in exports.items())
    return tuple(Row("page", f"export/{name}", digest, n_bytes, "bytes") for name, digest, n_bytes in digests)

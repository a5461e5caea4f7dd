"""What the run was set to and made from: candidates, rules, splits, settings, lineage; all of it is only listed here."""

from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.research.report.inputs import Execution, ReportInputs
from backtest_assets.research.report.row import Grid, Line, Row
from backtest_assets.research.report.verdict import Judgement
from backtest_assets.research.report.words import hypothesis_label, plain, rule_words
from backtest_assets.tables.hypotheses import TRIAL_COUNTS

TOP = 12
"""Best hypotheses listed beside the selected ones; the table `hypotheses` has them all."""

_EVIDENCE = (
    ("n_train", "Events", "events"),
    ("n_days_train", "Days", "days"),
    ("net_mean_train_bps", "Net mean", "bps per event"),
    ("t_train", "t", "1"),
    ("p_rw", "Adjusted p", "probability"),
    ("net_mean_validation_bps", "Net mean, validation", "bps per event"),
    ("p_validation", "p, validation", "probability"),
)

_ALL_RUNS: Final = {
    "n_trials_all": (
        "Trials",
        (
            "Distinct tests ever made on this lake, over all runs and families, delays and neighbours among them; the same "
            "rule, settings and data count once."
        ),
    ),
    "n_hypotheses_all": ("of them hypotheses", "Those of them that could have been selected."),
    "n_trials_same_data": (
        "of them on the same data",
        "Those of them on the very outcomes that this run tried its own on.",
    ),
    "effective_trials_all": (
        "Effective number of trials, at most",
        (
            "Independent trials whose luckiest shows as much as the luckiest of all these; an upper bound, because searches on "
            "other outcomes are added in full, though windows may overlap."
        ),
    ),
}
"""Columns of `trial_counts` that are the same on every row: label and meaning."""


_ALLOCATED: Final = (
    ("weight", "fraction of capital"),
    ("parity_weight", "fraction of capital"),
    ("kelly_weight", "fraction of capital"),
    ("volatility_annual", "fraction of capital"),
    ("expected_return_annual", "fraction of capital"),
    ("risk_share", "fraction of variance"),
)
"""Columns of capital_allocation that are shown, and their units."""


def hypotheses_grid(inputs: ReportInputs) -> Grid:
    """List the best hypotheses by train t, and every selected one, with every gate each failed.

    Knows:
        train and validation evidence.
    """
    ranked = inputs.hypotheses.sort("t_train", "hypothesis_id", descending=[True, False], nulls_last=True)
    shown = ranked.with_row_index("rank").filter((pl.col("rank") < TOP) | (pl.col("status") == "selected"))
    lines = tuple(
        Line(
            hypothesis_label(
                row["event_type"], row["condition"], row["side_rule"], row["hold_bars"], row["delay_bars"]
            ),
            (
                *(
                    Row("hypotheses", f"{row['hypothesis_id']}/{name}", observed=row[name], unit=unit)
                    for name, _, unit in _EVIDENCE
                ),
                Row("hypotheses", f"{row['hypothesis_id']}/status", _fate(row["status"], row["fail_reasons"])),
            ),
            is_marked=row["status"] == "selected",
        )
        for row in shown.to_dicts()
    )
    return Grid(("Hypothesis", *(head for _, head, _ in _EVIDENCE), "Fate"), lines)


def _fate(status: str, fail_reasons: str) -> str:
    reasons = ", ".join(plain(reason.removeprefix("gate_")) for reason in fail_reasons.split(","))
    return f"{plain(status)}: {reasons}" if fail_reasons else plain(status)


def inference_grid(inputs: ReportInputs) -> Grid:
    """List the numbers that are shown beside the inference and decide nothing.

    Knows:
        train statistics of the tested hypotheses.
    """
    lines = tuple(
        Line(
            plain(row["statistic"]).capitalize(),
            (Row("inference", row["statistic"], observed=row["value"], unit=row["unit"]), row["detail"]),
        )
        for row in inputs.inference_summary.sort("statistic").to_dicts()
    )
    return Grid(("Number", "Value", "What it means here"), lines)


def strategies_grid(inputs: ReportInputs) -> Grid:
    """List the strategy candidates by rank with their scores, what they trade and how to backtest them.

    Knows:
        train and validation, and what was promoted.
    """
    lines = tuple(
        Line(
            row["strategy_candidate_id"],
            (
                plain(row["source"]),
                hypothesis_label(
                    row["event"], row["condition"], row["side_rule"], row["hold_bars"], row["entry_delay_bars"]
                ),
                Row("strategies", row["strategy_candidate_id"], row["score_kind"], row["score"], row["score_unit"]),
                row["score_unit"],
                row["deployment_symbols"] or "none",
                plain(row["not_ready_reason"]) or row["manual_backtest_command"],
            ),
            is_marked=row["source"] == "promoted_blueprint",
        )
        for row in inputs.strategy_candidates.sort("rank").to_dicts()
    )
    head = ("Candidate", "Source", "Rule", "Score", "Unit", "Symbols", "Backtest by hand, or why not")
    return Grid(head, lines)


def allocation_grid(execution: Execution) -> Grid:
    """List what share of capital each promoted blueprint gets, and what is cash.

    Args:
        execution: the frames of an executed run.

    Returns:
        One line per promoted blueprint, best rank first, then cash.

    Knows:
        train and validation, and what was promoted on them.
    """
    rows = execution.capital_allocation.sort("rank", nulls_last=True).to_dicts()
    lines = tuple(
        Line(
            row["blueprint_id"],
            (
                *(Row("allocation", f"{row['blueprint_id']}/{name}", "", row[name], unit) for name, unit in _ALLOCATED),
                row["reason"],
            ),
            is_marked=row["weight"] > 0 and row["rank"] is not None,
        )
        for row in rows
    )
    return Grid(("Blueprint", "Weight", "Equal risk", "Kelly", "Volatility", "Expected", "Share of risk", "Why"), lines)


def blueprint_rows(inputs: ReportInputs, judgement: Judgement) -> tuple[Row, ...]:
    """Return every executed blueprint as a rule in words, the promoted first; every compiled one where none was executed.

    Args:
        inputs: the run's frames.
        judgement: says what was promoted.

    Returns:
        One row per rule; `is_passed` is null where nothing was executed, so nothing was judged.

    Raises:
        SettingsError: if a blueprint's JSON cannot be obeyed.

    Knows:
        the blueprints, fitted on train, and what was promoted.
    """
    is_judged = inputs.execution is not None
    shown = inputs.blueprints.filter("is_executed") if is_judged else inputs.blueprints
    rows = [
        Row(
            "blueprints",
            row["blueprint_id"],
            rule_words(blueprint_from_json(row["spec_json"])),
            is_passed=row["blueprint_id"] in judgement.promoted if is_judged else None,
        )
        for row in shown.sort("rank").to_dicts()
    ]
    return tuple(sorted(rows, key=lambda row: not row.is_passed))


def trial_rows(inputs: ReportInputs) -> tuple[Row, ...]:
    """Count every test ever made by the run, by kind.

    Knows:
        the trial ledger.
    """
    kinds = inputs.trial_ledger.group_by("kind").agg(pl.len().alias("n")).sort("kind").rows()
    return (
        Row("hypotheses", "trials", "Tests ever made by this run", inputs.trial_ledger.height, "trials"),
        *(Row("hypotheses", f"trials/{kind}", f"of kind {kind}", n, "trials") for kind, n in kinds),
    )


def trial_counts_grid(inputs: ReportInputs) -> Grid:
    """Count the trials of all runs of the lake, raw and effective, as the run found them.

    Returns:
        One line per number; one line that says so where no run ever tried anything.

    Raises:
        RefusedError: if the counts are of two minds.

    Knows:
        how often all runs of the lake tried something, and with what luck.
    """
    said = inputs.trial_counts.select(*_ALL_RUNS).unique()
    if said.height > 1:
        message = f"report: trial_counts counts the trials of all runs in {said.height} ways; make trial_counts of this run again"
        raise RefusedError(message)
    head = ("All runs of the lake", "Number", "What it means")
    if said.is_empty():
        never = Row("trials", "none", "No run on this lake ever tried anything: there is nothing to count.")
        return Grid(head, (Line("Trials", (never, "")),))
    (counts,) = said.to_dicts()
    units = {column.name: column.unit for column in TRIAL_COUNTS.columns}
    return Grid(
        head,
        tuple(
            Line(label, (Row("trials", name, meaning, counts[name], units[name]), meaning))
            for name, (label, meaning) in _ALL_RUNS.items()
        ),
    )


def splits_grid(inputs: ReportInputs, *, run: ResearchRun) -> Grid:
    """Lay out the run's split plan.

    Raises:
        RefusedError: if the published plan is not the plan of the settings.

    Knows:
        the calendar only.
    """
    plan = [(w.split.value, w.start, w.last_entry, w.end, w.n_days) for w in run.splits.windows]
    if inputs.execution is not None:
        published = inputs.execution.walkforward_splits.select("split", "start_at", "last_entry_at", "end_at", "n_days")
        if published.sort("start_at").rows() != plan:
            message = (
                "report: walkforward_splits is not the split plan of the run's settings; rebuild walkforward_splits"
            )
            raise RefusedError(message)
    lines = tuple(
        Line(
            split.capitalize(),
            (
                *(
                    Row("splits", f"{split}/{name}", f"{instant:%Y-%m-%d %H:%M}")
                    for name, instant in (("start", start), ("last_entry", last_entry), ("end", end))
                ),
                Row("splits", f"{split}/n_days", observed=n_days, unit="days"),
            ),
        )
        for split, start, last_entry, end, n_days in plan
    )
    return Grid(("", "From (UTC)", "Last entry before", "Until", "Days"), lines)


def settings_grid(inputs: ReportInputs, *, run: ResearchRun) -> Grid:
    """List every setting with its default; those that differ stand out.

    Raises:
        RefusedError: if the frozen settings are not those of `run`.

    Knows:
        the settings.
    """
    frozen = inputs.research_run.sort("setting")
    if frozen["settings_digest"].unique().to_list() != [run.digest]:
        message = f"report: research_run holds settings other than those of run {run.run_id}; rebuild research_run"
        raise RefusedError(message)
    lines = tuple(
        Line(
            row["setting"],
            (Row("settings", row["setting"], row["value_json"]), _default(row["default_json"]), row["about"]),
            is_marked=_default(row["default_json"]) not in {"", row["value_json"]},
        )
        for row in frozen.to_dicts()
    )
    return Grid(("Setting", "Value", "Default", "What it does"), lines)


def _default(default_json: str | None) -> str:
    # A default of null is worked out from other settings, so no value differs from it.
    return "" if default_json in {None, "null"} else str(default_json)


def lineage_grid(inputs: ReportInputs) -> Grid:
    """List what was read: every table and partition with its content digest.

    Knows:
        digests only.
    """
    listed = inputs.lineage.sort("table", "partition").rows(named=True)
    lines = tuple(
        Line(row["table"], (row["partition"], Row("lineage", f"{row['table']} {row['partition']}", row["digest"])))
        for row in listed
    )
    return Grid(("Table", "Partition", "Digest"), lines)

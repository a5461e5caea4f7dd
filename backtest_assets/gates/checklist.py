"""What must be true of the decision of a run: every question answered once, from counts made again."""

from typing import Any, Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.hypotheses.checklist import CHECKLIST, ERROR, KEEP_RESEARCH, PROMOTE
from backtest_assets.research.hypotheses.criteria import EVIDENCE, GATE_NUMBERS


def _ask_rows(evidence: Evidence) -> Verdict:
    rows = evidence.frame["gate"].to_list()
    wrong = set(rows).symmetric_difference(CHECKLIST)
    passed = not wrong and len(rows) == len(CHECKLIST)
    detail = f"rows missing or unknown: {sorted(map(str, wrong))}" if wrong else f"{len(rows)} rows"
    return Verdict("rows_complete", len(rows), len(CHECKLIST), "rows", passed=passed, detail=detail)


def _inconsistent_rows(evidence: Evidence) -> pl.DataFrame:
    passes = (pl.col("observed") >= pl.col("limit")).fill_null(value=False)
    decision = (
        pl.when(pl.col("observed").is_null().any())
        .then(pl.lit(ERROR))
        .when(passes.all())
        .then(pl.lit(PROMOTE))
        .otherwise(pl.lit(KEEP_RESEARCH))
    )
    right = (pl.col("is_passed") == passes) & (pl.col("decision") == decision)
    return broken(evidence.frame, right).select("gate", "observed", "limit", "is_passed", "decision")


def _miscounted_rows(evidence: Evidence) -> pl.DataFrame:
    """Count hypotheses and edge candidates again, row by row, with their limits; an ERROR may only leave counts out."""
    run = evidence.settings
    rows = evidence.inputs["hypotheses"].to_dicts()
    tested = [row for row in rows if row["is_eligible"]]
    admitted = [row for row in tested if row["gate_phase1"]]
    survivors = [row for row in admitted if row["gate_multiplicity"]]
    candidates = evidence.inputs["edge_candidates"].to_dicts()
    evident = [row for row in candidates if row["is_evidence"]]
    counts: dict[str, tuple[float, float]] = {
        "hypotheses_enumerated": (len(rows), 1),
        "eligible_hypotheses": (len(tested), 1),
        "evidence_finite": (sum(all(row[n] is not None for n in EVIDENCE) for row in tested), max(1, len(tested))),
        "phase1_passed": (len(admitted), 1),
        "multiplicity_survivors": (len(survivors), 1),
        "validation_confirmed": (sum(row["gate_validation"] for row in survivors), 1),
        "selected_hypotheses": (sum(all(row[name] for name in GATE_NUMBERS) for row in tested), 1),
        "edge_candidates_generated": (len(candidates), run.min_edge_candidates),
        "promoted_edge_candidates": (
            sum(row["fail_reasons"] == "" and row["status"] == "PROMOTED" for row in candidates),
            run.min_promoted_candidates,
        ),
        "expectancy_exists": (bool(evident), run.require_expectancy_exists),
        "expectancy_evidence_count": (len(evident), run.min_expectancy_evidence),
        "robust_survivor_count": (sum(row["is_robust"] for row in evident), run.min_robust_survivors),
        "stability_pass": (any(row["is_stable"] for row in evident), run.require_stability_pass),
        "capacity_pass": (any(row["has_capacity"] for row in evident), run.require_capacity_pass),
    }
    wrong = [not _is_counted(row, counts) for row in evidence.frame.to_dicts()]
    return evidence.frame.filter(pl.Series(wrong)).select("gate", "observed", "limit")


def _is_counted(row: dict[str, Any], counts: dict[str, tuple[float, float]]) -> bool:
    if row["gate"] not in counts:
        return False
    count, limit = counts[row["gate"]]
    if row["observed"] is None:
        return row["decision"] == ERROR
    return row["observed"] == float(count) and row["limit"] == float(limit)


def _ask_promote(evidence: Evidence) -> Verdict:
    failed = evidence.frame.filter(~pl.col("is_passed").fill_null(value=False))
    promotes = not evidence.frame.is_empty() and bool(
        (evidence.frame["decision"] == PROMOTE).fill_null(value=False).all()
    )
    why = "; ".join(f"{gate}: {detail}" for gate, detail in failed.select("gate", "detail").iter_rows())
    said = ", ".join(map(str, evidence.frame["decision"].unique().sort()))
    detail = f"{PROMOTE}: execution may run" if promotes else f"{said}: execution stays closed (R80). {why}"
    return Verdict("decision_promote", promotes, 1, "bool", passed=promotes, detail=detail)


GATES_RESEARCH_CHECKLIST: Final = (
    Gate("rows_complete", Severity.ERROR, "Every question of the checklist is answered once.", _ask_rows),
    rows_gate(
        "decision_follows_rows",
        "ERROR if a number is unknown, else PROMOTE if and only if every row passes.",
        _inconsistent_rows,
        fix="decide again",
    ),
    rows_gate(
        "counts_recomputed",
        "Counts and limits equal those of the hypotheses, the edge candidates and the run.",
        _miscounted_rows,
        fix="decide again",
    ),
    Gate("decision_promote", Severity.WARN, "The run may be executed; limit: PROMOTE (R80, R86).", _ask_promote),
)

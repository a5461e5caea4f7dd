"""The decision of a run: PROMOTE lets execution run; KEEP_RESEARCH stops it, so does ERROR, where something is unknown."""

from collections import Counter
from typing import Any, Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.candidates import PROMOTED, TRAP
from backtest_assets.research.hypotheses.criteria import ADMITTED, EVIDENCE, GATE_NUMBERS
from backtest_assets.tables.hypotheses import RESEARCH_CHECKLIST

PROMOTE: Final = "PROMOTE"
KEEP_RESEARCH: Final = "KEEP_RESEARCH"

ERROR: Final = "ERROR"
"""A number the decision needs is unknown, or deciding broke: blocks like KEEP_RESEARCH, and says that nothing was decided."""

FUNNEL: Final = (
    "hypotheses_enumerated",
    "evidence_finite",
    "eligible_hypotheses",
    "phase1_passed",
    "multiplicity_survivors",
    "validation_confirmed",
    "selected_hypotheses",
)
"""What is asked of the hypotheses, in the order in which they are lost."""

QUESTIONS: Final = {
    "edge_candidates_generated": "min_edge_candidates",
    "promoted_edge_candidates": "min_promoted_candidates",
    "expectancy_exists": "require_expectancy_exists",
    "expectancy_evidence_count": "min_expectancy_evidence",
    "robust_survivor_count": "min_robust_survivors",
    "stability_pass": "require_stability_pass",
    "capacity_pass": "require_capacity_pass",
}
"""What is asked of the edge candidates, with the setting that holds the limit (R79)."""

CHECKLIST: Final = (*FUNNEL, *QUESTIONS)


def decide(hypotheses: pl.DataFrame, candidates: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Decide whether a run's hypotheses may be executed.

    Args:
        hypotheses: table hypotheses.
        candidates: table edge_candidates.
        run: gives the limits; names the run in the details.

    Returns:
        Table research_checklist; every row passes if `observed` reaches `limit`. The decision is PROMOTE if all pass, ERROR
        if one is unknown or deciding broke, else KEEP_RESEARCH.

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    try:
        rows = _answer(hypotheses, candidates, run)
    except Exception as error:  # noqa: BLE001  # whatever went wrong while deciding must be a decision: ERROR
        text = f"deciding broke: {type(error).__name__}: {error}; make hypotheses and edge_candidates again"
        rows = [_row(name, None, _limit(name, None, run), text) for name in CHECKLIST]
    if any(row["observed"] is None for row in rows):
        decision = ERROR
    else:
        decision = PROMOTE if all(row["is_passed"] for row in rows) else KEEP_RESEARCH
    table = pl.DataFrame(rows, schema={name: RESEARCH_CHECKLIST.schema[name] for name in rows[0]})
    return RESEARCH_CHECKLIST.conform(table.with_columns(decision=pl.lit(decision)))


def _answer(hypotheses: pl.DataFrame, candidates: pl.DataFrame, run: ResearchRun) -> list[dict[str, Any]]:
    """Return one row per question; `observed` is None where it is unknown."""
    eligible = hypotheses.filter(pl.col("is_eligible"))
    admitted = eligible.filter(pl.col("gate_phase1"))
    survivors = admitted.filter(pl.col("gate_multiplicity"))
    finite = eligible.filter(pl.all_horizontal(pl.col(EVIDENCE).is_finite().fill_null(value=False)))
    counted: dict[str, int] = dict(
        zip(
            FUNNEL,
            (
                hypotheses.height,
                finite.height,
                eligible.height,
                admitted.height,
                survivors.height,
                survivors.filter(pl.col("gate_validation")).height,
                hypotheses.filter(pl.col("status") == "selected").height,
            ),
            strict=True,
        )
    )
    details = _details(hypotheses, counted, run)
    details["multiplicity_survivors"] += _best_of(admitted, "gate_multiplicity")
    details["validation_confirmed"] += _best_of(survivors, "gate_validation")
    told = details | _candidate_details(candidates)
    observed: dict[str, int | None] = {**counted, **_count_candidates(eligible, candidates)}
    if finite.height < eligible.height:
        observed["evidence_finite"] = None
    return [_row(name, observed[name], _limit(name, eligible.height, run), told[name]) for name in CHECKLIST]


def _count_candidates(eligible: pl.DataFrame, candidates: pl.DataFrame) -> dict[str, int | None]:
    """Count the edge candidates; unknown where they are not the survivors of these hypotheses."""
    expected = eligible.filter(pl.col("gate_multiplicity"))["hypothesis_id"].sort().to_list()
    if candidates["candidate_id"].sort().to_list() != expected:
        return dict.fromkeys(QUESTIONS)
    evident = candidates.filter(pl.col("is_evidence"))
    counts = (
        candidates.height,
        candidates.filter(pl.col("status") == PROMOTED).height,
        int(evident.height > 0),
        evident.height,
        evident.filter(pl.col("is_robust")).height,
        int(evident["is_stable"].any()),
        int(evident["has_capacity"].any()),
    )
    return dict(zip(QUESTIONS, counts, strict=True))


def _limit(name: str, n_eligible: int | None, run: ResearchRun) -> float:
    if name in QUESTIONS:
        return float(getattr(run, QUESTIONS[name]))
    return max(1, n_eligible or 0) if name == "evidence_finite" else 1


def _row(name: str, observed: int | None, limit: float, detail: str) -> dict[str, Any]:
    is_bool = QUESTIONS.get(name, "").startswith("require_")
    unit = "bool" if is_bool else "edge candidates" if name in QUESTIONS else "hypotheses"
    number = None if observed is None else float(observed)
    return {
        "gate": name,
        "observed": number,
        "limit": float(limit),
        "unit": unit,
        "is_passed": number is not None and number >= limit,
        "detail": detail,
    }


def describe_best(hypotheses: pl.DataFrame) -> str:
    """Name the tested hypothesis with the largest t and the first gate it fails, with its numbers.

    Args:
        hypotheses: table hypotheses.

    Returns:
        One sentence; says so if none was asked for, or none was tested.

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    if hypotheses.is_empty():
        return "no hypothesis was asked for; the remarks on hypothesis_queue say why"
    tested = hypotheses.filter(pl.col("is_eligible"), pl.col("t_train").is_not_null())
    if tested.is_empty():
        return "no hypothesis had enough events and days to be tested; choose a longer window or more symbols"
    best = _largest_t(tested)
    first = next((gate for gate in GATE_NUMBERS if not best[gate]), None)
    if first is None:
        return f"best candidate {_name(best)} passes every gate"
    return f"best candidate {_name(best)} first fails {first.removeprefix('gate_')}: {_numbers(best, first)}"


def loss_histogram(hypotheses: pl.DataFrame) -> str:
    """Count the tested hypotheses by the first gate they fail.

    Args:
        hypotheses: table hypotheses.

    Returns:
        `gate n` in gate order, or `none` if no tested hypothesis fails.

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    rows = hypotheses.filter(pl.col("is_eligible")).select(*GATE_NUMBERS).to_dicts()
    lost = Counter(next((gate for gate in GATE_NUMBERS if not row[gate]), "") for row in rows)
    shown = ", ".join(f"{gate.removeprefix('gate_')} {lost[gate]}" for gate in GATE_NUMBERS if lost[gate])
    return shown or "none"


def _largest_t(tested: pl.DataFrame) -> dict[str, Any]:
    return tested.sort("t_train", "hypothesis_id", descending=[True, False]).row(0, named=True)


def _name(hypothesis: dict[str, Any]) -> str:
    wait = f" delay {hypothesis['delay_bars']}" if hypothesis["delay_bars"] else ""
    rule = f"{hypothesis['event_type']} {hypothesis['condition']} {hypothesis['side_rule']}{wait}"
    return f"{rule} hold {hypothesis['hold_bars']} (t {hypothesis['t_train']:.2f})"


def _numbers(hypothesis: dict[str, Any], gate: str) -> str:
    return ", ".join(f"{number} {_text(hypothesis[number])}" for number in GATE_NUMBERS[gate])


def _best_of(asked: pl.DataFrame, gate: str) -> str:
    """Name the best of those of whom a gate was asked, with the gate's numbers; nothing where nobody was asked."""
    known = asked.filter(pl.col("t_train").is_not_null())
    if known.is_empty():
        return ""
    best = _largest_t(known)
    answer = "passes" if best[gate] else "fails"
    return f"; the best of the {asked.height}, {_name(best)}, {answer}: {_numbers(best, gate)}"


def _details(hypotheses: pl.DataFrame, observed: dict[str, int], run: ResearchRun) -> dict[str, str]:
    best, lost = describe_best(hypotheses), loss_histogram(hypotheses)
    beyond = hypotheses.filter(pl.col("status") == "beyond_budget").height
    few = hypotheses.filter(~pl.col("is_eligible"))["fail_reasons"].str.split(",").list.first().value_counts(sort=True)
    why = ", ".join(f"{reason} {count}" for reason, count in few.sort("count", "fail_reasons").iter_rows()) or "none"
    enumerated, _, eligible, admitted, survivors, confirmed, selected = observed.values()
    closed = hypotheses.filter(pl.col("phase1_decision") != ADMITTED).unique("event_type").sort("event_type")
    families = ", ".join(" ".join(row) for row in closed.select("event_type", "phase1_decision").iter_rows()) or "none"
    who = f"the hypothesis queue of run {run.run_id} asks for" if run.obeys_queue else f"run {run.run_id} declares"
    left_out = f", {beyond} of them beyond phase2_max_conditions {run.phase2_max_conditions}" if beyond else ""
    return {
        "hypotheses_enumerated": f"{who} {enumerated} hypotheses over {len(run.phase2_families)} families{left_out}",
        "evidence_finite": f"{observed['evidence_finite']} of {eligible} tested hypotheses have every deciding number",
        "eligible_hypotheses": f"{eligible} of {enumerated} were within the budget and had enough events and days; first short of: {why}",
        "phase1_passed": f"{admitted} of {eligible} are of families that passed phase 1; not passed: {families}",
        "multiplicity_survivors": f"{survivors} of {admitted} that passed phase 1 survive multiplicity",
        "validation_confirmed": f"{confirmed} of {survivors} survivors are confirmed on validation",
        "selected_hypotheses": f"{selected} of {eligible} pass every gate; first lost at: {lost}; {best}",
    }


def _candidate_details(candidates: pl.DataFrame) -> dict[str, str]:
    """Say of every question to the edge candidates what stands in the way."""
    n = candidates.height
    evident = candidates.filter(pl.col("is_evidence"))
    robust = evident.filter(pl.col("is_robust")).height
    lost, trapped = _reasons(candidates), {k: v for k, v in _reasons(evident).items() if k.startswith(TRAP)}
    proof = f"{evident.height} of {n} edge candidates earn on train after the multiplicity penalty and on validation"
    return {
        "edge_candidates_generated": f"{n} tested hypotheses survive multiplicity on train",
        "promoted_edge_candidates": f"{candidates.filter(pl.col('status') == PROMOTED).height} of {n} are PROMOTED{_lost_to(lost)}",
        "expectancy_exists": proof,
        "expectancy_evidence_count": proof,
        "robust_survivor_count": f"{robust} of {evident.height} with evidence pass every trap{_lost_to(trapped)}",
        "stability_pass": _best(evident, "stability_proxy", "smallest t without one fifth of train"),
        "capacity_pass": _best(evident, "event_frequency", "events per calendar day"),
    }


def _reasons(candidates: pl.DataFrame) -> dict[str, int]:
    """Count what speaks against edge candidates, the most frequent first."""
    named = (reason for text in candidates["fail_reasons"].to_list() for reason in text.split(",") if reason)
    return dict(Counter(named).most_common())


def _lost_to(reasons: dict[str, int]) -> str:
    named = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    return f"; lost to: {named}" if named else ""


def _best(evident: pl.DataFrame, name: str, what: str) -> str:
    if evident.is_empty():
        return "no edge candidate has evidence"
    return f"largest {what} among {evident.height} edge candidates with evidence: {_text(evident[name].max())}"


def _text(value: Any) -> str:  # noqa: ANN401  # a cell of a row: number, text or null
    return "unknown" if value is None else value if isinstance(value, str) else f"{value:.4g}"

"""The decision of a run: PROMOTE lets execution run, KEEP_RESEARCH stops it and says where the candidates were lost."""

from collections import Counter
from typing import Any, Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.criteria import ADMITTED, EVIDENCE, GATE_NUMBERS
from backtest_assets.tables.hypotheses import RESEARCH_CHECKLIST

PROMOTE: Final = "PROMOTE"
KEEP_RESEARCH: Final = "KEEP_RESEARCH"

CHECKLIST: Final = (
    "hypotheses_enumerated",
    "evidence_finite",
    "eligible_hypotheses",
    "phase1_passed",
    "multiplicity_survivors",
    "validation_confirmed",
    "selected_hypotheses",
)
"""What is asked, in the order in which candidates are lost."""


def decide(hypotheses: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Decide whether a run's hypotheses may be executed.

    Args:
        hypotheses: table hypotheses.
        run: names the run in the details.

    Returns:
        Table research_checklist; every row passes if `observed` reaches `limit`. The decision is PROMOTE if all pass.

    Knows:
        train and validation statistics of the run's hypotheses.
    """
    eligible = hypotheses.filter(pl.col("is_eligible"))
    admitted = eligible.filter(pl.col("gate_phase1"))
    survivors = admitted.filter(pl.col("gate_multiplicity"))
    finite = eligible.filter(pl.all_horizontal(pl.col(EVIDENCE).is_finite().fill_null(value=False)))
    observed: dict[str, int] = dict(
        zip(
            CHECKLIST,
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
    limits = dict.fromkeys(CHECKLIST, 1) | {"evidence_finite": max(1, eligible.height)}
    passed = {name: observed[name] >= limits[name] for name in CHECKLIST}
    decision = PROMOTE if all(passed.values()) else KEEP_RESEARCH
    details = _details(hypotheses, observed, run)
    return RESEARCH_CHECKLIST.conform(
        pl.DataFrame(
            {
                "gate": CHECKLIST,
                "observed": [observed[name] for name in CHECKLIST],
                "limit": [limits[name] for name in CHECKLIST],
                "unit": ["hypotheses"] * len(CHECKLIST),
                "is_passed": [passed[name] for name in CHECKLIST],
                "detail": [details[name] for name in CHECKLIST],
                "decision": [decision] * len(CHECKLIST),
            }
        )
    )


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
    best = tested.sort("t_train", "hypothesis_id", descending=[True, False]).row(0, named=True)
    wait = f" delay {best['delay_bars']}" if best["delay_bars"] else ""
    rule = f"{best['event_type']} {best['condition']} {best['side_rule']}{wait} hold {best['hold_bars']}"
    name = f"{rule} (t {best['t_train']:.2f})"
    first = next((gate for gate in GATE_NUMBERS if not best[gate]), None)
    if first is None:
        return f"best candidate {name} passes every gate"
    numbers = ", ".join(f"{number} {_text(best[number])}" for number in GATE_NUMBERS[first])
    return f"best candidate {name} first fails {first.removeprefix('gate_')}: {numbers}"


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
        "hypotheses_enumerated": f"{who} {enumerated} hypotheses over {len(run.event_types)} families{left_out}",
        "evidence_finite": f"{observed['evidence_finite']} of {eligible} tested hypotheses have every deciding number",
        "eligible_hypotheses": f"{eligible} of {enumerated} were within the budget and had enough events and days; first short of: {why}",
        "phase1_passed": f"{admitted} of {eligible} are of families that passed phase 1; not passed: {families}",
        "multiplicity_survivors": f"{survivors} of {admitted} survive multiplicity; {best}",
        "validation_confirmed": f"{confirmed} of {survivors} survivors are confirmed on validation; {best}",
        "selected_hypotheses": f"{selected} of {eligible} pass every gate; first lost at: {lost}; {best}",
    }


def _text(value: Any) -> str:  # noqa: ANN401  # a cell of a row: number, text or null
    return "unknown" if value is None else value if isinstance(value, str) else f"{value:.4g}"

"""The verdict, its reasons and every gate behind it; the numbers it rests on are measured elsewhere."""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from backtest_assets.research.report.inputs import Execution, ReportInputs
from backtest_assets.research.report.row import Row
from backtest_assets.research.report.words import plain

_WORST = 3
"""Failed gates named in the headline's reason; the gate table has them all."""


class Tone(StrEnum):
    """How the verdict is coloured."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer of the run in words.

    Attributes:
        tone: yes only if something is promoted.
        headline: the verdict in two or three words.
        sentence: the verdict in one plain sentence.
        reasons: what made it so, most important first.
        promoted: blueprint ids, sorted.
        executed: blueprint ids, sorted.
    """

    tone: Tone
    headline: str
    sentence: str
    reasons: tuple[str, ...]
    promoted: tuple[str, ...]
    executed: tuple[str, ...]

    @property
    def in_order(self) -> tuple[str, ...]:
        """The executed blueprints, the promoted first."""
        return (*self.promoted, *(name for name in self.executed if name not in self.promoted))

    def rows(self, decision: str) -> tuple[Row, ...]:
        """Return the verdict as rows."""
        return (
            Row("verdict", "decision", decision),
            Row("verdict", "headline", self.headline),
            Row("verdict", "sentence", self.sentence),
            Row("verdict", "promoted_blueprints", ",".join(self.promoted), len(self.promoted), "blueprints"),
            Row("verdict", "executed_blueprints", ",".join(self.executed), len(self.executed), "blueprints"),
        )


def judge(inputs: ReportInputs) -> Judgement:
    """Say what the run's evidence comes to.

    Args:
        inputs: the run's frames.

    Returns:
        The judgement; promoted only where every gate of a blueprint passed.

    Raises:
        RefusedError: if the checklist gives no clear decision.

    Knows:
        the checklist and the promotions, nothing of the test window.
    """
    decision = inputs.decision
    if inputs.execution is None:
        failed = inputs.research_checklist.filter(~pl.col("is_passed")).sort("gate")
        reasons = tuple(
            f"{plain(gate).capitalize()}: {detail}" for gate, detail in failed.select("gate", "detail").rows()
        )
        sentence = (
            f"{failed.height} of {inputs.research_checklist.height} questions to the candidates were answered no, "
            "so no rule was traded: execution was not run, which is neither a pass nor a failure of it."
        )
        return Judgement(Tone.NO, f"{decision}: nothing to trade", sentence, reasons, (), ())
    return _judge_execution(inputs.execution)


def _judge_execution(execution: Execution) -> Judgement:
    promotions = execution.promotions
    executed: tuple[str, ...] = tuple(promotions["blueprint_id"].unique().sort())
    promoted: tuple[str, ...] = tuple(promotions.filter(pl.col("is_promoted"))["blueprint_id"].unique().sort())
    counts = (
        promotions.filter(~pl.col("is_passed"))
        .group_by("gate")
        .agg(pl.len().alias("n"))
        .sort("n", "gate", descending=[True, False])
        .head(_WORST)
    )
    worst = ", ".join(f"{plain(gate)} (failed by {n})" for gate, n in counts.rows())
    n_rejected = len(executed) - len(promoted)
    reasons = (f"{n_rejected} rejected, most often by {worst}.",) if n_rejected else ()
    if not promoted:
        sentence = (
            f"The checklist said PROMOTE, but none of {len(executed)} executed blueprints kept every promotion gate. "
            "Nothing is to be traded."
        )
        return Judgement(Tone.NO, "Nothing promoted", sentence, reasons, promoted, executed)
    noun = "blueprint" if len(promoted) == 1 else "blueprints"
    sentence = (
        f"{len(promoted)} of {len(executed)} executed blueprints kept every promotion gate on train and validation. "
        "The test window was opened after that decision."
    )
    return Judgement(Tone.YES, f"PROMOTE: {len(promoted)} {noun}", sentence, reasons, promoted, executed)


def checklist_rows(inputs: ReportInputs) -> tuple[Row, ...]:
    """Return every question of the research checklist with its number, limit and margin.

    Knows:
        the research checklist.
    """
    return tuple(
        Row(
            "gates",
            f"research_checklist/{row['gate']}",
            row["detail"],
            row["observed"],
            row["unit"],
            limit=row["limit"],
            margin=_margin(row["observed"], row["limit"], is_passed=row["is_passed"]),
            is_passed=row["is_passed"],
        )
        for row in inputs.research_checklist.sort("gate").to_dicts()
    )


def promotion_rows(execution: Execution | None) -> tuple[Row, ...]:
    """Return every promotion gate of every executed blueprint; none where execution was not run.

    Knows:
        the promotions.
    """
    if execution is None:
        return ()
    return tuple(
        Row(
            "gates",
            f"{row['blueprint_id']}/{row['gate']}",
            f"{row['detail']}. From {row['evidence']}.",
            row["observed"],
            row["unit"],
            row["comparator"],
            row["limit"],
            row["margin"],
            row["is_passed"],
        )
        for row in execution.promotions.sort("blueprint_id", "gate").to_dicts()
    )


def _margin(observed: float | None, limit: float, *, is_passed: bool) -> float | None:
    if observed is None:
        return None
    # The checklist keeps no comparator; the distance is signed by its own answer.
    return abs(observed - limit) if is_passed else -abs(observed - limit)

"""What a report says, held against what is true: rows picked and compared; which rows and which truth stay with the gates."""

from collections.abc import Iterable
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Verdict
from backtest_assets.gates.gate import Evidence, examples_of

TOLERANCE: Final = 1e-9
"""Largest difference between a number of the report and its table [the number's unit]; sums of floats, nothing more."""

MAX_DISAGREEMENTS: Final = 0
"""A report that says anything its tables do not say must not be published [rows]."""


def decision_of(evidence: Evidence) -> str:
    """Return the decision the report and the checklist agree on; anything else has no answer and crashes the gate."""
    (decided,) = evidence.inputs["research_checklist"]["decision"].unique().to_list()
    (said,) = in_section(evidence, "verdict").filter(pl.col("item") == "decision")["text"].to_list()
    if said != decided:
        message = f"the report says {said}, research_checklist {decided}; rebuild the report"
        raise ValueError(message)
    return str(decided)


def in_section(evidence: Evidence, *names: str) -> pl.DataFrame:
    """Return the report's rows of some sections."""
    return evidence.frame.filter(pl.col("section").is_in(names))


def number_of(evidence: Evidence, section: str, item: str) -> float | None:
    """Return the number of one item, None if it is unknown; an item that is not said once crashes the gate."""
    (value,) = in_section(evidence, section).filter(pl.col("item") == item)["observed"].to_list()
    return value


def answer(gate: str, wrong: pl.DataFrame, about: str) -> Verdict:
    """Judge by the rows that are wrong; `about` names what they were held against."""
    detail = (
        f"{wrong.height} of the report's rows differ from {about}; rebuild the report"
        if wrong.height
        else f"agrees with {about}"
    )
    examples = examples_of(wrong, wrong.columns)
    return Verdict(
        gate, wrong.height, MAX_DISAGREEMENTS, "rows", passed=wrong.height == 0, detail=detail, examples=examples
    )


def differing(
    said: pl.DataFrame, truth: pl.DataFrame, numbers: Iterable[str], words: Iterable[str] = ()
) -> pl.DataFrame:
    """Return the items that only one side has, or whose numbers or words differ; null equals null only."""
    both = (
        said.select(truth.columns)
        .join(truth, on="item", how="full", suffix="_true", coalesce=True)
        .with_columns(
            is_said=pl.col("item").is_in(said["item"].to_list()), is_true=pl.col("item").is_in(truth["item"].to_list())
        )
    )
    same = pl.col("is_said") & pl.col("is_true")
    for name in numbers:
        one, other = pl.col(name), pl.col(f"{name}_true")
        same &= (one.is_null() & other.is_null()) | ((one - other).abs() <= TOLERANCE).fill_null(value=False)
    for name in words:
        same &= pl.col(name).eq_missing(pl.col(f"{name}_true"))
    return both.filter(~same.fill_null(value=False)).drop("is_said", "is_true")

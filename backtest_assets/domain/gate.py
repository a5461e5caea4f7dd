"""The answer of a gate; the questions live in gates/."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


class Severity(StrEnum):
    """ERROR is a strictness gate: red means nothing is published. WARN is a remark: red is shown, and blocks nothing."""

    ERROR = "ERROR"
    WARN = "WARN"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate saw.

    Attributes:
        gate: name of the gate.
        observed: the measured number; NaN where nothing could be measured.
        limit: the number it was held against.
        unit: unit of both.
        passed: the answer; a NaN observation never passes.
        detail: one sentence for the operator: what happened and what to do.
        examples: a few offending rows.
        compared: what was looked at, one line per column or family; shown whether red or green.
    """

    gate: str
    observed: float
    limit: float
    unit: str
    passed: bool
    detail: str
    examples: tuple[Mapping[str, Scalar], ...] = field(default=())
    compared: tuple[Mapping[str, Scalar], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.passed and math.isnan(self.observed):
            message = f"gate {self.gate}: an unmeasured value (NaN) cannot pass"
            raise ValueError(message)

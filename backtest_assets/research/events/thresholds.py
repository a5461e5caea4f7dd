"""A number asked of the market when an event is known: `column op value`, its one text and its one answer.

Which of them a family is asked is declared in `asked`; attaching the numbers to events is `conditions`' work.
"""

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

import polars as pl

from backtest_assets.domain.entry import spell
from backtest_assets.errors import SettingsError
from backtest_assets.tables.context import MARKET_CONTEXT

MEASURES: Final = tuple(name for name, dtype in MARKET_CONTEXT.schema.items() if dtype == pl.Float64())
"""The numbers that may be asked: every one of market_context, all of them known at `known_at`."""

RANKS: Final = frozenset(name for name in MEASURES if "_pct_" in name)
"""Those that are ranks in (0, 1]: a tenth more of their events is a tenth of the share beyond, not of the number."""

SHIFT: Final = 0.1
"""How far a threshold is moved to ask whether the edge hangs on it [fraction] (R13)."""

BEFORE: Final = "before_"
"""Prefix of a measure one bar earlier, among the columns of `attach_conditions`."""


class Operator(StrEnum):
    """How a number is asked; what needs a window of its own is refused (X7)."""

    ABOVE = ">"
    FROM = ">="
    BELOW = "<"
    UP_TO = "<="
    EQUAL = "=="
    IN_RANGE = "in_range"
    CROSSES_ABOVE = "crosses_above"
    CROSSES_BELOW = "crosses_below"


REFUSED: Final = {
    "zscore_gt": "a z-score needs a window of its own; ask a measure that is one, as basis_z_96>2",
    "zscore_lt": "a z-score needs a window of its own; ask a measure that is one, as basis_z_96<-2",
}
"""Operators of the users' schema that no single instant can answer, each with what to ask instead."""

_UPPER: Final = frozenset({Operator.ABOVE, Operator.FROM, Operator.CROSSES_ABOVE})
_SPELLED: Final = {
    Operator.ABOVE: "gt",
    Operator.FROM: "ge",
    Operator.BELOW: "lt",
    Operator.UP_TO: "le",
    Operator.EQUAL: "eq",
}
_SHAPE: Final = re.compile(r"(?P<column>[a-z]\w*)(?P<operator>>=|<=|==|>|<| [a-z_]+ )(?P<value>[^\s.]\S*)")
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measure, how it is asked, and the number it is held against.

    Attributes:
        column: one of `MEASURES`.
        operator: how.
        value: the number [the measure's unit]; the lower end of `in_range`.
        high: the upper end of `in_range`, inclusive like the lower; None for the others.

    Raises:
        SettingsError: on construction, if the market has no such measure, or a number is missing, not finite or too many.
    """

    column: str
    operator: Operator
    value: float
    high: float | None = None

    def __post_init__(self) -> None:
        is_range = self.operator is Operator.IN_RANGE
        numbers = [self.value] if self.high is None else [self.value, self.high]
        problems = {
            f"there is no {self.column!r} in market_context, there are {', '.join(MEASURES)}": self.column
            not in MEASURES,
            "give finite numbers": not all(map(math.isfinite, numbers)),
            "in_range needs two numbers, every other operator one": is_range is (self.high is None),
            "the range ends below its start": numbers != sorted(numbers),
        }
        if broken := [text for text, is_broken in problems.items() if is_broken]:
            message = f"no threshold {self.column} {self.operator} {self.value}: {'; '.join(broken)}"
            raise SettingsError(message)

    @classmethod
    def of(cls, column: str, operator: str, value: float, high: float | None = None) -> "Threshold":
        """Return the threshold of a condition node.

        Raises:
            SettingsError: if nothing known at one instant answers the operator (X7), or see the class.
        """
        if operator not in set(Operator):
            why = REFUSED.get(operator, f"there are {', '.join(Operator)}")
            message = f"no condition may ask {operator!r} of {column}: {why}"
            raise SettingsError(message)
        return cls(column, Operator(operator), value, high)

    @property
    def text(self) -> str:
        """The one way to write it, for example `rv_pct_2880>=0.8` or `basis_z_96 in_range -1..1`."""
        if self.operator in _SPELLED:
            return f"{self.column}{self.operator}{spell(self.value)}"
        high = "" if self.high is None else f"..{spell(self.high)}"
        return f"{self.column} {self.operator} {spell(self.value)}{high}"

    @property
    def slug(self) -> str:
        """The text in letters, digits and underscores, different for different thresholds."""
        numbers = [self.value] if self.high is None else [self.value, self.high]
        said = [spell(number).replace("-", "m").replace(".", "p").replace("+", "") for number in numbers]
        return "_".join((self.column, _SPELLED.get(self.operator, self.operator.value), *said))

    @property
    def holds(self) -> pl.Expr:
        """Boolean expression over the rows of `attach_conditions`; false where a number it needs is unknown, never null."""
        now, before = pl.col(self.column), pl.col(BEFORE + self.column)
        asked = {
            Operator.ABOVE: now > self.value,
            Operator.FROM: now >= self.value,
            Operator.BELOW: now < self.value,
            Operator.UP_TO: now <= self.value,
            Operator.EQUAL: now == self.value,
            Operator.IN_RANGE: now.is_between(self.value, self.high),
            Operator.CROSSES_ABOVE: (now > self.value) & (before <= self.value) & before.is_finite(),
            Operator.CROSSES_BELOW: (now < self.value) & (before >= self.value) & before.is_finite(),
        }
        return (now.is_finite() & asked[self.operator]).fill_null(value=False)

    @property
    def neighbours(self) -> tuple["Threshold", ...]:
        """The thresholds that let in about a tenth less and a tenth more; none for an equality (R13).

        A number is moved by a tenth of itself; a rank by a tenth of the share that lies beyond it, as the exceedance rate of
        an event is; a range keeps its middle and changes its width.
        """
        if self.operator is Operator.EQUAL:
            return ()
        if self.high is not None:
            middle, half = (self.value + self.high) / 2, (self.high - self.value) / 2
            return tuple(self._moved(middle - half * k, middle + half * k) for k in (1 - SHIFT, 1 + SHIFT))
        if self.column in RANKS and self.operator in _UPPER:
            return tuple(self._moved(1 - (1 - self.value) * k) for k in (1 - SHIFT, 1 + SHIFT))
        return tuple(self._moved(self.value * k) for k in (1 - SHIFT, 1 + SHIFT))

    def _moved(self, value: float, high: float | None = None) -> "Threshold":
        return replace(self, value=round(value, _DIGITS), high=None if high is None else round(high, _DIGITS))


@lru_cache(maxsize=1024)
def threshold_of(text: str) -> Threshold | None:
    """Read a threshold from its text.

    Args:
        text: for example `rv_pct_2880>=0.8`.

    Returns:
        The threshold; None if the text does not have the form of one.

    Knows:
        its argument.

    Raises:
        SettingsError: if it has the form and cannot be asked, or is written in another way than the one.

    >>> threshold_of("rv_pct_2880>=0.8").neighbours[0].text, threshold_of("session_us")
    ('rv_pct_2880>=0.82', None)
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    operator, ends = shape["operator"].strip(), shape["value"].split("..")
    try:
        numbers = [float(end) for end in ends]
    except ValueError:
        numbers = []
    if len(numbers) not in {1, 2}:
        message = f"no threshold {text!r}: {shape['value']!r} is neither a number nor a range as 0.2..0.8"
        raise SettingsError(message)
    threshold = Threshold.of(shape["column"], operator, *numbers)
    if threshold.text != text:
        message = f"threshold {text!r} is not written in the one way there is; write {threshold.text!r}"
        raise SettingsError(message)
    return threshold

"""The leaves of a report: a row is one thing said, a grid is rows laid out side by side; what they say stays out."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from backtest_assets.errors import TableError
from backtest_assets.tables.report import REPORT


@dataclass(frozen=True, slots=True)
class Row:
    """One thing the report says; the columns of table `report` without its position.

    Raises:
        TableError: on construction, if a number is infinite.
    """

    section: str
    item: str
    text: str = ""
    observed: float | None = None
    unit: str = "text"
    comparator: str = ""
    limit: float | None = None
    margin: float | None = None
    is_passed: bool | None = None

    def __post_init__(self) -> None:
        for name in ("observed", "limit", "margin"):
            value: float | None = getattr(self, name)
            if value is None:
                continue
            if math.isinf(value):
                message = f"report: {name} of {self.section}/{self.item} is infinite; mend the table it comes from"
                raise TableError(message)
            object.__setattr__(self, name, None if math.isnan(value) else float(value) + 0.0)  # no -0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a grid: its name, its cells (rows, or words that are no evidence) and whether it stands out."""

    label: str
    cells: tuple[Row | str, ...]
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of the page: column heads (the first is over the labels) and lines."""

    head: tuple[str, ...]
    lines: tuple[Line, ...]

    def rows(self) -> Iterator[Row]:
        """Give every row of the grid, line by line."""
        return (cell for line in self.lines for cell in line.cells if isinstance(cell, Row))


Part = Grid | tuple[Row, ...]
"""A named part of the page."""


def rows_of(parts: Mapping[str, Part]) -> tuple[Row, ...]:
    """Return every row of the parts in the page's order."""
    return tuple(row for part in parts.values() for row in (part.rows() if isinstance(part, Grid) else part))


def report_table(rows: Iterable[Row]) -> pl.DataFrame:
    """Return the rows as table `report`, numbered in their order.

    Raises:
        TableError: if two rows of a section have the same item.
    """
    schema = {name: dtype for name, dtype in REPORT.schema.items() if name != "position"}
    frame = REPORT.conform(pl.DataFrame([asdict(row) for row in rows], schema=schema).with_row_index("position"))
    broken = REPORT.violations(frame)
    if not broken.is_empty():
        message = f"table report: broken rules {broken.to_dicts()}; two parts of the page say the same item"
        raise TableError(message)
    return frame

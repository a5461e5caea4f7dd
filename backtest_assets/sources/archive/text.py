"""Lines of comma separated text to typed columns, with the place of everything refused; what they mean stays out."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from backtest_assets.errors import SourceError

_CELL: Final = (str, int, float)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WHOLE: Final = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one kind of file.

    Attributes:
        columns: the exchange's names and types, in the order of files without a header.
        names: our name of each, where it is not the exchange's.
        synonyms: other names the exchange has used.
        may_be_empty: columns whose cells may be empty; they are null then.
        may_have_no_rows: whether a header alone is a whole file.
    """

    columns: Mapping[str, pl.DataType]
    names: Mapping[str, str]
    synonyms: Mapping[str, str]
    may_be_empty: frozenset[str] = frozenset()
    may_have_no_rows: bool = False

    def schema(self, order: Sequence[str]) -> dict[str, pl.DataType]:
        """Return our names and the types of the exchange's columns, in the order they stand in a file."""
        return {self.names.get(name, name): self.columns[name] for name in order}


@dataclass(frozen=True, slots=True)
class Sheet:
    """Typed rows and where they stood.

    Attributes:
        name: file or request, for messages.
        frame: rows in the order received, columns by our names.
        first: number of the first row.
        word: what a row is called there, `line` or `row`.
    """

    name: str
    frame: pl.DataFrame
    first: int = 1
    word: str = "line"

    def refusal(self, culprit: pl.Series, problem: str) -> SourceError:
        """Return the error that names the first row for which `culprit` is true.

        Args:
            culprit: booleans, one per row, at least one true.
            problem: what is wrong and the fix; `{column}` stands for the row's value of that column.
        """
        at = culprit.arg_true()[0]
        values = self.frame.row(at, named=True)
        return SourceError(f"{self.name} {self.word} {self.first + at}: {problem.format(**values)}")

    def check(self, *wrongs: tuple[pl.Expr, str]) -> None:
        """Refuse the rows if one is wrong; all questions are asked in one pass.

        Args:
            wrongs: expression that is true for a wrong row, and the problem as `refusal` takes it.

        Raises:
            SourceError: naming the first row of the first question that finds one.
        """
        found = self.frame.select_seq(wrong.any().alias(str(n)) for n, (wrong, _) in enumerate(wrongs)).row(0)
        for is_found, (wrong, problem) in zip(found, wrongs, strict=True):
            if is_found:
                raise self.refusal(self.frame.select_seq(wrong.alias("wrong")).to_series(), problem)


def read_text(content: bytes, layout: Layout, *, name: str) -> Sheet:
    """Read a file with or without a header line; a header is told by its first character, which is no digit.

    A byte order mark before it and blank lines behind it are no part of it.

    Raises:
        SourceError: naming file, line and fix if the header is not known, a line has another number of cells, a cell is
            empty or no finite number, or there are no rows.
    """
    content = content.removeprefix(_BYTE_ORDER_MARK)
    if content[-2:].isspace():  # else one line end, and no need to copy it all
        content = content.rstrip()
    if not content:
        message = f"{name}: is empty; fetch it again"
        raise SourceError(message)
    if content[:1].isdigit():
        return _read(content, layout, list(layout.columns), Sheet(name, pl.DataFrame()))
    head, _, body = content.partition(b"\n")
    return _read(body, layout, _header(head, layout, name), Sheet(name, pl.DataFrame(), first=2))


def read_json(content: bytes, layout: Layout, *, name: str) -> Sheet:
    """Read a REST answer: a list of rows, each a list in the layout's order or an object with its names.

    Raises:
        SourceError: if the answer is anything else, or as `read_text` does.
    """
    try:
        rows: object = json.loads(content)
    except ValueError as error:
        message = f"{name}: the answer is not JSON ({error}); ask again"
        raise SourceError(message) from error
    if not isinstance(rows, list):
        message = f"{name}: the exchange answered {content[:200]!r} instead of rows"
        raise SourceError(message)
    sheet = Sheet(name, pl.DataFrame(), word="row")
    lines = [_line(row, layout, f"{name} row {number}") for number, row in enumerate(rows, start=1)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON: each row is checked by _line
    if not lines:
        return Sheet(name, pl.Schema(layout.schema(list(layout.columns))).to_frame(), word="row")
    return _read("\n".join(lines).encode(), layout, list(layout.columns), sheet)


def _header(head: bytes, layout: Layout, name: str) -> list[str]:
    found = [cell.strip() for cell in head.decode("utf-8", "replace").split(",")]
    order = [layout.synonyms.get(cell, cell) for cell in found]
    if sorted(order) != sorted(layout.columns):
        message = (
            f"{name} line 1: its header is {','.join(found)[:400]!r}, known is {','.join(layout.columns)}; if the "
            "exchange changed the format, the parser must learn it first"
        )
        raise SourceError(message)
    return order


def _line(row: object, layout: Layout, place: str) -> str:
    if isinstance(row, dict):
        missing = [name for name in layout.columns if name not in row]
        if missing:
            message = (
                f"{place}: has no {', '.join(missing)}; the exchange changed its answer, the parser must learn it first"
            )
            raise SourceError(message)
        row = [row[name] for name in layout.columns]  # pyright: ignore[reportUnknownVariableType]  # JSON: each cell is checked below
    if not isinstance(row, list) or not all(isinstance(cell, _CELL) and not isinstance(cell, bool) for cell in row):  # pyright: ignore[reportUnknownVariableType]  # JSON: that is the check
        message = f"{place}: {str(row)[:200]!r} is no row of texts and numbers; ask again"  # pyright: ignore[reportUnknownArgumentType]  # JSON
        raise SourceError(message)
    return ",".join(str(cell) for cell in row)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # JSON: checked above


def _read(content: bytes, layout: Layout, order: Sequence[str], blank: Sheet) -> Sheet:
    schema = layout.schema(order)
    try:
        frame = pl.read_csv(content, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError as error:
        message = _first_fault(content, schema, blank) or f"{blank.name}: cannot be read ({error}); fetch it again"
        raise SourceError(message) from error
    sheet = Sheet(blank.name, frame, blank.first, blank.word)
    if frame.is_empty() and not layout.may_have_no_rows:
        message = f"{sheet.name}: holds no rows; fetch it again"
        raise SourceError(message)
    counts = zip(frame.schema, frame.null_count().row(0), strict=True)
    empty = [column for column, n_null in counts if n_null and column not in layout.may_be_empty]
    floats = [column for column, dtype in schema.items() if dtype.is_float()]
    sheet.check(
        *((pl.col(column).is_null(), f"{column} is empty or missing; fetch it again") for column in empty),
        *(
            (~pl.col(column).is_finite(), f"{column} is {{{column}}}, not a number; fetch it again")
            for column in floats
        ),
    )
    # Polars takes the cells that a short line lacks for empty, and those that must not be were found above.
    if layout.may_be_empty and content.count(b",") != frame.height * (len(schema) - 1):
        message = _first_fault(content, schema, blank) or f"{sheet.name}: its lines differ in cells; fetch it again"
        raise SourceError(message)
    return sheet


def _first_fault(content: bytes, schema: Mapping[str, pl.DataType], blank: Sheet) -> str | None:
    # Only for the message: slow, line by line, over a file that is refused anyway.
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=blank.first):
        place, cells = f"{blank.name} {blank.word} {number}", line.split(",")
        if len(cells) != len(schema):
            return f"{place}: has {len(cells)} cells, not {len(schema)}; fetch it again"
        for (column, dtype), cell in zip(schema.items(), cells, strict=True):
            if dtype.is_numeric() and cell and not _is_number(cell, whole=dtype.is_integer()):
                return (
                    f"{place}: {column} is {cell[:40]!r}, not a {'whole ' * dtype.is_integer()}number; fetch it again"
                )
    return None


def _is_number(cell: str, *, whole: bool) -> bool:
    if whole:
        return _WHOLE.fullmatch(cell.strip()) is not None and -(2**63) <= int(cell) < 2**63
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()  # Python takes 1_000 for a number

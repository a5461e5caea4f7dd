"""What a table is: typed columns with units, a key, an order and row rules; storage and gates stay out."""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import polars as pl

from backtest_assets.errors import TableError
from backtest_assets.stages import Stage

INSTANT: Final = pl.Datetime("us", "UTC")
SCHEMA_VERSION: Final = 1
_SAMPLE_START_US: Final = 1_704_067_200_000_000  # 2024-01-01, any quiet day would do
_SAMPLE_STEP_US: Final = 900_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: with its unit as suffix where it has one.
        dtype: Polars type; instants are microseconds UTC.
        unit: unit in words ("bps", "UTC", "text", "1" for a pure number).
        about: what it says, one line.
        nullable: whether null may stand for "not known".
        sample: lowest and highest value that `Table.sample` draws.
    """

    name: str
    dtype: pl.DataType
    unit: str
    about: str
    nullable: bool = False
    sample: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A truth about every row; `holds` is a boolean expression, null counts as broken."""

    name: str
    holds: pl.Expr


@dataclass(frozen=True, slots=True)
class Table:
    """The contract of one table.

    Attributes:
        name: asset, folder and view name.
        stage: stop on the data's path.
        layer: "market" is partitioned by symbol and month, "research" by run_id.
        key: columns that name a row; also the stored order.
        columns: in stored order.
        rules: hold for every row.
        about: one line for the operator.
        schema: column names and types in stored order.
    """

    name: str
    stage: Stage
    layer: Literal["market", "research"]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    about: str
    rules: tuple[Rule, ...] = field(default=())
    schema: pl.Schema = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        schema = pl.Schema({column.name: column.dtype for column in self.columns})
        object.__setattr__(self, "schema", schema)  # built once: it is asked for several times per partition

    def empty(self) -> pl.DataFrame:
        """Return the table without rows."""
        return self.schema.to_frame()

    def conform(self, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Bring a frame to the contract's columns, types and order; values are never changed.

        Integer and float columns may widen losslessly; anything else must match.

        Raises:
            TableError: naming the table and the columns that are missing, unknown or of the wrong type.
        """
        eager = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
        if eager.schema == self.schema:
            return eager.sort(self.key, maintain_order=True)
        missing = [name for name in self.schema if name not in eager.columns]
        unknown = [name for name in eager.columns if name not in self.schema]
        wrong = [
            f"{name} is {eager.schema[name]}, not {dtype}"
            for name, dtype in self.schema.items()
            if name in eager.columns and not _widens(eager.schema[name], dtype)
        ]
        if missing or unknown or wrong:
            message = (
                f"table {self.name}: missing columns {missing}, unknown columns {unknown}, wrong types {wrong}; "
                f"the contract is tables/{self.stage.value}.py"
            )
            raise TableError(message)
        return eager.select(pl.col(name).cast(dtype) for name, dtype in self.schema.items()).sort(
            self.key, maintain_order=True
        )

    def widen(self, stored: pl.DataFrame) -> pl.DataFrame:
        """Give rows that were stored under an older contract the nullable columns that it gained since, as null.

        For tables that only grow: their old rows cannot be made again. Whatever else differs is `conform`'s to refuse.
        """
        gained = [column for column in self.columns if column.nullable and column.name not in stored.columns]
        return stored.with_columns(pl.lit(None, column.dtype).alias(column.name) for column in gained)

    def violations(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Count the rows that break each rule of a conformed frame.

        Returns:
            One row per broken rule: `rule`, `n_rows`, `first_row` (position); empty if all hold. Built-in rules are
            `null_in:<column>`, `not_finite:<column>` and `key_unique`.
        """
        broken = [(rule, frame.select(~rule.holds.fill_null(value=False)).to_series()) for rule in self._broken(frame)]
        rows = [(rule.name, int(rows.sum()), int(rows.arg_true()[0])) for rule, rows in broken]
        return pl.DataFrame(rows, schema={"rule": pl.String, "n_rows": pl.Int64, "first_row": pl.Int64}, orient="row")

    def _broken(self, frame: pl.DataFrame) -> list[Rule]:
        """Find the rules that some row breaks, each by the cheapest question that can tell."""
        checks = [
            *((_null_rule(c), frame[c.name].null_count() > 0) for c in self.columns if not c.nullable),
            *((_finite_rule(c), _has_infinite(frame[c.name])) for c in self.columns if c.dtype.is_float()),
            (Rule("key_unique", pl.struct(self.key).is_first_distinct()), _has_repeats(frame, self.key)),
        ]
        held = frame.select(rule.holds.fill_null(value=False).all().alias(rule.name) for rule in self.rules)
        return [rule for rule, is_broken in checks if is_broken] + [
            rule for rule in self.rules if not held[rule.name][0]
        ]

    def sample(self, seed: int, n_rows: int = 8) -> pl.DataFrame:
        """Draw a valid random frame: ascending instants, distinct keys, every rule kept.

        Raises:
            TableError: if the columns' sample bounds cannot satisfy the rules.
        """
        rng = np.random.default_rng(seed)
        frame = self.conform(pl.DataFrame([_draw(column, n_rows, rng) for column in self.columns]))
        broken = self.violations(frame)
        if not broken.is_empty():
            message = f"table {self.name}: sample bounds break {broken['rule'].to_list()}; mend them in tables/{self.stage.value}.py"
            raise TableError(message)
        return frame


def _null_rule(column: Column) -> Rule:
    return Rule(f"null_in:{column.name}", pl.col(column.name).is_not_null())


def _finite_rule(column: Column) -> Rule:
    return Rule(f"not_finite:{column.name}", pl.col(column.name).is_finite() | pl.col(column.name).is_null())


def _has_infinite(values: pl.Series) -> bool:
    return not np.isfinite(values.drop_nulls().to_numpy()).all()


def _has_repeats(frame: pl.DataFrame, key: tuple[str, ...]) -> bool:
    return bool(frame.select(key).is_duplicated().any())


def _widens(found: pl.DataType, wanted: pl.DataType) -> bool:
    if found == wanted or found == pl.Null():
        return True
    return (found.is_integer() and (wanted.is_integer() or wanted.is_float())) or (
        found.is_float() and wanted.is_float()
    )


def _draw(column: Column, n_rows: int, rng: np.random.Generator) -> pl.Series:
    low, high = column.sample
    dtype = column.dtype
    values: object
    if isinstance(dtype, pl.Datetime):
        values = [_SAMPLE_START_US + int(low * _SAMPLE_STEP_US) + i * _SAMPLE_STEP_US for i in range(n_rows)]
    elif dtype.is_integer():
        values = rng.integers(int(low), int(high) + 1, n_rows)
    elif dtype.is_float():
        values = rng.uniform(low, high, n_rows)
    elif isinstance(dtype, pl.Boolean):
        values = [low > 0] * n_rows
    elif isinstance(dtype, pl.List):
        return pl.Series(column.name, [list[int]()] * n_rows, dtype=dtype)
    else:
        values = [f"{column.name}_{i}" for i in range(n_rows)]
    return pl.Series(column.name, values).cast(dtype)

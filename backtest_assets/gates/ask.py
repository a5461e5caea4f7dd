"""Two shapes that most gates have: rows that break a rule, and a number held against a limit; the rules stay out.

Both are closed: no rows is red unless the gate says when that is legal, null breaks a rule, NaN keeps no limit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.domain.gate import Scalar, Severity, Verdict
from backtest_assets.domain.limits import describe_limits
from backtest_assets.gates.gate import Evidence, Gate, examples_of
from backtest_assets.stages import Stage

Measured: TypeAlias = tuple[float, str] | tuple[float, str, pl.DataFrame]
"""The number, what it is about, and rows that show it."""

_TOLERANCE: Final = 1e-9  # relative; sums in another order differ by some 1e-13


def never(_: Evidence) -> bool:
    """Say that an empty table is never legal."""
    return False


def rows_gate(
    name: str,
    about: str,
    find: Callable[[Evidence], pl.DataFrame],
    *,
    fix: str,
    severity: Severity = Severity.ERROR,
    may_be_empty: Callable[[Evidence], bool] = never,
) -> Gate:
    """Return a gate that is green when no row breaks a rule.

    Args:
        name: name of the gate.
        about: the rule, one line.
        find: gives the rows that break it.
        fix: what to do about them.
        severity: ERROR blocks.
        may_be_empty: whether a table without rows is legal for this evidence.
    """

    def ask(evidence: Evidence) -> Verdict:
        if evidence.frame.is_empty():
            return empty_verdict(name, "rows", 0, evidence, may_be_empty)
        bad = find(evidence)
        detail = f"{about} Broken by {bad.height} rows, first {_first(bad)}; {fix}" if bad.height else about
        return Verdict(name, bad.height, 0, "rows", passed=bad.is_empty(), detail=detail, examples=_shown(bad))

    return Gate(name, severity, f"{about} Limit: 0 rows.", ask)


def limit_gate(
    name: str,
    about: str,
    measure: Callable[[Evidence], Measured],
    *,
    limit: float,
    unit: str,
    fix: str,
    severity: Severity = Severity.ERROR,
    may_be_empty: Callable[[Evidence], bool] = never,
) -> Gate:
    """Return a gate that is green when a measured number is at most its limit.

    Args:
        name: name of the gate.
        about: the question, one line.
        measure: gives the number, what it is about and example rows; NaN is red.
        limit: the largest number that passes.
        unit: unit of both.
        fix: what to do when it is red.
        severity: ERROR blocks.
        may_be_empty: whether a table without rows is legal for this evidence.
    """

    def ask(evidence: Evidence) -> Verdict:
        if evidence.frame.is_empty():
            return empty_verdict(name, unit, limit, evidence, may_be_empty)
        observed, culprit, *shown = measure(evidence)
        passed = observed <= limit  # false for NaN
        detail = f"{about} {culprit}: {observed:.6g} {unit}" + ("" if passed else f"; {fix}")
        examples = _shown(shown[0]) if shown else ()
        return Verdict(name, observed, limit, unit, passed=passed, detail=detail, examples=examples)

    return Gate(name, severity, f"{about} Limit: {limit:g} {unit}.", ask)


def limited_gate(
    name: str,
    about: str,
    measure: Callable[[Evidence], Measured],
    *,
    setting: str,
    fix: str,
    severity: Severity = Severity.ERROR,
) -> Gate:
    """Return a `limit_gate` whose limit is a setting of `MarketLimits`, asked of the evidence, never of this module.

    Args:
        name: name of the gate.
        about: the question, one line.
        measure: gives the number, what it is about and example rows; NaN is red.
        setting: name of the limit; its unit, default and reason are its own.
        fix: what to do when it is red.
        severity: ERROR blocks.
    """
    default, unit, reason = describe_limits()[setting]

    def ask(evidence: Evidence) -> Verdict:
        limit = float(getattr(evidence.limits, setting))
        advice = f"{fix} (limit {limit:g}, setting {setting})"
        return limit_gate(name, about, measure, limit=limit, unit=unit, fix=advice, severity=severity).ask(evidence)

    return Gate(name, severity, f"{about} Limit: {default:g} {unit} unless {setting} says otherwise. {reason}", ask)


def broken(frame: pl.DataFrame, holds: pl.Expr) -> pl.DataFrame:
    """Return the rows for which a rule does not hold; null breaks it."""
    return frame.filter(~holds.fill_null(value=False))


def breaking(holds: Callable[[Evidence], pl.Series], shown: Sequence[str]) -> Callable[[Evidence], pl.DataFrame]:
    """Return the `find` of a rule that each row keeps by itself: the rows that break it, cut down to some columns.

    The rule is asked of series, which costs a tenth of an expression; only where it is broken are rows copied.
    """

    def find(evidence: Evidence) -> pl.DataFrame:
        kept = holds(evidence)
        if kept.null_count() == 0 and kept.all():
            return pl.DataFrame()
        return evidence.frame.select(shown).filter(~kept.fill_null(value=False))

    return find


def differing(left: pl.DataFrame, right: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the keys of rows that are in one frame only, or differ in a value beyond rounding, and how they do.

    Args:
        left: the stored rows.
        right: the rows made again.
        key: names a row.

    Returns:
        The key and `differs`: each column with its stored value and the one made again, or which frame has the row.
    """
    both = left.with_columns(_left=pl.lit(value=True)).join(
        right.with_columns(_right=pl.lit(value=True)), on=list(key), how="full", coalesce=True, nulls_equal=True
    )
    same = {name: _same(name, left.schema[name]) for name in left.columns if name not in key}
    wrong = broken(both, pl.all_horizontal(pl.col("_left"), pl.col("_right"), *same.values()))
    told = [pl.when(~holds.fill_null(value=False)).then(changed(name, f"{name}_right")) for name, holds in same.items()]
    differs = (
        pl.when(pl.col("_left").is_null())
        .then(pl.lit("only when made again"))
        .when(pl.col("_right").is_null())
        .then(pl.lit("only stored"))
        .otherwise(pl.concat_str(told, separator=", ", ignore_nulls=True) if told else pl.lit("null key"))
    )
    return wrong.select(*key, differs=differs)


def changed(stored: str, again: str) -> pl.Expr:
    """Return the text that tells of a column its stored value and the one made again.

    Args:
        stored: the column.
        again: the column that holds what it was made to again.
    """
    values = (pl.col(name).cast(pl.String).fill_null("null") for name in (stored, again))
    return pl.format(f"{stored} {{}} -> {{}}", *values)


def _same(name: str, dtype: pl.DataType) -> pl.Expr:
    mine, other = pl.col(name), pl.col(f"{name}_right")
    equal = mine.eq_missing(other)
    return (equal | ((mine - other).abs() <= _TOLERANCE * (1.0 + mine.abs()))) if dtype.is_float() else equal


def _shown(rows: pl.DataFrame) -> tuple[Mapping[str, Scalar], ...]:
    columns = [column for column in rows.columns if rows.schema[column] != pl.List]
    return examples_of(rows, columns) if rows.height else ()


def _first(rows: pl.DataFrame) -> str:
    """Say one row in a line."""
    return ", ".join(f"{name} {value}" for name, value in _shown(rows)[0].items()) if rows.columns else "unknown"


def empty_verdict(
    name: str, unit: str, limit: float, evidence: Evidence, may_be_empty: Callable[[Evidence], bool] = never
) -> Verdict:
    """Return the verdict on a table without rows: red, unless that is legal for this evidence."""
    if may_be_empty(evidence):
        return Verdict(name, 0, limit, unit, passed=True, detail="no rows, and none were to be expected")
    what = f"table {evidence.table.name} {evidence.partition} has no rows, so nothing could be measured"
    fix = "ingest it from a source that has it, or choose a window without it"
    detail = f"{what}; {fix if evidence.table.stage is Stage.RAW else 'see what it was made from'}"
    return Verdict(name, math.nan, limit, unit, passed=False, detail=detail)

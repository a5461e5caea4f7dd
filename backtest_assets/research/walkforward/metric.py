"""One number about a slice of the ledger, and how such numbers become rows; what is measured stays out."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

EQUITY: Final = "fraction of equity"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about a slice.

    Attributes:
        name: the metric.
        value: None where it is undefined.
        unit: of the value.
        n: observations behind it.
    """

    name: str
    value: float | None
    unit: str
    n: int


def known(value: float) -> float | None:
    """Return a number, or None for NaN and infinity: what is undefined is null in a table."""
    return float(value) if np.isfinite(value) else None


def tidy(rows: list[tuple[dict[str, object], Metric]]) -> pl.DataFrame:
    """Return one row per metric: the given columns, then `metric`, `value`, `unit`, `n`."""
    return pl.DataFrame(
        [{**named, "metric": m.name, "value": m.value, "unit": m.unit, "n": m.n} for named, m in rows],
        schema_overrides={"value": pl.Float64, "n": pl.Int64},
        infer_schema_length=None,
    )

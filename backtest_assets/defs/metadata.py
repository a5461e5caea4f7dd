"""What the UI shows with a materialisation and with a verdict: facts, tags and small tables; when it is recorded stays in `publish`."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import dagster as dg
import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun
from backtest_assets.lake.publication import Publication

RUN_CLASS: Final = "run_class"
"""What says with everything a run makes whether it is production or diagnostic."""
MAX_SHOWN: Final = 200
"""Rows of a table in a materialisation's metadata: every event of the log is read whole, and lists are for SQL."""


def publication_facts(publication: Publication) -> dict[str, str | int | dg.MetadataValue]:
    """Return what was published, from what, and the notes of its manifest."""
    consumed = [{"table": i.table, "partition": i.partition, "digest": i.digest} for i in publication.inputs]
    return {
        **without_origins(publication.notes),  # first: no note of a source takes the place of a fact
        "dagster/row_count": publication.n_rows,
        "digest": publication.digest,
        "publication": publication.publication_id,
        "inputs": dg.MetadataValue.json(consumed),
    }


def class_of(run: ResearchRun) -> Mapping[str, str]:
    """Say on everything a run makes whether its strict rules held (R78, R84, R90)."""
    return {RUN_CLASS: run.run_class, "non_production_overrides": ",".join(run.non_production_overrides)}


def class_tags(notes: Mapping[str, str]) -> dict[str, str]:
    """Tag what a run makes with its class, by which the UI filters; nothing for the market layer."""
    return {f"backtest_assets/{RUN_CLASS}": notes[RUN_CLASS]} if RUN_CLASS in notes else {}


def tables_of(shown: Mapping[str, pl.DataFrame]) -> dict[str, dg.MetadataValue]:
    """Return small tables as the UI shows them; what is too long for an event says how many rows it leaves out."""
    told: dict[str, dg.MetadataValue] = {}
    for name, frame in shown.items():
        schema = dg.TableSchema([dg.TableColumn(column, str(dtype)) for column, dtype in frame.schema.items()])
        told[name] = dg.MetadataValue.table(_records(frame.head(MAX_SHOWN).iter_rows(named=True)), schema=schema)
        if frame.height > MAX_SHOWN:
            told[f"{name}_left_out"] = dg.MetadataValue.int(frame.height - MAX_SHOWN)
    return told


def _records(rows: Iterable[Mapping[str, object]]) -> list[dg.TableRecord]:
    return [dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in rows]


def without_origins(notes: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out the origins: they are rows of `coverage`, and would make every event long."""
    return {name: text for name, text in notes.items() if name != "origins"}


def verdict_facts(verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """Return what a verdict measured, with its example rows."""
    facts: dict[str, dg.MetadataValue] = {
        "observed": _number(verdict.observed),
        "limit": _number(verdict.limit),
        "unit": dg.MetadataValue.text(verdict.unit),
    }
    for name, rows in (("examples", verdict.examples), ("compared", verdict.compared)):
        if rows:
            facts[name] = dg.MetadataValue.table(_records(rows))
    return facts


def _number(value: float) -> dg.MetadataValue:
    return dg.MetadataValue.float(float(value)) if math.isfinite(value) else dg.MetadataValue.text(str(value))


def _plain(value: object) -> str | float | int | bool | None:
    if isinstance(value, float) and math.isnan(value):  # NaN is not valid JSON
        return "NaN"
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, (str, float, int, bool)) or value is None else str(value)


def severity_of(severity: Severity) -> dg.AssetCheckSeverity:
    """Return the severity as Dagster names it."""
    return dg.AssetCheckSeverity[severity.value]

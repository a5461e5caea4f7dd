"""Every executed blueprint against every promotion gate; the default is rejected."""

import math
from collections.abc import Iterator, Mapping

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.promotions.criteria import CRITERIA, ENOUGH_TRADES, PRODUCTION, Criterion
from backtest_assets.tables.promotions import PROMOTIONS

_Values = Mapping[tuple[str, str, str], float | None]


def promote(summary: pl.DataFrame, blueprints: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Decide which executed blueprints are promoted.

    Args:
        summary: table walkforward_summary.
        blueprints: table blueprints; executed rows are judged.
        run: settings; the limits.

    Returns:
        Table promotions: one row per executed blueprint and criterion, its own least trades, and the class of the run. What is null or missing in the summary fails with
        "insufficient evidence"; a blueprint is promoted if every one of its gates passed.

    Knows:
        train and validation, never test.
    """
    values: _Values = {
        (row["blueprint_id"], row["split"], row["metric"]): row["value"] for row in summary.iter_rows(named=True)
    }
    executed = blueprints.filter("is_executed").sort("rank", "blueprint_id")["spec_json"]
    specs = [blueprint_from_json(text) for text in executed]
    rows = [row for spec in specs for row in (*_judged(spec.blueprint_id, values, run), *_own(spec, values, run))]
    judged = pl.DataFrame(rows, schema={k: v for k, v in PROMOTIONS.schema.items() if k != "is_promoted"})
    return PROMOTIONS.conform(judged.with_columns(is_promoted=pl.col("is_passed").all().over("blueprint_id")))


def _judged(name: str, values: _Values, run: ResearchRun) -> Iterator[dict[str, object]]:
    for criterion in CRITERIA:
        limit = criterion.limit_for(run)
        found = {split: values.get((name, split.value, criterion.metric)) for split in (Split.TRAIN, Split.VALIDATION)}
        train, validation = (math.nan if value is None else value for value in found.values())
        is_known = math.isfinite(train) and math.isfinite(validation)
        worst = criterion.worst(train, validation) if is_known else math.nan
        yield {
            "blueprint_id": name,
            "gate": criterion.gate,
            "observed": worst if is_known else None,
            "limit": limit,
            "comparator": criterion.comparator,
            "unit": criterion.unit,
            "margin": criterion.margin(worst, limit) if is_known else None,
            "is_passed": is_known and criterion.holds(worst, limit),
            "detail": _detail(criterion, found),
        }


def _own(spec: Blueprint, values: _Values, run: ResearchRun) -> Iterator[dict[str, object]]:
    """Yield the gates that are no criterion of a metric: what the blueprint asks of itself, and what the run is."""
    counts = [values.get((spec.blueprint_id, split.value, "n_trades")) for split in (Split.TRAIN, Split.VALIDATION)]
    n_trades = None if None in counts else sum(count for count in counts if count is not None)
    least, overrides = float(spec.evaluation.min_trades), run.non_production_overrides
    traded = (
        "insufficient evidence: n_trades is unknown" if n_trades is None else f"{n_trades:g} on train and validation"
    )
    yield {
        "blueprint_id": spec.blueprint_id,
        "gate": ENOUGH_TRADES,
        "observed": n_trades,
        "limit": least,
        "comparator": ">=",
        "unit": "trades",
        "margin": None if n_trades is None else n_trades - least,
        "is_passed": n_trades is not None and n_trades >= least,
        "detail": f"{traded}; a blueprint that caps and others crowd out was not judged by what it does alone",
    }
    yield {
        "blueprint_id": spec.blueprint_id,
        "gate": PRODUCTION,
        "observed": float(len(overrides)),
        "limit": 0.0,
        "comparator": "<=",
        "unit": "overrides",
        "margin": -float(len(overrides)),
        "is_passed": not overrides,
        "detail": f"{run.run_class} run, overrides: {', '.join(overrides) or 'none'} (R63, R84)",
    }


def _detail(criterion: Criterion, found: Mapping[Split, float | None]) -> str:
    missing = [split.value for split, value in found.items() if value is None or not math.isfinite(value)]
    if missing:
        where = " and ".join(missing)
        return f"insufficient evidence: {criterion.metric} is unknown on {where} ({criterion.rule}); {criterion.reason}"
    seen = ", ".join(f"{split.value} {value:.4g}" for split, value in found.items())
    return f"{criterion.metric}: {seen} ({criterion.rule}); {criterion.reason}"

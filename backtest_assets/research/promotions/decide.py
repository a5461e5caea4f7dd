"""Every executed blueprint against every promotion gate; the default is rejected."""

import math
from collections.abc import Iterator, Mapping

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.promotions.criteria import CRITERIA, Criterion
from backtest_assets.tables.promotions import PROMOTIONS

_Values = Mapping[tuple[str, str, str], float | None]


def promote(summary: pl.DataFrame, blueprints: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Decide which executed blueprints are promoted.

    Args:
        summary: table walkforward_summary.
        blueprints: table blueprints; executed rows are judged.
        run: settings; the limits.

    Returns:
        Table promotions: one row per executed blueprint and criterion. What is null or missing in the summary fails with
        "insufficient evidence"; a blueprint is promoted if every one of its gates passed.

    Knows:
        train and validation, never test.
    """
    values: _Values = {
        (row["blueprint_id"], row["split"], row["metric"]): row["value"] for row in summary.iter_rows(named=True)
    }
    executed = blueprints.filter("is_executed").sort("rank", "blueprint_id")["blueprint_id"]
    rows = [row for name in executed for row in _judged(name, values, run)]
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


def _detail(criterion: Criterion, found: Mapping[Split, float | None]) -> str:
    missing = [split.value for split, value in found.items() if value is None or not math.isfinite(value)]
    if missing:
        where = " and ".join(missing)
        return f"insufficient evidence: {criterion.metric} is unknown on {where} ({criterion.rule}); {criterion.reason}"
    seen = ", ".join(f"{split.value} {value:.4g}" for split, value in found.items())
    return f"{criterion.metric}: {seen} ({criterion.rule}); {criterion.reason}"

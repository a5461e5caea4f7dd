"""Every executed blueprint against every promotion gate; the default is rejected."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.promotions.criteria import (
    CRITERIA,
    DIVERSIFICATION,
    ENOUGH_TRADES,
    MEASURED,
    OWN_SOURCES,
    PRODUCTION,
    Criterion,
)
from backtest_assets.research.promotions.evidence import Found, MeasuredBlueprints, correlation
from backtest_assets.research.promotions.neighbours import OPEN_SPLITS
from backtest_assets.tables.promotions import PROMOTIONS

_Values = Mapping[tuple[str, str, str], float | None]
_Row = dict[str, object]


def promote(
    summary: pl.DataFrame, blueprints: pl.DataFrame, measured: MeasuredBlueprints, *, run: ResearchRun
) -> pl.DataFrame:
    """Decide which executed blueprints are promoted.

    Args:
        summary: table walkforward_summary.
        blueprints: table blueprints; executed rows are judged.
        measured: what else is known of them.
        run: settings; the limits.

    Returns:
        Table promotions: one row per executed blueprint and gate. What is null or missing fails with
        "insufficient evidence"; a blueprint is promoted if every one of its gates passed. Blueprints are asked in the order
        of their rank, and each last whether it doubles one that is promoted.

    Knows:
        train and validation, never test.
    """
    values: _Values = {
        (row["blueprint_id"], row["split"], row["metric"]): row["value"] for row in summary.iter_rows(named=True)
    }
    executed = blueprints.filter("is_executed").sort("rank", "blueprint_id")["spec_json"]
    rows: list[_Row] = []
    promoted: list[str] = []
    for spec in map(blueprint_from_json, executed):
        name = spec.blueprint_id
        own = [
            *(_judged(name, criterion, values, run) for criterion in CRITERIA),
            *(_held(name, one, measured.found.get((name, one.gate), _MISSING), run) for one in MEASURED),
            _own_trades(spec, values),
            _production(name, run),
        ]
        own.append(_held(name, DIVERSIFICATION, _double(name, promoted, measured), run))
        is_promoted = all(row["is_passed"] for row in own)
        promoted += [name] if is_promoted else []
        rows += [row | {"is_promoted": is_promoted} for row in own]
    return PROMOTIONS.conform(pl.DataFrame(rows, schema=PROMOTIONS.schema))


_MISSING: Final = Found(math.nan, "insufficient evidence: it was not measured")


def _judged(name: str, criterion: Criterion, values: _Values, run: ResearchRun) -> _Row:
    """Hold the worse of train and validation in the summary against its limit."""
    found = {split: values.get((name, split.value, criterion.metric)) for split in OPEN_SPLITS}
    train, validation = (math.nan if value is None else value for value in found.values())
    is_known = math.isfinite(train) and math.isfinite(validation)
    worst = criterion.worst(train, validation) if is_known else math.nan
    return _held(name, criterion, Found(worst, _detail(criterion, found)), run)


def _held(name: str, criterion: Criterion, found: Found, run: ResearchRun) -> _Row:
    """Hold a number against its limit; an unknown one fails."""
    limit, is_known = criterion.limit_for(run), math.isfinite(found.observed)
    return {
        "blueprint_id": name,
        "gate": criterion.gate,
        "observed": found.observed if is_known else None,
        "limit": limit,
        "comparator": criterion.comparator,
        "unit": criterion.unit,
        "margin": criterion.margin(found.observed, limit) if is_known else None,
        "is_passed": is_known and criterion.holds(found.observed, limit),
        "detail": found.detail if criterion in CRITERIA else f"{found.detail} ({criterion.rule}); {criterion.reason}",
        "evidence": criterion.source,
    }


def _own_trades(spec: Blueprint, values: _Values) -> _Row:
    """Hold the trades of both splits against what the blueprint asks of itself."""
    counts = [values.get((spec.blueprint_id, split.value, "n_trades")) for split in OPEN_SPLITS]
    n_trades = None if None in counts else sum(count for count in counts if count is not None)
    least = float(spec.evaluation.min_trades)
    traded = (
        "insufficient evidence: n_trades is unknown" if n_trades is None else f"{n_trades:g} on train and validation"
    )
    return {
        "blueprint_id": spec.blueprint_id,
        "gate": ENOUGH_TRADES,
        "observed": n_trades,
        "limit": least,
        "comparator": ">=",
        "unit": "trades",
        "margin": None if n_trades is None else n_trades - least,
        "is_passed": n_trades is not None and n_trades >= least,
        "detail": f"{traded}; a blueprint that caps and others crowd out was not judged by what it does alone",
        "evidence": OWN_SOURCES[ENOUGH_TRADES],
    }


def _production(name: str, run: ResearchRun) -> _Row:
    """Count what the run overrides."""
    overrides = run.non_production_overrides
    return {
        "blueprint_id": name,
        "gate": PRODUCTION,
        "observed": float(len(overrides)),
        "limit": 0.0,
        "comparator": "<=",
        "unit": "overrides",
        "margin": -float(len(overrides)),
        "is_passed": not overrides,
        "detail": f"{run.run_class} run, overrides: {', '.join(overrides) or 'none'} (R63, R84)",
        "evidence": OWN_SOURCES[PRODUCTION],
    }


def _double(name: str, promoted: Sequence[str], measured: MeasuredBlueprints) -> Found:
    """Find the promoted blueprint that earned most on the same days."""
    if not promoted:
        return Found(0.0, "no blueprint of a better rank is promoted, so there is none to double")
    returns = measured.returns
    if missing := [one for one in (name, *promoted) if one not in returns]:
        return Found(math.nan, f"insufficient evidence: the daily returns of {', '.join(missing)} are unknown")
    found = [(correlation(returns[one], returns[name]), one) for one in promoted]
    if any(math.isnan(value) for value, _ in found):
        return Found(math.nan, "insufficient evidence: its daily returns show no scatter")
    value, other = max(found)
    return Found(value, f"largest over {len(promoted)} promoted of a better rank: with {other}")


def _detail(criterion: Criterion, found: Mapping[Split, float | None]) -> str:
    missing = [split.value for split, value in found.items() if value is None or not math.isfinite(value)]
    if missing:
        where = " and ".join(missing)
        return f"insufficient evidence: {criterion.metric} is unknown on {where} ({criterion.rule}); {criterion.reason}"
    seen = ", ".join(f"{split.value} {value:.4g}" for split, value in found.items())
    return f"{criterion.metric}: {seen} ({criterion.rule}); {criterion.reason}"

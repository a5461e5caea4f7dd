"""What must be true of the allocation: caps hold, cash is the rest, and every weight follows from returns counted again.

Daily returns, covariance and caps are counted by other formulas; equal risk and Kelly are held against the conditions that
only the right answer meets, not solved again.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import optimize

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.promotions.allocate import CASH, MIN_ACTIVE_DAYS
from backtest_assets.stats.arrays import FloatArray

TOLERANCE: Final = 1e-9
_OPTIMAL: Final = 1e-6
"""How far a condition of the best weights may be missed, relative to its size: what is left when an iteration ends."""

_YEAR: Final = 365.0
_FIX: Final = "make capital_allocation again from the run's published promotions and ledger"


def _not_adding_up(evidence: Evidence) -> pl.DataFrame:
    weight = pl.col("weight")
    is_one = (weight.sum() - 1.0).abs() <= TOLERANCE
    n_cash = (pl.col("blueprint_id") == CASH).sum()
    return broken(evidence.frame, weight.is_between(0.0, 1.0) & is_one & (n_cash == 1))


def _others_than_promoted(evidence: Evidence) -> pl.DataFrame:
    promoted = evidence.inputs["promotions"].filter("is_promoted").select("blueprint_id").unique()
    ranks = evidence.inputs["blueprints"].select("blueprint_id", own="rank")
    wanted = promoted.join(ranks, on="blueprint_id", how="left").with_columns(is_wanted=True)
    told = evidence.frame.filter(pl.col("blueprint_id") != CASH).with_columns(is_told=True)
    both = told.join(wanted, on="blueprint_id", how="full", coalesce=True)
    return broken(both, pl.col("is_told") & pl.col("is_wanted") & (pl.col("rank") == pl.col("own")))


def _over_caps(evidence: Evidence) -> pl.DataFrame:
    run, weight = evidence.settings, pl.col("weight")
    within = (weight <= run.allocation_max_weight + TOLERANCE) & (
        (weight == 0) | (weight >= run.allocation_min_weight - TOLERANCE)
    )
    return broken(evidence.frame, (pl.col("blueprint_id") == CASH) | within)


def _returns(evidence: Evidence) -> Mapping[str, FloatArray]:
    """Count daily returns on train and validation again, as sums of logarithms."""
    trades = evidence.inputs["trades"].select("trade_id", "split")
    bars = (
        evidence.inputs["simulation_ledger"]
        .join(trades, on="trade_id")
        .group_by("blueprint_id", "split", "open_at")
        .agg(pl.col("net_pnl").sum())
        .group_by("blueprint_id", "split", day=pl.col("open_at").dt.date())
        .agg(pl.col("net_pnl").log1p().sum().exp() - 1.0)
    )
    days: list[tuple[str, Any]] = []
    for split in (Split.TRAIN, Split.VALIDATION):
        window = evidence.settings.splits[split]
        calendar = pl.datetime_range(window.start, window.end, "1d", closed="left", eager=True).dt.date()
        days += [(split.value, day) for day in calendar]
    found: dict[str, FloatArray] = {}
    for name in evidence.frame["blueprint_id"]:
        own = {(split, day): net for _, split, day, net in bars.filter(blueprint_id=name).iter_rows()}
        found[name] = np.array([own.get(day, 0.0) for day in days])
    return found


def _trusted(evidence: Evidence) -> Mapping[str, float]:
    """Return what shrinkage leaves of the mean of each blueprint's hypothesis, NaN where it is unknown."""
    rows = {row["hypothesis_id"]: row for row in evidence.inputs["hypotheses"].to_dicts()}
    found: dict[str, float] = {}
    for text in evidence.inputs["blueprints"]["spec_json"]:
        spec = blueprint_from_json(text)
        own = rows.get(spec.lineage.hypothesis_id, {})
        net, shrunken = own.get("net_mean_train_bps"), own.get("shrunken_excess_mean_train_bps")
        if net is None or shrunken is None:
            found[spec.blueprint_id] = math.nan
        else:
            found[spec.blueprint_id] = 0.0 if net <= 0 else min(max(shrunken, 0.0) / net, 1.0)
    return found


def _covariance(returns: FloatArray) -> FloatArray:
    """Shrink towards one correlation as Ledoit and Wolf write it: pair by pair over the days."""
    n_days, n = returns.shape
    moved = returns - returns.mean(axis=0)
    outer = moved[:, :, None] * moved[:, None, :]
    sample = outer.mean(axis=0)
    if n == 1:
        return sample
    root = np.sqrt(np.diag(sample))
    common = float(np.mean([sample[i, j] / root[i] / root[j] for i in range(n) for j in range(n) if i != j]))
    target = np.array([[sample[i, i] if i == j else common * root[i] * root[j] for j in range(n)] for i in range(n)])
    error = outer - sample
    noise = float((error**2).mean(axis=0).sum())
    along = math.fsum(float((error[:, i, i] ** 2).mean()) for i in range(n))
    for i in range(n):
        for j in range(n):
            if i != j:
                both = error[:, i, j]
                of_i, of_j = float((error[:, i, i] * both).mean()), float((error[:, j, j] * both).mean())
                along += common / 2 * (root[j] / root[i] * of_i + root[i] / root[j] * of_j)
    wide = float(((target - sample) ** 2).sum())
    share = min(max((noise - along) / wide / n_days, 0.0), 1.0) if wide > 0 else 0.0
    return share * target + (1.0 - share) * sample


def _misallocated(evidence: Evidence) -> pl.DataFrame:
    """Return the rows that do not follow from the returns, with what differs."""
    returns, trust = _returns(evidence), _trusted(evidence)
    rows = [row for row in evidence.frame.to_dicts() if row["blueprint_id"] != CASH]
    wrong = {row["blueprint_id"]: _differs_alone(row, returns[row["blueprint_id"]], trust) for row in rows}
    held = [row for row in rows if row["bound_by"] != "refused"]
    if held and not any(wrong.values()):
        together = np.column_stack([returns[row["blueprint_id"]] for row in held])
        wrong |= _differ_together(held, together, trust, evidence)
    told = pl.DataFrame(
        {"blueprint_id": list(wrong), "differs": list(wrong.values())},
        schema={"blueprint_id": pl.String, "differs": pl.String},
    )
    return told.filter(pl.col("differs") != "")


def _differs_alone(row: Mapping[str, Any], returns: FloatArray, trust: Mapping[str, float]) -> str:
    mean = math.fsum(returns) / returns.size
    expected, active = mean * trust.get(row["blueprint_id"], math.nan), int((returns != 0).sum())
    deviation = math.sqrt(math.fsum((day - mean) ** 2 for day in returns) / returns.size)
    is_refused = active < MIN_ACTIVE_DAYS or deviation == 0 or not expected > 0
    said = row["expected_return_annual"]
    same = {
        "n_active_days": row["n_active_days"] == active,
        "volatility_annual": _near(row["volatility_annual"], deviation * math.sqrt(_YEAR)),
        "expected_return_annual": said is None if math.isnan(expected) else _near(said, expected * _YEAR),
        "refusal": (row["bound_by"] == "refused") == is_refused and (not is_refused or row["weight"] == 0),
    }
    return ", ".join(name for name, is_same in same.items() if not is_same)


def _differ_together(
    rows: list[dict[str, Any]], returns: FloatArray, trust: Mapping[str, float], evidence: Evidence
) -> dict[str, str]:
    """Hold parity, Kelly and the weights made of them against what makes them right."""
    run, covariance = evidence.settings, _covariance(returns)
    weight, parity, sizes = (
        np.array([row[name] for row in rows]) for name in ("weight", "parity_weight", "kelly_weight")
    )
    expected = np.array([returns[:, i].mean() * trust[row["blueprint_id"]] for i, row in enumerate(rows)])
    added = parity * (covariance @ parity)
    is_even = (np.abs(added - added.mean()) <= _OPTIMAL * added.mean()) & (abs(parity.sum() - 1.0) <= _OPTIMAL)
    slope = covariance @ sizes / run.allocation_kelly_fraction - expected
    slack = _OPTIMAL * np.abs(expected).max()
    most = run.allocation_max_weight
    is_none, is_full = sizes <= TOLERANCE * most, sizes >= (1.0 - TOLERANCE) * most
    is_best = (sizes >= 0) & (sizes <= most) & (is_none | (slope <= slack)) & (is_full | (slope >= -slack))
    again = _weights(parity, sizes, covariance, evidence)
    told: dict[str, str] = {}
    for i, row in enumerate(rows):
        same = {
            "parity_weight": is_even[i],
            "kelly_weight": is_best[i],
            "weight": abs(again[i] - weight[i]) <= TOLERANCE,
        }
        told[row["blueprint_id"]] = ", ".join(name for name, is_same in same.items() if not is_same)
    return told


def _weights(parity: FloatArray, sizes: FloatArray, covariance: FloatArray, evidence: Evidence) -> FloatArray:
    """Fill up to the cap at one level for all, take what Kelly allows, go to the target, and drop what is too small."""
    run = evidence.settings
    most, total = run.allocation_max_weight, min(1.0, parity.size * run.allocation_max_weight)

    def spare(level: float) -> float:
        return float(np.minimum(most, level * parity).sum()) - total

    full = most / float(parity.min())
    level = full if spare(full) <= 0 else float(optimize.brentq(spare, 0.0, full, xtol=1e-15, rtol=1e-14))
    weights = np.minimum(np.minimum(most, level * parity), sizes)
    deviation = math.sqrt(float(weights @ covariance @ weights) * _YEAR)
    if run.allocation_volatility_target > 0 and deviation > 0:
        scale = min(run.allocation_volatility_target / deviation, run.allocation_volatility_adjustment_cap)
        weights = np.minimum(scale * weights, sizes)
        weights = weights / max(1.0, math.fsum(weights))
    return np.where(weights >= run.allocation_min_weight, weights, 0.0)


def _near(said: float | None, counted: float) -> bool:
    return said is not None and abs(said - counted) <= TOLERANCE * max(1.0, abs(counted))


def _capital_allocated() -> Gate:
    def ask(evidence: Evidence) -> Verdict:
        rows = evidence.frame.filter(pl.col("blueprint_id") != CASH)
        held = rows.filter(pl.col("weight") > 0)
        reasons = ", ".join(f"{row['blueprint_id']}: {row['reason']}" for row in rows.filter(weight=0).to_dicts())
        detail = (
            f"{held['weight'].sum():.1%} of capital in {held.height} blueprints"
            if held.height
            else f"all of it is cash: {reasons or 'nothing is promoted'}"
        )
        return Verdict("capital_allocated", held.height, 1, "blueprints", passed=held.height >= 1, detail=detail)

    about = "At least one promoted blueprint gets capital. Limit: 1 blueprint."
    return Gate("capital_allocated", Severity.WARN, about, ask)


GATES_CAPITAL_ALLOCATION: Final = (
    rows_gate("weights_add_up", "Weights are shares that sum to 1 with one row of cash.", _not_adding_up, fix=_FIX),
    rows_gate("only_promoted", "Every promoted blueprint has its row, no other has.", _others_than_promoted, fix=_FIX),
    rows_gate(
        "allocation_caps_hold",
        "No weight is above allocation_max_weight, none above 0 is below allocation_min_weight.",
        _over_caps,
        fix=_FIX,
    ),
    rows_gate(
        "weights_follow_returns",
        "Returns, equal risk, Kelly and caps, counted again, give the same weights.",
        _misallocated,
        fix=_FIX,
    ),
    _capital_allocated(),
)
"""Inputs: promotions, blueprints, hypotheses, simulation_ledger, trades."""

"""How capital is shared among the promoted blueprints; what is not allocated is cash, and nothing promoted is all cash.

A promoted blueprint gets what equal risk and a fraction of Kelly both allow, within the cap of one: the two speak of
different doubts, correlated losses and edges that are smaller than they look, and neither may be outvoted.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.promotions.evidence import daily_returns
from backtest_assets.stats.allocation import kelly, risk_parity, risk_shares, shrunk_covariance, water_filled
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.tables.promotions import CAPITAL_ALLOCATION

CASH: Final = "cash"
"""Name of the row that holds what is not allocated."""

DAYS_PER_YEAR: Final = 365.0

MIN_ACTIVE_DAYS: Final = 30
"""Days with a position below which the variance of daily returns says nothing about the next [days]."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """A promoted blueprint as capital sees it: returns of train and validation on the capital given to it."""

    spec: Blueprint
    rank: int
    returns: FloatArray
    trust: float

    @property
    def n_active_days(self) -> int:
        return int(np.count_nonzero(self.returns))

    @property
    def volatility(self) -> float:
        """Standard deviation of a day's return [fraction of capital]."""
        return float(self.returns.std())

    @property
    def expected(self) -> float:
        """Mean of a day's return as far as its hypothesis' mean is trusted [fraction of capital]; NaN if unknown."""
        return float(self.returns.mean()) * self.trust

    @property
    def refusal(self) -> str:
        """Say why no capital may go to it, in one word; empty if it may."""
        if self.n_active_days < MIN_ACTIVE_DAYS:
            return "few_days"
        if not self.volatility > 0:
            return "no_volatility"
        if math.isnan(self.expected):
            return "unknown_expectation"
        return "" if self.expected > 0 else "no_expectation"


def allocate(
    promotions: pl.DataFrame,
    blueprints: pl.DataFrame,
    hypotheses: pl.DataFrame,
    ledger: pl.DataFrame,
    trades: pl.DataFrame,
    *,
    run: ResearchRun,
) -> pl.DataFrame:
    """Share the capital among the promoted blueprints.

    Args:
        promotions: table promotions.
        blueprints: table blueprints.
        hypotheses: table hypotheses; the shrunken mean of a blueprint's hypothesis says how far its mean is trusted.
        ledger: table simulation_ledger.
        trades: table trades.
        run: splits, caps and the fraction of Kelly.

    Returns:
        Table capital_allocation: a row per promoted blueprint, best rank first, and one for cash; weights sum to 1.

    Raises:
        SettingsError: if a blueprint's JSON cannot be obeyed.

    Knows:
        train and validation, and what was promoted on them; never test.
    """
    streams = _streams(promotions, blueprints, hypotheses, ledger, trades, run=run)
    open_to = [stream for stream in streams if not stream.refusal]
    shared = _shared(open_to, run=run)
    rows = [_row(stream, shared.get(stream.spec.blueprint_id)) for stream in streams]
    cash = max(1.0 - math.fsum(share.weight for share in shared.values()), 0.0)  # no cash below 0 by rounding
    rows.append({"blueprint_id": CASH, "weight": cash, "bound_by": "", "reason": "what is not allocated"})
    return CAPITAL_ALLOCATION.conform(pl.DataFrame(rows, schema=CAPITAL_ALLOCATION.schema))


def _streams(
    promotions: pl.DataFrame,
    blueprints: pl.DataFrame,
    hypotheses: pl.DataFrame,
    ledger: pl.DataFrame,
    trades: pl.DataFrame,
    *,
    run: ResearchRun,
) -> list[_Stream]:
    promoted = promotions.filter("is_promoted")["blueprint_id"].unique()
    listed = blueprints.filter(pl.col("blueprint_id").is_in(promoted.implode())).sort("rank", "blueprint_id")
    if listed.is_empty():
        return []
    returns = daily_returns(ledger, trades, blueprints, run=run)
    means = {
        name: (shrunken, net)
        for name, shrunken, net in hypotheses.select(
            "hypothesis_id", "shrunken_excess_mean_train_bps", "net_mean_train_bps"
        ).iter_rows()
    }
    return [
        _Stream(spec, rank, returns[spec.blueprint_id], _trust(*means.get(spec.lineage.hypothesis_id, (None, None))))
        for spec, rank in (
            (blueprint_from_json(text), rank) for text, rank in listed.select("spec_json", "rank").iter_rows()
        )
    ]


def _trust(shrunken: float | None, net: float | None) -> float:
    """Return what is left of a mean after shrinkage [fraction]; nothing of a loss, NaN if unknown."""
    if shrunken is None or net is None or not (math.isfinite(shrunken) and math.isfinite(net)):
        return math.nan
    return min(max(shrunken / net, 0.0), 1.0) if net > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Share:
    """What one stream gets, and what each method allows."""

    weight: float
    parity: float
    kelly: float
    bound_by: str
    risk: float


def _shared(streams: list[_Stream], *, run: ResearchRun) -> dict[str, _Share]:
    if not streams:
        return {}
    covariance = shrunk_covariance(np.column_stack([stream.returns for stream in streams])).matrix
    expected = np.array([stream.expected for stream in streams])
    parity, most = risk_parity(covariance), run.allocation_max_weight
    sizes = kelly(expected, covariance, fraction=run.allocation_kelly_fraction, cap=most)
    filled = water_filled(parity, cap=most)
    weights = np.minimum(filled, sizes)
    bound = np.where(sizes < filled, "kelly", np.where(filled >= most, "max_weight", "risk_parity"))
    scaled = _at_target(weights, sizes, covariance, run=run)
    bound = np.where(scaled != weights, "volatility_target", bound)
    kept = np.where(scaled < run.allocation_min_weight, 0.0, scaled)
    bound = np.where(kept < scaled, "min_weight", bound)
    risk = risk_shares(kept, covariance)
    return {
        stream.spec.blueprint_id: _Share(
            float(kept[i]), float(parity[i]), float(sizes[i]), str(bound[i]), float(risk[i])
        )
        for i, stream in enumerate(streams)
    }


def _at_target(weights: FloatArray, sizes: FloatArray, covariance: FloatArray, *, run: ResearchRun) -> FloatArray:
    """Scale weights to the target volatility: by no more than the adjustment's cap, within Kelly, and within capital."""
    volatility = math.sqrt(float(weights @ covariance @ weights) * DAYS_PER_YEAR)
    if run.allocation_volatility_target == 0 or volatility == 0:
        return weights
    factor = min(run.allocation_volatility_adjustment_cap, run.allocation_volatility_target / volatility)
    scaled = np.minimum(weights * factor, sizes)
    return scaled / max(float(scaled.sum()), 1.0)


def _row(stream: _Stream, share: _Share | None) -> dict[str, object]:
    own = {
        "blueprint_id": stream.spec.blueprint_id,
        "rank": stream.rank,
        "volatility_annual": stream.volatility * math.sqrt(DAYS_PER_YEAR),
        "expected_return_annual": None if math.isnan(stream.expected) else stream.expected * DAYS_PER_YEAR,
        "n_active_days": stream.n_active_days,
    }
    if share is None:
        return {**own, "weight": 0.0, "bound_by": "refused", "reason": _REASONS[stream.refusal]}
    return {
        **own,
        "weight": share.weight,
        "parity_weight": share.parity,
        "kelly_weight": share.kelly,
        "risk_share": None if math.isnan(share.risk) else share.risk,
        "bound_by": share.bound_by,
        "reason": _REASONS[share.bound_by],
    }


_REASONS: Final = {
    "few_days": f"held a position on fewer than {MIN_ACTIVE_DAYS} days of train and validation",
    "no_volatility": "its daily returns do not vary",
    "unknown_expectation": "the shrunken mean of its hypothesis is unknown",
    "no_expectation": "nothing is left of its mean after shrinkage",
    "risk_parity": "as much risk as each of the others",
    "kelly": "the fraction of Kelly allows no more",
    "max_weight": "allocation_max_weight allows no more",
    "min_weight": "less than allocation_min_weight is not worth holding",
    "volatility_target": "scaled to allocation_volatility_target",
}

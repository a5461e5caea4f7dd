"""Every promotion gate, once: what is measured, from what, against which limit, and why; applying them stays out."""

from dataclasses import dataclass
from typing import Final, Literal

from backtest_assets.domain.run import ResearchRun

Comparator = Literal["<=", ">=", ">"]

SUMMARY_SOURCE: Final = "walkforward_summary: train and validation, the worse of the two"
"""Where a criterion's number comes from unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One promotion gate.

    Attributes:
        gate: name of the gate.
        metric: what is judged; of `CRITERIA` a metric of table walkforward_summary.
        comparator: how observed is held against the limit.
        limit: name of the run's setting, or a number where no setting exists.
        unit: unit of both.
        rule: the users' rule.
        reason: why the gate exists, one sentence.
        source: tables and splits that the observed number comes from.
    """

    gate: str
    metric: str
    comparator: Comparator
    limit: str | float
    unit: str
    rule: str
    reason: str
    source: str = SUMMARY_SOURCE

    def limit_for(self, run: ResearchRun) -> float:
        """Return the limit in force for a run."""
        return float(getattr(run, self.limit)) if isinstance(self.limit, str) else self.limit

    def worst(self, train: float, validation: float) -> float:
        """Return the value that is harder to pass with."""
        return max(train, validation) if self.comparator == "<=" else min(train, validation)

    def holds(self, observed: float, limit: float) -> bool:
        """Hold an observation against the limit; NaN never holds."""
        if self.comparator == "<=":
            return observed <= limit
        return observed >= limit if self.comparator == ">=" else observed > limit

    def margin(self, observed: float, limit: float) -> float:
        """Return the distance to the limit, positive on the passing side."""
        return limit - observed if self.comparator == "<=" else observed - limit


MIN_TRADES: Final = 10.0
"""Least trades on train and on validation: the validation minimum of a hypothesis, so that nothing is judged on less than
it was found with [trades]."""

CRITERIA: Final = (
    Criterion(
        "evidence",
        "n_trades",
        ">=",
        MIN_TRADES,
        "trades",
        "R91-R93",
        "a blueprint that hardly trades on train or validation has shown nothing",
    ),
    Criterion(
        "stressed_net",
        "stressed_net",
        ">",
        0.0,
        "fraction of equity",
        "R59",
        "an edge that twice the costs destroy is an assumption about costs",
    ),
    Criterion(
        "cost_ratio",
        "cost_ratio",
        "<=",
        "promotion_max_cost_ratio_train_validation",
        "cost per gross profit",
        "R99",
        "where costs eat most of the gross profit a small change in them decides; no gross profit never passes",
    ),
    Criterion(
        "regime_share",
        "max_regime_share",
        "<=",
        "promotion_regime_max_share",
        "fraction of profit",
        "R43, R46, R94",
        "profit that comes from one volatility regime ends with the regime; losses elsewhere are no spread",
    ),
    Criterion(
        "loss_cluster_len",
        "max_loss_cluster_len",
        "<=",
        "promotion_max_loss_cluster_len",
        "trading days",
        "R30, R96",
        "nobody keeps trading through a longer run of losing days",
    ),
    Criterion(
        "cluster_loss_concentration",
        "cluster_loss_concentration",
        "<=",
        "promotion_max_cluster_loss_concentration",
        "fraction of losses",
        "R31, R97",
        "losses that come in few clusters are larger than the sample shows",
    ),
    Criterion(
        "tail_conditional_drawdown",
        "tail_conditional_drawdown",
        ">=",
        "promotion_min_tail_conditional_drawdown_95",
        "fraction of unit capital",
        "R32, R98",
        "the mean of the worst drawdowns on unit capital must be bearable, whatever the position size",
    ),
)
"""All must hold on train and on validation; test is never asked."""

CROSS_SYMBOL: Final = Criterion(
    "cross_symbol_pass_rate",
    "share of symbols with a net above 0",
    ">=",
    "promotion_min_cross_symbol_pass_rate",
    "fraction of symbols",
    "R91, D27",
    "an edge of one symbol among several is that symbol's luck until it is asked alone",
    "trades by symbol: train and validation, the worse of the two",
)
DEFLATED_SHARPE: Final = Criterion(
    "deflated_sharpe",
    "deflated Sharpe ratio",
    ">=",
    "promotion_min_deflated_sharpe",
    "probability",
    "R91, D13",
    "the best of many worthless trials shows a good ratio too",
    "simulation_ledger, days of train and validation together; trial_counts of all runs; hypotheses on train",
)
OVERFITTING: Final = Criterion(
    "overfitting_probability",
    "probability of backtest overfitting",
    "<=",
    "promotion_max_overfitting_probability",
    "probability",
    "R91",
    "a search whose best is forgotten by the other half of the days found nothing to promote",
    "event_outcomes of the tested hypotheses: train and validation together, 10 blocks",
)
NEIGHBOUR_SHARE: Final = Criterion(
    "parameter_neighbourhood",
    "worst neighbour's share of the own net per day",
    ">=",
    "promotion_min_neighbour_share",
    "fraction of own net per day",
    "R91, D36",
    "an edge that a tenth more or less of one number destroys was fitted to that number",
    "blueprint_neighbours: train and validation, the worse of the two",
)
POSITIVE_NEIGHBOURS: Final = Criterion(
    "positive_neighbours",
    "share of neighbours with a net above 0 on both splits",
    ">",
    0.5,
    "fraction of neighbours",
    "R91, D36",
    "most of what lies beside an edge earns too",
    "blueprint_neighbours: train and validation, both",
)
DIVERSIFICATION: Final = Criterion(
    "diversification",
    "largest correlation of daily returns",
    "<=",
    "promotion_max_correlation",
    "correlation",
    "R91",
    "two blueprints that earn on the same days are one; the better one stays",
    "simulation_ledger: days of train and validation together, against every promoted blueprint of a better rank",
)
MEASURED: Final = (CROSS_SYMBOL, DEFLATED_SHARPE, OVERFITTING, NEIGHBOUR_SHARE, POSITIVE_NEIGHBOURS)
"""All must hold too; what they are held against is measured in `evidence`. `DIVERSIFICATION` is asked last."""

ENOUGH_TRADES: Final = "blueprint_min_trades"
"""Gate of a blueprint's own `evaluation.min_trades`, of train and validation together [trades]."""

PRODUCTION: Final = "production_run"
"""Gate of the run: nothing of a diagnostic run is promoted, its strict rules were overridden [overrides] (R84)."""

OWN_SOURCES: Final = {
    ENOUGH_TRADES: "walkforward_summary: train and validation together; blueprints",
    PRODUCTION: "research_run: the frozen settings",
}
"""Where the numbers of the two come from."""

ALL_GATES: Final = (*(one.gate for one in (*CRITERIA, *MEASURED)), ENOUGH_TRADES, PRODUCTION, DIVERSIFICATION.gate)
"""Every gate that each executed blueprint answers."""

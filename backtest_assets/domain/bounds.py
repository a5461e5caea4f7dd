"""What a run's settings may be: their ranges, and which laxer values make a run diagnostic; what they mean stands in `run`."""

import math
from collections.abc import Mapping
from typing import Final

from backtest_assets.errors import SettingsError

PERMISSIONS: Final = (
    "strategy_blueprint_ignore_checklist",
    "strategy_blueprint_allow_fallback",
    "strategy_blueprint_allow_non_executable_conditions",
    "strategy_blueprint_allow_naive_entry_fail",
    "strategy_builder_ignore_checklist",
    "strategy_builder_allow_non_promoted",
    "strategy_builder_allow_missing_candidate_detail",
)
"""Settings that are 0 where the run is strict."""

DEMANDS: Final = (
    "expectancy_capacity_min_events_per_day",
    "require_expectancy_exists",
    "require_stability_pass",
    "require_capacity_pass",
    "run_naive_entry_eval",
    "naive_min_trades",
    "naive_min_expectancy_after_cost",
    "naive_max_drawdown",
)
"""Settings that demand less where they lie below their default."""

OVERRIDES: Final = (*PERMISSIONS, *DEMANDS)
"""Settings whose strict value is their default; a laxer one makes the run diagnostic: never decision grade (R63, R78, R90)."""

CAPS: Final = (
    "max_strategy_exposure",
    "max_symbol_exposure",
    "max_gross_exposure",
    "max_net_exposure",
    "max_new_exposure",
)
"""Settings that cap exposure over all blueprints and symbols; a blueprint's own caps hold beside them."""

_UNBOUNDED: Final = 1e9
RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "universe_top_n": (0, 1000, "give 0 to 1000 symbols"),
    "universe_lookback_days": (1, 90, "give 1 to 90 days, the history before a run's start"),
    "hypothesis_max_fused": (0, 1000, "give 0 to 1000 fused hypotheses"),
    "hypothesis_min_symbol_coverage": (1e-9, 1, "give a share above 0 and up to 1"),
    "phase2_max_conditions": (1, 1000, "give 1 to 1000 conditions"),
    "phase2_min_ess": (1, _UNBOUNDED, "give at least 1 event"),
    "phase2_ess_max_lag": (0, 1000, "give 0 to 1000 lags"),
    "phase2_multiplicity_k": (0, 100, "give 0 to 100"),
    "phase2_parameter_curvature_max_penalty": (0, 100, "give 0 to 100"),
    "phase2_min_delay_positive_ratio": (0, 1, "give a share of 0 to 1"),
    "phase2_min_delay_robustness_score": (0, 1, "give a score of 0 to 1"),
    "expectancy_capacity_min_events_per_day": (1e-9, 1000, "give more than 0 and up to 1000 events per day"),
    "min_edge_candidates": (1, _UNBOUNDED, "give at least 1 edge candidate"),
    "min_promoted_candidates": (1, _UNBOUNDED, "give at least 1 edge candidate"),
    "require_expectancy_exists": (0, 1, "give 1 to require it, 0 for a diagnostic run without it"),
    "min_expectancy_evidence": (1, _UNBOUNDED, "give at least 1 edge candidate"),
    "min_robust_survivors": (1, _UNBOUNDED, "give at least 1 edge candidate"),
    "require_stability_pass": (0, 1, "give 1 to require it, 0 for a diagnostic run without it"),
    "require_capacity_pass": (0, 1, "give 1 to require it, 0 for a diagnostic run without it"),
    "run_naive_entry_eval": (0, 1, "give 1 to evaluate, 0 for a diagnostic run without it"),
    "naive_min_trades": (1, _UNBOUNDED, "give at least 1 trade"),
    "naive_min_expectancy_after_cost": (-1, 1, "give a fraction of notional of -1 to 1"),
    "naive_max_drawdown": (-1, 0, "give a drawdown of -1 to 0"),
    "strategy_blueprint_max_per_event": (1, 2, "give 1 or 2: a family has two sides, and the best of each is compiled"),
    **dict.fromkeys(PERMISSIONS, (0, 1, "give 0 for the strict rule, 1 for a diagnostic run without it")),
    "blueprints_top_k": (1, 1000, "give 1 to 1000"),
    "strategy_builder_top_k_per_event": (1, 1000, "give 1 to 1000 edge candidates"),
    "strategy_builder_max_candidates": (1, 1000, "give 1 to 1000 strategy candidates"),
    **dict.fromkeys(CAPS, (1e-9, 100, "give a fraction of equity above 0 and up to 100")),
    "walkforward_drawdown_cluster_top_frac": (1e-9, 1, "give a share above 0 and up to 1"),
    "walkforward_drawdown_tail_q": (1e-9, 1 - 1e-9, "give a quantile between 0 and 1"),
    "promotion_regime_max_share": (0, 1, "give a share of 0 to 1"),
    "promotion_max_loss_cluster_len": (0, _UNBOUNDED, "give 0 or more days"),
    "promotion_max_cluster_loss_concentration": (0, 1, "give a share of 0 to 1"),
    "promotion_min_tail_conditional_drawdown_95": (-1, 0, "give a drawdown of -1 to 0"),
    "promotion_max_cost_ratio_train_validation": (0, _UNBOUNDED, "give a ratio >= 0"),
    "promotion_min_cross_symbol_pass_rate": (0, 1, "give a share of 0 to 1"),
    "promotion_min_deflated_sharpe": (0, 1, "give a probability of 0 to 1"),
    "promotion_max_overfitting_probability": (0, 1, "give a probability of 0 to 1"),
    "promotion_min_neighbour_share": (0, 1, "give a share of 0 to 1"),
    "promotion_max_correlation": (-1, 1, "give a correlation of -1 to 1"),
    "allocation_max_weight": (1e-9, 1, "give a fraction of capital above 0 and up to 1"),
    "allocation_min_weight": (0, 1, "give a fraction of capital of 0 to 1"),
    "allocation_kelly_fraction": (1e-9, 1, "give a fraction above 0 and up to 1"),
    "allocation_volatility_target": (0, 10, "give an annual volatility of 0, which is none, to 10"),
    "allocation_volatility_adjustment_cap": (1e-9, 100, "give a factor above 0 and up to 100"),
}
"""Least and largest value of every setting that is a number with a range, and what to give instead."""


def check_ranges(settings: object) -> None:
    """Refuse a number outside its range.

    Args:
        settings: has every name of `RANGES` as an attribute.

    Raises:
        SettingsError: naming the first setting that is, its value and what is allowed.
    """
    for name, (low, high, about) in RANGES.items():
        value = float(getattr(settings, name))
        if not (math.isfinite(value) and low <= value <= high):
            message = f"{name} is {value:g}; {about}"
            raise SettingsError(message)

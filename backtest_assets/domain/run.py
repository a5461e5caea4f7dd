"""A research run: every setting, its default, its rule; what the stages do with them stays out.

This dataclass is the single source of the Dagster config, of the command line's flags and of the frozen spec.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from backtest_assets.domain.bounds import DEMANDS, OVERRIDES, PERMISSIONS, check_ranges
from backtest_assets.domain.clock import day_window
from backtest_assets.domain.cost import CostModel
from backtest_assets.domain.event import EventType
from backtest_assets.domain.gate import Scalar
from backtest_assets.domain.market import check_run_id, parse_symbols
from backtest_assets.domain.sensor import SensorDataset
from backtest_assets.domain.source import KNOWN
from backtest_assets.domain.split import SplitPlan, plan_splits
from backtest_assets.errors import SettingsError

HOLD_GRID_BARS: Final = (4, 16, 48, 96)
"""Holding periods that hypotheses are tested over [bars]; an hour, four hours, half a day, a day."""

SEED: Final = 13
"""Seed of every random draw of every run. No setting: a p near its limit moves with the draws, and a user who may choose them
may draw until it passes."""

_MOST_ENTRY_DELAYS: Final = 3

WARMUP_DAYS: Final = 90
"""History before `start` that features and thresholds may use where it exists [days]."""


def _setting(default: object, group: str, about: str) -> Any:  # noqa: ANN401  # dataclasses.field is typed as its default
    return field(default=default, metadata={"group": group, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResearchRun:
    """The frozen settings of one run; names are the runbook's flags without `--`.

    Raises:
        SettingsError, UsageError: on construction, naming the setting, its value and what is allowed.
    """

    run_id: str = field(metadata={"group": "identity", "about": "Name of the run; immutable once used (R4, R52)."})
    symbols: str = field(
        metadata={"group": "identity", "about": "Comma list of symbols, for example BTCUSDT,ETHUSDT (R5)."}
    )
    start: str = field(metadata={"group": "identity", "about": "First day, YYYY-MM-DD, UTC (R6)."})
    end: str = field(metadata={"group": "identity", "about": "Last day, inclusive, YYYY-MM-DD, UTC (R6)."})
    source: str = field(metadata={"group": "identity", "about": f"Where raw data come from (R33): {KNOWN}."})

    universe_top_n: int = _setting(
        0, "universe", "Symbols that may be traded in a month, by dollar volume before it; 0 for all that are listed."
    )
    universe_lookback_days: int = _setting(30, "universe", "Days before a month whose dollar volume ranks the symbols.")

    fees_bps: float = _setting(4.0, "costs", "Exchange fee per side [bps of notional] (R25).")
    slippage_bps: float = _setting(2.0, "costs", "Slippage per fill [bps of notional] (R26).")
    cost_bps: float | None = _setting(
        None, "costs", "If given, must equal fees_bps + slippage_bps; never added to them (R27)."
    )

    run_hypothesis_generator: int = _setting(
        0, "hypotheses", "1: phase 2 tests what hypothesis_queue chose, in its order; 0: all declared hypotheses (R7)."
    )
    hypothesis_datasets: str = _setting(
        "auto", "hypotheses", "Comma list of the data sets that mechanisms may be seen in, or auto for all (R7)."
    )
    hypothesis_max_fused: int = _setting(24, "hypotheses", "Most fused hypotheses in the queue, by priority (R7).")
    hypothesis_min_symbol_coverage: float = _setting(
        1.0, "hypotheses", "Least share of the run's symbols that must have a data set (R7)."
    )

    phase2_event_type: str = _setting(
        "all", "phase2", "Event family whose hypotheses phase 2 enumerates, or all; all else is of all families (R9)."
    )
    phase2_max_conditions: int = _setting(
        64, "phase2", "Conditions of a family that are tested, by priority; the others are listed as beyond the budget."
    )
    phase2_entry_delays_bars: str = _setting(
        "0", "phase2", "Entry delays that hypotheses are tested at, one to three [bars]."
    )
    phase2_min_ess: float = _setting(
        150.0, "phase2", "Least effective sample size of a hypothesis over the run window (R10)."
    )
    phase2_ess_max_lag: int = _setting(24, "phase2", "Longest autocorrelation lag of the effective sample size (R11).")
    phase2_multiplicity_k: float = _setting(1.0, "phase2", "Factor of the multiplicity penalty (R12).")
    phase2_parameter_curvature_max_penalty: float = _setting(
        0.50, "phase2", "Largest relative loss among +-10 % neighbours of threshold rate and hold (R13)."
    )
    phase2_delay_grid_bars: str = _setting("0,4,8,16,30", "phase2", "Entry delays that are re-priced [bars] (R14).")
    phase2_min_delay_positive_ratio: float = _setting(
        0.60, "phase2", "Least share of applicable delays with a positive net mean (R15)."
    )
    phase2_min_delay_robustness_score: float = _setting(0.60, "phase2", "Least delay robustness score (R16).")

    expectancy_capacity_min_events_per_day: float = _setting(
        0.07,
        "checklist",
        "Least events per calendar day of the run window, all symbols: 0.07 is a trade a fortnight, 26 a year.",
    )
    min_edge_candidates: int = _setting(1, "checklist", "Least edge candidates of a run (R79).")
    min_promoted_candidates: int = _setting(1, "checklist", "Least edge candidates with status PROMOTED (R79).")
    require_expectancy_exists: int = _setting(
        1, "checklist", "1: some edge candidate must earn on train after multiplicity and on validation (R79)."
    )
    min_expectancy_evidence: int = _setting(1, "checklist", "Least edge candidates that do (R79).")
    min_robust_survivors: int = _setting(1, "checklist", "Least of those that pass every trap (R79).")
    require_stability_pass: int = _setting(1, "checklist", "1: one of those must pass the trap `stability` (R79).")
    require_capacity_pass: int = _setting(1, "checklist", "1: one of those must pass the trap `capacity` (R79).")

    run_naive_entry_eval: int = _setting(
        1,
        "blueprints",
        "1: trade every tested hypothesis plainly; 0: NOT_RUN, which is not a pass; the run is diagnostic (R74).",
    )
    naive_min_trades: int = _setting(
        100, "blueprints", "Least trades of the plain rule over the run window; a count (R75)."
    )
    naive_min_expectancy_after_cost: float = _setting(
        0.0, "blueprints", "Least mean of the plain rule after costs [fraction of notional per trade] (R76)."
    )
    naive_max_drawdown: float = _setting(
        -0.25, "blueprints", "Deepest drawdown of the plain rule's additive equity [fraction of its peak] (R77)."
    )
    strategy_blueprint_max_per_event: int = _setting(2, "blueprints", "Most blueprints per event family (R65).")
    strategy_blueprint_ignore_checklist: int = _setting(
        0, "blueprints", "1: compile whatever the checklist says; the run is diagnostic (R64)."
    )
    strategy_blueprint_allow_fallback: int = _setting(
        0,
        "blueprints",
        "1: a family without a selected hypothesis may compile tested ones above the quality floor; the run is diagnostic (R65).",
    )
    strategy_blueprint_allow_non_executable_conditions: int = _setting(
        0,
        "blueprints",
        "1: a family may lose every selected hypothesis to its conditions; the run is diagnostic (R66).",
    )
    strategy_blueprint_allow_naive_entry_fail: int = _setting(
        0, "blueprints", "1: naive_entry is not asked; the run is diagnostic (R67)."
    )
    blueprints_top_k: int = _setting(10, "blueprints", "Most blueprints that are executed, by rank (R23).")
    blueprints_filter_event_type: str = _setting(
        "all", "blueprints", "Execute only blueprints of this family, or all (R24)."
    )

    strategy_builder_top_k_per_event: int = _setting(
        2, "strategies", "Most edge candidates of a family among the strategy candidates, by score (R72)."
    )
    strategy_builder_max_candidates: int = _setting(20, "strategies", "Most strategy candidates of a run (R73).")
    strategy_builder_ignore_checklist: int = _setting(
        0, "strategies", "1: list strategy candidates whatever the checklist says; the run is diagnostic (R68)."
    )
    strategy_builder_allow_non_promoted: int = _setting(
        0, "strategies", "1: edge candidates that are DRAFT may be strategy candidates; the run is diagnostic (R69)."
    )
    strategy_builder_allow_missing_candidate_detail: int = _setting(
        0,
        "strategies",
        "1: a candidate without its hypothesis or expectancy is skipped and counted; the run is diagnostic (R70).",
    )

    max_strategy_exposure: float = _setting(
        1.0, "caps", "Cap on what one blueprint holds over all symbols [fraction of equity]."
    )
    max_symbol_exposure: float = _setting(
        1.0, "caps", "Cap on what all blueprints hold of one symbol [fraction of equity]."
    )
    max_gross_exposure: float = _setting(1.0, "caps", "Cap on all that is held [fraction of equity].")
    max_net_exposure: float = _setting(
        1.0,
        "caps",
        "Cap on all longs and on all shorts; neither gives the other room, as it may leave first [fraction of equity].",
    )
    max_new_exposure: float = _setting(1.0, "caps", "Cap on what is entered at one bar's open [fraction of equity].")

    walkforward_train_frac: float = _setting(0.6, "walkforward", "Train share of the run's days (R41).")
    walkforward_validation_frac: float = _setting(0.2, "walkforward", "Validation share of the run's days (R42).")
    walkforward_embargo_days: int = _setting(0, "walkforward", "Days skipped after train and after validation (R40).")
    walkforward_drawdown_cluster_top_frac: float = _setting(
        0.10, "walkforward", "Share of the largest loss clusters in the concentration (R28)."
    )
    walkforward_drawdown_tail_q: float = _setting(0.05, "walkforward", "Tail quantile of the drawdown (R29).")

    promotion_regime_max_share: float = _setting(
        0.80, "promotion", "Largest share of net P&L from one regime (R43, R46, R94)."
    )
    promotion_max_loss_cluster_len: int = _setting(64, "promotion", "Longest run of losing days (R30, R96).")
    promotion_max_cluster_loss_concentration: float = _setting(
        0.50, "promotion", "Largest share of losses in the top clusters (R31, R97)."
    )
    promotion_min_tail_conditional_drawdown_95: float = _setting(
        -0.20, "promotion", "Lowest mean drawdown in the tail, unit capital (R32, R98)."
    )
    promotion_max_cost_ratio_train_validation: float = _setting(
        0.60, "promotion", "Largest cost / gross profit on train and validation (R99)."
    )
    promotion_min_cross_symbol_pass_rate: float = _setting(
        0.60, "promotion", "Least share of a blueprint's symbols that earn, on train and on validation (R91, D27)."
    )
    promotion_min_deflated_sharpe: float = _setting(
        0.95,
        "promotion",
        "Least probability that the daily Sharpe ratio beats what the luckiest of all runs' trials shows (R91, D13).",
    )
    promotion_max_overfitting_probability: float = _setting(
        0.50,
        "promotion",
        "Largest share of halves in which the best tested hypothesis is no better than the median (R91).",
    )
    promotion_min_neighbour_share: float = _setting(
        0.25,
        "promotion",
        "Least net per day of the worst +-10 % neighbour, as a share of the blueprint's own (R91, D36).",
    )
    promotion_max_correlation: float = _setting(
        0.90, "promotion", "Largest correlation of daily returns with a better blueprint that is promoted (R91)."
    )

    allocation_max_weight: float = _setting(
        0.45, "allocation", "Most capital of one promoted blueprint [fraction of capital]."
    )
    allocation_min_weight: float = _setting(
        0.02, "allocation", "Less than this is not allocated but stays cash [fraction of capital]."
    )
    allocation_kelly_fraction: float = _setting(
        0.25, "allocation", "Fraction of Kelly that a blueprint may get at most; 1 is the full size."
    )
    allocation_volatility_target: float = _setting(
        0.0, "allocation", "Annual volatility that the weights are scaled to, within the caps; 0 for none."
    )
    allocation_volatility_adjustment_cap: float = _setting(
        3.0, "allocation", "Most that they are scaled up by for the volatility target."
    )

    def __post_init__(self) -> None:
        check_run_id(self.run_id)
        object.__setattr__(self, "symbols", ",".join(parse_symbols(self.symbols)))
        if not self.source:
            message = f"source is empty; known are {KNOWN}"
            raise SettingsError(message)
        total = self.fees_bps + self.slippage_bps
        if self.cost_bps is not None and not math.isclose(self.cost_bps, total, abs_tol=1e-9):
            message = f"cost_bps {self.cost_bps:g} is not fees_bps + slippage_bps = {total:g}; leave it out or make it equal (R27)"
            raise SettingsError(message)
        object.__setattr__(self, "cost_bps", total)
        check_ranges(self)
        if self.allocation_min_weight > self.allocation_max_weight:
            message = (
                f"allocation_min_weight {self.allocation_min_weight:g} is above allocation_max_weight "
                f"{self.allocation_max_weight:g}: nothing could be allocated; lower the one or raise the other"
            )
            raise SettingsError(message)
        self._check_families()
        _ = (
            self.window,
            self.cost,
            self.delays,
            self.entry_delays,
            self.splits,
            self.obeys_queue,
            self.sensor_datasets,
        )  # each refuses its own impossible settings

    @property
    def symbol_list(self) -> tuple[str, ...]:
        """The run's symbols in the order given."""
        return tuple(self.symbols.split(","))

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The half-open UTC window [start, end + 1 day) of every stage (R6)."""
        return day_window(self.start, self.end)

    @property
    def cost(self) -> CostModel:
        """The run's one cost model."""
        return CostModel(self.fees_bps, self.slippage_bps)

    @property
    def delays(self) -> tuple[int, ...]:
        """The delay grid: non-negative, distinct, ascending (R14)."""
        try:
            delays = tuple(sorted({int(part) for part in self.phase2_delay_grid_bars.split(",")}))
        except ValueError:
            delays = (-1,)
        if delays[0] < 0:
            message = f"phase2_delay_grid_bars {self.phase2_delay_grid_bars!r}: give bars >= 0 as a comma list, for example 0,4,8,16,30"
            raise SettingsError(message)
        return delays

    @property
    def entry_delays(self) -> tuple[int, ...]:
        """The delays that hypotheses are tested at: one to three up to the longest hold, distinct, ascending."""
        try:
            delays = tuple(sorted({int(part) for part in self.phase2_entry_delays_bars.split(",")}))
        except ValueError:
            delays = (-1,)
        if delays[0] < 0 or delays[-1] > max(HOLD_GRID_BARS) or len(delays) > _MOST_ENTRY_DELAYS:
            message = (
                f"phase2_entry_delays_bars {self.phase2_entry_delays_bars!r}: give one to {_MOST_ENTRY_DELAYS} numbers of 0 to "
                f"{max(HOLD_GRID_BARS)} bars as a comma list, for example 0,4"
            )
            raise SettingsError(message)
        return delays

    @property
    def splits(self) -> SplitPlan:
        """The run's one split plan; the purge covers the longest delays, the longest hold and the entry bar."""
        start, end = self.window
        return plan_splits(
            start,
            end,
            train_frac=self.walkforward_train_frac,
            validation_frac=self.walkforward_validation_frac,
            embargo_days=self.walkforward_embargo_days,
            purge_bars=max(self.entry_delays) + max(self.delays) + max(HOLD_GRID_BARS) + 1,
        )

    @property
    def event_types(self) -> tuple[EventType, ...]:
        """The families that every run detects, matches, measures, weighs and adjusts for: all, in fixed order."""
        return tuple(EventType)

    @property
    def phase2_families(self) -> tuple[EventType, ...]:
        """The families whose hypotheses phase 2 enumerates, in fixed order; of `event_types`, nothing else is narrowed."""
        return tuple(family for family in self.event_types if self.phase2_event_type in ("all", family))

    @property
    def obeys_queue(self) -> bool:
        """Whether phase 2 tests what the hypothesis queue chose, instead of all that is declared (R7)."""
        if self.run_hypothesis_generator not in (0, 1):
            message = f"run_hypothesis_generator is {self.run_hypothesis_generator!r}; give 1 to obey the hypothesis queue, 0 not to"
            raise SettingsError(message)
        return bool(self.run_hypothesis_generator)

    @property
    def sensor_datasets(self) -> tuple[SensorDataset, ...]:
        """The data sets that mechanisms may be seen in, in fixed order (R7)."""
        asked = {part.strip() for part in self.hypothesis_datasets.split(",")}
        unknown = sorted(asked - set(SensorDataset))
        if self.hypothesis_datasets != "auto" and unknown:
            message = (
                f"hypothesis_datasets {self.hypothesis_datasets!r}: {', '.join(map(repr, unknown))} unknown; "
                f"give auto or a comma list of {', '.join(SensorDataset)}"
            )
            raise SettingsError(message)
        return tuple(name for name in SensorDataset if self.hypothesis_datasets == "auto" or name in asked)

    @property
    def non_production_overrides(self) -> tuple[str, ...]:
        """The overrides in force; a run without any is a production run (R84, R90)."""
        strict = {item.name: item.default for item in fields(self)}
        lax = {name for name in PERMISSIONS if getattr(self, name) > strict[name]}
        lax |= {name for name in DEMANDS if getattr(self, name) < strict[name]}
        return tuple(name for name in OVERRIDES if name in lax)

    @property
    def run_class(self) -> str:
        """`production`, or `diagnostic` if any strict rule is overridden."""
        return "diagnostic" if self.non_production_overrides else "production"

    def to_dict(self) -> dict[str, Scalar]:
        """Return the settings as plain values, in declaration order."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of every setting but the name."""
        settings = {name: value for name, value in self.to_dict().items() if name != "run_id"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def difference(self, other: "ResearchRun") -> tuple[str, ...]:
        """Return one line `name: this -> other` for every setting that differs."""
        mine, theirs = self.to_dict(), other.to_dict()
        return tuple(f"{name}: {mine[name]!r} -> {theirs[name]!r}" for name in mine if mine[name] != theirs[name])

    def _check_families(self) -> None:
        allowed = ("all", *EventType)
        for name in ("phase2_event_type", "blueprints_filter_event_type"):
            value = str(getattr(self, name))
            if value not in allowed:
                message = f"{name} is {value!r}; choose one of {', '.join(allowed)}"
                raise SettingsError(message)


def settings_fields() -> tuple[Field[Any], ...]:
    """Return the dataclass fields of a run in order; config classes and command line flags are made from them."""
    return fields(ResearchRun)


def run_from_dict(values: Mapping[str, Any]) -> ResearchRun:
    """Build a run from plain values, for example a frozen spec.

    Raises:
        SettingsError: if a name is not a setting, or a value is impossible.
    """
    known = {item.name for item in settings_fields()}
    unknown = sorted(set(values) - known)
    if unknown:
        message = f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        raise SettingsError(message)
    return ResearchRun(**values)

"""What the gates of execution share: the executed blueprints as rows, the bars they met, equality up to rounding."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.clock import BAR
from backtest_assets.gates.gate import Evidence

TOLERANCE: Final = 1e-9
"""Largest difference of two ways to one number [fraction of equity, or of the price]: rounding is some 1e-13."""

SUMS: Final = ("gross_pnl", "fee", "slippage", "funding_pnl", "net_pnl")
"""Booked columns that trades and slices sum."""

FIX_CODE: Final = "the simulator booked it wrongly: report it, nothing downstream can be trusted"
FIX_INPUTS: Final = "rebuild simulation_ledger and trades from the same inputs"


def executed_specs(evidence: Evidence) -> tuple[Blueprint, ...]:
    """Return the executed blueprints of the evidence, best rank first."""
    rows = evidence.inputs["blueprints"].filter("is_executed").sort("rank")
    return tuple(blueprint_from_json(text) for text in rows["spec_json"])


def near(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Whether two numbers are equal up to rounding, relative above 1."""
    return (left - right).abs() <= TOLERANCE * pl.max_horizontal(pl.lit(1.0), left.abs())


def acts(evidence: Evidence) -> pl.DataFrame:
    """Return what each executed blueprint does, one row per symbol in its scope."""
    rows = [
        {
            "blueprint_id": spec.blueprint_id,
            "symbol": symbol,
            "trigger": spec.entry.triggers[0],
            "wait": max(spec.entry.delay_bars, spec.entry.arm_bars) * BAR,
            "rest": max(spec.entry.cooldown_bars, spec.entry.reentry_lockout_bars) * BAR,
            "time_stop": spec.exit.time_stop_bars * BAR,
            "stop_type": spec.exit.stop_type,
            "stop_value": spec.exit.stop_value,
            "target_type": spec.exit.target_type,
            "target_value": spec.exit.target_value,
            "trailing_stop_type": spec.exit.trailing_stop_type,
            "trailing_stop_value": spec.exit.trailing_stop_value,
            "break_even_r": spec.exit.break_even_r,
            "side_if_up": spec.entry.side_rule.side(1),
            "side_if_down": spec.entry.side_rule.side(-1),
        }
        for spec in executed_specs(evidence)
        for symbol in spec.symbol_scope.symbols
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def bars_of(evidence: Evidence) -> pl.DataFrame:
    """Return the prices of the bars the run met."""
    return evidence.inputs["bars_um"].select("symbol", "open_at", "open", "high", "low", "close", "is_gap")


@dataclass(frozen=True, slots=True)
class Caps:
    """What may be held at once, by the run and by its executed blueprints [fraction of equity].

    Attributes:
        symbol: of one symbol.
        gross: of everything.
        strategy: of one blueprint.
        side: of all longs, and of all shorts.
        new: entered at one bar's open.
    """

    symbol: float
    gross: float
    strategy: float
    side: float
    new: float


def caps(evidence: Evidence) -> Caps:
    """Return the caps: the run's, or a stricter one of an executed blueprint."""
    sizes, run = [spec.sizing for spec in executed_specs(evidence)], evidence.settings
    return Caps(
        min([run.max_symbol_exposure, *(size.max_symbol_exposure for size in sizes)]),
        min([run.max_gross_exposure, *(size.max_gross_leverage for size in sizes)]),
        run.max_strategy_exposure,
        run.max_net_exposure,
        run.max_new_exposure,
    )


def budgets(evidence: Evidence) -> tuple[float, float]:
    """Return the strictest risk budget per symbol and of the portfolio [fraction of equity]."""
    sizes = [spec.sizing for spec in executed_specs(evidence)]
    return min(size.symbol_risk_budget for size in sizes), min(size.portfolio_risk_budget for size in sizes)

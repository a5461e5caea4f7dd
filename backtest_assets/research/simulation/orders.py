"""The entries the executed blueprints of a run want, and the caps they are under; asking and filling stay out."""

from dataclasses import dataclass

import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.research.blueprints.entries import Entries
from backtest_assets.research.simulation.prices import Market
from backtest_assets.stats.simulate import Caps, Orders, Rules


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The wanted entries, by bar, then blueprint rank, then symbol.

    Attributes:
        entries: what the executed blueprints want, best rank first.
        orders: the same as arrays; a series is a row of the market's grid.
        run: gives the caps.
    """

    entries: Entries
    orders: Orders
    run: ResearchRun

    @classmethod
    def read(
        cls,
        events: pl.DataFrame,
        context: pl.DataFrame,
        blueprints: pl.DataFrame,
        market: Market,
        *,
        features: pl.DataFrame,
        bars: pl.DataFrame,
        run: ResearchRun,
    ) -> "OrderBook":
        """Ask every executed blueprint which events it acts on.

        Raises:
            RefusedError: if a blueprint was judged with other costs than the run's, or trades symbols that are not in it.
            SettingsError: if a blueprint names a condition or a column that does not exist.
            TableError: if a trigger is off the bar grid, or has no side where the blueprint's side rule needs one.
        """
        specs = cls.specs(blueprints, run=run)
        entries = Entries.read(specs, events, context, features=features, bars=bars, grid=market.grid)
        return cls(entries, entries.orders(market.grid), run)

    @staticmethod
    def specs(blueprints: pl.DataFrame, *, run: ResearchRun) -> tuple[Blueprint, ...]:
        """Return the executed blueprints, best rank first, if they were judged as the run trades.

        Raises:
            RefusedError: if one was judged with other costs than the run's, or trades symbols that are not in it.
            SettingsError: if a blueprint's JSON cannot be obeyed.
        """
        executed = blueprints.filter("is_executed").sort("rank", "blueprint_id")["spec_json"]
        specs = tuple(blueprint_from_json(text) for text in executed)
        for spec in specs:
            judged = (spec.evaluation.fees_bps, spec.evaluation.slippage_bps)
            if judged != (run.fees_bps, run.slippage_bps):
                message = (
                    f"blueprint {spec.blueprint_id} was judged with fees and slippage {judged} bps, the run charges "
                    f"{(run.fees_bps, run.slippage_bps)}; rebuild the run's blueprints"
                )
                raise RefusedError(message)
            scope, symbols = spec.symbol_scope, set(run.symbol_list)
            if symbols.isdisjoint(scope.symbols) or (scope.mode == "all" and set(scope.symbols) != symbols):
                message = (
                    f"blueprint {spec.blueprint_id} trades {scope.mode} {', '.join(scope.symbols)}, the run has "
                    f"{', '.join(run.symbol_list)}; rebuild the run's blueprints"
                )
                raise RefusedError(message)
        return specs

    @property
    def rules(self) -> Rules:
        """What the rules of the orders do, for the kernel."""
        return self.entries.rules

    @property
    def caps(self) -> Caps:
        """The run's caps, and the strictest of each cap and budget of all blueprints: each holds for everything held."""
        run, sizes = self.run, [spec.sizing for spec in self.entries.specs]
        return Caps(
            min([run.max_symbol_exposure, *(size.max_symbol_exposure for size in sizes)]),
            min([run.max_gross_exposure, *(size.max_gross_leverage for size in sizes)]),
            min((size.symbol_risk_budget for size in sizes), default=1.0),
            min((size.portfolio_risk_budget for size in sizes), default=1.0),
            run.max_strategy_exposure,
            run.max_net_exposure,
            run.max_new_exposure,
        )

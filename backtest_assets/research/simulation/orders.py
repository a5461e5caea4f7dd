"""Which entries the executed blueprints want: triggers latched when known, conditions asked there; filling stays out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, blueprint_from_json
from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError, TableError
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.simulation.prices import Market
from backtest_assets.stats.arrays import IntArray
from backtest_assets.stats.simulate import Orders, Rules
from backtest_assets.tables.contract import INSTANT


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The wanted entries, by bar, then blueprint rank, then symbol.

    Attributes:
        specs: the executed blueprints, best rank first.
        rows: one per order: `rule` (position in `specs`), `blueprint_id`, `event_id`, `symbol`, `side`, `triggered_at`, `bar`.
    """

    specs: tuple[Blueprint, ...]
    rows: pl.DataFrame

    @classmethod
    def read(
        cls, events: pl.DataFrame, context: pl.DataFrame, blueprints: pl.DataFrame, market: Market, *, run: ResearchRun
    ) -> "OrderBook":
        """Ask every executed blueprint which events it acts on.

        Raises:
            RefusedError: if a blueprint was judged with other costs than the run's.
            TableError: if a trigger is off the bar grid, or has no side where the blueprint's side rule needs one.
        """
        specs = tuple(_specs(blueprints, run=run))
        asked = attach_conditions(events.filter(pl.col("variant") == Variant.CENTRE.value), context)
        wanted = [_wanted(rule, spec, asked, market) for rule, spec in enumerate(specs)]
        rows = pl.concat([_NO_ORDERS, *wanted]).sort("bar", "rule", "symbol", "event_id")
        return cls(specs, rows)

    @property
    def rules(self) -> Rules:
        """The blueprints' exits and sizes, for the kernel."""
        return Rules(
            np.array([spec.exit.stop_value for spec in self.specs], np.float64),
            np.array([spec.exit.target_value for spec in self.specs], np.float64),
            np.array([spec.exit.time_stop_bars for spec in self.specs], np.int64),
            np.array([spec.entry.cooldown_bars for spec in self.specs], np.int64),
            np.array([spec.sizing.position_scale for spec in self.specs], np.float64),
        )

    @property
    def caps(self) -> tuple[float, float]:
        """The strictest cap per symbol and the strictest gross cap of all blueprints: each holds for everything held."""
        return (
            min((spec.sizing.max_symbol_exposure for spec in self.specs), default=1.0),
            min((spec.sizing.max_gross_leverage for spec in self.specs), default=1.0),
        )

    def orders(self, symbols: tuple[str, ...]) -> Orders:
        """Return the rows as arrays; a series is a position in `symbols`."""

        def column(name: str) -> IntArray:
            return self.rows[name].cast(pl.Int64).to_numpy()

        series = self.rows["symbol"].replace_strict({s: i for i, s in enumerate(symbols)}, return_dtype=pl.Int64)
        return Orders(column("bar"), series.to_numpy(), column("rule"), column("side"))


def _specs(blueprints: pl.DataFrame, *, run: ResearchRun) -> Iterator[Blueprint]:
    for text in blueprints.filter("is_executed").sort("rank", "blueprint_id")["spec_json"]:
        spec = blueprint_from_json(text)
        judged = (spec.evaluation.fees_bps, spec.evaluation.slippage_bps)
        if judged != (run.fees_bps, run.slippage_bps):
            message = (
                f"blueprint {spec.blueprint_id} was judged with fees and slippage {judged} bps, the run charges "
                f"{(run.fees_bps, run.slippage_bps)}; rebuild the run's blueprints"
            )
            raise RefusedError(message)
        yield spec


_NO_ORDERS = pl.DataFrame(
    schema={
        "rule": pl.Int64(),
        "blueprint_id": pl.String(),
        "event_id": pl.String(),
        "symbol": pl.String(),
        "side": pl.Int8(),
        "triggered_at": INSTANT,
        "bar": pl.Int64(),
    }
)


def _wanted(rule: int, spec: Blueprint, asked: pl.DataFrame, market: Market) -> pl.DataFrame:
    (trigger,) = spec.entry.triggers
    scope = [symbol for symbol in spec.symbol_scope.symbols if symbol in market.symbols]
    acted = asked.filter(
        pl.col("event_type") == trigger,
        pl.col("symbol").is_in(scope),
        *(Condition(name).holds for name in spec.entry.conditions),
    )
    try:
        sides = {side: spec.entry.side_rule.side(side) for side in acted["side"].unique()}
    except ValueError as error:
        message = f"table event_registry, family {trigger}: blueprint {spec.blueprint_id}: {error}"
        raise TableError(message) from error
    known_us = acted["known_at"].dt.epoch("us")
    if (off_grid := acted.filter(known_us % BAR_US != 0)).height:
        message = (
            f"table event_registry, event {off_grid['event_id'][0]}: known_at is off the 15-minute grid; rebuild it"
        )
        raise TableError(message)
    return acted.select(
        pl.lit(rule, pl.Int64).alias("rule"),
        pl.lit(spec.blueprint_id).alias("blueprint_id"),
        "event_id",
        "symbol",
        pl.col("side").replace_strict(sides, return_dtype=pl.Int8),
        pl.col("known_at").alias("triggered_at"),
        ((known_us - market.first_us) // BAR_US + spec.entry.delay_bars).alias("bar"),
    )

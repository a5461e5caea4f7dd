"""The ledger of what the blueprints did, bar by bar, and the trades it sums to; judging them stays out.

Bookkeeping, in fractions of equity: the quantity is fixed at entry, so a bar earns side x exposure x (mark_to -
mark_from) / entry price; each fill pays fees and slippage on the entry notional, so that a round trip costs what research
charged; funding is booked once per settlement s with entered_at < s <= exited_at, in the bar that opens at s. A bar that
is missing inside a hold has a row with equal marks: the move is booked on the next real bar.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint
from backtest_assets.domain.clock import BAR_US
from backtest_assets.domain.cost import BPS
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import SplitPlan
from backtest_assets.research.blueprints.entries import Entries
from backtest_assets.research.simulation.orders import OrderBook
from backtest_assets.research.simulation.prices import Market
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.simulate import OPEN, REASONS, Caps, Orders, Positions, Rules, run_orders
from backtest_assets.tables.contract import INSTANT
from backtest_assets.tables.simulation import SIMULATION_LEDGER, TRADES

PURGED = "purged"
"""Split label of a trade whose trigger belongs to no split, or that a gap carried over the end of its split."""

_SUMS: Final[tuple[str, ...]] = ("gross_pnl", "fee", "slippage", "funding_pnl", "net_pnl")


@dataclass(frozen=True, slots=True)
class Simulation:
    """One causal pass over all executed blueprints and symbols.

    Attributes:
        ledger: table simulation_ledger; also of positions that are still open where the data end.
        trades: table trades; closed positions only.
    """

    ledger: pl.DataFrame
    trades: pl.DataFrame

    @classmethod
    def of(
        cls,
        bars: pl.DataFrame,
        funding: pl.DataFrame,
        events: pl.DataFrame,
        context: pl.DataFrame,
        blueprints: pl.DataFrame,
        *,
        features: pl.DataFrame,
        run: ResearchRun,
    ) -> "Simulation":
        """Run the pass; arguments as of `simulate_trades`."""
        market = Market.read(bars, funding, run=run)
        book = OrderBook.read(events, context, blueprints, market, features=features, bars=bars, run=run)
        held = run_orders(book.orders, book.rules, market.grid.prices, book.caps)
        taken = book.orders.taken(held.order)
        rows = _Rows.of(taken, held, market, run=run)
        named = _named(book.entries, held)
        return cls(rows.ledger(named, market), rows.trades(named, held, taken, market, splits=run.splits))

    @staticmethod
    def apart(entries: Entries, market: Market, *, run: ResearchRun) -> pl.DataFrame:
        """Trade each of some blueprints as if it were the only one, under its own caps, and list the closed trades.

        Args:
            entries: what they want, at least one of them; their names differ.
            market: bars and funding.
            run: costs and splits.

        Returns:
            Table trades, each booked as in the ledger.

        Raises:
            RefusedError: if a settlement held over is missing.
        """
        orders = entries.orders(market.grid)
        parts = [_alone(orders, rule, spec, entries.rules, market) for rule, spec in enumerate(entries.specs)]
        held = Positions(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Positions)))
        taken = orders.taken(held.order)
        rows = _Rows.of(taken, held, market, run=run)
        return rows.trades(_named(entries, held), held, taken, market, splits=run.splits)


def _alone(orders: Orders, rule: int, spec: Blueprint, rules: Rules, market: Market) -> Positions:
    own, size = np.flatnonzero(orders.rule == rule), spec.sizing
    mine = orders.taken(own)._replace(rule=np.zeros_like(own))
    caps = Caps(size.max_symbol_exposure, size.max_gross_leverage, size.symbol_risk_budget, size.portfolio_risk_budget)
    one = slice(rule, rule + 1)
    only = Rules(
        rules.time_stop_bars[one],
        rules.cooldown_bars[one],
        rules.break_even_r[one],
        rules.invalid_row[one],
        rules.is_invalid,
    )
    held = run_orders(mine, only, market.grid.prices, caps)
    return replace(held, order=own[held.order])


def _named(entries: Entries, held: Positions) -> pl.DataFrame:
    entered = pl.col("entered_at").dt.strftime("%Y%m%dT%H%M")
    return entries.rows[held.order].with_columns(
        trade_id=pl.concat_str("blueprint_id", "symbol", entered, separator="|")
    )


def simulate_trades(
    bars: pl.DataFrame,
    funding: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    blueprints: pl.DataFrame,
    *,
    features: pl.DataFrame,
    run: ResearchRun,
) -> pl.DataFrame:
    """Trade the executed blueprints over the run window and list the closed trades.

    A position that lasts to the run window's last bar leaves at its close with `end_of_data` (at the last known close if
    that bar is missing); where the data end earlier it stays open and is not listed.

    Args:
        bars: table bars_um, every bar of the run window; rows before it price settlements.
        funding: table settlements_um.
        events: table event_registry; centre events trigger.
        context: table market_context; conditions are asked of the row known at the event's `known_at`.
        blueprints: table blueprints; executed rows trade, better ranks first.
        features: table features; what exits, sizes, confirmations and overlays are asked of, as known at their instant.
        run: window, symbols, costs, splits.

    Returns:
        Table trades; pnl in fractions of equity, costs >= 0.

    Knows:
        of each trade what was known at its `known_at`: events and context up to the trigger, bars up to the exit bar.

    Raises:
        RefusedError: if a settlement held over is missing, or a blueprint was judged with other costs or symbols.
        SettingsError: if a blueprint names a condition or a column that does not exist.
        TableError: if events are off the grid, or lack a side where it is needed.
    """
    return Simulation.of(bars, funding, events, context, blueprints, features=features, run=run).trades


def simulate_ledger(
    bars: pl.DataFrame,
    funding: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    blueprints: pl.DataFrame,
    *,
    features: pl.DataFrame,
    run: ResearchRun,
) -> pl.DataFrame:
    """Trade the executed blueprints over the run window and book every bar with exposure.

    Args:
        bars: as of `simulate_trades`, like the other arguments.
        funding: table settlements_um.
        events: table event_registry.
        context: table market_context.
        blueprints: table blueprints.
        features: table features.
        run: window, symbols, costs, splits.

    Returns:
        Table simulation_ledger: for each position one row per bar from the entry bar to the exit bar, gaps included.

    Knows:
        of each row what was known at its `known_at`.

    Raises:
        RefusedError: if a settlement held over is missing, or a blueprint was judged with other costs or symbols.
        SettingsError: if a blueprint names a condition or a column that does not exist.
        TableError: if events are off the grid, or lack a side where it is needed.
    """
    return Simulation.of(bars, funding, events, context, blueprints, features=features, run=run).ledger


@dataclass(frozen=True, slots=True)
class _Rows:
    """Ledger rows as arrays, position after position; `first` is where each position begins."""

    owner: IntArray
    first: IntArray
    bar: IntArray
    before: FloatArray
    after: FloatArray
    mark_from: FloatArray
    mark_to: FloatArray
    booked: dict[str, FloatArray]

    @classmethod
    def of(cls, taken: Orders, held: Positions, market: Market, *, run: ResearchRun) -> "_Rows":
        length = held.exit_bar - taken.bar + 1
        owner = np.repeat(np.arange(length.size), length)
        first = np.cumsum(length) - length
        bar = np.arange(owner.size) - first[owner] + taken.bar[owner]
        is_entry, is_exit = bar == taken.bar[owner], (bar == held.exit_bar[owner]) & (held.reason[owner] != OPEN)
        entry_price, signed = held.entry_price[owner], (taken.side * held.exposure)[owner]
        mark_to = np.where(is_exit, held.exit_price[owner], market.last_close[taken.series[owner], bar])
        mark_from = np.where(is_entry, entry_price, np.roll(mark_to, 1))
        per_unit = np.zeros(bar.size)
        per_unit[~is_entry] = market.funding_per_unit(taken.series[owner][~is_entry], bar[~is_entry])
        fills = held.exposure[owner] * (is_entry.astype(np.float64) + is_exit) * BPS
        gross = signed * (mark_to - mark_from) / entry_price
        fee, slippage, funding = fills * run.fees_bps, fills * run.slippage_bps, -signed * per_unit / entry_price
        booked: dict[str, FloatArray] = dict(
            zip(_SUMS, (gross, fee, slippage, funding, gross - fee - slippage + funding), strict=True)
        )
        before, after = np.where(is_entry, 0.0, signed), np.where(is_exit, 0.0, signed)
        return cls(owner, first, bar, before, after, mark_from, mark_to, booked)

    def ledger(self, named: pl.DataFrame, market: Market) -> pl.DataFrame:
        open_us = market.grid.open_us(self.bar)
        rows = named.select("symbol", "blueprint_id", "trade_id")[self.owner].with_columns(
            _instants("open_at", open_us),
            _instants("known_at", open_us + BAR_US),
            pl.Series("exposure_before", self.before),
            pl.Series("exposure_after", self.after),
            pl.Series("mark_from", self.mark_from),
            pl.Series("mark_to", self.mark_to),
            *(pl.Series(name, values) for name, values in self.booked.items()),
        )
        return SIMULATION_LEDGER.conform(rows)

    def trades(
        self, named: pl.DataFrame, held: Positions, taken: Orders, market: Market, *, splits: SplitPlan
    ) -> pl.DataFrame:
        exit_us = market.grid.open_us(held.exit_bar)
        side = named["side"].to_numpy()
        sums = {name: np.add.reduceat(v, self.first) if v.size else v for name, v in self.booked.items()}
        listed = named.drop("rule", "bar", "stop_frac", "target_frac", "trail_frac").with_columns(
            _instants("exited_at", exit_us),
            _instants("known_at", exit_us + BAR_US),
            pl.Series("exposure", held.exposure),
            pl.Series("entry_price", held.entry_price),
            pl.Series("exit_price", held.exit_price),
            pl.Series("stop_price", held.entry_price * (1.0 - side * taken.stop_frac)),
            pl.Series("last_stop_price", held.last_stop),
            pl.Series("target_price", held.entry_price * (1.0 + side * taken.target_frac)),
            pl.Series("exit_reason", [REASONS[code] for code in held.reason], pl.String),
            pl.Series("n_bars_held", held.exit_bar - named["bar"].to_numpy(), pl.Int32),
            *(pl.Series(name, values) for name, values in sums.items()),
            pl.Series("mae_frac", held.adverse_frac),
            pl.Series("mfe_frac", held.favourable_frac),
        )
        closed = listed.filter(held.reason != OPEN)
        times = closed.select("triggered_at", "exited_at").iter_rows()
        labels = [str(splits.split_of_trade(*of_trade) or PURGED) for of_trade in times]
        return TRADES.conform(closed.with_columns(pl.Series("split", labels, pl.String)))


def _instants(name: str, microseconds: IntArray) -> pl.Series:
    return pl.Series(name, microseconds, pl.Int64).cast(INSTANT)

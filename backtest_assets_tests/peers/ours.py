"""The scenarios' trades as our simulator makes them, through its own tables; no peer is needed."""

import polars as pl

from backtest_assets.domain.clock import BAR_US, epoch_us
from backtest_assets.domain.cost import CostModel
from backtest_assets.domain.event import SideRule
from backtest_assets.research.simulation.ledger import simulate_trades
from backtest_assets_tests.peers.scenarios import Scenario
from backtest_assets_tests.peers.walk import Trade
from backtest_assets_tests.research.simulation import market

EXPOSURE = 0.5


def our_trades(scenario: Scenario) -> list[Trade]:
    """One blueprint with the event's side, its events known when the wanted bars open."""
    symbols = (market.A,)
    cost = {"fees_bps": scenario.fees_bps, "slippage_bps": scenario.slippage_bps}
    run = market.a_run(scenario.n_days, symbols=market.A, **cost)
    bars = market.bars_of(market.A, *scenario.ohlc)
    wanted, sides = zip(*scenario.orders, strict=True)
    spec = market.blueprint(
        side_rule=SideRule.WITH_EVENT, stop=scenario.stop, target=scenario.target, time_stop=scenario.hold, scale=EXPOSURE,
        symbols=symbols, cost=CostModel(**cost),
    )  # fmt: skip
    trades = simulate_trades(
        bars, market.no_funding(scenario.n_days, symbols=symbols), market.events_at(wanted, sides=sides),
        market.context_of(bars), market.blueprints_of(spec), features=market.features_of(bars), run=run,
    )  # fmt: skip
    made = trades.sort("entered_at").select(
        (pl.col("entered_at").dt.epoch("us") - epoch_us(market.START)) // BAR_US,
        "side",
        "entry_price",
        (pl.col("exited_at").dt.epoch("us") - epoch_us(market.START)) // BAR_US,
        "exit_price",
        pl.col("net_pnl") / pl.col("exposure"),
    )
    return [Trade(*row) for row in made.iter_rows()]

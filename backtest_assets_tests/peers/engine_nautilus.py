"""The scenarios' trades as nautilus_trader makes them; run by the peer's own Python, knows nothing of ours.

    python engine_nautilus.py QUESTIONS.json ANSWERS.json

A quote at each bar's open lets the strategy enter and leave there; the bar itself is walked by the engine at its close,
open, high, low, close. Stop and target are the bracket of the entry; the re-entry rule is the strategy's own.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path

import nautilus_trader
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model import BarType, Money, Price, Quantity, Venue
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, QuoteTick
from nautilus_trader.model.enums import AccountType, ContingencyType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.trading.strategy import Strategy

BAR_NS = 900_000_000_000
PRECISION = 8
SIZE = 100
VENUE = Venue("SIM")
INSTRUMENT = InstrumentId(Symbol("AAAUSDT-PERP"), VENUE)
BARS = BarType.from_str(f"{INSTRUMENT}-15-MINUTE-LAST-EXTERNAL")


class Plain(Strategy):
    """Enters at the quote of a wanted bar if it is flat, leaves at the first quote of a due bar."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked
        self.wanted = dict(asked["orders"])
        self.entered, self.free_from = None, 0
        self.trades = []

    def on_start(self):
        self.subscribe_quote_ticks(INSTRUMENT)

    def on_quote_tick(self, tick):
        bar = (tick.ts_event - 1) // BAR_NS
        if self.entered is not None:
            if bar >= self.entered + self.asked["hold"]:
                self.cancel_all_orders(INSTRUMENT)
                self.close_all_positions(INSTRUMENT)
            return
        side = self.wanted.get(bar)
        if side is None or bar < self.free_from:
            return
        price = tick.bid_price.as_double()
        self.entered = bar
        bracket = self.order_factory.bracket(
            instrument_id=INSTRUMENT,
            order_side=OrderSide.BUY if side > 0 else OrderSide.SELL,
            quantity=Quantity(SIZE, 0),
            sl_trigger_price=Price(price * (1.0 - side * self.asked["stop"]), PRECISION),
            tp_price=Price(price * (1.0 + side * self.asked["target"]), PRECISION),
            contingency_type=ContingencyType.OCO,
        )
        self.submit_order_list(bracket)

    def on_position_closed(self, event):
        bar = (event.ts_event - 1) // BAR_NS
        self.trades.append((event, bar))
        self.entered, self.free_from = None, bar + 1


def perpetual(fee):
    return CryptoPerpetual(
        instrument_id=INSTRUMENT, raw_symbol=Symbol("AAAUSDT"), base_currency=BTC, quote_currency=USDT,
        settlement_currency=USDT, is_inverse=False, price_precision=PRECISION, size_precision=0,
        price_increment=Price(10.0**-PRECISION, PRECISION), size_increment=Quantity(1, 0), ts_event=0, ts_init=0,
        margin_init=Decimal("0.01"), margin_maint=Decimal("0.005"), maker_fee=fee, taker_fee=fee,
    )  # fmt: skip


def data(bars):
    size = Quantity(10**9, 0)
    made = []
    for number, *ohlc in zip(*(bars[name] for name in ("number", "open", "high", "low", "close")), strict=True):
        at = number * BAR_NS
        prices = [Price(p, PRECISION) for p in ohlc]
        made.append(QuoteTick(INSTRUMENT, prices[0], prices[0], size, size, at + 1, at + 1))
        made.append(Bar(BARS, *prices, size, at + BAR_NS, at + BAR_NS))
    return made


def run(asked):
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        VENUE,
        OmsType.NETTING,
        AccountType.MARGIN,
        [Money(10**9, USDT)],
        base_currency=USDT,
        frozen_account=True,
    )
    engine.add_instrument(perpetual(Decimal(repr(asked["fee"]))))
    engine.add_data(data(asked["bars"]))
    strategy = Plain(asked)
    engine.add_strategy(strategy)
    engine.run()
    trades = []
    for event, bar in strategy.trades:
        side = 1 if event.entry == OrderSide.BUY else -1
        paid = event.realized_pnl.as_double() / SIZE / event.avg_px_open
        trades.append(((event.ts_opened - 1) // BAR_NS, side, event.avg_px_open, bar, event.avg_px_close, paid))
    for position in engine.cache.positions_open():
        side = 1 if position.entry == OrderSide.BUY else -1
        trades.append(((position.ts_opened - 1) // BAR_NS, side, position.avg_px_open, None, None, None))
    engine.dispose()
    return trades


def main(questions, answers):
    asked = json.loads(Path(questions).read_text())
    told = {"version": nautilus_trader.__version__, "trades": {one["name"]: run(one) for one in asked}}
    Path(answers).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

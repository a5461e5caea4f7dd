"""The ledger, its trades and its metrics; trades and metrics are sums of the ledger."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

_F = pl.Float64()
_S = pl.String()
_EQUITY = "fraction of equity"

SIMULATION_LEDGER = Table(
    "simulation_ledger",
    Stage.SIMULATION,
    "research",
    ("open_at", "symbol", "blueprint_id"),
    (
        Column("open_at", INSTANT, "UTC", "Open time of the bar."),
        Column("known_at", INSTANT, "UTC", "Close time of the bar.", sample=(1, 1)),
        Column("symbol", _S, "text", "Instrument."),
        Column("blueprint_id", _S, "text", "Blueprint."),
        Column("trade_id", _S, "text", "The trade the row belongs to."),
        Column("exposure_before", _F, _EQUITY, "Signed exposure held into the bar.", sample=(-1, 1)),
        Column("exposure_after", _F, _EQUITY, "Signed exposure held out of the bar.", sample=(-1, 1)),
        Column(
            "mark_from",
            _F,
            "quote per base",
            "Price the bar's P&L starts from: the last mark, or the entry fill.",
            sample=(90, 100),
        ),
        Column("mark_to", _F, "quote per base", "Price it ends at: the close, or the exit fill.", sample=(90, 100)),
        Column("gross_pnl", _F, _EQUITY, "Signed exposure x price change over the entry price."),
        Column("fee", _F, _EQUITY, "Exchange fees, >= 0."),
        Column("slippage", _F, _EQUITY, "Slippage, >= 0."),
        Column(
            "funding_pnl", _F, _EQUITY, "Funding received (+) or paid (-), once per settlement held.", sample=(-1, 1)
        ),
        Column("net_pnl", _F, _EQUITY, "gross_pnl - fee - slippage + funding_pnl."),
    ),
    "Bar by bar P&L wherever exposure is or was non-zero.",
    (
        Rule("costs_not_negative", (pl.col("fee") >= 0) & (pl.col("slippage") >= 0)),
        Rule("known_after_open", pl.col("known_at") == pl.col("open_at") + pl.duration(minutes=15)),
    ),
)
TRADES = Table(
    "trades",
    Stage.SIMULATION,
    "research",
    ("entered_at", "symbol", "blueprint_id"),
    (
        Column("trade_id", _S, "text", "Name of the trade."),
        Column("blueprint_id", _S, "text", "Blueprint."),
        Column("event_id", _S, "text", "The event that triggered it."),
        Column("symbol", _S, "text", "Instrument."),
        Column(
            "split",
            _S,
            "text",
            "train, validation or test, by the trigger; purged where it has none or a gap carried the exit beyond its end.",
        ),
        Column("side", pl.Int8(), "sign", "+1 long, -1 short.", sample=(1, 1)),
        Column("triggered_at", INSTANT, "UTC", "When the event was known."),
        Column("entered_at", INSTANT, "UTC", "Open time of the entry bar.", sample=(1, 1)),
        Column("exited_at", INSTANT, "UTC", "Open time of the bar in which it was closed.", sample=(3, 3)),
        Column("known_at", INSTANT, "UTC", "Close time of the exit bar: when the whole trade is known.", sample=(4, 4)),
        Column("exposure", _F, _EQUITY, "Absolute exposure after caps."),
        Column("entry_price", _F, "quote per base", "Entry fill.", sample=(90, 100)),
        Column("exit_price", _F, "quote per base", "Exit fill.", sample=(90, 100)),
        Column("stop_price", _F, "quote per base", "Stop level at the entry.", sample=(80, 90)),
        Column(
            "last_stop_price",
            _F,
            "quote per base",
            "Stop level in the exit bar: nearer than at the entry where break-even or trailing moved it.",
            sample=(80, 90),
        ),
        Column("target_price", _F, "quote per base", "Target level.", sample=(100, 110)),
        Column(
            "exit_reason",
            _S,
            "text",
            "stop, break_even_stop, trailing_stop, target, time, invalidation or end_of_data.",
        ),
        Column("n_bars_held", pl.Int32(), "bars", "Bars between entry and exit."),
        Column("gross_pnl", _F, _EQUITY, "Sum of the ledger's gross P&L."),
        Column("fee", _F, _EQUITY, "Sum of the ledger's fees."),
        Column("slippage", _F, _EQUITY, "Sum of the ledger's slippage."),
        Column("funding_pnl", _F, _EQUITY, "Sum of the ledger's funding."),
        Column("net_pnl", _F, _EQUITY, "Sum of the ledger's net P&L."),
        Column("mae_frac", _F, "fraction of entry", "Largest adverse excursion, >= 0."),
        Column("mfe_frac", _F, "fraction of entry", "Largest favourable excursion, >= 0."),
    ),
    "One row per trade.",
    (Rule("exit_after_entry", pl.col("exited_at") >= pl.col("entered_at")),),
)
BACKTEST_METRICS = Table(
    "backtest_metrics",
    Stage.SIMULATION,
    "research",
    ("scope", "split", "metric"),
    (
        Column("scope", _S, "text", "portfolio, or a blueprint_id."),
        Column("split", _S, "text", "train, validation or discovery (both with what lies between); test is sealed."),
        Column("metric", _S, "text", "Name of the metric."),
        Column("value", _F, "unit", "Its value; null where it is undefined.", nullable=True),
        Column("unit", _S, "text", "Unit of the value."),
        Column("n", pl.Int64(), "1", "Observations behind it."),
    ),
    "Metrics of portfolio and blueprints, sums of the ledger.",
)
TABLES = (SIMULATION_LEDGER, TRADES, BACKTEST_METRICS)

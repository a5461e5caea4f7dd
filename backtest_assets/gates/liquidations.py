"""Questions about raw liquidation orders, asked before they are published: whose, which way, and how large."""

import math
from typing import Final

import polars as pl

from backtest_assets.domain.exchange import CONTRACT_SIZE_QUOTE, USUAL_CONTRACT_SIZE_QUOTE
from backtest_assets.gates.ask import breaking, rows_gate
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.rows import inside_partition, market_gates, over_by_now

_QUOTES: Final = r"(USDT|USDC|BUSD)$"
_ROUNDING: Final = 1e-9  # relative; a product is rounded once


def _size_right(evidence: Evidence) -> pl.Series:
    rows, notional = evidence.frame, evidence.frame["filled_contracts"] * evidence.frame["contract_size_quote"]
    size = rows["contract"].replace_strict(
        CONTRACT_SIZE_QUOTE, default=USUAL_CONTRACT_SIZE_QUOTE, return_dtype=pl.Float64()
    )
    close = (rows["notional_quote"] - notional).abs() <= _ROUNDING * notional
    positive = (rows["filled_contracts"] > 0) & (rows["notional_quote"] > 0) & (rows["notional_quote"] < math.inf)
    return close & positive & (rows["contract_size_quote"] == size)


def _numbered(evidence: Evidence) -> pl.Series:
    position = pl.int_range(pl.len()).over("liquidated_at")
    return evidence.frame.select(pl.col("ordinal") == position).to_series()


GATES_RAW_UM_LIQUIDATIONS: Final = market_gates(
    inside_partition("liquidated_at"),
    rows_gate(
        "only_filled",
        "No order lies after the moment of asking.",
        breaking(over_by_now("liquidated_at"), ("symbol", "liquidated_at")),
        fix="the clock of the source or of this machine is wrong: mend it and ingest again",
    ),
    rows_gate(
        "contract_is_the_twin",
        "The contract is the COIN-M perpetual of the symbol's coin: BTCUSDT is read beside BTCUSD_PERP.",
        breaking(
            lambda evidence: (
                evidence.frame["contract"] == evidence.frame["symbol"].str.replace(_QUOTES, "") + "USD_PERP"
            ),
            ("symbol", "liquidated_at", "contract"),
        ),
        fix="orders of another coin say nothing here: mend the source and ingest again",
    ),
    rows_gate(
        "side_known",
        "An order buys or sells: BUY closes a short, SELL closes a long.",
        breaking(
            lambda evidence: evidence.frame["order_side"].is_in(("BUY", "SELL")),
            ("symbol", "liquidated_at", "ordinal", "order_side"),
        ),
        fix="without a side nobody knows who was liquidated: mend the source and ingest again",
    ),
    rows_gate(
        "notional_is_contracts",
        "The notional is contracts x the contract's size in USD (100 for BTC, else 10) and > 0; the price has no part in it.",
        breaking(
            _size_right,
            ("liquidated_at", "ordinal", "contract", "filled_contracts", "contract_size_quote", "notional_quote"),
        ),
        fix="COIN-M contracts have a face value in USD: mend the source and ingest again",
    ),
    rows_gate(
        "ordinals_count",
        "Orders of one instant are numbered 0, 1, 2: none is lost, none is doubled.",
        breaking(_numbered, ("symbol", "liquidated_at", "ordinal")),
        fix="orders of this instant were merged wrongly: ingest the month again",
    ),
)
"""A month without any order is refused like every empty month: no file and no order look alike here."""

import math
from datetime import UTC, datetime

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets_tests.gates.evidence import (
    RAW_MONTHS,
    change,
)
from backtest_assets_tests.gates.raw_evidence import red_of, verdict_of


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"order_side": "LONG"}, "side_known"),
        ({"contract": "BTCUSD_PERP", "contract_size_quote": 100.0, "notional_quote": 400.0}, "contract_is_the_twin"),
        ({"contract": "SYNAUSDT"}, "contract_is_the_twin"),
        ({"filled_contracts": 0.0, "notional_quote": 0.0}, "notional_is_contracts"),
        ({"filled_contracts": -4.0, "notional_quote": -40.0}, "notional_is_contracts"),
        ({"contract_size_quote": 100.0, "notional_quote": 400.0}, "notional_is_contracts"),
        ({"notional_quote": 40.1}, "notional_is_contracts"),
        ({"notional_quote": math.inf}, "notional_is_contracts"),
        ({"ordinal": 1}, "ordinals_count"),
        ({"liquidated_at": datetime(2024, 2, 3, tzinfo=UTC)}, "rows_inside_partition"),
    ],
)
def test_one_corrupt_order_is_named_by_its_gate(values, gate):
    spoilt = change(RAW_MONTHS["raw_um_liquidations"], 4, **values)
    assert {gate} == red_of("raw_um_liquidations", spoilt)
    seen = verdict_of("raw_um_liquidations", gate, spoilt)
    assert 1 == seen.observed
    assert seen.examples


@pytest.mark.parametrize(
    ("symbol", "contract", "size", "is_right"),
    [
        ("BTCUSDT", "BTCUSD_PERP", 100.0, True),
        ("BTCUSDT", "BTCUSD_PERP", 10.0, False),
        ("ETHBUSD", "ETHUSD_PERP", 10.0, True),
        ("ETHUSDC", "ETHUSD_PERP", 10.0, True),
        ("ETHUSDT", "BTCUSD_PERP", 100.0, False),
    ],
)
def test_the_twin_and_its_size_are_known_by_the_symbol(symbol, contract, size, is_right):
    orders = RAW_MONTHS["raw_um_liquidations"].with_columns(
        symbol=pl.lit(symbol),
        contract=pl.lit(contract),
        contract_size_quote=pl.lit(size),
        notional_quote=size * pl.col("filled_contracts"),
    )
    found = red_of("raw_um_liquidations", orders, partition=Partition.of_month(symbol, "2024-01"))
    assert is_right == (found == set())

"""Raw months asked by their own gates: what the tests of every raw table share."""

from dataclasses import replace

from backtest_assets.gates.funding import GATES_RAW_UM_FUNDING
from backtest_assets.gates.liquidations import GATES_RAW_UM_LIQUIDATIONS
from backtest_assets.gates.open_interest import GATES_RAW_UM_OPEN_INTEREST
from backtest_assets.gates.raw import GATES_RAW_SPOT_OHLCV, GATES_RAW_UM_OHLCV
from backtest_assets_tests.gates.evidence import RAW_MONTHS, market_evidence, red, verdict

GATES = {
    "raw_um_ohlcv": GATES_RAW_UM_OHLCV,
    "raw_spot_ohlcv": GATES_RAW_SPOT_OHLCV,
    "raw_um_funding": GATES_RAW_UM_FUNDING,
    "raw_um_open_interest": GATES_RAW_UM_OPEN_INTEREST,
    "raw_um_liquidations": GATES_RAW_UM_LIQUIDATIONS,
}
UM, SPOT, FUNDING = (RAW_MONTHS[name] for name in ("raw_um_ohlcv", "raw_spot_ohlcv", "raw_um_funding"))
TAIL = {"tail_age"}


def asked(table, frame, **changes: object):
    return replace(market_evidence(table), frame=frame, **changes)


def red_of(table, frame, **changes: object):
    return red(GATES[table], asked(table, frame, **changes))


def verdict_of(table, gate, frame, **changes: object):
    return verdict(GATES[table], asked(table, frame, **changes), gate)

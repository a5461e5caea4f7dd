"""Facts of the exchange's products that sources parse by, bars are made with and gates hold them to: each said once."""

import re
from datetime import timedelta
from typing import Final

KLINE_MINUTES: Final = (1, 5, 15)
"""Lengths of klines that bars are made from: those that fill a bar without a rest [min]."""

FUNDING_INTERVALS_H: Final = (1, 2, 4, 8)
"""Intervals the exchange settles at [h]; each divides the longest, and that a day: 00:00 UTC is a settlement of all."""

FUNDING_INTERVAL_MAX: Final = timedelta(hours=FUNDING_INTERVALS_H[-1])
"""The longest interval, and the exchange's own default."""

SNAPSHOT_EVERY: Final = timedelta(minutes=5)
"""How often the exchange counts open interest."""

CONTRACT_SIZE_QUOTE: Final = {"BTCUSD_PERP": 100.0}
"""Face value of the COIN-M contracts that have not the usual one [quote per contract]."""

USUAL_CONTRACT_SIZE_QUOTE: Final = 10.0
"""Face value of every other COIN-M contract [quote per contract]."""

_MARGINED_IN_QUOTE: Final = re.compile(r"([A-Z0-9]+?)(?:USDT|BUSD|USDC)")


def coin_margined_twin(symbol: str) -> str | None:
    """Return the COIN-M perpetual of the same coin as a USD-M symbol; None if its quote is none of USDT, BUSD, USDC.

    >>> coin_margined_twin("BTCUSDT"), coin_margined_twin("ETHUSDC"), coin_margined_twin("ETHBTC")
    ('BTCUSD_PERP', 'ETHUSD_PERP', None)
    """
    match = _MARGINED_IN_QUOTE.fullmatch(symbol)
    return None if match is None else f"{match[1]}USD_PERP"


def contract_size_quote(contract: str) -> float:
    """Return the face value of a COIN-M contract [quote per contract]."""
    return CONTRACT_SIZE_QUOTE.get(contract, USUAL_CONTRACT_SIZE_QUOTE)

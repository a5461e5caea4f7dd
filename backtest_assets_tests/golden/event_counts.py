"""Events on the real data by family, symbol and year: `python -m backtest_assets_tests.golden.event_counts` writes the file.

A family that changes its definition changes its counts: look at the difference before it is committed.
"""

import json
from pathlib import Path

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets_tests.real_market import REAL_SYMBOLS, real_market

GOLDEN = Path(__file__).with_suffix(".json")
YEARS = range(2022, 2026)


def event_counts(events: pl.DataFrame) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Family -> symbol -> year -> [candidates, accepted] of the declared definitions, by the year they become known."""
    centre = events.filter(pl.col("variant") == "centre")
    key = ("event_type", "symbol", pl.col("known_at").dt.year())
    counted = centre.group_by(key).agg(n=pl.len(), accepted=(pl.col("status") == "accepted").sum())
    found = {(family, symbol, year): [n, accepted] for family, symbol, year, n, accepted in counted.rows()}
    return {
        family.value: {
            symbol: {str(year): found.get((family.value, symbol, year), [0, 0]) for year in YEARS}
            for symbol in REAL_SYMBOLS
        }
        for family in EventType
    }


def as_text(counts: dict[str, dict[str, dict[str, list[int]]]]) -> str:
    lines = [
        f'  "{family}": {{\n'
        + ",\n".join(f'    "{symbol}": {json.dumps(years)}' for symbol, years in symbols.items())
        + "\n  }"
        for family, symbols in counts.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    GOLDEN.write_text(as_text(event_counts(real_market().candidates)))

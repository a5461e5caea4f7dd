"""How a user writes where raw data come from, one text for help and errors; opening a source is the affair of sources/."""

from typing import Final

DEMO_SPEC: Final = "synthetic:7:range_compression_breakout_window=55"
"""A market with an edge that is clearly found: strength about 8 on train with two symbols over 4 to 5 years."""

KNOWN: Final = (
    "binance[:1m|5m|15m], archive_dir:DIR[:1m|5m|15m], files:DIR and synthetic[:SEED[:EDGE=BPS]], "
    f"for example {DEMO_SPEC}"
)
"""Every kind of source with what may follow it."""

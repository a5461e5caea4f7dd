"""What the gates of a run's evidence share: which hypotheses were tested, and how exactly they are measured again."""

import math
from typing import Final

import polars as pl

from backtest_assets.gates.gate import Evidence

MAX_ERROR: Final = 1e-9
"""Difference of a number made again [its unit, relative above 1]: rounding of sums, nothing else."""

MAX_ERROR_BPS: Final = 1e-6
"""Difference of a number added up again [bps]: a running sum over thousands of trades, in another order."""


def is_near(found: float | None, value: float) -> bool:
    """Say whether a stored number is another up to rounding; null is NaN."""
    if found is None or math.isnan(found):
        return math.isnan(value)
    return abs(found - value) <= MAX_ERROR * max(1.0, abs(value))


def tested_of(evidence: Evidence) -> pl.DataFrame:
    """Return the hypotheses of the run that had enough events and days to be tested."""
    return evidence.inputs["hypotheses"].filter(pl.col("is_eligible"))


def nothing_tested(evidence: Evidence) -> bool:
    """Say whether no hypothesis of the run could be tested, so that there is nothing to show."""
    return tested_of(evidence).is_empty()

"""What a run's tables really hold of every data set; what is made of it stays out (`judge`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.sensor import SensorDataset
from backtest_assets.domain.split import Split

LEAST_CONTENT: Final = 0.5
"""Share of a symbol's bars on which a data set is known [fraction]: what most bars lack is another, shorter run."""

_KNOWN: Final = {
    SensorDataset.UM_LIQUIDATIONS: ("liquidated_long_quote", "liquidated_short_quote"),
    SensorDataset.UM_TAKERS: ("taker_imbalance",),
    SensorDataset.UM_OPEN_INTEREST: ("open_interest_quote",),
    SensorDataset.UM_FUNDING: ("funding_rate",),
    SensorDataset.UM_OHLCV: ("range_frac",),
    SensorDataset.UM_VOLUMES: ("volume_quote_ratio_2880",),
    SensorDataset.SPOT_OHLCV: ("basis_bps",),
}
"""Columns of `features` that are known where a data set is; the others no source of this system has."""


@dataclass(frozen=True, slots=True)
class Availability:
    """What a run has of one data set.

    Attributes:
        dataset: which.
        content: mean over the run's symbols of the share of bars on which it is known [fraction].
        coverage: share of symbols of which it is known on at least `LEAST_CONTENT` of the bars [fraction].
        lack: why the run cannot use it; empty if it can.
    """

    dataset: SensorDataset
    content: float
    coverage: float
    lack: str

    @property
    def is_available(self) -> bool:
        """Whether mechanisms may be seen in it."""
        return not self.lack


def measure_datasets(features: pl.DataFrame, *, run: ResearchRun) -> Mapping[SensorDataset, Availability]:
    """Measure how much of every data set is there, bar by bar and symbol by symbol.

    A bar that is not in the table counts as one on which nothing is known.

    Args:
        features: table features.
        run: gives symbols, window, chosen data sets and the least share of symbols.

    Returns:
        Every data set, in fixed order.

    Knows:
        which values of train and validation are there, not what they are; nothing of test.
    """
    start, end = run.splits[Split.TRAIN].start, run.splits[Split.VALIDATION].end
    counts = (
        features.lazy()
        .filter(pl.col("known_at") > start, pl.col("known_at") <= end)
        .group_by("symbol")
        .agg(pl.all_horizontal(pl.col(columns).is_not_null()).sum().alias(name) for name, columns in _KNOWN.items())
        .collect()
    )
    n_bars, by_symbol = (end - start) // BAR, {row["symbol"]: row for row in counts.to_dicts()}
    nothing = dict.fromkeys(_KNOWN, 0)
    rows = [by_symbol.get(symbol, nothing) for symbol in run.symbol_list]
    return {name: _judged(name, [row.get(name, 0) / n_bars for row in rows], run) for name in SensorDataset}


def _judged(dataset: SensorDataset, shares: list[float], run: ResearchRun) -> Availability:
    n_covered = sum(share >= LEAST_CONTENT for share in shares)
    coverage = n_covered / len(shares)
    lack = ""
    if dataset not in _KNOWN:
        lack = f"{dataset}: no source of this system has it"
    elif dataset not in run.sensor_datasets:
        lack = f"{dataset}: left out by hypothesis_datasets {run.hypothesis_datasets}"
    elif coverage < run.hypothesis_min_symbol_coverage:
        lack = (
            f"{dataset}: known on at least {LEAST_CONTENT:.0%} of the bars for {n_covered} of {len(shares)} symbols, "
            f"{run.hypothesis_min_symbol_coverage:.0%} needed"
        )
    return Availability(dataset, sum(shares) / len(shares), coverage, lack)

"""Funding as a slow reader sees it: every rank counted anew from the thirty days before a settlement."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets_tests.properties.random_market import RandomMarket
from backtest_assets_tests.research.events.evidence import fates


def with_restless_funding(market: RandomMarket) -> RandomMarket:
    """The market with funding that jumps from settlement to settlement, so that extremes end at once."""
    rates = np.random.default_rng(1).standard_t(3, market.funding.height) * 1e-4
    return replace(market, funding=market.funding.with_columns(funding_rate=pl.Series(rates)))


class SlowCrowd:
    """Settlements of one symbol of a market and the rows its events must have."""

    def __init__(self, market: RandomMarket, symbol: str) -> None:
        funding = market.funding.filter(pl.col("symbol") == symbol).sort("settled_at")
        features = market.features.filter(pl.col("symbol") == symbol)
        self.symbol = symbol
        self.at = funding["settled_at"].to_list()
        self.rate = funding["funding_rate"].to_list()  # every interval is 8 h
        self.size = [abs(rate) for rate in self.rate]
        self.opens = features["open_at"].to_list()
        self.quality = features["coverage_2880"].to_list()

    def past(self, values: list[float], i: int) -> list[float]:
        return [
            values[j] for j in range(i) if self.at[j] >= self.at[i] - timedelta(days=30) and not math.isnan(values[j])
        ]

    def rank(self, values: list[float], i: int) -> float:
        """Share of the 30 days before that is strictly smaller; NaN where 10 days of them are not known."""
        past = self.past(values, i)
        return sum(value < values[i] for value in past) / len(past) if len(past) >= 30 else math.nan

    def row(self, i: int) -> int:
        """The bar that closes at a settlement; all are on the grid."""
        return (self.at[i] - self.opens[0]) // BAR - 1

    def window(self, i: int) -> tuple[int, int, float]:
        return self.row(i), self.row(i) + 96, self.quality[self.row(i)]

    def rows(self, spells: list[tuple[int, int, int]]) -> list[tuple[object, ...]]:
        """(onset, known, payer) -> onset_at, known_at, exit_at, side, status."""
        statuses = fates([self.window(known) for _, known, _ in spells])
        last = self.opens[-1] + BAR
        return [
            (
                self.at[onset] - BAR,
                self.at[known],
                self.at[known] + 96 * BAR if self.at[known] + 96 * BAR <= last else None,
                -1 if self.rate[payer] > 0 else 1,
                status,
            )
            for (onset, known, payer), status in zip(spells, statuses, strict=True)
        ]

    def as_rows(self, found: pl.DataFrame) -> list[tuple[object, ...]]:
        mine = found.filter(pl.col("symbol") == self.symbol)
        return mine.select("onset_at", "known_at", "exit_at", "side", "status").rows()

"""Means of the trades of every cell: family, condition, variant, delay, hold and split. Keep tests of the means out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import polars as pl

from backtest_assets.research.hypotheses.criteria import EXCURSION_QUANTILE

CellKey: TypeAlias = tuple[str, str, str, int, int, str]
"""event_type, condition, variant, delay_bars, hold_bars, split."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Trades of one cell, in the direction of the rule `long` or `with_event`.

    Attributes:
        n: trades.
        gross: mean before costs and funding [bps]; NaN without trades, as the others.
        pnl: mean net of funding, before costs [bps].
        adverse: 95th percentile of the worst move against the position [bps].
        favourable: 95th percentile of the best move for it [bps].
    """

    n: int
    gross: float
    pnl: float
    adverse: float
    favourable: float


NOTHING: Final = Cell(0, math.nan, math.nan, math.nan, math.nan)
"""A cell without trades."""

_KEY: Final = ("event_type", "variant", "delay_bars", "hold_bars", "split")


def measure_cells(trades: pl.DataFrame, conditions: Sequence[str]) -> Mapping[CellKey, Cell]:
    """Average the trades of every cell.

    Args:
        trades: frame of `priced_trades`, in its order.
        conditions: names of its condition columns.

    Returns:
        Every cell that has a trade.

    Knows:
        outcomes of train and validation.
    """
    cells: dict[CellKey, Cell] = {}
    for name in conditions:
        rows = (
            trades.filter(pl.col(name))
            .group_by(_KEY, maintain_order=True)
            .agg(
                pl.len(),
                pl.col("gross", "pnl").mean(),
                pl.col("adverse", "favourable").quantile(EXCURSION_QUANTILE, "linear"),
            )
        )
        for family, variant, delay, hold, split, *values in rows.iter_rows():
            cells[family, name, variant, delay, hold, split] = Cell(*values)
    return cells

"""The P&L of every cell booked to the UTC days on which it accrued. Keep its test out (`inference`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses.rules import Base
from backtest_assets.stats.clustered import day_matrix


@dataclass(frozen=True, slots=True)
class DaySums:
    """Day sums of every (family, condition, delay, hold) on one split, in the direction of `long` or `with_event`.

    Attributes:
        row_of: row of each (family, condition, delay, hold).
        sums: (n_rows, n_days) P&L net of funding and drift, before costs [bps of notional].
        shares: (n_rows, n_days) part of the holds that fell on each day [trades].
        n_entry_days: (n_rows,) days on which a trade was entered [days].
    """

    row_of: Mapping[Base, int]
    sums: NDArray[np.float64]
    shares: NDArray[np.float64]
    n_entry_days: NDArray[np.int64]


def book_days(trades: pl.DataFrame, conditions: Sequence[str], *, run: ResearchRun, split: Split) -> DaySums:
    """Book the centre trades of one split, entered at the run's entry delays, to days.

    Drift is booked by share of the hold. Costs are not booked here: a trade's cost is a constant, so it is booked by
    share too; then it moves the mean and adds no scatter of its own, and a short is exactly a mirrored long.

    Args:
        trades: frame of `priced_trades`, in its order.
        conditions: names of its condition columns.
        run: gives families, entry delays and window.
        split: which split.

    Returns:
        One row per family, condition, entry delay and hold of the grid; all 0 where nothing was traded.

    Raises:
        TableError: if a trade has no accrual or accrues outside its split.

    Knows:
        outcomes of the split.
    """
    window = run.splits[split]
    cells = [(f.value, delay, hold) for f in run.event_types for delay in run.entry_delays for hold in HOLD_GRID_BARS]
    index = pl.DataFrame(
        [(*cell, number) for number, cell in enumerate(cells)],
        schema={"event_type": pl.String, "delay_bars": pl.Int32, "hold_bars": pl.Int32, "cell": pl.Int64},
        orient="row",
    )
    booked = _accruals(trades.filter(pl.col("split") == split), index, first_day=window.start.date())
    outside = booked.filter(~pl.col("day").is_between(0, window.n_days - 1).fill_null(value=False))
    if not outside.is_empty():
        message = (
            f"table event_outcomes, run {run.run_id}: event {outside['event_id'][0]} has no accrual inside {split} "
            f"{window.start:%Y-%m-%d}..{window.end:%Y-%m-%d}; measure the outcomes again with this run's settings"
        )
        raise TableError(message)
    parts = [
        booked.filter(pl.col(name)).select(
            "day", "pnl", "share", row=pl.col("cell") * len(conditions) + number, entered=pl.col("entered_at").dt.date()
        )
        for number, name in enumerate(conditions)
    ]
    entries = pl.concat(parts)
    rows, days = entries["row"].to_numpy(), entries["day"].to_numpy()
    size = len(cells) * len(conditions)
    entered = entries.group_by("row").agg(pl.col("entered").n_unique())
    n_entry_days = np.zeros(size, dtype=np.int64)
    n_entry_days[entered["row"].to_numpy()] = entered["entered"].to_numpy()
    return DaySums(
        {
            (family, name, delay, hold): number * len(conditions) + place
            for number, (family, delay, hold) in enumerate(cells)
            for place, name in enumerate(conditions)
        },
        day_matrix(rows, days, entries["pnl"].to_numpy(), n_hypotheses=size, n_days=window.n_days),
        day_matrix(rows, days, entries["share"].to_numpy(), n_hypotheses=size, n_days=window.n_days),
        n_entry_days,
    )


def accrue(trades: pl.DataFrame, *, number: pl.Series, first_day: object) -> pl.DataFrame:
    """Spread trades over the UTC days on which their P&L accrued.

    Args:
        trades: rows of `priced_trades`.
        number: names each trade, in the order of the rows.
        first_day: day 0.

    Returns:
        The columns of `trades`, one row per trade and day: `trade`, `day` [days from day 0], `pnl` net of funding and
        drift, before costs, in the direction of `long` or `with_event` [bps of notional], `share` of the hold.

    Knows:
        outcomes of the trades.
    """
    lists = ["accrual_day", "accrual_bps", "accrual_share"]
    share, day = pl.col("accrual_share"), (pl.col("accrual_day") - pl.lit(first_day)).dt.total_days()
    return (
        trades.with_columns(trade=number)
        .explode(lists, empty_as_null=True, keep_nulls=True)
        .with_columns(
            # A settlement at the very exit may fall on a day of which nothing was held: it belongs to the last day held.
            day=pl.when(share > 0).then(day).forward_fill().over("trade"),
            pnl=pl.col("direction") * pl.col("accrual_bps") - pl.col("drift") * share,
            share=share,
        )
    )


def _accruals(trades: pl.DataFrame, index: pl.DataFrame, *, first_day: object) -> pl.DataFrame:
    centre = trades.filter(pl.col("variant") == Variant.CENTRE)
    held = centre.join(index, on=["event_type", "delay_bars", "hold_bars"], how="inner", maintain_order="left")
    return accrue(held, number=pl.int_range(held.height, eager=True), first_day=first_day)

"""Open interest and liquidations beside the bars of a month; both are optional, and what is unknown stays null."""

from collections.abc import Collection
from datetime import date, timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, MINUTE_US
from backtest_assets.errors import TableError
from backtest_assets.research.bars.admit import RawRows
from backtest_assets.tables.bars import POSITIONING_UM
from backtest_assets.tables.raw import RAW_UM_LIQUIDATIONS, RAW_UM_OPEN_INTEREST

PUBLISHED_AFTER: Final = timedelta(minutes=5)
"""The exchange publishes a snapshot within its 5 minutes; when exactly is not recorded, so it is known at their end."""

_LONG, _SHORT = "SELL", "BUY"  # the order that closes a long, and a short
_KEY: Final = ("symbol", "open_at")


def build_positioning(
    bars: pl.DataFrame,
    open_interest: pl.DataFrame,
    liquidations: pl.DataFrame,
    *,
    liquidation_days: Collection[date],
    max_age_min: float,
) -> pl.DataFrame:
    """Lay open interest and the bar's liquidations beside every bar.

    Args:
        bars: rows of `bars_um`, gaps included.
        open_interest: rows of `raw_um_open_interest`; may be empty.
        liquidations: rows of `raw_um_liquidations`; may be empty.
        liquidation_days: UTC days whose liquidations are known; without an order on such a day the sums are 0, on other
            days they are null, orders there or not.
        max_age_min: oldest snapshot that a bar may use, counted from the snapshot to the bar's close [min].

    Returns:
        Rows of `positioning_um`, one per bar.

    Raises:
        TableError: if rows of one key contradict each other, or an order has another side than BUY and SELL or no value.

    Knows:
        snapshots with snapshot_at + 5 minutes <= known_at, and orders filled at or after the bar's open and before its
        known_at.
    """
    ground = bars.select(*_KEY, "known_at").sort(_KEY)
    with_interest = _open_interest(ground, RawRows(RAW_UM_OPEN_INTEREST).once(open_interest), max_age_min)
    orders = RawRows(RAW_UM_LIQUIDATIONS).once(liquidations)
    _refuse_unreadable(orders)
    is_covered = pl.col("open_at").dt.date().is_in(list(liquidation_days))
    sums = ("liquidated_long_quote", "liquidated_short_quote", "n_liquidations")
    return POSITIONING_UM.conform(
        with_interest.join(_per_bar(orders), on=_KEY, how="left", maintain_order="left").with_columns(
            pl.when(is_covered).then(pl.col(sums).fill_null(0))
        )
    )


def _open_interest(ground: pl.DataFrame, snapshots: pl.DataFrame, max_age_min: float) -> pl.DataFrame:
    values = ("open_interest_base", "open_interest_quote", "open_interest_age_min")
    published = snapshots.select(
        "symbol", "snapshot_at", *values[:2], published_at=pl.col("snapshot_at") + PUBLISHED_AFTER
    )
    age_min = (pl.col("known_at") - pl.col("snapshot_at")).dt.total_microseconds() / MINUTE_US
    return (
        ground.join_asof(
            published,
            left_on="known_at",
            right_on="published_at",
            by="symbol",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(open_interest_age_min=age_min)
        .with_columns(pl.when(pl.col("open_interest_age_min") <= max_age_min).then(pl.col(values)))
        .select(ground.columns + list(values))
    )


def _per_bar(orders: pl.DataFrame) -> pl.DataFrame:
    def closed_by(side: str) -> pl.Expr:
        return pl.col("notional_quote").filter(pl.col("order_side") == side).sum()

    return orders.group_by("symbol", open_at=pl.col("liquidated_at").dt.truncate(BAR), maintain_order=True).agg(
        liquidated_long_quote=closed_by(_LONG),
        liquidated_short_quote=closed_by(_SHORT),
        n_liquidations=pl.len().cast(pl.Int64),
    )


def _refuse_unreadable(orders: pl.DataFrame) -> None:
    readable = pl.col("order_side").is_in([_LONG, _SHORT]) & pl.col("notional_quote").is_finite()
    unreadable = orders.filter(~readable.fill_null(value=False))
    if not unreadable.is_empty():
        row = unreadable.row(0, named=True)
        message = (
            f"{RAW_UM_LIQUIDATIONS.name}: {unreadable.height} orders have no side BUY or SELL, or no value, first "
            f"{row['symbol']} at {row['liquidated_at']}: side {row['order_side']}, notional {row['notional_quote']}; mend "
            "the source and ingest the month again"
        )
        raise TableError(message)

"""Candidates of symbols that may not be traded at the time are dropped; which those are is the universe's business."""

import polars as pl

from backtest_assets.research.events.definition import IS_ACCEPTED, Status
from backtest_assets.tables.events import EVENT_CANDIDATES


def drop_ineligible(candidates: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """Give accepted candidates of symbols that are not eligible in their month the fate `not_in_universe`.

    Args:
        candidates: rows of `event_candidates`.
        universe: rows of `universe`; a symbol and month without a row is not eligible.

    Returns:
        The rows of `candidates`; a candidate known before its month's universe is known is not eligible either.

    Knows:
        the universe of the month of known_at, which is known before the month's first bar closes.
    """
    of_month = universe.filter("is_eligible").select("symbol", month="month", eligible_from="known_at")
    is_eligible = pl.col("eligible_from").is_not_null() & (pl.col("eligible_from") <= pl.col("known_at"))
    is_dropped = IS_ACCEPTED & ~is_eligible
    return EVENT_CANDIDATES.conform(
        candidates.with_columns(month=pl.col("known_at").dt.strftime("%Y-%m"))
        .join(of_month, on=["symbol", "month"], how="left", maintain_order="left")
        .with_columns(
            pl.when(is_dropped).then(pl.lit(Status.NOT_IN_UNIVERSE.value)).otherwise("status").alias("status")
        )
        .drop("month", "eligible_from")
    )

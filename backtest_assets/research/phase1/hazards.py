"""The phase1_hazards table: at which age events and controls first move by a daily sigma. Keep decisions out."""

from typing import Final

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.outcomes.barriers import WATCHED_BARS
from backtest_assets.stats.survival import survival_curve
from backtest_assets.tables.phase1 import PHASE1_HAZARDS

COHORTS: Final = ("events", "controls")
HITS: Final = ("up", "down", "either")
"""Which barrier is waited for; an observation hit by the other one stays at risk."""


def build_hazards(barriers: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    """Count hits and observations at risk by age, on train.

    Args:
        barriers: rows of `event_barriers`.
        run: gives the families.

    Returns:
        Rows of `phase1_hazards`: every family of the run, cohort and outcome, ages 1 to 96; hazard and survival are null
        where nobody is at risk.

    Knows:
        outcomes of train.
    """
    train = barriers.filter(pl.col("split") == Split.TRAIN.value).with_columns(
        cohort=pl.when(pl.col("control_no") == 0).then(pl.lit("events")).otherwise(pl.lit("controls")),
        up=pl.col("up_bars"),
        down=pl.col("down_bars"),
        either=pl.min_horizontal("up_bars", "down_bars"),
    )
    frames = [
        _curve(
            train.filter(pl.col("event_type") == family.value, pl.col("cohort") == cohort), family.value, cohort, hit
        )
        for family in run.event_types
        for cohort in COHORTS
        for hit in HITS
    ]
    return PHASE1_HAZARDS.conform(pl.concat(frames))


def _curve(rows: pl.DataFrame, family: str, cohort: str, hit: str) -> pl.DataFrame:
    hit_at, watched = (rows[name].fill_null(0).cast(pl.Int64).to_numpy() for name in (hit, "bars_watched"))
    curve = survival_curve(hit_at, watched, WATCHED_BARS)
    return pl.DataFrame(
        {
            "n_at_risk": curve.n_at_risk,
            "n_hits": curve.n_hits,
            "hazard": pl.Series(curve.hazard, nan_to_null=True),
            "survival": pl.Series(curve.survival, nan_to_null=True),
        }
    ).with_columns(
        event_type=pl.lit(family),
        cohort=pl.lit(cohort),
        outcome=pl.lit(hit),
        age_bars=pl.int_range(1, WATCHED_BARS + 1, dtype=pl.Int32),
    )

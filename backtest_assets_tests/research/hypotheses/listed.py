"""Tested hypotheses without a market, and the ledgers of runs that tried them: for what counts trials."""

import json
from collections.abc import Sequence

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.hypotheses.trials import list_trials
from backtest_assets.tables.hypotheses import HYPOTHESES
from backtest_assets_tests.research.hypotheses.world import make_run


def eligible_of(ids: Sequence[str], *, luckiest: float = 2.0, k: float = 1.0) -> pl.DataFrame:
    """Eligible hypotheses whose penalty says what the luckiest shows; each with two other delays and two neighbours."""
    se = pl.int_range(1, len(ids) + 1).cast(pl.Float64) / 3
    delays = {str(d): {"mean_bps": 5.0 - d, "is_applicable": True} for d in (0, 1, 4)}
    return HYPOTHESES.conform(
        HYPOTHESES.sample(1, len(ids)).with_columns(
            pl.Series("hypothesis_id", ids),
            event_type=pl.lit("vol_shock_relaxation"),
            is_eligible=pl.lit(value=True),
            delay_bars=pl.lit(0, HYPOTHESES.schema["delay_bars"]),
            se_train_bps=se,
            multiplicity_penalty_bps=k * se * luckiest,
            delay_means_json=pl.lit(json.dumps(delays)),
            curvature_means_json=pl.lit(json.dumps({"centre": 5.0, "rate_minus": 4.0, "hold_3": None})),
        )
    )


def run_of(run_id: str, **settings: object) -> ResearchRun:
    return make_run(500, run_id=run_id, **settings)


def ledger_of(run_id: str, ids: Sequence[str], data: str = "d1", *, luckiest: float = 2.0, **settings: object):
    """The ledger of a run as every reader of all runs sees it."""
    frame = list_trials(eligible_of(ids, luckiest=luckiest), data, run=run_of(run_id, **settings))
    return frame.with_columns(of_run_id=pl.lit(run_id), ledger_digest=pl.lit(f"{run_id}-{data}"))

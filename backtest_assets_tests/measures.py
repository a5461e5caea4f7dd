"""Measures of market_context for markets that are made by hand."""

import numpy as np
import polars as pl

from backtest_assets.research.events.thresholds import MEASURES


def unknown_measures() -> dict[str, pl.Expr]:
    """Every measure null: no threshold holds anywhere."""
    return {name: pl.lit(None, pl.Float64) for name in MEASURES}


def random_measures(n_bars: int, rng: np.random.Generator, *, spell: int = 50) -> dict[str, pl.Series]:
    """Every measure in steps of `spell` bars, spread so that each declared threshold holds now and then; a tenth null."""
    spread = {
        "funding_persistence_age_h": (0.0, 48.0),
        "basis_z_96": (-2.0, 2.0),
        "volume_quote_ratio_2880": (0.0, 4.0),
    }
    spread["open_interest_log_change_96"] = (-0.1, 0.1)
    made: dict[str, pl.Series] = {}
    for name in MEASURES:
        low, high = spread.get(name, (0.001, 1.0))
        steps = rng.uniform(low, high, n_bars // spell + 1)
        steps[rng.random(steps.size) < 0.1] = np.nan
        made[name] = pl.Series(name, np.repeat(steps, spell)[:n_bars], nan_to_null=True)
    return made

"""On markets whose prices are martingales nobody who pays funding, crosses the spread or bends the basis foretells them."""

import numpy as np
import polars as pl
import pytest

from backtest_assets.research.events.families import (
    cross_venue_desync,
    directional_exhaustion_after_forced_flow,
    funding_acceleration,
    funding_extreme_onset,
    funding_normalization,
    funding_persistence_window,
)
from backtest_assets_tests.research.events.evidence import driftless_view, forward_means

SEEDS = range(60)
FAMILIES = {
    "flow": (directional_exhaustion_after_forced_flow, directional_exhaustion_after_forced_flow.ForcedFlow()),
    "moves": (directional_exhaustion_after_forced_flow, directional_exhaustion_after_forced_flow.ForcedFlow()),
    "desync": (cross_venue_desync, cross_venue_desync.Desync()),
    "onset": (funding_extreme_onset, funding_extreme_onset.FundingOnset()),
    "acceleration": (funding_acceleration, funding_acceleration.FundingAcceleration()),
    "persistence": (funding_persistence_window, funding_persistence_window.FundingPersistence()),
    "normalization": (funding_normalization, funding_normalization.FundingNormalization()),
}


@pytest.fixture(scope="module")
def means() -> pl.DataFrame:
    """Mean forward return per family, seed and kind."""
    rows: list[dict[str, object]] = []
    for seed in SEEDS:
        view = driftless_view(seed)
        without_takers = type(view)(
            view.bars.with_columns(taker_buy_base=pl.lit(None, dtype=pl.Float64)), view.features, view.funding
        )
        for family, (module, params) in FAMILIES.items():
            seen = without_takers if family == "moves" else view
            found = module.detect(seen, params=params)
            kinds = forward_means(seen, found).items()
            rows += [
                {"family": family, "seed": seed, "kind": kind, "mean": mean, "n": found.height} for kind, mean in kinds
            ]
    return pl.DataFrame(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_forward_return_differs_from_zero(means, family):
    mine = means.filter(pl.col("family") == family)
    told = mine.group_by("kind", maintain_order=True).agg(
        n_seeds=pl.len(), n_events=pl.col("n").sum(), t=pl.col("mean").mean() / pl.col("mean").std() * pl.len().sqrt()
    )
    print(told)  # noqa: T201  # seen with pytest -s
    assert 4 == told.height
    assert told["n_seeds"].min() >= 30
    assert np.abs(told["t"].to_numpy()).max() < 3

"""Shuffled sets: how often a test of matched sets rejects when nothing but a draw says which member is the case.

Within a set the members are then alike, so a sound test rejects at its level. Keep the test itself out (`matched.py`), and
what follows from its rate (`research/hypotheses/queue`).
"""

import math

import numpy as np

from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.matched import adjusted_p, set_differences

N_DRAWS_PER_SHUFFLE = 59
"""Draws of the bootstrap within each shuffle [draws]: (n + 1) times .05 is whole, so that the p of few draws is exact."""


def shuffled_rejections(
    values: FloatArray,
    clusters: IntArray,
    days: IntArray,
    rng: np.random.Generator,
    *,
    level: float,
    n_shuffles: int,
    n_draws: int = N_DRAWS_PER_SHUFFLE,
) -> float:
    """Draw which member of each set is the case, all sets of a day by one draw, and test every such shuffle.

    Args:
        values: (n_sets, n_members, n_metrics), member 0 the case, NaN = missing.
        clusters: of the test, as `compare_sets` takes them.
        days: (n_sets,) sets of one day are drawn together, whatever clusters the test uses.
        rng: source of the shuffles and of the signs of each one's own bootstrap.
        level: of the adjusted p of the clearest metric [probability].
        n_shuffles: shuffles, at least 1 [shuffles].
        n_draws: draws of the bootstrap within each shuffle [draws].

    Returns:
        Share of the shuffles with an adjusted p at or below `level` for any metric. Given the sets, shuffles are independent.
        NaN without a set that counts.

    Raises:
        ValueError: if shapes do not fit, or `n_shuffles` or `n_draws` is below 1.

    Source:
        Randomisation of matched sets (Rosenbaum 2002, chapter 2), by whole clusters, of the test in `matched`.
    """
    if n_shuffles < 1:
        message = f"n_shuffles is {n_shuffles}; give at least 1"
        raise ValueError(message)
    of_member, size = _as_case(values)
    if not size.any():
        return math.nan
    known, number = np.unique(days, return_inverse=True)
    rejected = 0
    for _ in range(n_shuffles):
        place = np.floor(rng.random(known.size)[number][:, np.newaxis] * size).astype(np.int64)
        differences = np.take_along_axis(of_member, place[:, np.newaxis], axis=1)[:, 0]
        rejected += bool(adjusted_p(differences, clusters, rng, n_draws=n_draws).min() <= level)
    return rejected / n_shuffles


def _as_case(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the difference of every present member of a set that counts, as if it were the case, and their number.

    Shapes (n_sets, n_members, n_metrics), present members first, NaN behind them, and (n_sets, n_metrics).
    """
    is_counted = ~np.isnan(set_differences(values))
    is_present = ~np.isnan(values) & is_counted[:, np.newaxis]
    size = is_present.sum(axis=1)
    total = np.where(is_present, values, 0.0).sum(axis=1)
    differences = (size[:, np.newaxis] * values - total[:, np.newaxis]) / np.maximum(size - 1, 1)[:, np.newaxis]
    order = np.argsort(~is_present, axis=1, kind="stable")
    return np.take_along_axis(np.where(is_present, differences, np.nan), order, axis=1), size

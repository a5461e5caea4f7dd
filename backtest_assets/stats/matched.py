"""Matched sets: a case beside its controls, compared by their difference, with days or longer blocks as clusters.

A set is one row of `values`: (n_sets, n_members, n_metrics), member 0 is the case, NaN = missing. A set counts for a metric
if its case and at least one control are present. Keep what a metric means, limits and decisions out (`research/phase1`),
and shuffled sets (`shuffled.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import special

from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.bootstrap import N_DRAWS, wild_day_bootstrap
from backtest_assets.stats.clustered import ClusteredMean, accrual_t, day_matrix
from backtest_assets.stats.multiplicity import max_t

_COVERAGE = 0.95
_N_AXES = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cases against their controls, all metrics together; every array is (n_metrics,).

    Attributes:
        n: sets that count [sets].
        case: mean of their cases.
        control: mean of their controls' means.
        difference: mean of case minus its own controls' mean.
        n_clusters: clusters with a set that counts [clusters].
        n_effective: clusters as many as equal ones would weigh, of their sets or of their residuals, whichever are fewer:
            (sum x)^2 / sum x^2; NaN without scatter.
        standard_error: of `difference`, clustered; NaN below two clusters or without scatter.
        low: lower end of the 95 % interval of `difference`, Student's t over the clusters; NaN where the error is.
        high: upper end.
        t: difference over standard error.
        p_family: two-sided p of t, adjusted for all metrics by the largest |t| of each draw; 1 where t is NaN.
    """

    n: IntArray
    case: FloatArray
    control: FloatArray
    difference: FloatArray
    n_clusters: IntArray
    n_effective: FloatArray
    standard_error: FloatArray
    low: FloatArray
    high: FloatArray
    t: FloatArray
    p_family: FloatArray


def set_differences(values: FloatArray) -> FloatArray:
    """Subtract from each case the mean of its own controls.

    Args:
        values: (n_sets, n_members, n_metrics), member 0 the case, NaN = missing.

    Returns:
        (n_sets, n_metrics); NaN where the case or every control is missing.

    Raises:
        ValueError: unless `values` has three axes and at least two members.

    Source:
        Definition.
    """
    _check(values)
    return values[:, 0] - _control_means(values)


def compare_sets(values: FloatArray, clusters: IntArray, rng: np.random.Generator) -> Comparison:
    """Test the mean difference of every metric against 0, clustered, all metrics together.

    Args:
        values: (n_sets, n_members, n_metrics), member 0 the case, NaN = missing.
        clusters: (n_sets,), or (n_sets, n_metrics) if metrics differ in it: sets of one label are one cluster, and one
            sign of the bootstrap is drawn per label, for all metrics that have it.
        rng: source of the bootstrap's signs.

    Returns:
        Means, errors, intervals and adjusted p, one per metric. Metrics without a common label are drawn as if independent,
        which never makes a two-sided p too small (Gaussian correlation inequality: Royen 2014).

    Raises:
        ValueError: if shapes do not fit.

    Source:
        Clustered mean as in `clustered`; wild bootstrap as in `bootstrap`; single-step max-|t| of Westfall and Young (1993).
    """
    differences = set_differences(values)
    tested, shares = _clustered(differences, clusters)
    p_family = _adjusted(tested, shares, rng, N_DRAWS)
    counts = ~np.isnan(differences)
    half = cast("FloatArray", special.stdtrit(np.maximum(tested.n_days - 1, 1).astype(np.float64), (1 + _COVERAGE) / 2))
    half = half * tested.standard_error
    return Comparison(
        counts.sum(axis=0),
        _mean_of(values[:, 0], counts),
        _mean_of(_control_means(values), counts),
        tested.mean,
        tested.n_days,
        np.minimum(_effective(shares), _effective(tested.residuals**2)),
        tested.standard_error,
        tested.mean - half,
        tested.mean + half,
        tested.t,
        p_family,
    )


def adjusted_p(
    differences: FloatArray, clusters: IntArray, rng: np.random.Generator, *, n_draws: int = N_DRAWS
) -> FloatArray:
    """Test the mean of the differences that `set_differences` gives, as `compare_sets` does.

    Args:
        differences: (n_sets, n_metrics), NaN = missing.
        clusters: as in `compare_sets`.
        rng: source of the bootstrap's signs.
        n_draws: draws of the bootstrap, at least 1 [draws].

    Returns:
        (n_metrics,) two-sided p adjusted for all metrics; 1 where t is NaN.

    Raises:
        ValueError: if shapes do not fit or `n_draws` is below 1.

    Source:
        See `compare_sets`.
    """
    return _adjusted(*_clustered(differences, clusters), rng, n_draws)


def count_contradictions(
    differences: FloatArray, clusters: IntArray, partitions: Sequence[IntArray], *, level: float
) -> tuple[IntArray, IntArray]:
    """Count the groups whose own mean difference significantly has the other sign than the mean of all.

    Args:
        differences: (n_sets, n_metrics), NaN = missing.
        clusters: (n_sets,) or (n_sets, n_metrics), as in `compare_sets`.
        partitions: each (n_sets,), the group of every set in one way of dividing them; negative = in none.
        level: one-sided level, shared out over all groups of all partitions (Bonferroni) [probability].

    Returns:
        Two arrays (n_metrics,): groups that could be tested (two clusters and scatter), and those that contradict.

    Raises:
        ValueError: if shapes do not fit.

    Source:
        Bonferroni over clustered t.
    """
    whole = np.sign(np.nan_to_num(np.nansum(differences, axis=0)))
    members = [labels == label for labels in partitions for label in np.unique(labels[labels >= 0])]
    if not members:
        nothing = np.zeros(differences.shape[1], dtype=np.int64)
        return nothing, nothing
    of_groups = np.hstack([np.where(member[:, np.newaxis], differences, np.nan) for member in members])
    labels = np.tile(_by_metric(clusters, differences.shape), (1, len(members)))
    t, p = _t_of(of_groups, labels, (len(members), differences.shape[1]))
    n_tested = np.count_nonzero(~np.isnan(t), axis=0)
    p_opposite = np.where(whole > 0, 1.0 - p, p)
    is_opposite = (p_opposite <= level / np.maximum(n_tested, 1)) & (np.sign(t) == -whole)  # false for NaN
    return n_tested.astype(np.int64), np.count_nonzero(is_opposite, axis=0).astype(np.int64)


def _clustered(differences: FloatArray, clusters: IntArray) -> tuple[ClusteredMean, FloatArray]:
    labels, flat = np.unique(_by_metric(clusters, differences.shape), return_inverse=True)
    number = flat.reshape(differences.shape).astype(np.int64)
    shares = _sums(np.where(np.isnan(differences), np.nan, 1.0), number, labels.size)
    return accrual_t(_sums(differences, number, labels.size), shares), shares


def _adjusted(tested: ClusteredMean, shares: FloatArray, rng: np.random.Generator, n_draws: int) -> FloatArray:
    return max_t(tested.t, wild_day_bootstrap(tested.residuals.T, shares.T, rng, n_draws=n_draws))


def _effective(weights: FloatArray) -> FloatArray:
    """Return how many equal weights are worth as much as each row of weights."""
    squares = (weights * weights).sum(axis=1)
    return weights.sum(axis=1) ** 2 / np.where(squares > 0, squares, np.nan)


def _by_metric(clusters: IntArray, shape: tuple[int, ...]) -> IntArray:
    return np.broadcast_to(clusters[:, np.newaxis] if clusters.ndim == 1 else clusters, shape)


def _t_of(differences: FloatArray, clusters: IntArray, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    tested, _ = _clustered(differences, clusters)
    return tested.t.reshape(shape), tested.p.reshape(shape)


def _sums(differences: FloatArray, number: IntArray, n_clusters: int) -> FloatArray:
    """Return (n_metrics, n_clusters) sums of what is present."""
    n_metrics = differences.shape[1]
    sets, metrics = np.nonzero(~np.isnan(differences))
    return day_matrix(
        metrics, number[sets, metrics], differences[sets, metrics], n_hypotheses=n_metrics, n_days=n_clusters
    )


def _control_means(values: FloatArray) -> FloatArray:
    controls = values[:, 1:]
    n = np.count_nonzero(~np.isnan(controls), axis=1)
    return np.where(n > 0, np.nansum(controls, axis=1) / np.maximum(n, 1), np.nan)


def _mean_of(values: FloatArray, counts: NDArray[np.bool_]) -> FloatArray:
    n = counts.sum(axis=0)
    return np.where(n > 0, np.where(counts, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def _check(values: FloatArray) -> None:
    if values.ndim != _N_AXES or values.shape[1] < 2:  # noqa: PLR2004  # a case and a control
        message = f"values has shape {values.shape}; give (n_sets, n_members, n_metrics) with a case and controls"
        raise ValueError(message)

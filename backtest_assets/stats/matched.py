"""Matched sets: a case beside its controls, compared by their difference, with days as clusters.

A set is one row of `values`: (n_sets, n_members, n_metrics), member 0 is the case, NaN = missing. A set counts for a metric
if its case and at least one control are present. Keep what a metric means, limits and decisions out (`research/phase1`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import special

from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.bootstrap import wild_day_bootstrap
from backtest_assets.stats.clustered import ClusteredMean, accrual_t, day_matrix
from backtest_assets.stats.multiplicity import max_t

N_SHUFFLES = 999
"""Draws of the case [draws]: the standard error of a p of .05 is then .007."""

_COVERAGE = 0.95
_N_AXES = 3
_ROUNDING = 1e-12
"""Relative: a drawn sum this near the data's own is the same sum in another order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cases against their controls, all metrics together; every array is (n_metrics,).

    Attributes:
        n: sets that count [sets].
        case: mean of their cases.
        control: mean of their controls' means.
        difference: mean of case minus its own controls' mean.
        standard_error: of `difference`, days as clusters; NaN below two days or without scatter.
        low: lower end of the 95 % interval of `difference`, Student's t over the days; NaN where the error is.
        high: upper end.
        t: difference over standard error.
        p_family: two-sided p of t, adjusted for all metrics by the largest |t| of each draw; 1 where t is NaN.
    """

    n: IntArray
    case: FloatArray
    control: FloatArray
    difference: FloatArray
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


def compare_sets(values: FloatArray, days: IntArray, rng: np.random.Generator) -> Comparison:
    """Test the mean difference of every metric against 0, days as clusters, all metrics together.

    Args:
        values: (n_sets, n_members, n_metrics), member 0 the case, NaN = missing.
        days: (n_sets,) day of each case; sets of one day are one cluster.
        rng: source of the bootstrap's signs, one per day for all metrics.

    Returns:
        Means, errors, intervals and adjusted p, one per metric.

    Raises:
        ValueError: if shapes do not fit.

    Source:
        Day-clustered mean as in `clustered`; wild bootstrap as in `bootstrap`; single-step max-|t| of Westfall and Young
        (1993).
    """
    differences = set_differences(values)
    tested, shares = _clustered(differences, days)
    counts = ~np.isnan(differences)
    draws = wild_day_bootstrap(tested.residuals.T, shares.T, rng)
    half = cast("FloatArray", special.stdtrit(np.maximum(tested.n_days - 1, 1).astype(np.float64), (1 + _COVERAGE) / 2))
    half = half * tested.standard_error
    return Comparison(
        counts.sum(axis=0),
        _mean_of(values[:, 0], counts),
        _mean_of(_control_means(values), counts),
        tested.mean,
        tested.standard_error,
        tested.mean - half,
        tested.mean + half,
        tested.t,
        max_t(tested.t, draws),
    )


def count_contradictions(
    differences: FloatArray, days: IntArray, partitions: Sequence[IntArray], *, level: float
) -> tuple[IntArray, IntArray]:
    """Count the groups whose own mean difference significantly has the other sign than the mean of all.

    Args:
        differences: (n_sets, n_metrics), NaN = missing.
        days: (n_sets,) day of each set.
        partitions: each (n_sets,), the group of every set in one way of dividing them; negative = in none.
        level: one-sided level, shared out over all groups of all partitions (Bonferroni) [probability].

    Returns:
        Two arrays (n_metrics,): groups that could be tested (two days and scatter), and those that contradict.

    Raises:
        ValueError: if shapes do not fit.

    Source:
        Bonferroni over day-clustered t.
    """
    whole = np.sign(np.nan_to_num(np.nansum(differences, axis=0)))
    members = [labels == label for labels in partitions for label in np.unique(labels[labels >= 0])]
    if not members:
        nothing = np.zeros(differences.shape[1], dtype=np.int64)
        return nothing, nothing
    of_groups = np.hstack([np.where(member[:, np.newaxis], differences, np.nan) for member in members])
    t, p = _t_of(of_groups, days, (len(members), differences.shape[1]))
    n_tested = np.count_nonzero(~np.isnan(t), axis=0)
    p_opposite = np.where(whole > 0, 1.0 - p, p)
    is_opposite = (p_opposite <= level / np.maximum(n_tested, 1)) & (np.sign(t) == -whole)  # false for NaN
    return n_tested.astype(np.int64), np.count_nonzero(is_opposite, axis=0).astype(np.int64)


def shuffled_p(
    values: FloatArray, days: IntArray, rng: np.random.Generator, *, n_draws: int = N_SHUFFLES
) -> FloatArray:
    """Draw which member of each set is the case, all sets of a day by one draw, and see how far the true mean lies out.

    Args:
        values: (n_sets, n_members, n_metrics), member 0 the case, NaN = missing.
        days: (n_sets,) day of each case.
        rng: source of the draws.
        n_draws: draws, at least 1 [draws].

    Returns:
        (n_metrics,) two-sided p of the mean difference, at least 1 / (n_draws + 1); 1 for a metric without sets.

    Raises:
        ValueError: if shapes do not fit or `n_draws` is below 1.

    Source:
        Randomisation test over matched sets (Rosenbaum 2002, chapter 2), by whole clusters.
    """
    _check(values)
    if n_draws < 1:
        message = f"n_draws is {n_draws}; give at least 1"
        raise ValueError(message)
    day_of, n_days = _numbered(days)
    n_parts = math.lcm(*range(2, values.shape[1] + 1))  # a day's draw is one of these parts, whatever the size of a set
    sums = np.stack([_day_sums(_as_case(values, part / n_parts), day_of, n_days) for part in range(n_parts)])
    drawn = rng.integers(0, n_parts, size=(n_draws, n_days))
    each_day = np.arange(n_days)
    found = np.stack([metric[drawn, each_day].sum(axis=1) for metric in np.moveaxis(sums, 1, 0)], axis=1)
    true = np.abs(sums[0].sum(axis=1))
    scale = np.abs(sums).max(axis=0).sum(axis=1)
    return (1 + np.count_nonzero(np.abs(found) >= true - _ROUNDING * scale, axis=0)) / (1.0 + n_draws)


def _as_case(values: FloatArray, place: float) -> FloatArray:
    """Return the differences as if the member at a place of each set's present members [0, 1) were the case."""
    is_counted = ~np.isnan(set_differences(values))
    is_present = ~np.isnan(values) & is_counted[:, np.newaxis]
    size = is_present.sum(axis=1)
    number = np.floor(place * size + _ROUNDING)
    is_case = is_present & (np.cumsum(is_present, axis=1) - 1 == number[:, np.newaxis])
    present = np.where(is_present, values, 0.0)
    case, total = np.where(is_case, values, 0.0).sum(axis=1), present.sum(axis=1)
    return np.where(is_counted, (size * case - total) / np.maximum(size - 1, 1), np.nan)


def _clustered(differences: FloatArray, days: IntArray) -> tuple[ClusteredMean, FloatArray]:
    day_of, n_days = _numbered(days)
    shares = _day_sums(np.where(np.isnan(differences), np.nan, 1.0), day_of, n_days)
    return accrual_t(_day_sums(differences, day_of, n_days), shares), shares


def _t_of(differences: FloatArray, days: IntArray, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    tested, _ = _clustered(differences, days)
    return tested.t.reshape(shape), tested.p.reshape(shape)


def _day_sums(differences: FloatArray, day_of: IntArray, n_days: int) -> FloatArray:
    """Return (n_metrics, n_days) sums of what is present."""
    n_metrics = differences.shape[1]
    sets, metrics = np.nonzero(~np.isnan(differences))
    return day_matrix(metrics, day_of[sets], differences[sets, metrics], n_hypotheses=n_metrics, n_days=n_days)


def _control_means(values: FloatArray) -> FloatArray:
    controls = values[:, 1:]
    n = np.count_nonzero(~np.isnan(controls), axis=1)
    return np.where(n > 0, np.nansum(controls, axis=1) / np.maximum(n, 1), np.nan)


def _mean_of(values: FloatArray, counts: NDArray[np.bool_]) -> FloatArray:
    n = counts.sum(axis=0)
    return np.where(n > 0, np.where(counts, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def _numbered(days: IntArray) -> tuple[IntArray, int]:
    known, number = np.unique(days, return_inverse=True)
    return number.astype(np.int64), known.size


def _check(values: FloatArray) -> None:
    if values.ndim != _N_AXES or values.shape[1] < 2:  # noqa: PLR2004  # a case and a control
        message = f"values has shape {values.shape}; give (n_sets, n_members, n_metrics) with a case and controls"
        raise ValueError(message)

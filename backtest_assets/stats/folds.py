"""Combinatorial purged folds of observations that each take a while to be known; what is fitted on them stays out."""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from backtest_assets.stats.arrays import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class Fold:
    """One way to fit and to test.

    Attributes:
        train: (n_train,) positions of the observations that may be fitted on, ascending.
        test: (n_test,) positions of those it is tested on, ascending.
    """

    train: IntArray
    test: IntArray


def combinatorial_folds(
    starts: IntArray, ends: IntArray, *, n_groups: int, n_test_groups: int, embargo: int
) -> tuple[Fold, ...]:
    """Cut observations into groups in time and test on every choice of so many of them.

    An observation is left out of train if its span meets that of any test observation of one contiguous block of test groups,
    and also if it starts no more than `embargo` after the last of them is known.

    Args:
        starts: (n,) first instant of each observation, ascending [bars].
        ends: (n,) last instant it depends on, never before its start [bars].
        n_groups: groups, as equal in size as can be, the first larger [groups].
        n_test_groups: of these, those tested at a time; at least 1, fewer than `n_groups` [groups].
        embargo: further bars after a test block [bars].

    Returns:
        C(n_groups, n_test_groups) folds, in the order of `itertools.combinations`.

    Raises:
        ValueError: if the arrays are not of one length or out of order, or there are fewer observations than groups.

    Source:
        Lopez de Prado (2018), "Advances in financial machine learning", chapters 7 and 12; the embargo comes after the purge.
    """
    _check(starts, ends, n_groups, n_test_groups, embargo)
    groups = np.array_split(np.arange(starts.size), n_groups)
    return tuple(
        _fold(starts, ends, groups, chosen, embargo) for chosen in combinations(range(n_groups), n_test_groups)
    )


def n_paths(n_groups: int, n_test_groups: int) -> int:
    """Return how many times each group is tested, which is how many whole paths the folds make up."""
    return comb(n_groups - 1, n_test_groups - 1)


def _fold(starts: IntArray, ends: IntArray, groups: list[IntArray], chosen: tuple[int, ...], embargo: int) -> Fold:
    is_test = np.zeros(starts.size, dtype=bool)
    for group in chosen:
        is_test[groups[group]] = True
    return Fold(np.flatnonzero(~is_test & ~_is_close(starts, ends, is_test, embargo)), np.flatnonzero(is_test))


def _is_close(starts: IntArray, ends: IntArray, is_test: BoolArray, embargo: int) -> BoolArray:
    """Say of every observation whether it meets a contiguous block of test observations or its embargo."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_test, [False])).astype(np.int8)))
    is_close = np.zeros(starts.size, dtype=bool)
    for first, beyond in edges.reshape(-1, 2):
        known = ends[first:beyond].max()
        is_close |= (ends >= starts[first]) & (starts <= known + embargo)
    return is_close


def _check(starts: IntArray, ends: IntArray, n_groups: int, n_test_groups: int, embargo: int) -> None:
    if (
        starts.ndim != 1
        or starts.shape != ends.shape
        or bool((np.diff(starts) < 0).any())
        or bool((ends < starts).any())
    ):
        message = f"starts {starts.shape} and ends {ends.shape} must be of one length, starts ascending, no end before its start"
        raise ValueError(message)
    if not 1 <= n_test_groups < n_groups <= starts.size or embargo < 0:
        message = (
            f"n_groups is {n_groups}, n_test_groups {n_test_groups}, embargo {embargo} and there are {starts.size} observations; "
            "test at least one group and fewer than all, each with an observation, and give 0 or more bars of embargo"
        )
        raise ValueError(message)

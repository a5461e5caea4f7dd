"""Combinatorial purged folds against published numbers and a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.stats.folds import combinatorial_folds, n_paths


@pytest.mark.parametrize(
    ("n_groups", "n_test", "n_folds", "paths"), [(6, 2, 15, 5), (10, 2, 45, 9), (10, 8, 45, 36), (12, 2, 66, 11)]
)
def test_folds_and_paths_are_as_many_as_published(n_groups: int, n_test: int, n_folds: int, paths: int):
    rows = np.arange(60)
    folds = combinatorial_folds(rows, rows, n_groups=n_groups, n_test_groups=n_test, embargo=0)
    assert (n_folds, paths) == (len(folds), n_paths(n_groups, n_test))
    tested = np.bincount(np.concatenate([fold.test for fold in folds]))
    assert set(tested) == {paths}


def test_the_embargo_comes_after_the_purge_as_in_skfolio():
    """skfolio 1.12.2, CombinatorialPurgedCV(6, 2, purged_size=5, embargo_size=10), 600 rows, split 7 (statistics.md, C8)."""
    rows = np.arange(600)
    fold = combinatorial_folds(rows, rows + 5, n_groups=6, n_test_groups=2, embargo=10)[7]
    assert [100, 199, 400, 499] == [fold.test[0], fold.test[99], fold.test[100], fold.test[199]]
    assert (360, 106_620) == (fold.train.size, fold.train.sum())


@given(
    lengths=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=6, max_size=40),
    n_groups=st.integers(2, 6),
    embargo=st.integers(0, 5),
    data=st.data(),
)
def test_every_fold_is_that_of_a_plain_loop(lengths: list[tuple[int, int]], n_groups: int, embargo: int, data):
    n_test = data.draw(st.integers(1, n_groups - 1))
    starts = np.cumsum([step for step, _ in lengths])
    ends = starts + np.array([held for _, held in lengths])
    for fold in combinatorial_folds(starts, ends, n_groups=n_groups, n_test_groups=n_test, embargo=embargo):
        test = set(fold.test.tolist())
        blocks: list[list[int]] = []
        for i in sorted(test):
            if blocks and blocks[-1][-1] == i - 1:
                blocks[-1].append(i)
            else:
                blocks.append([i])
        kept = []
        for i in range(starts.size):
            spans = [(starts[b[0]], max(ends[j] for j in b)) for b in blocks]
            if i not in test and all(ends[i] < first or starts[i] > last + embargo for first, last in spans):
                kept.append(i)
        assert kept == fold.train.tolist()


@pytest.mark.parametrize(
    ("starts", "ends", "settings", "said"),
    [
        ([1, 0], [1, 1], {}, "ascending"),
        ([0, 1], [0, 0], {}, "no end before its start"),
        ([0, 1], [0], {}, "one length"),
        ([0, 1], [0, 1], {"n_test_groups": 2}, "fewer than all"),
        ([0, 1], [0, 1], {"n_test_groups": 0}, "at least one"),
        ([0, 1], [0, 1], {"n_groups": 3}, "2 observations"),
        ([0, 1], [0, 1], {"embargo": -1}, "embargo -1"),
    ],
)
def test_what_cannot_be_cut_is_refused(starts, ends, settings, said: str):
    with pytest.raises(ValueError, match=said):
        combinatorial_folds(
            np.array(starts), np.array(ends), **{"n_groups": 2, "n_test_groups": 1, "embargo": 0, **settings}
        )

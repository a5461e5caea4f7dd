"""A small part of what `make truth` measures, and that its judges can say no."""

import math
from dataclasses import replace

import numpy as np
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets_tests.truth import measure, recipe

VOL = EventType.VOL_SHOCK_RELAXATION
NOTHING = recipe.Found(
    on_train=False, confirmed=False, right=False, false=False, means=(10.0, math.nan, math.nan, math.nan)
)


def test_table_2_is_kept_on_a_few_markets():
    told = recipe.sized([cell for seed in range(12) for cell in recipe.size_cells(seed)])
    assert told.height == 4 * len(recipe.TABLE_2)
    assert told.filter(~told["is_kept"]).rows() == []


def test_a_test_that_takes_copies_for_evidence_breaks_table_2():
    # Each sample's days nine times: the t grows threefold.
    cells = [cell for seed in range(12) for cell in recipe.size_cells(seed)]
    copied = [(name, np.tile(sums, 9), np.tile(shares, 9)) for name, sums, shares in cells]
    assert not recipe.sized(copied)["is_kept"].all()


def test_table_3_is_kept_on_a_few_markets():
    nulls = recipe.judged_nulls({0.0: [measure.one_null((0.0, 50_000 + seed)) for seed in range(6)]})
    assert nulls["is_kept"].all()
    edges = [measure.one_edge((VOL, 5.8, 10_000 + seed)) for seed in range(5)]
    assert sum(one.right for one in edges) >= 4
    assert sum(one.false for one in edges) <= 1


def test_too_many_false_finds_and_too_few_right_ones_are_told():
    lucky = replace(NOTHING, on_train=True)
    assert recipe.judged_nulls({12.0: [NOTHING] * 40})["is_kept"].to_list() == [True]
    assert recipe.judged_nulls({12.0: [lucky] * 10 + [NOTHING] * 30})["is_kept"].to_list() == [False]
    right = replace(NOTHING, right=True, means=(10.0, 12.0, 11.0, 9.0))
    told = recipe.judged_planted([[right] * 20] * 5 + [[NOTHING] * 20])
    assert told["is_kept"].to_list() == [True] * 5 + [False]
    assert told.row(0, named=True)["bias_train"] == pytest.approx(0.2)
    assert math.isnan(told.row(5, named=True)["bias_train"])


def test_a_plant_has_its_strength_and_a_market_without_one_no_mean():
    strong, none = measure.one_edge((VOL, 8.0, 3)), measure.one_null((12.0, 3))
    assert strong.right
    truth, train, shrunken, _ = strong.means
    assert truth == pytest.approx(train, rel=0.5)
    assert shrunken < train
    assert not none.right
    assert math.isnan(none.means[1])

import polars as pl
import pytest

from backtest_assets.errors import TableError
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.contract import Table
from backtest_assets.tables.registry import TABLES

ALL = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))


@ALL
def test_a_sample_is_always_valid(table: Table):
    for seed in range(5):
        assert table.violations(table.sample(seed)).is_empty()


@ALL
def test_conform_changes_nothing_the_second_time(table: Table):
    once = table.conform(table.sample(1))
    assert once.equals(table.conform(once))
    assert once.equals(table.conform(once.lazy()))


@ALL
def test_row_order_and_column_order_do_not_matter(table: Table):
    frame = table.sample(2)
    shuffled = frame.select(reversed(frame.columns)).sample(fraction=1, shuffle=True, seed=3)
    assert table.conform(frame).equals(table.conform(shuffled))


@ALL
def test_a_missing_column_is_refused_by_name(table: Table):
    with pytest.raises(TableError, match=table.columns[-1].name):
        table.conform(table.sample(1).drop(table.columns[-1].name))


@ALL
def test_an_unknown_column_is_refused_by_name(table: Table):
    with pytest.raises(TableError, match="stranger"):
        table.conform(table.sample(1).with_columns(stranger=1))


@ALL
def test_a_duplicated_key_is_found(table: Table):
    frame = table.sample(1)
    broken = table.violations(table.conform(pl.concat([frame, frame.head(1)])))
    assert "key_unique" in broken["rule"].to_list()


@ALL
def test_a_null_in_any_column_that_must_be_known_is_found(table: Table):
    for column in table.columns:
        if not column.nullable:
            frame = table.sample(1).with_columns(pl.lit(None, dtype=column.dtype).alias(column.name))
            assert f"null_in:{column.name}" in table.violations(frame)["rule"].to_list()


@ALL
def test_nan_is_never_a_value(table: Table):
    for column in table.columns:
        if column.dtype.is_float():
            frame = table.sample(1).with_columns(pl.lit(float("nan")).alias(column.name))
            assert f"not_finite:{column.name}" in table.violations(frame)["rule"].to_list()


def test_each_own_rule_of_bars_catches_its_corruption():
    corruptions = {
        "on_grid": pl.col("open_at") + pl.duration(minutes=1),
        "known_after_open": pl.col("known_at") - pl.duration(minutes=1),
        "gap_has_no_price": ~pl.col("is_gap"),
    }
    for rule, expr in corruptions.items():
        assert rule in BARS_UM.violations(BARS_UM.sample(1).with_columns(expr))["rule"].to_list()


def test_instants_in_another_unit_are_refused():
    with pytest.raises(TableError, match="open_at"):
        BARS_UM.conform(BARS_UM.sample(1).with_columns(pl.col("open_at").dt.cast_time_unit("ms")))

"""The portfolio's metrics in groups: all of them, each once, each as its table says."""

from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.domain.split import Split
from backtest_assets.research.report.measures import performance_grid, walkforward_grid
from backtest_assets.research.report.row import Grid, Row
from backtest_assets.research.report.words import metric_label
from backtest_assets_tests.research.report.scenes import a_run, execution_of, inputs_of
from backtest_assets_tests.research.simulation.market import A, B
from backtest_assets_tests.research.simulation.results import random_results

DONE = random_results().frames
NAMES = ("walkforward_summary", "walkforward_test", "backtest_metrics")
EXECUTION = replace(execution_of(inputs_of(a_run())), **{name: DONE[name] for name in NAMES})
HEADINGS = [
    "What was earned",
    "For the risk taken, and how far to believe it",
    "What the trades were like",
    "Exposure, and P&L by side",
    "By symbol",
    "The same trades at other costs",
    "Beside buy and hold",
    "Regimes and losses",
]


def headings(grid: Grid) -> list[str]:
    return [line.label for line in grid.lines if line.is_marked]


def test_every_metric_of_the_portfolio_is_shown_once_with_its_number():
    summary = DONE["walkforward_summary"].select("split", "blueprint_id", "metric", "value")
    test = DONE["walkforward_test"].select(pl.lit("test").alias("split"), "blueprint_id", "metric", "value")
    walked = pl.concat([summary, test]).filter(blueprint_id="portfolio")
    tested = DONE["backtest_metrics"].filter(scope="portfolio")
    for grid, table in ((walkforward_grid(EXECUTION), walked), (performance_grid(EXECUTION), tested)):
        shown = [(row.item, row.observed) for row in grid.rows()]
        told = [(f"portfolio/{s}/{m}", v) for s, m, v in table.select("split", "metric", "value").iter_rows()]
        assert sorted(told) == sorted(shown)
        assert len(told) > 150


def test_the_groups_stand_in_their_order_and_one_that_is_empty_is_left_out():
    assert HEADINGS == headings(walkforward_grid(EXECUTION))
    assert HEADINGS[:-1] == headings(performance_grid(EXECUTION))


def test_by_symbol_stands_every_symbol_under_its_own_name():
    lines = [line for line in performance_grid(EXECUTION).lines if line.label.endswith((A, B))]
    assert [f"{what}, {symbol}" for what in ("Net P&L", metric_label("gross_exposure_mean"), metric_label("net_exposure_mean")) for symbol in (A, B)] == [line.label for line in lines]  # fmt: skip
    items = [cell.item for line in lines for cell in line.cells if isinstance(cell, Row)]
    assert f"portfolio/{Split.TRAIN}/net_of_{A}" == items[0]


@pytest.mark.parametrize(
    "grid", [walkforward_grid(EXECUTION), performance_grid(EXECUTION)], ids=["forward", "backtest"]
)
def test_no_two_lines_of_a_table_have_one_name(grid):
    labels = [line.label for line in grid.lines]
    assert len(labels) == len(set(labels))

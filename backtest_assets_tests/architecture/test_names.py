import ast
import re
from pathlib import Path

import pytest

import backtest_assets
from backtest_assets.defs import assets
from backtest_assets.defs.jobs import DISCOVERY, MARKET
from backtest_assets.defs.reads import READS
from backtest_assets.gates.registry import GATES
from backtest_assets.stages import Stage
from backtest_assets.tables.registry import TABLES

PACKAGE = Path(backtest_assets.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_tables_assets_gates_and_reads_have_the_same_names():
    keys = {asset.key.to_user_string() for asset in assets.ALL}
    assert set(TABLES) == keys == set(GATES) == set(READS)


def test_every_read_is_a_table_that_comes_earlier():
    order = list(READS)
    for table, reads in READS.items():
        for read in reads:
            assert order.index(read.table) < order.index(table), (table, read.table)


def test_r8_r17_discovery_ends_at_the_blueprints_and_needs_nothing_of_execution():
    assert DISCOVERY[0] == "research_run"
    assert {"hypotheses", "edge_candidates", "research_checklist", "blueprints"} <= set(DISCOVERY)
    assert not {"simulation_ledger", "walkforward_summary", "promotions", "report"} & set(DISCOVERY)
    for table in DISCOVERY:
        assert {read.table for read in READS[table]} <= {*DISCOVERY, *MARKET}, table


def test_every_stage_is_the_same_word_in_every_room():
    for stage in Stage:
        assert (PACKAGE / "tables" / f"{stage.value}.py").exists()
        assert (PACKAGE / "gates" / f"{stage.value}.py").exists()
        assert (PACKAGE / "defs" / "assets" / f"{stage.value}.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_lives_in_it(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted((PACKAGE / "defs" / "assets").glob("*.py")), ids=lambda p: p.name)
def test_asset_bodies_are_thin(path: Path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= 15, node.name


def test_nothing_is_pickled():
    for path in MODULES:
        assert not re.search(r"\b(pickle|dill|cloudpickle|joblib)\b", path.read_text()), path


def test_unit_suffixes_name_numbers():
    for table in TABLES.values():
        for column in table.columns:
            if column.name.endswith("_at"):
                assert "Datetime" in str(column.dtype), (table.name, column.name)
            if column.name.startswith(("is_", "has_")):
                assert str(column.dtype) == "Boolean", (table.name, column.name)
            if column.name.startswith("n_"):
                assert column.dtype.is_integer(), (table.name, column.name)

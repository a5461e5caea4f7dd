"""The door to numba."""

import ast
from pathlib import Path

import numpy as np

import backtest_assets.stats
from backtest_assets.stats.kernel import kernel

ROOM = Path(backtest_assets.stats.__file__).parent


@kernel
def twice(values):
    return values * 2.0


def test_a_kernel_answers_as_the_plain_function():
    np.testing.assert_array_equal(np.array([2.0, 4.0]), twice(np.array([1.0, 2.0])))


def test_a_kernel_is_compiled_without_falling_back_to_python():
    twice(np.array([1.0]))
    assert len(getattr(twice, "nopython_signatures")) == 1  # noqa: B009  # the type is that of the plain function


def test_no_other_module_of_the_room_imports_numba():
    importers = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "numba" for name in names):
                importers.add(path.name)
    assert {"kernel.py"} == importers

"""Every rule of the operators' contract that is built has a test whose name says it: `test_r10_...`, `test_r10_to_r16_...`."""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

BUILT = (("r", 4, 8), ("r", 7, 19), ("r", 23, 33), ("r", 54, 81), ("r", 91, 101), ("x", 6, 13))
"""Letter, first number and the one after the last."""

_RULE = re.compile(r"(r|x)(\d+)(?:_to_\1(\d+))?_")


def rules_of(name: str) -> set[str]:
    """The rules at the start of a test's name."""
    rest, found = name.removeprefix("test_"), set[str]()
    while told := _RULE.match(rest):
        letter, first, last = told.groups()
        found |= {f"{letter}{n}" for n in range(int(first), int(last or first) + 1)}
        rest = rest[told.end() :]
    return found


def test_every_rule_that_is_built_is_named_by_a_test():
    files = Path(__file__).parents[1].rglob("test_*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    names = [n.name for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    named = set(chain.from_iterable(map(rules_of, names)))
    built = {f"{letter}{n}" for letter, first, beyond in BUILT for n in range(first, beyond)}
    assert sorted(built - named) == []


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("test_r10_to_r12_x3_words", {"r10", "r11", "r12", "x3"}),
        ("test_r7_words", {"r7"}),
        ("test_words_of_r7_only", set()),
    ],
)
def test_a_name_says_its_rules_first(name, rules):
    assert rules_of(name) == rules

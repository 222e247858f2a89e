"""Every row that a result prints has an oracle, and the test that compares it exists."""

import ast
import re
from functools import cache
from pathlib import Path

import oracles
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "rows.md").read_text()
RESULTS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("name", RESULTS)
def test_each_row_of_the_page_has_an_oracle(name):
    rows = {row for kinds, _, _, words in oracles.TABLE if name in kinds.split()
            for row in words.split("; ")}  # fmt: skip
    labels = "; ".join(["", oracles.LABELS["*"], oracles.LABELS.get(name, ""), ""])
    listed = re.findall(r"^- `(.+)`$", RESULTS[name], re.MULTILINE)
    assert {row for row in listed if f"; {row}; " not in labels} == rows


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("test", sorted({test for _, _, test, _ in oracles.TABLE}))
def test_each_test_of_the_table_exists(test):
    path, _, name = test.partition("::")
    assert name in names_in(path)

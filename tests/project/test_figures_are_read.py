"""No figure is forgotten: each is drawn by a test that asks whether it can be read (`tests/readable.py`)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURE = re.compile(r"(plot|draw)(_[a-z]\w*)?")


def functions_of(package: str) -> dict[str, set[str]]:
    """Each function or method of the files that use matplotlib, and the names it uses."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(text)) if "matplotlib" in (text := path.read_text()) else ():
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, set()).update(names_in(node))
    return found


def names_in(tree: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def read_by_tests() -> set[str]:
    """Names in the tests that ask whether figures can be read."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts if "import readable" in text for name in names_in(ast.parse(text))}


@pytest.mark.parametrize("package", ["rhn", "analysis", "optim_study"])
def test_every_figure_is_drawn_by_a_test_that_reads_it(package):
    functions = functions_of(package)
    reached, waiting = set(), list(read_by_tests() & functions.keys())
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += (functions[name] & functions.keys()) - reached
    drawn = {name for name in functions if FIGURE.fullmatch(name)}
    assert drawn and drawn <= reached, f"add to a test that calls readable(): {drawn - reached}"

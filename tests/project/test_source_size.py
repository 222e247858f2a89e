"""The source is no larger than its budget: lines and nodes of the syntax trees of whole
packages.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Folders: most lines of .py, .c and .h, most nodes of .py. Who needs more makes room first.
BUDGETS = {
    "rhn gersgorin optim_study analysis": (35_859, 286_805),
    "rhn": (13_212, 92_996),
    "gersgorin": (18_024, 158_648),
    "optim_study": (2_823, 20_255),
    "analysis": (1_800, 14_906),
    "tests": None,  # printed only
    "benchmarks examples": (5_296, 53_287),
}


@cache
def size(folder: str) -> tuple[int, int]:
    """(lines, nodes) of all files below a folder."""
    texts = [
        path.read_text() for path in (ROOT / folder).rglob("*.*") if path.suffix in (".c", ".h")
    ]
    python = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    nodes = sum(1 for text in python for _ in ast.walk(ast.parse(text)))
    return sum(len(text.splitlines()) for text in texts + python), nodes


def test_the_source_is_within_its_budget(capsys: pytest.CaptureFixture):
    rows, over = [f"{'':<36}{'lines':>8}{'budget':>8}{'nodes':>10}{'budget':>10}"], []
    for folders, budget in BUDGETS.items():
        lines, nodes = map(sum, zip(*map(size, folders.split()), strict=True))
        most = budget or ("", "")
        rows.append(f"{folders:<36}{lines:>8}{most[0]:>8}{nodes:>10}{most[1]:>10}")
        over += [folders] * (budget is not None and (lines > budget[0] or nodes > budget[1]))
    with capsys.disabled():
        print("", *rows, sep="\n")
    assert not over, "\n".join(rows)

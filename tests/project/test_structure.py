"""The project keeps its promises about itself: light imports, one-way dependencies, what is installed, what README says."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "optim_study", "analysis")
COMMANDS = {"cli.py", "__main__.py"}  # only these may import several siblings
HEAVY = ("matplotlib", "seaborn", "optuna", "music21", "pandas", "rich")


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, at its head or anywhere inside."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("module", ["rhn", "rhn.cells", "rhn.data", "rhn.checkpoints", "gersgorin"])
def test_imports_are_light(module):
    code = f"import sys, {module}; print(*sorted(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_flow_one_way(package):
    siblings = set(PACKAGES) - {package, "rhn"} if package != "rhn" else set(PACKAGES) - {"rhn"}
    for path in (ROOT / package).rglob("*.py"):
        if path.name not in COMMANDS:
            assert not imported(path) & siblings, path


def test_only_the_four_packages_are_installed():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = find_packages(str(ROOT), include=config["packages"]["find"]["include"])
    assert {name.partition(".")[0] for name in found} == set(PACKAGES)


def test_every_pin_is_one_version_and_no_text_names_a_registry():
    pins = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in files:
        if (ROOT / name).suffix in (".txt", ".toml", ".md", ".sh", "") and (ROOT / name).is_file():
            assert not re.search(r"index-url|pypi\.(org|python)|pythonhosted", (ROOT / name).read_text()), name


def test_the_code_in_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    cell = names["MinimalCell"](88, 6)
    assert cell(names["x"].float())[0].shape == (len(names["x"]), 6)

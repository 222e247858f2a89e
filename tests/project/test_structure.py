"""The project keeps its promises about itself: light imports, one-way dependencies, what is installed, what README says."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from rhn.cell_names import CELL_NAMES, lacking
from rhn.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "optim_study", "analysis")
HEAVY = ("matplotlib", "seaborn", "optuna", "music21", "pandas", "rich")

# From the lowest room to the highest: a module imports its own room and lower ones. Rooms on one line do not know each other.
ROOMS = """
    rhn.addresses rhn.result rhn.entry rhn.errors rhn.lazy rhn.safe_path rhn.statistics rhn.version rhn.wording rhn.cell_names
    rhn.fields rhn.interrupts rhn.made rhn.users_code
    rhn.files
    rhn.reading
    rhn.figures
    rhn.ticks
    rhn.data
    rhn.kernels
    rhn.cells
    rhn.models
    rhn.checkpoints
    rhn.provenance
    rhn.engine
    rhn.chorales rhn.language
    rhn.published
    rhn.presets
    rhn.run_words
    rhn.report
    rhn.plots
    rhn.options
    rhn.progress
    rhn.parsing rhn.command
    rhn.commands gersgorin analysis optim_study
    optim_study.plot_command optim_study.record_command gersgorin.report
    rhn.cli gersgorin.cli gersgorin.check_cli gersgorin.report_cli analysis.cli optim_study.cli
    gersgorin.entry analysis.entry optim_study.entry
    rhn.__main__ gersgorin.__main__ analysis.__main__ optim_study.__main__
"""
ACROSS = {("rhn.commands.recording", "gersgorin")}  # commands that use a package of their own row, inside functions
LEVELS = {room: level for level, line in enumerate(ROOMS.split("\n")) for room in line.split()}


def room_of(module: str) -> str:
    """The room that a module is in: the longest name in the list that it begins with; "" for the package itself."""
    return max((room for room in LEVELS if f"{module}.".startswith(f"{room}.")), key=len, default="")


def sources() -> list[tuple[str, Path]]:
    """(module, file) of all source."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in files]


def imports(module: str, path: Path) -> set[str]:
    """What a file imports of ours, at its head or anywhere inside, as full names: package.module.name."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            start = ".".join(filter(None, (base, node.module)))
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in PACKAGES}


@pytest.mark.parametrize(("module", "path"), sources(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_its_own_room_and_lower_ones(module, path):
    room = room_of(module)
    assert room or module in PACKAGES, f"{module} is in no room: write it into the list"
    for name in imports(module, path):
        other = room_of(name)
        if room and other and other != room:
            assert LEVELS[other] < LEVELS[room] or (module, other) in ACROSS, f"{module} imports {name}"
        if other != room:
            assert not any(part.startswith("_") and not part.startswith("__") for part in name.split(".")), (
                f"{module} imports the private {name}"
            )


COMMANDS = [
    "rhn.cli",
    "gersgorin.cli",
    "gersgorin.check_cli",
    "gersgorin.report_cli",
    "analysis.cli",
    "optim_study.cli",
]


@pytest.mark.parametrize("module", ["rhn", "rhn.cells", "rhn.data", "rhn.checkpoints", "gersgorin", *COMMANDS])
def test_imports_are_light(module):
    code = f"import sys, {module}; print(*sorted(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_two_files_of_tests_share_a_name():
    """pytest would import only one of them."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_version(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(command).main(["--version"])
    assert capsys.readouterr().out.endswith(f" {__version__}\n")


def test_only_the_four_packages_are_installed():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = find_packages(str(ROOT), include=config["packages"]["find"]["include"])
    assert {name.partition(".")[0] for name in found} == set(PACKAGES)


def test_the_light_list_of_cells_is_that_of_the_registry():
    from rhn.cells import CELLS
    from rhn.models import accepts

    assert tuple(CELLS) == CELL_NAMES
    for name, cell in CELLS.items():
        has = {"depth": getattr(cell, "deep", True), "transform_bias": accepts(cell, "transform_bias")}
        assert lacking(name) == {setting for setting, there in has.items() if not there}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_its_types_and_the_version(package):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert config["dynamic"]["version"] == {"attr": "rhn.version.__version__"}
    assert (ROOT / package / "py.typed").exists() and "py.typed" in config["package-data"]["*"]
    assert importlib.import_module(package).__version__ == __version__


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

"""The project keeps its promises about itself: light imports, one-way dependencies, what is
installed, what README says.
"""

import ast
import contextlib
import importlib
import operator
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from tables import for_each

from rhn.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "trainability", "optim_study", "analysis")
NOT_INSTALLED = ("benchmarks", "evaluation")
HEAVY = ("matplotlib", "optuna", "music21", "pandas", "rich")

# From the lowest level to the highest: a module imports its own level and lower ones only, never in
# a circle.
LEVELS_TEXT = """
    rhn.cells.registry rhn.errors rhn.utils rhn.version
    rhn.data rhn.files rhn.kernels
    rhn.cells rhn.models rhn.weights
    rhn.training rhn.checkpoints rhn.presets
    rhn.cli rhn.plotting rhn.__main__
    gersgorin.door gersgorin.linalg gersgorin.autodiff
    gersgorin.states gersgorin.step gersgorin.jacobians gersgorin.layers gersgorin.one_step \
        gersgorin.data gersgorin.losses gersgorin.zeros
    gersgorin.run gersgorin.model_map
    gersgorin.analyses gersgorin.recorder gersgorin.recording gersgorin.results
    gersgorin.cli gersgorin.__main__
    trainability
    trainability.cli trainability.__main__
    optim_study
    analysis
"""
LEVELS = {
    room: level
    for level, line in enumerate(LEVELS_TEXT.replace("\\\n", "").split("\n"))
    for room in line.split()
}


def room_of(module: str) -> str:
    """The longest name in the list that a module begins with; "" for a package itself."""
    return max(
        (room for room in LEVELS if f"{module}.".startswith(f"{room}.")), key=len, default=""
    )


def sources(packages=PACKAGES) -> list[tuple[str, Path]]:
    """(module, file) of all source."""
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in files
    ]


@cache
def imports(module: str, path: Path) -> set[str]:
    """Our modules that a file imports, at its head, inside, or for annotations only, as full names:
    package.module.name.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                if node.level
                else ""
            )
            start = ".".join(filter(None, (base, node.module)))
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in (*PACKAGES, *NOT_INSTALLED)}


def is_private(name: str) -> bool:
    """True if a module of package.module, or a name in it, begins with one underscore."""
    return any(part.startswith("_") and not part.startswith("__") for part in name.split(".")[1:])


UPWARD = {  # imports inside a function that go up, at most three
    ("rhn.cli.recording", "gersgorin.recorder.Recorder"),
    ("rhn.cli.recording", "gersgorin.recording.Recording"),
}


def test_the_imports_that_go_up_are_used():
    files = dict(sources())
    assert {
        (module, name) for module, name in UPWARD if name in imports(module, files[module])
    } == UPWARD


@for_each("package", PACKAGES)
def test_a_module_imports_its_own_room_and_lower_ones(package):
    wrong = []
    for module, path in sources():
        room = room_of(module)
        if module.partition(".")[0] != package or module in PACKAGES:
            continue
        if not room:
            wrong.append(f"{module} has no level: write it into the list")
            continue
        for name in imports(module, path):
            other = room_of(name)
            if other and LEVELS[other] > LEVELS[room] and (module, name) not in UPWARD:
                wrong.append(f"{module} imports {name}")
            if other != room and is_private(name):
                wrong.append(f"{module} imports the private {name}")
    assert not wrong, "\n".join(wrong)


def test_what_is_installed_imports_nothing_that_is_not():
    wrong = [
        f"{module} imports {name}"
        for module, path in sources()
        for name in imports(module, path)
        if name.startswith(NOT_INSTALLED)
    ]
    assert wrong == []


def test_speed_and_evaluation_do_not_import_each_other():
    wrong = [
        f"{module} imports {name}"
        for module, path in sources(NOT_INSTALLED)
        for name in imports(module, path)
        if name.startswith(NOT_INSTALLED) and not name.startswith(module.partition(".")[0])
    ]
    assert wrong == []


def test_the_study_does_not_need_the_diagnosis():
    own = [source for source in sources() if source[0].startswith("optim_study")]
    wrong = [name for module in own for name in imports(*module) if name.startswith("trainability")]
    assert wrong == []


ACYCLIC = [
    f"rhn.{name}" for name in ("cells", "cli", "data", "models", "plotting", "training", "utils")
] + [*PACKAGES[1:], *NOT_INSTALLED]


@for_each("package", ACYCLIC)
def test_no_modules_of_a_package_import_each_other_in_a_circle(package):
    modules = dict(sources((*PACKAGES, *NOT_INSTALLED)))
    uses = {
        module: {
            max((m for m in modules if f"{name}.".startswith(f"{m}.")), key=len, default="")
            for name in imports(module, path)
        }
        for module, path in modules.items()
        if module == package or module.startswith(f"{package}.")
    }
    # which raises CycleError
    TopologicalSorter({m: used & uses.keys() - {m} for m, used in uses.items()}).prepare()


LONGEST = 450  # lines of a file


def code_files() -> list[Path]:
    """All files of code that git tracks, without the training runs of evaluation/threads."""
    command = ["git", "ls-files", "*.py", "*.c", "*.h"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in done.stdout.split() if not name.startswith("evaluation/threads/")]
    return [ROOT / name for name in names if (ROOT / name).exists()]


def test_files_are_chapters():
    lines = {str(f.relative_to(ROOT)): f.read_text().count("\n") for f in code_files()}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_files_are_named_by_what_they_give():
    names = {f.stem.strip("_") if f.stem.startswith("__") else f.stem for f in code_files()}
    assert names & {"helpers", "common", "misc"} == set()
    assert [name for name in names if name.startswith("_")] == []


def test_no_two_files_of_gersgorin_have_the_same_name():
    own = [path.stem for module, path in sources() if module.startswith("gersgorin.")]
    files = Counter(name for name in own if name != "__init__")
    assert [name for name, times in files.items() if times > 1] == []


SHARED_NAMES = {
    "main": "the function of a command: words to exit code",
    "run": "the work of a command with its options; optim_study.run is that of a study",
    "GatesCommand": "the options of gersgorin gates and of rhn-analyze gates",
    "RunCommand": "the options of gersgorin run and of optim-study run",
    "load": "rhn.load and gersgorin.load: what a package saves",
    "forward": "of a kernel",
    "backward": "of a kernel",
    "supports": "of a kernel",
    "LSTM": "the cell, and rhn.kernels.LSTM, its kernel",
    "GRU": "the cell, and rhn.kernels.GRU, its kernel",
    "PRESETS": "rhn.presets.PRESETS and optim_study.PRESETS, configurations by name",
}
"""Public names that several modules define, and why."""


def public_names(tree: ast.Module) -> set[str]:
    """The classes, functions and constants that a module defines, without those with an
    underscore.
    """
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_means_one_thing_in_all_packages():
    """A constant counts if another module imports it; else it is read only beside its
    definition.
    """
    used = {name for source in sources() for name in imports(*source)}
    homes = defaultdict(list)
    for module, path in sources():
        tree = ast.parse(path.read_text())
        defined = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        for name in public_names(tree):
            if name in defined or f"{module}.{name}" in used:
                homes[name].append(module)
    twice = {name: places for name, places in homes.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in SHARED_NAMES} == {}
    assert SHARED_NAMES.keys() <= twice.keys()


def test_contributing_says_where_things_are_decided():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| [^|]+\? \| `([^`]+)`[^|]* \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(rows) == 6
    for path, name in rows:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert operator.attrgetter(name)(module), name


COMMANDS = [
    "rhn.cli.main",
    "gersgorin.cli.commands",
    "trainability.cli",
    "analysis.cli",
    "optim_study.cli",
]


def printed(code: str) -> list[str]:
    """The words that a Python process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_imports_are_light():
    """One process imports them all; the first that loads a heavy module is named."""
    modules = [*PACKAGES, "rhn.cells", "rhn.data", "rhn.checkpoints", *COMMANDS]
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    if heavy := sorted({set(HEAVY)} & sys.modules.keys()):
        sys.exit(print(name, "loads", *heavy))
"""
    assert printed(code) == []


def test_functions_of_matrices_import_no_network():
    names = "import sys, gersgorin.linalg as l; [getattr(l, name) for name in l.__all__]"
    assert printed(f"{names}; print(*[name for name in sys.modules if 'rhn.cells' in name])") == []


def test_a_command_about_a_new_cell_loads_no_code_for_trained_ones():
    code = "import sys, gersgorin.cli.networks, rhn.cells; rhn.cells.RHN; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = ("rhn.checkpoints", "rhn.training", "rhn.models", "rhn.data.text")
    of_models = ("gersgorin.model_map",)
    assert [name for name in done.stdout.split() if name.startswith((*heavy, *of_models))] == []


@for_each("package", ["gersgorin", "gersgorin.linalg", "trainability"])
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert all(getattr(module, name) for name in module.__all__)


@for_each("command", COMMANDS)
def test_every_command_tells_its_version(command, capsys):
    with contextlib.suppress(SystemExit):
        assert importlib.import_module(command).main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f" {__version__}\n")


@for_each("package", PACKAGES)
def test_every_package_has_its_types_and_the_version(package):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert config["dynamic"]["version"] == {"attr": "rhn.version.__version__"}
    assert (ROOT / package / "py.typed").exists() and "py.typed" in config["package-data"]["*"]
    assert importlib.import_module(package).__version__ == __version__


def test_the_citation_and_the_changelog_name_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changelog, version = (ROOT / "CHANGELOG.md").read_text(), re.escape(__version__)
    assert re.search(rf"^## {version} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE)


def test_every_pin_is_one_version_and_no_text_names_a_registry():
    pins = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in files:
        if (ROOT / name).suffix in (".txt", ".toml", ".md", ".sh", "") and (ROOT / name).is_file():
            assert not re.search(
                r"index-url|pypi\.(org|python)|pythonhosted", (ROOT / name).read_text()
            ), name


@pytest.mark.docs
def test_the_code_in_readme_runs_and_prints_what_is_shown(own_folder, capsys):
    blocks = re.findall(
        r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 2
    for code, shown in blocks:
        exec(compile(code, "README.md", "exec"), {})
        printed = _without_digits(capsys.readouterr().out)
        for part in shown.split("..."):
            for line in filter(str.strip, part.splitlines()):
                assert _without_digits(line) in printed, line


def test_the_command_in_readme_prints_what_is_shown(own_folder, capsys):
    from gersgorin.cli.commands import main

    (found,) = re.findall(
        r"^    gersgorin-plot (.*)\n\n((?:    [^\n]*\n|\n)+)",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    words, shown = found
    assert main(["plot", *words.split()]) == 0
    printed = _without_digits(capsys.readouterr().out)
    first, last = map(_without_digits, shown.split("..."))
    assert printed.startswith(first) and printed.endswith(last)


def _without_digits(text: str) -> str:
    """The words of a text; numbers may differ in their last digits from machine to machine."""
    return " ".join(re.sub(r"-?[\d.]+(e[+-]?\d+)?", "#", text).split())

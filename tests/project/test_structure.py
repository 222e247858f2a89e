"""The project keeps its promises about itself: light imports, one-way dependencies, what is
installed, what README says.
"""

import ast
import contextlib
import importlib
import operator
import os
import re
import subprocess
import symtable
import sys
import tomllib
from collections import Counter, defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from commands import MAINS

from rhn.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "trainability", "optim_study", "analysis")
NOT_INSTALLED = ("benchmarks", "evaluation", "paper")
COMMANDS = sorted(set(MAINS.values()))
OF_MODELS = "rhn.checkpoints", "rhn.training", "rhn.models", "rhn.data.text", "gersgorin.model_map"
HEAVY = ("matplotlib", "optuna", "music21", "pandas", "rich")

# From the lowest level to the highest: a module imports its own level and lower ones only, never in
# a circle.
LEVELS_TEXT = """
    rhn.cells.options rhn.cells.registry rhn.errors rhn.utils rhn.version
    rhn.data rhn.files rhn.kernels
    rhn.cells rhn.models rhn.state_dict
    rhn.training rhn.checkpoints rhn.presets
    rhn.cli rhn.__main__
    gersgorin.catalog gersgorin.checks gersgorin.linalg gersgorin.autodiff
    gersgorin.kinds gersgorin.double_precision gersgorin.packing gersgorin.first_states
    gersgorin.step gersgorin.losses gersgorin.points gersgorin.root_search
    gersgorin.jacobians gersgorin.smoothness gersgorin.layers
    gersgorin.run gersgorin.model_map gersgorin.one_step
    gersgorin.analyses gersgorin.recorder gersgorin.recording gersgorin.results gersgorin.growth
    gersgorin.known_values
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
    rooms = [room for room in LEVELS if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len, default="")


def sources(packages=PACKAGES) -> list[tuple[str, Path]]:
    """(module, file) of all source."""
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return [(name.removesuffix(".__init__"), f) for name, f in zip(names, files, strict=True)]


def is_for_type_checkers(node: ast.stmt) -> bool:
    """True for `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imports(module: str, path: Path) -> set[str]:
    """Our modules that a file imports, at its head, inside, or for annotations only, as full names:
    package.module.name.
    """
    tree, names = ast.parse(path.read_text()), set()
    if path.name == "__init__.py":  # names that only type checkers see stand in its table too
        tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: expected from package.module import name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in (*PACKAGES, *NOT_INSTALLED)}


def is_private(name: str) -> bool:
    """True if a module of package.module, or a name in it, begins with one underscore."""
    return any(part.startswith("_") and not part.startswith("__") for part in name.split(".")[1:])


UPWARD = {  # imports inside a function that go up, at most three
    ("rhn.cli.probe", "gersgorin.recorder.Recorder"),
    ("rhn.cli.probe", "gersgorin.recording.Recording"),
}


def test_the_imports_that_go_up_are_used():
    files = dict(sources())
    assert all(name in imports(module, files[module]) for module, name in UPWARD)


@pytest.mark.parametrize("package", PACKAGES)
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


@pytest.mark.parametrize(
    ("packages", "others"),
    [
        pytest.param(PACKAGES, NOT_INSTALLED, id="packages"),
        pytest.param(("benchmarks",), ("evaluation", "paper"), id="benchmarks"),
        pytest.param(("evaluation",), ("benchmarks", "paper"), id="evaluation"),
        pytest.param(("paper",), ("benchmarks", "evaluation"), id="paper"),
        pytest.param(("optim_study",), ("trainability",), id="optim_study"),
    ],
)
def test_packages_that_do_not_import_others(packages, others):
    wrong = [
        f"{module} imports {name}"
        for module, path in sources(packages)
        for name in imports(module, path)
        if name.startswith(others)
    ]
    assert wrong == []


ACYCLIC = [f"rhn.{name}" for name in ("cells", "cli", "data", "models", "training", "utils")] + [
    *PACKAGES[1:],
    *NOT_INSTALLED,
]


@pytest.mark.parametrize("package", ACYCLIC)
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


def test_no_packages_of_rhn_import_each_other_in_a_circle():
    """The presets needed the training's configurations, and the training needed the presets."""
    uses = defaultdict(set)
    for module, path in sources(("rhn",)):
        package = part_of_rhn(module)
        uses[package] |= {part_of_rhn(name) for name in imports(module, path)} - {package}
    TopologicalSorter(uses).prepare()  # which raises CycleError


def part_of_rhn(module: str) -> str:
    """rhn.cells of rhn.cells.base; the package of a module of another package."""
    package, *parts = module.split(".")
    return ".".join((package, *parts[:1])) if package == "rhn" else package


READS_ANNOTATIONS = re.compile(
    r"__annotations__|inspect\.signature|from inspect import.* signature"
)
EVALUATES = {
    "rhn.utils.command_line": "types of the fields of our commands",
    "rhn.utils.validation": "signature_of, which does not evaluate",
}


def test_only_these_modules_read_annotations_otherwise_than_by_get_type_hints():
    """Python 3.14 stores none in a class, and those of a user may not be evaluated."""
    found = {module for module, path in sources() if READS_ANNOTATIONS.search(path.read_text())}
    assert found == EVALUATES.keys()


def tracked(*patterns: str) -> list[str]:
    """The names of files that git tracks."""
    command = ["git", "ls-files", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split() if (ROOT / name).is_file()]


def code_files() -> list[Path]:
    """All files of code, without the training runs of evaluation/threads."""
    names = tracked("*.py", "*.c", "*.h")
    return [ROOT / name for name in names if not name.startswith("evaluation/threads/")]


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
    "PRESETS": "rhn.training.presets.PRESETS and optim_study.PRESETS, configurations by name",
}
"""Public names that several modules define, and why."""


def public_names(source: str) -> set[str]:
    """The classes, functions and constants that a module defines, without those with an
    underscore.
    """
    symbols = symtable.symtable(source, "", "exec").get_symbols()
    names = {s.get_name() for s in symbols if s.is_assigned() and not s.is_imported()}
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_means_one_thing_in_all_packages():
    """A constant counts if another module imports it; else it is read only beside its
    definition.
    """
    used = {name for source in sources() for name in imports(*source)}
    homes = defaultdict(list)
    for module, path in sources():
        source = path.read_text()
        body = ast.parse(source).body
        defined = {n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        for name in public_names(source):
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


@pytest.mark.slow
def test_the_first_command_of_contributing_runs_as_it_stands():
    """In a process of its own, without a path of Python: the folders of the tests have the names of
    the packages.
    """
    text = (ROOT / "CONTRIBUTING.md").read_text()
    program, *words = re.search(r"^\| one test file \| `(.+)` \|$", text, re.MULTILINE)[1].split()
    path = Path(sys.executable).with_name(program)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([path, *words], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "unwanted",
    [
        pytest.param(
            {
                f"import {', '.join(PACKAGES)}": (*HEAVY, "torch", "numpy", "ast"),
                "import rhn.training.config": ("cyclopts", "torch"),
                "import analysis.cli": ("torch", "numpy"),
            },
            id="without torch",
        ),
        pytest.param(
            {
                "import gersgorin.linalg as l; [getattr(l, n) for n in l.__all__]": ("rhn.cells",),
                "import gersgorin.cli.work, rhn.cells; rhn.cells.RHN": OF_MODELS,
                "import rhn.data, rhn.checkpoints": HEAVY,
                f"import {', '.join(COMMANDS)}": HEAVY,
            },
            id="with torch",
        ),
    ],
)
def test_imports_are_light(unwanted):
    """One after the other in a process of their own, from the lightest on."""
    code = "\n".join(("import sys", *(f"{line}\nprint(*sys.modules)" for line in unwanted)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for loaded, names in zip(done.stdout.splitlines(), unwanted.values(), strict=True):
        found = [m for m in loaded.split() if f"{m}.".startswith(tuple(f"{n}." for n in names))]
        assert found == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_version(command, capsys):
    with contextlib.suppress(SystemExit):
        assert importlib.import_module(command).main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f" {__version__}\n")


@pytest.mark.parametrize("package", PACKAGES)
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
    registry = re.compile(r"index-url|pypi\.(org|python)|pythonhosted")
    kinds = ".txt", ".toml", ".md", ".sh", ""
    texts = [name for name in tracked() if Path(name).suffix in kinds]
    assert [name for name in texts if registry.search((ROOT / name).read_text())] == []

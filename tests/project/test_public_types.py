"""The types of the public names: editors and type checkers see what `import` gives."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from test_structure import is_for_type_checkers

import gersgorin
from gersgorin.catalog import ANALYSES
from gersgorin.run import ReadOptions, RunOptions

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "rhn",
    "rhn.cells",
    "rhn.data",
    "rhn.kernels",
    "rhn.models",
    "gersgorin",
    "gersgorin.linalg",
    "trainability",
    "optim_study",
    "analysis",
)
"""The packages whose names load their module on first use."""


def typed_names(package: str) -> dict[str, str]:
    """The names that type checkers see in a package, with the module of each."""
    body = ast.parse(Path(importlib.import_module(package).__file__).read_text()).body
    inside = [node for block in filter(is_for_type_checkers, body) for node in block.body]
    imports = [node for node in (*body, *inside) if isinstance(node, ast.ImportFrom)]
    return {a.name: node.module for node in imports for a in node.names if a.asname == a.name}


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_that_a_package_has(package):
    names, module = typed_names(package), importlib.import_module(package)
    assert names.keys() - {"__version__"} == {*dir(module)} - {"__version__"}
    assert {*module.__all__} <= {*dir(module)}
    table = inspect.getclosurevars(module.__getattr__).nonlocals["homes"]
    for name, place in table.items():
        assert names[name] == f"{package}.{place}"
    for name, home in names.items():
        is_submodule = home == package
        place = f"{package}.{name}" if is_submodule else f"{home}:{name}"
        assert getattr(module, name) is pkgutil.resolve_name(place), name


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_outside_the_table_is_no_attribute(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        importlib.import_module(package).nonsense  # noqa: B018


WITHOUT_FIRST_STATE = ("truncation",)  # reads whole models only
WITH_FIRST_STATE = [row.function for row in ANALYSES if row.function not in WITHOUT_FIRST_STATE]
READERS = (*WITH_FIRST_STATE, "Recorder")
BY_NAME = inspect.Parameter.KEYWORD_ONLY


def parameters(function) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_shows_the_options_of_open_run(name):
    """`help` and completion read these signatures."""
    shown, wanted = parameters(getattr(gersgorin, name)), parameters(gersgorin.open_run)
    options = [key for key, one in wanted.items() if one.kind is BY_NAME]
    assert options == [*RunOptions.__annotations__]
    assert {*options, "s0"} <= shown.keys()
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in shown.values())
    for option in ReadOptions.__annotations__:
        assert shown[option] == wanted[option]


def test_the_options_of_open_run_have_its_types_and_no_other_default():
    hints = typing.get_type_hints(gersgorin.open_run)
    for name, kind in typing.get_type_hints(RunOptions).items():
        assert hints[name] == kind
        assert parameters(gersgorin.open_run)[name].default is None


USER = """
import torch
network, x = torch.nn.RNN(3, 4), torch.rand(5, 3)
gersgorin.spectra(network, x, layer=None, batch_first=True, leading=3)
gersgorin.nonsense(3)
gersgorin.spectra(network, x, layer=3)
gersgorin.spectra(network, x, leyer="cell")
gersgorin.compare({}, x, state_size="4")
"""
REFUSED = ("nonsense", '"layer"', '"leyer"', '"state_size"')


@pytest.mark.slow
def test_a_strict_type_checker_finds_a_type_for_every_name(tmp_path):
    """mypy reads a user's file that names everything public."""
    pytest.importorskip("mypy", reason="mypy is in the extra dev")
    names = [f"{p}.{name}" for p in PACKAGES for name in importlib.import_module(p).__all__]
    lines = [*(f"import {p}" for p in PACKAGES), *(f"reveal_type({name})" for name in names)]
    (tmp_path / "user.py").write_text("\n".join(lines) + USER)
    command = [sys.executable, "-m", "mypy", "--strict", "user.py"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    kinds = re.findall(r'note: Revealed type is "(.*)"$', done.stdout, re.MULTILINE)
    assert len(kinds) == len(names), done.stdout + done.stderr
    assert [name for name, kind in zip(names, kinds, strict=True) if kind == "Any"] == []
    errors = re.findall(r"^user.py:\d+: error: (.*)$", done.stdout, re.MULTILINE)
    assert len(errors) == len(REFUSED), errors
    for error, word in zip(errors, REFUSED, strict=True):
        assert word in error

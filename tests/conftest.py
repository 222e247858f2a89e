"""One thread a process, a fixed seed a test, hypothesis derandomised in CI; data that is absent
skips with a reason.
"""

import gc
import json
import os
import shlex
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy load their BLAS
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import numpy as np
import pytest
import torch
from commands import MAINS

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # under nohup: some tests send Ctrl-C, to themselves or to children, which inherit this
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHIFT = int(os.environ.get("RHN_TEST_SEEDS", "0"))  # added to each seed for torch or NumPy


def shift_seeds() -> None:
    """Replace the functions that take a seed."""
    manual_seed, default_rng = torch.manual_seed, np.random.default_rng

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + SHIFT)

    def shifted_rng(seed=None):
        if isinstance(seed, int | np.integer):
            seed = seed + SHIFT
        elif isinstance(seed, list | tuple):
            seed = [*seed, SHIFT]
        return default_rng(seed)

    torch.Generator, np.random.default_rng = Generator, shifted_rng
    torch.manual_seed = torch.random.manual_seed = lambda seed: manual_seed(seed + SHIFT)


torch.set_num_threads(1)
if SHIFT:
    shift_seeds()
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=not SHIFT, database=None)
PROFILE = "ci" if os.environ.get("CI") else "default"
hypothesis.settings.load_profile(PROFILE)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    """A run without the slow tests tries a quarter of the examples of each property."""
    if "not slow" in config.getoption("markexpr"):
        usual = hypothesis.settings.get_profile(PROFILE)
        hypothesis.settings.register_profile("short", usual, max_examples=25)
        hypothesis.settings.load_profile("short")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """The garbage collector never visits what is imported and collected: all of that stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    torch.manual_seed(0)
    # a command that imports a user's module adds its folder
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    """The current folder: an empty one of this test alone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Printed(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys):
    """command("rhn train jsb-depth-2 --out", path): one command line, run in this process."""

    def run(line: str, *more) -> Printed:
        program, *words = [*shlex.split(line), *map(str, more)]
        capsys.readouterr()
        try:
            code = import_module(MAINS[program]).main(words)
        except SystemExit as end:
            code = end.code
        return Printed(code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def answer(command):
    """answer("rhn evaluate runs/a"): the JSON that a command prints with --json."""

    def run(line: str, *more):
        printed = command(line, *more, "--json")
        assert printed.code == 0, printed.err
        return json.loads(printed.out)

    return run


@pytest.fixture
def refused(command):
    """refused("rhn train", "nothing", says="nothing"): one sentence with these words, exit code 2,
    nothing on stdout.
    """

    def run(line: str, *more, says: str) -> None:
        printed = command(line, *more)
        # on a slow machine there may be lines of progress
        *progress, sentence = printed.err.splitlines()
        assert (printed.code, printed.out) == (2, "")
        assert sentence.startswith("error: ") and says in sentence
        assert not any(row.startswith(("error", "Traceback")) for row in progress)

    return run


@pytest.fixture(scope="session")
def original_chorales() -> Path:
    """The original JSB Chorales (Huang's quarter-note JSON): a development copy beside the
    checkout, never committed.
    """
    path = SHARED_DATA / "jsb" / "jsb-chorales-quarter.json"
    if not path.exists():
        pytest.skip(f"the original chorales are not at {path}")
    return path


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    if SHIFT:
        for item in items:
            if "own_seeds" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="recorded with the product's own seeds"))

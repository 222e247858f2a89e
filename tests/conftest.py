"""One thread a process, a fixed seed a test, hypothesis derandomised in CI; data that is absent
skips with a reason.
"""

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy load their BLAS
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest
import seeds
import torch

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # under nohup: some tests send Ctrl-C, to themselves or to children, which inherit this
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)
if seeds.SHIFT:
    seeds.shift()
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=not seeds.SHIFT, database=None
)
PROFILE = "ci" if os.environ.get("CI") else "default"
hypothesis.settings.load_profile(PROFILE)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    """A run without the slow tests tries a quarter of the examples of each property."""
    if "not slow" in config.getoption("markexpr"):
        usual = hypothesis.settings.get_profile(PROFILE)
        hypothesis.settings.register_profile("short", usual, max_examples=25)
        hypothesis.settings.load_profile("short")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    """The current folder: an empty one of this test alone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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

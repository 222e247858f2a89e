"""The package as a user gets it: a wheel and a source archive, and the wheel alone in an empty
environment without a compiler.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from rhn.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rhn", "gersgorin", "trainability", "optim_study", "analysis")
PROJECT = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "MANIFEST.in", "constraints.txt"}
SETUP = {"pyproject.toml", "setup.py", "setup.cfg", "PKG-INFO"}
OFFLINE = re.compile(
    "No matching distribution found|NewConnectionError|NameResolutionError|ConnectTimeout|"
    "ReadTimeout"
)
MODEL = """
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 8, batch_first=True)
        self.head = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def training():
    x, model = torch.randn(200, 8, 3), Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    y, loss_fn = x.mean((1, 2))[:, None], torch.nn.MSELoss()
    return dict(model=model, x=x, y=y, loss_fn=loss_fn, optimizer=optimizer)
"""
ANALYZE = (
    "import torch, gersgorin; print(gersgorin.spectra(torch.nn.LSTM(3, 8), torch.randn(20, 1, 3)))"
)
LIBRARY = "from rhn.kernels.compiled import library; print(library())"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def tracked() -> list[str]:
    """The files of the project in git; skips outside a clone."""
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("the files of a package are compared with those in git, and this is no clone")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def of_packages() -> set[str]:
    """The files of the packages, without scripts for the shell, which are for a clone."""
    return {
        name for name in tracked() if name.split("/")[0] in PACKAGES and not name.endswith(".sh")
    }


def clean() -> dict[str, str]:
    """The environment without paths of Python, which would lead to the source."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run_or_skip(*words: str | Path, **options) -> None:
    """Run a command that needs the network."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("the packages that this needs cannot be downloaded")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    """A wheel and a source archive, built from a copy of the files in git."""
    pytest.importorskip("build.env", reason="build is in the extra dev")
    folder = tmp_path_factory.mktemp("build")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    run_or_skip(
        sys.executable,
        "-m",
        "build",
        "--outdir",
        folder / "dist",
        folder / "source",
        cwd=folder,
        env=clean(),
    )
    (wheel,), (source,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def empty(archives, tmp_path_factory):
    """Run a command in an environment of the wheel and its dependencies, in a folder with a space
    in its path, without a compiler and without a home that can be written.
    """
    folder = tmp_path_factory.mktemp("empty") / "another folder"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    scripts = folder / "venv" / "bin"
    run_or_skip(
        *(scripts / "python", "-m", "pip", "install", "-c", ROOT / "constraints.txt", archives[0]),
        cwd=folder,
        env=clean(),
    )
    (folder / "own.py").write_text(MODEL)

    def run(*words: str, path: str = str(scripts)) -> str:
        env = {"HOME": "/dev/null/home", "PATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [scripts / words[0], *words[1:]], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run.folder = folder
    return run


def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as file:
        return message_from_bytes(file.read(f"rhn_toolkit-{__version__}.dist-info/METADATA"))


def test_the_wheel_holds_the_packages_and_nothing_else(archives):
    names = {name for name in zipfile.ZipFile(archives[0]).namelist() if ".dist-info/" not in name}
    assert names == of_packages()


def test_the_source_archive_holds_what_builds_the_wheel_and_nothing_else(archives):
    with tarfile.open(archives[1]) as file:
        names = {
            name.partition("/")[2] for name in file.getnames() if file.getmember(name).isfile()
        }
    assert {name for name in names if ".egg-info/" not in name} == of_packages() | PROJECT | SETUP


def test_the_description_renders_and_is_complete(archives):
    pytest.importorskip("twine", reason="twine is in the extra dev")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *archives], check=True)


def test_the_description_is_the_readme_without_what_leads_nowhere(archives):
    text = metadata(archives[0]).get_payload(decode=True).decode()
    assert text.startswith("# rhn-toolkit") and "```python" in text and "Geršgorin" in text
    assert re.findall(r"\]\((?!https:)[^)]*\)", text) == []


def test_the_metadata_name_the_pythons_that_are_required(archives):
    about = metadata(archives[0])
    assert about["Requires-Python"] == ">=3.11" and about["License-Expression"] == "MIT"
    assert "Programming Language :: Python :: 3.11" in about.get_all("Classifier")


def test_the_installed_plot_draws_a_chorale(empty):
    assert "spectral radius" in empty(
        "gersgorin-plot", "--cell", "rhn", "--depth", "5", "--output", "rhn.png"
    )
    assert (empty.folder / "rhn.png").stat().st_size > 10_000


def test_the_installed_check_reads_a_training_in_a_file(empty):
    said = empty("trainability", "check", "own.py:training", "--steps", "50")
    assert "200 examples (200 distinct, 40 held out), 8 steps" in said


def test_the_installed_package_analyzes_a_layer_of_torch(empty):
    assert "spectral radius" in empty("python", "-c", ANALYZE)


def test_without_a_compiler_info_says_so_and_a_training_runs(empty):
    assert "it needs a C compiler" in " ".join(empty("rhn", "info").split())
    said = empty(
        "rhn", "train", "jsb-depth-5", "--hidden-size", "8", "--epochs", "1", "--out", "run"
    )
    assert "next: rhn evaluate run" in said


def test_the_installed_sources_compile(empty):
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("there is no C compiler")
    assert empty("python", "-c", LIBRARY, path=os.environ["PATH"]).strip() != "None"

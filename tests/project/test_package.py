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
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def tracked() -> list[str]:
    """The files of the project in git; skips outside a clone."""
    listed = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
    done = subprocess.run(["git", "ls-files"], **listed)
    if done.returncode:
        pytest.skip("the files of a package are compared with those in git, and this is no clone")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def of_packages() -> set[str]:
    """The files of the packages, without scripts for the shell, which are for a clone."""
    names = [name for name in tracked() if not name.endswith(".sh")]
    return {name for name in names if name.split("/")[0] in PACKAGES}


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
    pytest.importorskip("build.env", reason="build is in the extra release")
    folder = tmp_path_factory.mktemp("build")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    build = sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source"
    run_or_skip(*build, cwd=folder, env=clean())
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
    pip = scripts / "python", "-m", "pip", "install", "-c", ROOT / "constraints.txt", archives[0]
    run_or_skip(*pip, cwd=folder, env=clean())
    shutil.copy(ROOT / "examples" / "ten_faults.py", folder / "own.py")

    def run(*words: str, path: str = str(scripts)) -> str:
        env = {"HOME": "/dev/null/home", "PATH": path, "OMP_NUM_THREADS": "1"}
        words = scripts / words[0], *words[1:]
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
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
        names = {m.name.partition("/")[2] for m in file.getmembers() if m.isfile()}
    assert {name for name in names if ".egg-info/" not in name} == of_packages() | PROJECT | SETUP


def test_the_description_renders_and_is_complete(archives):
    pytest.importorskip("twine", reason="twine is in the extra release")
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
    plot = "gersgorin-plot --cell rhn --depth 5 --output rhn.png"
    assert "spectral radius" in empty(*plot.split())
    assert (empty.folder / "rhn.png").stat().st_size > 10_000


def test_the_installed_check_reads_a_training_in_a_file(empty):
    said = empty("trainability", "check", "own.py:mixed_axes", "--steps", "50")
    assert "600 examples (600 distinct), 120 held out, 10 time steps" in said


def test_the_installed_package_analyzes_a_layer_of_torch(empty):
    call = "gersgorin.spectra(torch.nn.LSTM(3, 8), torch.randn(20, 1, 3))"
    assert "spectral radius" in empty("python", "-c", f"import torch, gersgorin; print({call})")


def test_without_a_compiler_info_says_so_and_a_training_runs(empty):
    assert "compiled kernels no" in " ".join(empty("rhn", "info").split())
    train = "rhn train jsb-depth-5 --hidden-size 8 --epochs 1 --out run"
    assert "constant predictor" in empty(*train.split())


def test_the_installed_sources_compile(empty):
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("there is no C compiler")
    code = "from rhn.kernels.compiled import library; print(library())"
    assert empty("python", "-c", code, path=os.environ["PATH"]).strip() != "None"

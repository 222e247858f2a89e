"""A folder that vanishes or may no longer be written, under a study and under a training: one sentence, and the
same command goes on to the same bytes."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
RUN = "-m optim_study run --arch rhn --depth 2 --trials 6 --epochs 60 --patience 60 --budget-scale 0.003 --fuse 2 --save-seconds 0"
COMMANDS = {
    "study": f"{RUN} --jobs 1",
    "workers": f"{RUN} --jobs 2",
    "training": "-m rhn train jsb-depth-1 --hidden-size 8 --epochs 60",
}
STUDY = ("trials.csv", "*/trials/*.json", "*/best.safetensors")
TRAINING = ("config.json", "metrics.jsonl", "best.safetensors", "state.safetensors")


@pytest.fixture(params=list(COMMANDS), scope="module")
def what(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def place(tiny_data) -> Iterator[Path]:
    """A folder that every user may enter, with the data in it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        shutil.copy(tiny_data, folder)
        yield Path(folder)


def start(what: str, out: Path, *before: str) -> subprocess.Popen:
    data = next(folder / "tiny.json" for folder in out.parents if (folder / "tiny.json").exists())
    words = [*COMMANDS[what].split(), "--device", "cpu", "--data", data, "--out", out]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(out.parent)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*before, sys.executable, *map(str, words)], env=env, cwd=out.parent, **pipes)


def finished(what: str, out: Path, *before: str) -> dict[str, bytes]:
    """What the command comes to when nothing happens to it any more."""
    process = start(what, out, *before)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    kept = TRAINING if what == "training" else STUDY
    return {p.relative_to(out).as_posix(): p.read_bytes() for form in kept for p in sorted(out.glob(form))}


@pytest.fixture(scope="module")
def undisturbed(what, place) -> dict[str, bytes]:
    return finished(what, place / f"whole-{what}")


def saved(what: str, out: Path) -> bool:
    return any(out.glob("state.safetensors" if what == "training" else "*/trials/0*.safetensors"))


def ends_in_a_sentence(process: subprocess.Popen, reason: str) -> None:
    _, errors = process.communicate(timeout=300)
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2, errors
    assert "Traceback" not in errors, errors
    assert len(told) == 1 and reason in told[0], errors


def disturbed(what: str, out: Path, *before: str) -> subprocess.Popen:
    """The command, after it has saved something and some time more."""
    process = start(what, out, *before)
    wait_for(lambda: saved(what, out) or process.poll() is not None)
    time.sleep(random.Random(what).random() / 2)
    return process


def test_a_folder_removed_under_a_run(what, place, undisturbed):
    process = disturbed(what, out := place / f"removed-{what}")
    gone = out.rename(place / f"gone-{what}")  # at once, as a removal is not
    shutil.rmtree(gone, ignore_errors=True)
    ends_in_a_sentence(process, "No such file or directory")
    assert finished(what, out) == undisturbed


def test_a_folder_made_read_only_under_a_run(what, place):
    become = []
    if not os.geteuid():  # root may write everywhere
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        again = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"  # as workers start
        if (
            not shutil.which("setpriv")
            or subprocess.run([*become, sys.executable, "-c", again], check=False).returncode
        ):
            pytest.skip("root may write everywhere, and an ordinary user cannot run this installation")
    process = disturbed(what, out := place / f"locked-{what}", *become)
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    ends_in_a_sentence(process, "Permission denied")
    for folder in folders:
        folder.chmod(0o755)
    whole = place / f"whole-{what}-locked"  # of the same user, whose interpreter may be another
    assert finished(what, out, *become) == finished(what, whole, *become)

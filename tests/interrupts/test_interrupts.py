"""Chaos: Ctrl-C at random moments, once, or twice within 50 ms, with two threads of torch.

    pytest -s -n 0 -m chaos tests/interrupts/test_interrupts.py

By default INTERRUPTS=16 of each kind; each prints its counts. No process crashes, results are those
of an undisturbed run, and the user's objects are as before.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import interrupted
import pytest
from safetensors.numpy import load_file

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]
INTERRUPTS = int(os.environ.get("INTERRUPTS", 16))
SEED = int(os.environ.get("INTERRUPTS_SEED", 0))
APART = 0.05  # seconds between two interrupts, at most
HERE = Path(__file__).parent
MELODIES = HERE.parent / "numbers/melodies.json"
PATHS = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
TWO_THREADS = {
    **os.environ,
    "OMP_NUM_THREADS": "2",
    "MPLBACKEND": "Agg",
    "PYTHONPATH": PATHS,
}


def press(process: subprocess.Popen, rng: random.Random, twice: bool) -> int:
    """Send SIGINT once or twice; returns how often."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        if not twice:
            return 1
        time.sleep(rng.uniform(0, APART))
        process.send_signal(signal.SIGINT)
    return 2


@pytest.mark.parametrize("kind", list(interrupted.KINDS))
def test_an_interrupted_call_leaves_everything_as_before(kind):
    words = [sys.executable, str(HERE / "interrupted.py"), kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    rng, sent, raised, rounds = random.Random(SEED), 0, 0, 0
    with subprocess.Popen(words, text=True, env=TWO_THREADS, **pipes) as process:
        while sent < INTERRUPTS or rounds < INTERRUPTS:
            print("go", file=process.stdin, flush=True)
            line = process.stdout.readline().split()
            assert line, process.stderr.read()
            time.sleep(rng.uniform(0, float(line[1])))
            sent += press(process, rng, twice=rounds % 2 == 1)
            print("sent", file=process.stdin, flush=True)
            end = process.stdout.readline().strip()
            assert end in ("raised", "ended"), process.stderr.read()
            raised, rounds = raised + (end == "raised"), rounds + 1
        process.stdin.close()
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    print(f"\n{kind}: {sent} interrupts in {rounds} calls, {raised} calls raised")
    assert raised > 0


TRAIN = f"jsb-depth-2 --data {MELODIES} --hidden-size 16 --epochs 60 --patience 999"
STUDY = (
    f"--arch rhn --depth 2 --trials 3 --epochs 60 --patience 60 --device cpu --data {MELODIES} "
    "--set budget_scale=0.003 --set save_seconds=0"
)
COMMANDS = {
    "rhn train": ("rhn train", TRAIN, "state.safetensors"),
    "rhn train of a text": ("rhn train", "text", "state.safetensors"),
    "optim-study run": ("optim_study run", STUDY, "journal.log"),
    "optim-study run in two processes": ("optim_study run", f"{STUDY} --jobs 2", "journal.log"),
}


def text_words(folder: Path) -> str:
    """A training run on a text of made-up words, with two threads."""
    rng = random.Random(0)
    words = [f"w{k}" for k in range(5000)]
    for split, count in {"train": 6000, "valid": 500, "test": 500}.items():
        tokens = words + rng.choices(words, k=count)
        (folder / f"{split}.txt").write_text(" ".join(tokens) + "\n")
    options = "--hidden-size 16 --depth 2 --batch-size 8 --learning-rate 0.1 --threads 2"
    sets = "--set window=10 --set drop_input=0.2 --set drop_output=0.2"
    return f"ptb-sota --corpus text --data {folder} {options} {sets} --epochs 4"


def started(command: str, words: str, out: Path) -> subprocess.Popen:
    line = [sys.executable, "-m", *command.split(), *words.split(), "--out", str(out)]
    return subprocess.Popen(
        line, env=TWO_THREADS, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def results(out: Path) -> dict:
    """The curves and the best weights in a folder."""
    found: dict = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "best.safetensors":
            found |= {f"{name} {key}": a.tobytes() for key, a in load_file(path).items()}
        elif path.name in ("metrics.jsonl", "trials.csv"):
            found[name] = path.read_text()
        elif path.suffix == ".json" and path.parent.name == "trials":
            found[name] = json.loads(path.read_text())["curve"]
    return found


@pytest.mark.parametrize("kind", list(COMMANDS))
def test_an_interrupted_command_goes_on_to_the_results_of_an_undisturbed_one(kind, tmp_path):
    command, words, begun = COMMANDS[kind]
    words = text_words(tmp_path) if words == "text" else words
    alone = started(command, words, tmp_path / "alone")
    start = time.monotonic()
    _, errors = alone.communicate()
    whole = time.monotonic() - start
    assert alone.returncode == 0, errors
    rng, sent, stopped, rounds, folders = random.Random(SEED), 0, 0, 0, 0
    while sent < INTERRUPTS:
        out, ended = tmp_path / f"run{folders}", False
        folders += 1
        while not ended:
            process = started(command, words, out)
            while process.poll() is None and not (out / begun).exists():
                time.sleep(0.01)
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, whole / 3))
            if sent < INTERRUPTS and process.poll() is None:
                sent += press(process, rng, twice=rounds % 2 == 1)
                rounds += 1
            _, errors = process.communicate(timeout=300)
            assert process.returncode in (0, 130) and "Traceback" not in errors, errors
            ended = process.returncode == 0
            stopped += not ended
        assert results(out) == results(tmp_path / "alone")
    print(f"\n{kind}: {sent} interrupts in {rounds} processes, {stopped} stopped early")

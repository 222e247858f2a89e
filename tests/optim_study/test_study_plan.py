"""What a run will do is known before: its networks, its devices, and what fused trials take of memory, which is obeyed."""

import json
import subprocess
import sys

import pytest
import torch

from optim_study.plan import SHARE, devices, fused, memory, meta_model, plan, plan_table
from optim_study.presets import RunConfig, paper
from optim_study.protocol import StudyConfig
from rhn.errors import InvalidInputError
from rhn.utils.memory import in_words

GIB = 1 << 30
POSITIONS = 128 * 32  # steps of the longest chorale, rows of a batch

MEASURE = """
import re, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from optim_study.plan import memory, meta_model
from optim_study.protocol import StudyConfig
from optim_study.backend import start_training
from rhn.data.corpus import Corpus, Piece
from rhn.training.ensemble import tune_malloc

tune_malloc()
arch, depth, scale, trials = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
pieces = [Piece(rng.random((100, 88)) < 0.05, name=f"piece{i}", split="train", index=i) for i in range(32)]
corpus = Corpus(pieces, pieces[:2], pieces[:2], "noise")
config = StudyConfig(arch=arch, depth=depth, data=corpus.checksum, budget_scale=scale)
swarm = start_training(config, {n: config.settings(n) for n in range(trials)}, {}, corpus)
swarm.run_epoch()
peak = 1024 * int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1])  # ru_maxrss begins with the parent's
print(peak, memory(meta_model(config), trials, 100 * 32, "cpu"))
"""


@pytest.mark.parametrize(
    ("arch", "depth", "scale", "trials"),
    [
        ("lstm", 1, 0.3, 8),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("dt-rnn", 1, 1.0, 12), ("rhn", 6, 0.1, 10))),
    ],
)
def test_the_estimate_is_near_the_measured_peak(arch, depth, scale, trials):
    words = [sys.executable, "-c", MEASURE, arch, str(depth), str(scale), str(trials)]
    peak, estimate = map(int, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert 0.8 < estimate / peak < 1.5, f"{in_words(peak)} measured, {in_words(estimate)} estimated"


COMMAND = """
import re, sys
from pathlib import Path
from optim_study.cli import main
code = main(sys.argv[1:])
print(code, 1024 * int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1]), file=sys.stderr)
"""


@pytest.mark.slow
def test_the_plan_of_many_fused_trials_is_near_the_peak_of_the_whole_command(tiny_data, tmp_path):
    """VmHWM is the process's own since its exec, whatever this one has grown to."""
    words = f"run --arch rhn --depth 2 --preset smoke --epochs 2 --trials 150 --fuse 150 --jobs 1 --data {tiny_data}".split()
    words = [sys.executable, "-c", COMMAND, *words, "--out", str(tmp_path / "out")]
    planned = json.loads(subprocess.run([*words, "--dry-run", "--json"], check=True, capture_output=True).stdout)
    said = subprocess.run(words, check=True, capture_output=True, text=True).stderr.splitlines()[-1]
    code, peak = map(int, said.split())
    estimate = planned[0]["memory_bytes"]
    assert code == 0
    assert 0.85 < estimate / peak < 1.15, f"{in_words(peak)} measured, {in_words(estimate)} planned"


@pytest.fixture(scope="module")
def model():
    return meta_model(StudyConfig(arch="rhn", depth=6, data="x"))


def choose(model, **changes):
    usual = {"trials": 60, "jobs": 2, "device": "cpu", "asked": "auto", "free": 50 * GIB}
    return fused(model, POSITIONS, **(usual | changes))


def test_auto_gives_every_worker_two_groups_or_more(model):
    assert [choose(model, trials=n) for n in (1, 4, 24, 60, 1000)] == [1, 1, 6, 15, 15]
    assert [choose(model, jobs=n) for n in (1, 4, 100)] == [15, 8, 1]


def test_auto_obeys_the_memory_there_is(model):
    little = 2.5 * GIB
    k = choose(model, free=little, jobs=1, device="cuda")
    assert 1 <= k < 60
    assert memory(model, k, POSITIONS, "cuda") <= SHARE * little < memory(model, k + 1, POSITIONS, "cuda")
    assert choose(model, device="cuda", jobs=1) == 60
    with pytest.raises(InvalidInputError, match=r"one trial of rhn-depth6 would need about .* MiB are free"):
        choose(model, free=100 << 20)


def test_what_is_asked_for_is_done_or_refused(model):
    assert choose(model, asked=40) == 40 and choose(model, asked=100) == 60
    with pytest.raises(InvalidInputError, match=r"40 fused trials of rhn-depth6 .* use a smaller --fuse"):
        choose(model, asked=40, free=GIB / 2)


def test_memory_grows_with_every_fused_trial(model):
    for device in ("cpu", "cuda"):
        sizes = [memory(model, k, POSITIONS, device) for k in (1, 2, 10, 60)]
        assert sizes == sorted(set(sizes))
    assert 8 * GIB < sizes[-1] < 25 * GIB, "60 of the paper's largest networks were reckoned to take 14 GiB on a GPU"


@pytest.mark.parametrize(
    ("gpus", "jobs", "expected"),
    [
        (0, "auto", ["cpu"]),
        (0, 2, ["cpu", "cpu"]),
        (1, "auto", ["cuda:0"]),
        (4, "auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        (2, 3, ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_a_worker_each_on_a_gpu_of_its_own_and_more_are_warned_of(gpus, jobs, expected, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices(RunConfig(jobs=jobs)) == expected
    assert ("slower" in caplog.text) == (0 < gpus < len(expected))


def test_the_papers_study_has_the_papers_networks():
    units = {}
    for config in (paper(device="cpu"), paper(device="cpu", arch=("dts-rnn",), cell_options={"skip": "last"})):
        for p in plan(config.studies("x"), config, ["cpu"], {}):
            units.setdefault(p.config.label, []).append(p.hidden_size)
            assert p.parameters <= p.config.budget == 150_000 * p.config.depth
            assert (p.config.trials, p.config.epochs, p.config.patience, p.complete) == (60, 1000, 100, 0)
    assert units == {
        "rhn": [215, 242, 257, 262],
        "dt-rnn": [308, 345, 365, 372],
        "dts-rnn": [308, 287, 280, 277],
        "dts-rnn-skip-last": [308, 287, 328, 345],
    }


@pytest.mark.parametrize("columns", [55, 70, 88])
def test_the_plan_fits_a_narrow_terminal(columns):
    row = {
        "study": "rhn-depth10",
        "optimizer": "sgd",
        "hidden_size": 250,
        "parameters": 1_500_000,
        "budget": 1_500_000,
        "trials": 60,
    }
    row |= {"complete": 0, "fuse": 15, "memory_bytes": 1 << 30}
    whole, narrow = plan_table([row]).splitlines(), plan_table([row], columns).splitlines()
    assert len(whole[0]) > columns >= len(narrow[0]) and narrow[0].startswith("study")

"""What a run will do is known before: its networks, its devices, and what fused trials take of
memory, which is obeyed.
"""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from optim_study.backend import memory, meta_model
from optim_study.config import RunConfig, StudyConfig, paper, smoke
from optim_study.runner import SHARE, devices, fused, plan
from rhn.errors import InvalidInputError
from rhn.utils.validation import in_words

GIB = 1 << 30

MEASURE = """
import re, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from optim_study.backend import memory, meta_model
from optim_study.config import StudyConfig
from optim_study.backend import start_training
from rhn.data.corpus import Corpus, Piece
from rhn.training.ensemble import tune_malloc

tune_malloc()
arch, depth, scale, trials = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
pieces = [
    Piece(rng.random((100, 88)) < 0.05, name=f"piece{i}", split="train", index=i)
    for i in range(32)
]
corpus = Corpus(pieces, pieces[:2], pieces[:2], "noise")
config = StudyConfig(arch=arch, depth=depth, data=corpus.checksum, budget_scale=scale)
swarm = start_training(config, {n: config.settings(n) for n in range(trials)}, {}, corpus)
swarm.run_epoch()
# ru_maxrss begins with the parent's
peak = 1024 * int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1])
print(peak, memory(config, meta_model(config), "cpu", 100)(trials))
"""


@pytest.mark.parametrize(
    "case", [("lstm", 1, 0.3, 8), pytest.param(("rhn", 6, 0.1, 10), marks=pytest.mark.slow)]
)
def test_the_estimate_is_near_the_measured_peak(case):
    words = [sys.executable, "-c", MEASURE, *map(str, case)]
    peak, estimate = map(
        int, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    )
    assert 0.8 < estimate / peak < 2.5, f"{in_words(peak)} measured, {in_words(estimate)} estimated"


STUDY = StudyConfig(arch="rhn", depth=6, data="x")


def needs(device="cpu"):
    return memory(STUDY, meta_model(STUDY), device, 128)  # steps of the longest chorale


def choose(device="cpu", trials=60, **changes):
    usual = {"jobs": 2, "device": device, "asked": None, "free": 50 * GIB}
    return fused(replace(STUDY, trials=trials), needs(device), **(usual | changes))


def test_auto_gives_every_worker_two_groups_or_more():
    assert [choose(trials=n) for n in (1, 4, 24, 60, 1000)] == [1, 1, 6, 15, 15]
    assert [choose(jobs=n) for n in (1, 4, 100)] == [15, 8, 1]


def test_auto_obeys_the_memory_there_is():
    little = 2.5 * GIB
    k = choose("cuda", free=little, jobs=1)
    assert 1 <= k < 60 and needs("cuda")(k) <= SHARE * little < needs("cuda")(k + 1)
    assert choose("cuda", jobs=1) == 60 and 8 * GIB < needs("cuda")(60) < 25 * GIB
    with pytest.raises(
        InvalidInputError, match=r"fuse is 1 for rhn-depth6, .* expected at most .* GiB"
    ):
        choose(free=100 << 20)


def test_what_is_asked_for_is_done_or_refused():
    assert choose(asked=40) == 40 and choose(asked=100) == 60
    with pytest.raises(
        InvalidInputError, match=r"fuse is 40 for rhn-depth6, .* expected at most 0.5 GiB"
    ):
        choose(asked=40, free=GIB / 2)


@pytest.mark.parametrize(
    ("gpus", "jobs", "expected"),
    [
        (0, None, ["cpu"]),
        (0, 2, ["cpu", "cpu"]),
        (2, None, ["cuda:0", "cuda:1"]),
        (2, 3, ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_workers_get_the_gpus_in_turn(gpus, jobs, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert devices(RunConfig(jobs=jobs)) == expected


def test_the_papers_study_has_the_papers_networks():
    units = {}
    for config in (
        paper(device="cpu"),
        paper(device="cpu", arch=("dts-rnn",), cell_options={"skip": "last"}),
    ):
        for study, row in zip(*plan(config, ["cpu"]), strict=True):
            units.setdefault(study.label, []).append(row["hidden_size"])
            assert row["parameters"] <= 150_000 * study.depth
            assert (study.trials, study.epochs, study.patience) == (60, 1000, 100)
    assert units == {
        "rhn": [215, 242, 257, 262],
        "dt-rnn": [308, 345, 365, 372],
        "dts-rnn": [308, 287, 280, 277],
        "dts-rnn-skip-last": [308, 287, 328, 345],
    }


def test_the_folder_of_a_run_may_be_a_text(tmp_path):
    assert smoke(out=str(tmp_path)).folder == tmp_path

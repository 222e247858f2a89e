"""What a run will do is known before: its devices, and what fused trials take of memory, which is
obeyed.
"""

import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each

from optim_study.backend import memory, meta_model, start_training
from optim_study.config import RunConfig, StudyConfig
from optim_study.runner import SHARE, engine_of, fused
from rhn.data.corpus import Corpus, Piece
from rhn.errors import InvalidInputError
from rhn.training.ensemble import tune_malloc

GIB = 1 << 30
STUDY = StudyConfig(arch="rhn", depth=6, data="x")


def measured(arch: str, depth: int, scale: float, trials: int) -> tuple[int, int]:
    """Train an epoch in this new process; returns the peak of its memory, and the estimate."""
    torch.set_num_threads(1)
    tune_malloc()
    noise = np.random.default_rng(0).random((32, 100, 88)) < 0.05
    pieces = [Piece(x, name=f"{k}", split="train", index=k) for k, x in enumerate(noise)]
    corpus = Corpus(pieces, pieces[:2], pieces[:2], "noise")
    study = StudyConfig(arch=arch, depth=depth, data=corpus.checksum, budget_scale=scale)
    start_training(study, {n: study.settings(n) for n in range(trials)}, {}, corpus).run_epoch()
    # ru_maxrss begins with the parent's
    peak = 1024 * int(re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())[1])
    return peak, memory(study, meta_model(study), "cpu", 100)(trials)


@pytest.mark.parametrize(
    "case", [("lstm", 1, 0.3, 8), pytest.param(("rhn", 6, 0.1, 10), marks=pytest.mark.slow)]
)
def test_the_estimate_is_near_the_measured_peak(case):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak, estimate = pool.apply(measured, case)
    assert 0.8 < estimate / peak < 2.5


def choose(device="cpu", trials=60, jobs=2, asked=None, free=50 * GIB):
    need = memory(STUDY, meta_model(STUDY), device, 128)  # steps of the longest chorale
    how = {"jobs": jobs, "device": device, "asked": asked, "free": free}
    return fused(replace(STUDY, trials=trials), need, **how), need


def test_trials_are_divided_among_workers_and_what_is_asked_for_is_done():
    """Without a wish every worker of a CPU gets two groups or more, and a GPU one."""
    assert [choose(trials=n)[0] for n in (1, 4, 24, 60, 1000)] == [1, 1, 6, 15, 15]
    assert [choose(jobs=n)[0] for n in (1, 4, 100)] == [15, 8, 1]
    assert [choose("cuda", jobs=n)[0] for n in (1, 2, 7)] == [60, 30, 9]
    assert [choose(asked=n)[0] for n in (40, 100)] == [40, 60]


def test_the_memory_that_there_is_is_obeyed():
    little = 2.5 * GIB
    k, need = choose("cuda", free=little, jobs=1)
    assert 1 <= k < 60 and need(k) <= SHARE * little < need(k + 1)
    assert 8 * GIB < need(60) < 25 * GIB
    for asked, free, shown in ((None, GIB / 10, "0.1"), (40, GIB / 2, "0.5")):
        says = rf"fuse is {asked or 1} for rhn-depth6, .* expected at most {shown} GiB"
        with pytest.raises(InvalidInputError, match=says):
            choose(asked=asked, free=free)


@for_each(
    ("gpus", "jobs", "expected"),
    [(0, None, ["cpu"]), (0, 2, ["cpu", "cpu"]), (2, 3, ["cuda:0", "cuda:1", "cuda:0"])],
)
def test_workers_get_the_gpus_in_turn(gpus, jobs, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with engine_of(RunConfig(jobs=jobs)) as engine:
        assert engine.places == expected
    with engine_of(RunConfig()) as engine:
        assert len(engine.places) == max(gpus, 1)

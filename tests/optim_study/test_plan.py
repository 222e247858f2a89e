"""The plan of a study: what a run takes of memory and devices is known before."""

import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_studies import MELODIES

from optim_study import plan
from optim_study.backend import start_training
from optim_study.config import RunConfig, StudyConfig
from optim_study.plan import SHARE, fused, memory, meta_model
from rhn.data import Corpus, Piece, chorales
from rhn.errors import InvalidInputError
from rhn.utils.resources import tune_malloc

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


@pytest.mark.slow
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
    assert [choose(jobs=n)[0] for n in (1, 4, 15, 100)] == [15, 8, 2, 1]
    assert [choose("cuda", jobs=n)[0] for n in (1, 2, 7)] == [60, 30, 9]
    assert [choose(asked=n)[0] for n in (40, 100)] == [40, 60]


def test_a_cpu_computes_the_trials_in_parts_and_a_gpu_all_at_once():
    """The memory of one trial more: on a CPU the first one has the tensors of a step too."""
    need = {device: memory(STUDY, meta_model(STUDY), device, 128) for device in ("cpu", "cuda")}
    first, last = ({d: of(k + 1) - of(k) for d, of in need.items()} for k in (0, 59))
    assert first["cpu"] == first["cuda"] == last["cuda"]
    assert last["cpu"] < first["cpu"] / 2


@pytest.mark.parametrize(
    ("optimizer", "kept"), [pytest.param("sgd", 1, id="SGD"), pytest.param("adam", 2, id="Adam")]
)
def test_the_memory_of_a_trial_is_that_of_copies_of_its_weights_and_of_a_step(optimizer, kept):
    """Weights, the best ones, the initial ones, those that the optimiser keeps; two in a step."""
    study = replace(STUDY, optimizer=optimizer)
    model = meta_model(study)
    weights = 4 * sum(p.numel() for p in model.parameters())
    short, long = (memory(study, model, "cuda", steps) for steps in (64, 128))

    def without_steps(trials):
        return 2 * short(trials) - long(trials)

    for trials in (1, 2, 7):
        each = (3 + kept) * weights + 32 * 1024 + 2 * weights
        assert without_steps(trials) == 1024**3 + trials * each

    def of_step(batch, steps, device="cuda"):
        return memory(replace(study, batch_size=batch), model, device, steps)(1) - without_steps(1)

    assert of_step(1, 128) == of_step(32, 128) == 2 * of_step(32, 64) > 0  # rows in 32s
    assert of_step(33, 128) == 2 * of_step(32, 128)
    assert of_step(32, 128, "cpu") == of_step(32, 128) - 1024**3 + 480 * 1024**2
    need = memory(study, model, "cpu", 2)
    more = [need(k + 1) - need(k) for k in range(1, 60)]
    assert more == sorted(more, reverse=True) and len({*more}) <= 2


def test_the_memory_that_there_is_is_obeyed():
    little = 2.5 * GIB
    k, need = choose("cuda", free=little, jobs=1)
    assert 1 <= k < 60 and need(k) <= SHARE * little < need(k + 1)
    assert 8 * GIB < need(60) < 25 * GIB
    for asked, free, shown in ((None, GIB / 10, "0.1"), (40, GIB / 2, "0.5")):
        says = rf"fuse is {asked or 1} for rhn-depth6, .* expected at most {shown} GiB"
        with pytest.raises(InvalidInputError, match=says):
            choose(asked=asked, free=free)


def test_trials_fill_60_percent_of_the_memory_and_those_that_are_asked_for_all_of_it():
    """Each trial needs 10 of 100 bytes."""
    how = {"jobs": 1, "device": "cuda", "free": 100}
    assert [fused(STUDY, lambda k: 10 * k, asked, **how) for asked in (None, 10)] == [6, 10]


@pytest.mark.parametrize(
    ("places", "workers"),
    [
        pytest.param(["cpu"], 1, id="one"),
        pytest.param(["cpu"] * 3, 3, id="three on a CPU"),
        pytest.param(["cuda:0", "cuda:1", "cuda:0"], 2, id="two of three on a GPU"),
    ],
)
def test_workers_of_one_device_share_its_free_memory(places, workers, monkeypatch):
    shares, steps, corpus = [], [], chorales(MELODIES)

    def of_longest(study, model, device, longest):
        steps.append(longest)
        return lambda k: 0

    monkeypatch.setattr(plan, "free_memory", lambda device: 6 << 30)
    monkeypatch.setattr(plan, "memory", of_longest)
    monkeypatch.setattr(plan, "fused", lambda *_, free, **__: shares.append(free))
    plan.plan(RunConfig(arch=("rnn",), depth=(1,)), corpus, places)
    assert (shares, steps) == ([(6 << 30) / workers], [max(map(len, corpus.train))])

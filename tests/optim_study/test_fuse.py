"""What fused trials take of memory is known before, and obeyed."""

import subprocess
import sys

import pytest

from optim_study import fuse
from optim_study.config import StudyConfig
from optim_study.plan import meta_model
from rhn.engine.memory import in_words
from rhn.errors import InvalidInputError

GIB = 1 << 30

MEASURE = """
import resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from optim_study import fuse
from optim_study.config import StudyConfig
from optim_study.plan import meta_model
from optim_study.swarm import TorchSwarm
from rhn.data.corpus import Corpus, Piece
from rhn.engine.numerics import keep_memory

keep_memory()
arch, depth, scale, fused = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
pieces = [Piece(rng.random((100, 88)) < 0.05, name=f"piece{i}", split="train", index=i) for i in range(32)]
corpus = Corpus(pieces, pieces[:2], pieces[:2], "noise")
config = StudyConfig(arch=arch, depth=depth, data=corpus.checksum, budget_scale=scale)
swarm = TorchSwarm(config, {n: config.settings(n) for n in range(fused)}, {}, corpus)
swarm.run_epoch()
batches = [fuse.largest_batch(corpus.train, config.batch_size)]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(peak, fuse.memory(meta_model(config), fused, batches, "cpu"))
"""


@pytest.mark.parametrize(
    ("arch", "depth", "scale", "fused"), [("rhn", 6, 0.1, 10), ("dt-rnn", 1, 1.0, 12), ("lstm", 1, 0.3, 8)]
)
def test_the_estimate_is_near_the_measured_peak(arch, depth, scale, fused):
    words = [sys.executable, "-c", MEASURE, arch, str(depth), str(scale), str(fused)]
    peak, estimate = map(int, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert 0.7 < estimate / peak < 1.6, f"{in_words(peak)} measured, {in_words(estimate)} estimated"


@pytest.fixture(scope="module")
def model():
    return meta_model(StudyConfig(arch="rhn", depth=6, data="x"))


@pytest.fixture(scope="module")
def batches():
    return [fuse.largest_batch([[0] * 128], 32)]


def choose(model, batches, **changes):
    asked = {"trials": 60, "jobs": 2, "device": "cpu", "fuse": "auto", "free": 100 * GIB}
    return fuse.choose(model, batches, **(asked | changes))


def test_auto_gives_every_worker_two_groups_or_more(model, batches):
    assert [choose(model, batches, trials=n) for n in (1, 4, 24, 60, 1000)] == [1, 1, 6, 15, 15]
    assert [choose(model, batches, jobs=n) for n in (1, 4, 100)] == [15, 8, 1]


def test_auto_obeys_the_memory_there_is(model, batches):
    little = 2.5 * GIB
    k = choose(model, batches, free=little, jobs=1, device="cuda")
    assert 1 <= k < 60
    assert fuse.memory(model, k, batches, "cuda") <= fuse.SHARE * little < fuse.memory(model, k + 1, batches, "cuda")
    assert choose(model, batches, device="cuda", jobs=1) == 60
    with pytest.raises(InvalidInputError, match=r"one trial of rhn-depth6 would need about .* MiB are free"):
        choose(model, batches, free=100 << 20)


def test_what_is_asked_for_is_done_or_refused(model, batches):
    assert choose(model, batches, fuse=40) == 40 and choose(model, batches, fuse=100) == 60
    with pytest.raises(InvalidInputError, match=r"40 fused trials of rhn-depth6 .* use a smaller --fuse"):
        choose(model, batches, fuse=40, free=GIB)


def test_memory_grows_with_every_fused_trial(model, batches):
    for device in ("cpu", "cuda"):
        sizes = [fuse.memory(model, k, batches, device) for k in (1, 2, 10, 60)]
        assert sizes == sorted(set(sizes))
    papers = fuse.memory(model, 60, batches, "cuda")
    assert 8 * GIB < papers < 25 * GIB, "RESEARCH section 7 reckons 14 GiB"

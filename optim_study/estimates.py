"""Estimate how long each preset of a study takes on this machine, from timed minibatches.

For each architecture, networks of its largest depth train for one epoch on the first frames of one
minibatch, twice with different numbers of frames. The time of an epoch of m minibatches with F
frames along their longest pieces is

    m a + F b,    with a + f b the time of an epoch on a minibatch of f frames

Networks of other depths count in proportion to their depth. The estimate is that of all epochs:
trials that stop early make a study shorter.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from optim_study.backend import start_training
from optim_study.config import RunConfig, StudyConfig
from optim_study.plan import meta_model, most_fused
from rhn.cells.registry import num_parameters
from rhn.data import Corpus
from rhn.utils.resources import tune_malloc
from rhn.utils.tables import aligned

FRAMES = 16, 64  # of the timed minibatches
PARAMETERS = 1 << 18  # of the networks that are timed together: more share no cost


@dataclass(frozen=True)
class Estimate:
    """The size of a study with a preset, and how long it takes."""

    preset: str
    trials: int
    epochs: int
    """Of all trials, if none stops early."""
    seconds: float


def estimates(
    presets: Mapping[str, RunConfig],
    corpus: Corpus,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Estimate]:
    """Time minibatches, and return an estimate for each configuration by its name.

    >>> from optim_study import smoke
    >>> from rhn.data import Piece
    >>> import numpy as np
    >>> ones = [Piece(np.ones((12, 88)), name="ones", split="train", index=0)] * 2
    >>> config = smoke(arch=("rnn",), trials=2, epochs=3)
    >>> (found,) = estimates({"smoke": config}, Corpus(ones, ones, ones, "ones"))
    >>> found.trials, found.epochs, found.seconds > 0
    (2, 6, True)
    """
    tune_malloc()
    found = list[Estimate]()
    for name, config in presets.items():
        studies = config.studies(corpus.checksum)
        jobs = config.jobs or 1
        fuse = config.fuse or most_fused(config.trials, jobs, "cpu")
        deepest = {study.arch: study for study in sorted(studies, key=lambda study: study.depth)}
        each = {
            arch: seconds_of_epoch(study, corpus, fuse, clock) / study.depth
            for arch, study in deepest.items()
        }
        epochs = config.trials * config.epochs
        seconds = sum(epochs * study.depth * each[study.arch] for study in studies)
        trials = config.trials * len(studies)
        total = epochs * len(studies)
        found.append(Estimate(name, trials, total, seconds / jobs))
    return found


def seconds_of_epoch(
    study: StudyConfig, corpus: Corpus, fuse: int, clock: Callable[[], float]
) -> float:
    """Return the estimated time of one epoch of one trial, in seconds."""
    fitting = PARAMETERS // num_parameters(meta_model(study))
    count = max(1, min(fuse, study.trials, fitting))
    settings = {number: study.settings(number) for number in range(count)}
    times = list[float]()
    for frames in FRAMES[:1] + FRAMES:  # the first one warms up
        trainer = start_training(study, settings, {}, beginning(corpus, study.batch_size, frames))
        begun = clock()
        trainer.run_epoch()
        times.append(clock() - begun)
    lengths = sorted((len(piece) for piece in corpus.train), reverse=True)
    longest = lengths[:: study.batch_size]
    slope = max(0.0, (times[2] - times[1]) / (FRAMES[1] - FRAMES[0]))
    fixed = max(0.0, times[1] - slope * FRAMES[0])
    return (len(longest) * fixed + sum(longest) * slope) / count


def beginning(corpus: Corpus, pieces: int, frames: int) -> Corpus:
    """Return the first frames of a minibatch, and of a third as many for validation."""
    train: list[Any] = [piece[:frames] for piece in corpus.train[:pieces]]
    valid: list[Any] = [piece[: frames // 3] for piece in corpus.valid[:pieces]]
    return Corpus(train, valid, valid, corpus.source)


def estimate_table(found: list[Estimate]) -> str:
    """Format estimates as a table."""
    rows = [
        {
            "preset": each.preset,
            "trials": str(each.trials),
            "epochs (at most)": str(each.epochs),
            "estimate": str(timedelta(seconds=round(each.seconds))),
        }
        for each in found
    ]
    return "\n".join(aligned([[*rows[0]], *([*row.values()] for row in rows)]))

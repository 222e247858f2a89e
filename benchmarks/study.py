"""Trials of a study as one program, against the same ones one after another, and against a plain
autograd loop for each; and the lesions of a network as one stack, against one after another.

An epoch of each trial: training on some chorales, then the loss on them, as the study does it. RHNs
at the sizes of the small preset.
"""

import functools
from itertools import repeat

import torch

from analysis import lesion
from benchmarks.registry import benchmark, on_both
from optim_study.backend import start_training
from optim_study.config import StudyConfig, small
from optim_study.plan import meta_model
from rhn.data import chorales
from rhn.data.corpus import Corpus
from rhn.kernels.losses import frame_nll
from rhn.models import PolyphonicModel
from rhn.training.batches import batches_of

TRIALS, PIECES = 15, 64


@functools.cache
def corpus() -> Corpus:
    """Chorales at equal distances in the list: short ones and long ones."""
    full = chorales()
    pieces = full.train[:: len(full.train) // PIECES][:PIECES]
    return Corpus(pieces, full.valid[:8], full.test[:8], full.source)


def study(depth: int) -> StudyConfig:
    """One that trains for ever: gentle learning rates, so that nobody leaves."""
    return StudyConfig(
        arch="rhn",
        depth=depth,
        data=corpus().checksum,
        budget_scale=small().budget_scale,
        epochs=10**6,
        patience=10**6,
        learning_rate=(1e-4, 1e-3),
    )


def plain_epoch(config: StudyConfig):
    """The same by the book: the cell's equation as a loop, autograd, torch.optim.SGD, a model at a
    time.
    """
    data, where = corpus(), {"device": "cpu", "dtype": torch.float32}
    batches = batches_of(data.train, repeat(config.batch_size), **where)
    valid = batches_of(data.valid, repeat(64), **where)
    trainings = []
    for number in range(TRIALS):
        units, rate = meta_model(config).hidden_size, config.settings(number).learning_rate
        model = PolyphonicModel("rhn", hidden_size=units, depth=config.depth, kernel="reference")
        sgd = torch.optim.SGD(model.parameters(), lr=rate, momentum=config.momentum)
        trainings.append((model, sgd))

    def loss(model, batch):
        nll = frame_nll(model(batch.frames[:-1]), batch.frames[1:])
        return (nll * batch.mask[1:]).sum() / batch.size

    def run():
        for model, optimizer in trainings:
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss(model, batch).backward()
                optimizer.step()
            with torch.no_grad():
                sum(loss(model, batch).item() for batch in (*batches, *valid))

    return run


def fused_epoch(config: StudyConfig, groups: list[range]):
    """The study's own training: the trials of each group as one program."""
    swarms = [
        start_training(config, {n: config.settings(n) for n in group}, {}, corpus(), "cpu")
        for group in groups
    ]

    def run():
        for swarm in swarms:
            swarm.run_epoch()

    return run


for depth in small().depth:
    name = f"study, small sizes, RHN depth {depth}, {TRIALS} trials"

    @benchmark(name, "the same, one after another", 0.9, pairs=3)
    def _(device, depth=depth):
        alone = [range(number, number + 1) for number in range(TRIALS)]
        return fused_epoch(study(depth), [range(TRIALS)]), fused_epoch(study(depth), alone)

    @benchmark(name, "a plain autograd loop each", 8.0, pairs=3)
    def _(device, depth=depth):
        return fused_epoch(study(depth), [range(TRIALS)]), plain_epoch(study(depth))


# On a CPU both do the same arithmetic, and the stack only must not cost anything.
@on_both(
    "lesions of an RHN n=262 depth=6 over the training chorales, one stack",
    "the same networks one by one",
    0.9,
    pairs=3,
)
def _(device):
    pieces, generator = chorales().train, torch.Generator().manual_seed(0)
    model = PolyphonicModel(
        "rhn", hidden_size=262, depth=6, init="gaussian:0.05", generator=generator
    ).to(device)
    return (lambda: lesion(model, pieces)), (lambda: lesion(model, pieces, at_once=1))

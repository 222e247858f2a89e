"""K trials of the study as one program, against the same ones one after another, and against a
plain autograd loop for each.

An epoch of each: training on some chorales, then the loss on them, as the study does it. RHNs, at
the sizes of the small preset and, with --full, of the paper.
"""

import functools

import torch

from benchmarks.registry import benchmark
from optim_study.backend import hidden_size, start_training
from optim_study.config import RunConfig, StudyConfig, paper, small
from rhn.data import chorales
from rhn.data.corpus import Corpus
from rhn.kernels.losses import frame_nll
from rhn.models import PolyphonicModel
from rhn.training.chorales import training_batches

FUSED = {"cpu": {"small": 15, "paper": 4}, "cuda": {"small": 60, "paper": 60}}
PIECES = {"small": 64, "paper": 32}


@functools.cache
def corpus(pieces: int) -> Corpus:
    """Chorales at equal distances in the list: short ones and long ones."""
    full = chorales()
    step = len(full.train) // pieces
    return Corpus(full.train[::step][:pieces], full.valid[:8], full.test[:8], full.source)


def study(preset: RunConfig, depth: int, data: Corpus) -> StudyConfig:
    """One that trains for ever: gentle learning rates, so that nobody leaves."""
    return StudyConfig(
        arch="rhn",
        depth=depth,
        data=data.checksum,
        budget_scale=preset.budget_scale,
        epochs=10**6,
        patience=10**6,
        learning_rate=(1e-4, 1e-3),
    )


def plain_epoch(config: StudyConfig, numbers: range, data: Corpus, device: str):
    """The same by the book: the cell's equation as a loop, autograd, torch.optim.SGD, a model at a
    time.
    """
    where = {"device": device, "dtype": torch.float32}
    batches = training_batches(data.train, config.batch_size, **where)
    valid = training_batches(data.valid, 64, **where)
    trainings = []
    for number in numbers:
        model = PolyphonicModel(
            "rhn",
            hidden_size=hidden_size(config),
            depth=config.depth,
            kernel="reference",
            device=device,
        )
        rate = config.settings(number).learning_rate
        trainings.append(
            (model, torch.optim.SGD(model.parameters(), lr=rate, momentum=config.momentum))
        )

    def loss(model, batch):
        return (
            frame_nll(model(batch.frames[:-1]), batch.frames[1:]) * batch.mask[1:]
        ).sum() / batch.size

    def run():
        for model, optimizer in trainings:
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss(model, batch).backward()
                optimizer.step()
            with torch.no_grad():
                sum(loss(model, batch).item() for batch in (*batches, *valid))

    return run


def fused_epoch(config: StudyConfig, numbers: range, data: Corpus, device: str, *, together: bool):
    """The study's own training, all trials as one program or one after another."""
    groups = [numbers] if together else [[number] for number in numbers]
    swarms = [
        start_training(config, {n: config.settings(n) for n in group}, {}, data, device)
        for group in groups
    ]

    def run():
        for swarm in swarms:
            swarm.run_epoch()

    return run


for preset in (small(), paper()):
    size = "paper" if preset.budget_scale == 1 else "small"
    for depth in preset.depth:
        common = {"full": size == "paper", "devices": ("cpu", "cuda"), "pairs": 3}

        def prepared(device, other, size=size, preset=preset, depth=depth):
            """(ours, the other), for as many trials as suit the device."""
            data, numbers = corpus(PIECES[size]), range(FUSED[device][size])
            config = study(preset, depth, data)
            theirs = (
                plain_epoch(config, numbers, data, device)
                if other == "plain"
                else fused_epoch(config, numbers, data, device, together=False)
            )
            return fused_epoch(config, numbers, data, device, together=True), theirs

        name = (
            f"study, {size} sizes, RHN depth {depth}, {FUSED['cpu'][size]} trials "
            f"({FUSED['cuda'][size]} on a GPU)"
        )
        benchmark(name, "the same, one after another", 0.9, **common)(
            functools.partial(prepared, other="alone")
        )
        floor = 8.0 if size == "small" else 1.0
        benchmark(name, "a plain autograd loop each", floor, **common)(
            functools.partial(prepared, other="plain")
        )

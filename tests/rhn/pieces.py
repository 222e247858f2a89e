"""The shortest chorales: small trainings on real music."""

from dataclasses import replace

import torch

from rhn.cells import CELLS
from rhn.data import Corpus, chorales
from rhn.training.chorales import ChoraleTask
from rhn.training.config import ChoraleConfig
from rhn.training.ensemble import part_size
from rhn.training.trainer import Trainer

# a training of less than a second
SMALL_CHORALES = ChoraleConfig(
    cell="rhn",
    depth=2,
    hidden_size=6,
    learning_rate=0.3,
    init_std=0.1,
    transform_bias=None,
    epochs=5,
    patience=3,
)


def shortest_chorales(train: int, valid: int = 4, test: int = 3, *, skip: int = 0) -> Corpus:
    """So many of the shortest rebuilt chorales of each split, without the first few to train on."""
    whole = chorales()
    splits = (sorted(pieces, key=len) for pieces in (whole.train, whole.valid, whole.test))
    pieces = [
        split[first:end]
        for split, first, end in zip(splits, (skip, 0, 0), (train, valid, test), strict=True)
    ]
    return Corpus(*pieces, source="the shortest chorales")


def chorale_trainer(
    numbers,
    corpus,
    cell="rhn",
    *,
    rates=None,
    device="cpu",
    dtype=torch.float32,
    saved=None,
    **plan,
) -> Trainer:
    """A trainer of these trials, each with weights of its own and a learning rate of `rates`."""
    plan |= {"cell": cell, "depth": 2 if CELLS[cell].deep else 1}
    task = ChoraleTask(replace(SMALL_CHORALES, **plan), corpus, device, dtype or torch.float32)
    models = {n: task.model(n).to(dtype) for n in numbers}
    positions = max(batch.mask.numel() for batch in task.batches(1))
    size = part_size(next(iter(models.values())), positions, task.device)
    return Trainer(task, models, rates, saved=saved, part_size=size)

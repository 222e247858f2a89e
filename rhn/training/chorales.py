"""Train on chorales: the task, with losses in nats per predicted frame."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from rhn.data.corpus import Corpus
from rhn.training.batches import ChoraleBatch, batches_of, evaluation_batches
from rhn.training.build import build_model
from rhn.training.ensemble import Ensemble
from rhn.training.graphs import captured
from rhn.training.task import Task
from rhn.utils.progress import Advance
from rhn.utils.seeds import batch_order


class ChoraleTask(Task):
    """Predict the next frame of chorales. Both losses of a curve are measured over whole splits
    with the weights before training and after each epoch.
    """

    data = Corpus
    columns = ("train_nll", "valid_nll")

    def __init__(
        self, config: Any, corpus: Corpus, device: torch.device | str = "cpu", dtype=torch.float32
    ):
        super().__init__(config, device)
        self.objective, where = config.objective, {"device": self.device, "dtype": dtype}
        self._batches = batches_of(corpus.train, repeat(config.batch_size), **where)
        self._splits = [evaluation_batches(s, **where) for s in (corpus.train, corpus.valid)]
        # an ensemble, and its losses as one CUDA graph
        self._evaluate: tuple[Any, Any] = None, None

    def model(self, seed: int) -> nn.Module:
        return build_model(self.config, seed=seed)

    def batches(self, epoch: int) -> list[ChoraleBatch]:
        name = self.config.cell, self.config.depth
        order = batch_order(self.config.seed, *name, epoch, len(self._batches))
        return [self._batches[i] for i in order]

    def loss(self, model, own, batch: ChoraleBatch) -> tuple[Tensor, tuple]:
        total = model(batch.frames[:-1], batch.frames[1:], batch.mask[1:])
        return total / batch.size, (total, ())

    def evaluate(self, ensemble: Ensemble) -> Tensor:
        if self._evaluate[0] is not ensemble:
            splits = self._splits

            def losses() -> Tensor:  # without self, see `captured`
                return torch.stack([mean_nll(ensemble, batches) for batches in splits], 1)

            self._evaluate = ensemble, captured(losses, self.device)
        return self._evaluate[1]()


def mean_nll(
    ensemble: Ensemble,
    batches: Sequence[ChoraleBatch],
    advance: Advance = lambda done, total: None,
) -> Tensor:
    """Return the mean loss of each model in nats per predicted frame, (K,) in float64. advance:
    called with (batches done, batches in all).
    """
    total: Any = 0
    for done, batch in enumerate(batches, 1):
        part = batch.frames[:-1], batch.frames[1:], batch.mask[1:]
        total = total + ensemble.map(lambda model, *part: model(*part), *part)
        advance(done, len(batches))
    return total / sum(batch.size for batch in batches)

"""Train on chorales: the task that gives minibatches, the mean loss of a frame, and its measurements.

Losses are measured after every epoch, over whole splits, with the weights of that moment (epoch 0: before training). So the best
training loss is the loss of the weights that are kept, and `rhn evaluate` repeats it in float32. The cost is one forward pass over the
data.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.data import Corpus
from rhn.training.batches import Minibatch, evaluation_batches, training_batches
from rhn.training.build import build_model, part_size
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import evaluate
from rhn.training.graphs import captured
from rhn.training.losses import mean_loss, mean_nll
from rhn.training.optimizers import Optimizer
from rhn.training.seeds import batch_order
from rhn.training.trainer import Task, Trials


class ChoraleTask(Task):
    """Predict the next frame of chorales.

    Args:
        config: a `ChoraleConfig`, or whatever has its epochs, patience, objective, batch_size, seed and optimizer.
        corpus: training and validation pieces; the test pieces are for `test_nll`.
    """

    unit, measure_name, first_epoch = "epoch", "nats/frame", 0
    columns = ("train_nll", "valid_nll")
    rate_unit = "epochs"

    def __init__(self, config: Any, corpus: Corpus):
        self.config, self.corpus, self.objective = config, corpus, config.objective
        self._graph = None

    # ---- the training --------------------------------------------------------------------------------

    def models(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> dict[int, nn.Module]:
        return {seed: build_model(self.config, seed=seed) for seed in seeds}

    def start(self, model: nn.Module, device: torch.device) -> None:
        where = {"device": device, "dtype": next(model.parameters()).dtype}
        self._device, self._network, self._graph = device, (model.cell, model.depth), None
        self._batches = training_batches(self.corpus.train, self.config.batch_size, **where)
        self._splits = [evaluation_batches(pieces, **where) for pieces in (self.corpus.train, self.corpus.valid)]
        positions = max(batch.mask.numel() for batch in self._batches)
        self._part_size = part_size(model, positions, device)

    def extra(self, ensemble: Ensemble) -> dict[str, Tensor]:
        return {f"best.{name}": t.clone() for name, t in ensemble.weights.items()}

    def part_size(self) -> int | None:
        return self._part_size

    def use(self, parts: Sequence[Trials]) -> None:
        self._parts = parts
        self._losses = captured(partial(_losses, [part.ensemble for part in parts], self._splits), self._device)

    def batch_count(self, epoch: int) -> int:
        return len(self._batches)

    def batches(self, epoch: int) -> list[int]:
        return batch_order(self.config.seed, *self._network, epoch, len(self._batches))

    def inputs(self, trials: Trials, batch: int, epoch: int, step: int) -> tuple[int]:
        return (batch,)

    def step(self, trials: Trials, optimizer: Optimizer, number: int) -> None:
        batch = self._batches[number]
        gradients = trials.ensemble.gradients(mean_loss, batch.frames, batch.mask, batch.count)
        optimizer.step(trials.ensemble.weights, gradients, trials.state, trials.rate)

    def measure(self, log: Tensor, epoch: int) -> list[list[float]]:
        losses = torch.stack([self._losses(split).clone() for split in range(len(self._splits))], 1)
        losses[~torch.cat([part.ensemble.finite() for part in self._parts])] = torch.nan
        return losses.tolist()

    def end_epoch(self, trials: Trials, curves: Mapping[int, np.ndarray], improved: Sequence[int]) -> None:
        for name, w in trials.ensemble.weights.items():
            trials.extra[f"best.{name}"][improved] = w[improved]

    def size(self, batch: int) -> int:
        return self._batches[batch].count

    # ---- what a run folder needs ---------------------------------------------------------------------

    def about(self, seed: int) -> dict:
        return {"data": {"source": self.corpus.source, "checksum": self.corpus.checksum}}

    def fixed(self, seeds: Sequence[int]) -> dict:
        return {"data": self.corpus.checksum}

    def line(self, epoch: int, row: Sequence[float]) -> dict:
        return {"epoch": epoch, "train_nll": row[0], "valid_nll": row[1]}

    def test_nll(self, model: nn.Module, device: torch.device | str = "cpu") -> float:
        """Nats a frame of the test pieces; on a GPU one CUDA graph serves all models of a training."""
        if torch.device(device).type != "cuda":
            return evaluate(model, self.corpus.test, device=device).nll
        if self._graph is None:
            ensemble = Ensemble.in_evaluation(model, device)
            batches = evaluation_batches(self.corpus.test, device=device, dtype=ensemble.dtype)
            self._graph = ensemble, captured(partial(_losses, [ensemble], [batches]), torch.device(device))
        ensemble, losses = self._graph
        values = model.state_dict()
        for name, t in (ensemble.weights | ensemble.constants).items():
            t[0].copy_(values[name])
        return losses(0).item()


def _losses(parts: Sequence[Ensemble], splits: Sequence[Sequence[Minibatch]], split: int) -> Tensor:
    """The loss of every model on a split, (K,)."""
    return torch.cat([mean_nll(part, splits[split]) for part in parts])

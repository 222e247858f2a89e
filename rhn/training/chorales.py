"""The training loop: K trials on the same batches as one program, a single training being K = 1.

Each trial has its own weights, learning rate, best weights and end: it stops after `patience` epochs without a better loss, or when a
loss or a weight is no longer finite. What happens to it does not depend on the others: on a CPU its losses are the same bits alone, in
any company, and resumed from its state.

Losses are measured after every epoch, over whole splits, with the weights as they are then (epoch 0: before training). So the best
training loss is the loss of the weights that are kept, and `rhn evaluate` finds it again, in float32 (`rhn.training.evaluation`); the
price is one forward pass over the data.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.data import Corpus
from rhn.errors import InvalidInputError
from rhn.training.batches import Minibatch, evaluation_batches, training_batches
from rhn.training.curves import best_epoch, diverged, has_ended
from rhn.training.graphs import replayed
from rhn.training.live_trials import LiveTrials, places_to_keep
from rhn.training.losses import mean_loss, mean_nll
from rhn.training.memory import part_size
from rhn.training.numerics import deterministic
from rhn.training.profile import Profile, measure_profile
from rhn.training.seeds import batch_order
from rhn.training.state import TrialState


class Training:
    """K trials, all at the same epoch.

    Args:
        models: by trial number, alike but for the values of their parameters, which are the first weights where nothing is saved.
        learning_rates: by trial number.
        corpus: its training and validation pieces.
        config: what the trials share, a `ChoraleConfig` or whatever has its epochs, patience, objective, batch_size, momentum and seed.
        device: where it happens.
        saved: a state for each trial, all at one epoch; None to begin.
        refuse_overflow: raise where a loss is not finite before training; otherwise that trial has ended, diverged, at epoch 0.

    Raises:
        DataError: a split has nothing to predict.
        InvalidInputError: a loss is not finite before training.
    """

    def __init__(
        self,
        models: Mapping[int, nn.Module],
        learning_rates: Mapping[int, float],
        corpus: Corpus,
        config: Any,
        *,
        device: torch.device | str = "cpu",
        saved: Mapping[int, TrialState] | None = None,
        refuse_overflow: bool = True,
    ):
        self._config, self.device = config, torch.device(device)
        self._models, self._left, self._other = dict(models), {}, None
        slots = LiveTrials.start(models, learning_rates, self.device)
        where = {"device": self.device, "dtype": slots.stack.dtype}
        self._batches = training_batches(corpus.train, config.batch_size, **where)
        self._splits = [evaluation_batches(pieces, **where) for pieces in (corpus.train, corpus.valid)]
        positions = max(batch.mask.numel() for batch in self._batches)
        self._part_size = part_size(next(iter(models.values())), positions, self.device)
        if saved:
            self._curves = {n: np.asarray(saved[n].curve) for n in models}
            self._use(slots.resumed({n: saved[n].arrays for n in models}))
        else:
            self._curves = {n: np.empty((0, 2)) for n in models}
            self._use(slots)
            self._measure(list(models))
            for number, curve in self._curves.items():
                if refuse_overflow and diverged(curve):
                    raise InvalidInputError(
                        f"the loss of trial {number} is not finite before training: draw smaller initial weights than "
                        f"{getattr(models[number], 'init', 'these')}"
                    )

    @property
    def epoch(self) -> int:
        """Epochs done by the trials that have done most."""
        return max(map(len, self._curves.values())) - 1

    @property
    def steps(self) -> int:
        """Steps of the optimiser that the trials have taken which have done most epochs."""
        return self.epoch * len(self._batches)

    def live(self) -> list[int]:
        """The trials still training."""
        config = self._config
        ends = {"epochs": config.epochs, "patience": config.patience}
        return [n for n, curve in self._curves.items() if not has_ended(curve, config.objective, **ends)]

    def run_epoch(self) -> None:
        """One epoch for every live trial, of which there must be one; those that have ended leave first."""
        live, model = self.live(), next(iter(self._models.values()))
        numbers = self._slots.numbers
        places = places_to_keep([n in live and numbers.index(n) == k for k, n in enumerate(numbers)], self.device)
        if len(places) < len(numbers):  # as far as it pays
            staying = {numbers[k] for k in places}
            self._left |= {n: self._slots.best_of(n) for n in set(numbers) - staying}
            self._use(self._slots[places])
        with deterministic():
            for i in batch_order(self._config.seed, model.cell, model.depth, self.epoch + 1, len(self._batches)):
                self._step(i)
        self._measure(live)

    def profile(self) -> Profile:
        """What a step costs of the models that go through it together, measured on the batch in the middle; nothing changes."""
        part, batch = self._slots[: self._part_size or len(self._slots)].stack, self._batches[len(self._batches) // 2]
        gradients = partial(part.gradients, mean_loss, batch.frames, batch.mask, batch.count)
        with deterministic():
            return measure_profile(part, gradients, batch.frames[:-1], own=False)

    def curve(self, number: int) -> np.ndarray:
        """(epochs done + 1, 2): training and validation loss; those of a diverged trial end in inf or NaN."""
        return self._curves[number]

    def state(self, number: int) -> TrialState:
        """What a trial needs to go on; for live trials and those that ended with the last epoch."""
        return TrialState(self._curves[number], self._slots.arrays(number))

    def best_model(self, number: int) -> nn.Module:
        """The model of a trial with its best weights so far, on the CPU."""
        best = self._left[number] if number in self._left else self._slots.best_of(number)
        model = copy.deepcopy(self._models[number])
        model.load_state_dict(best, strict=False)
        return model

    def best_nll(self, number: int, pieces: Sequence[np.ndarray]) -> float:
        """The loss of a trial's best weights so far on other pieces, as `evaluate` has it; on a GPU one CUDA graph for all trials."""
        if self._other is None or self._other[0] is not pieces:
            one = self._slots[[0]]
            batches = evaluation_batches(pieces, device=self.device, dtype=one.stack.dtype)
            self._other = pieces, one.stack, replayed(partial(_losses, [one], [batches]), self.device)
        _, stack, losses = self._other
        values = self.best_model(number).state_dict()
        for name, t in (stack.weights | stack.constants).items():
            t[0].copy_(values[name])
        with deterministic():
            return losses(0).item()

    def model(self, number: int) -> nn.Module:
        """The model of a live trial with its weights as they are now, on the CPU."""
        model, weights = copy.deepcopy(self._models[number]), self._slots.arrays(number)
        values = {name: torch.from_numpy(weights[f"weights.{name}"]) for name in self._slots.stack.weights}
        model.load_state_dict(values, strict=False)
        return model

    def _use(self, slots: LiveTrials) -> None:
        """Train these from now on."""
        self._slots = slots
        size = self._part_size or len(slots)
        parts = [slots[start : start + size] for start in range(0, len(slots), size)]
        changes = [*slots.stack.weights.values(), *slots.velocity.values()]
        self._step = replayed(partial(_step, parts, self._batches, self._config.momentum), self.device, changes)
        self._losses = replayed(partial(_losses, parts, self._splits), self.device)

    def _measure(self, live: list[int]) -> None:
        """Add the losses of now to the curves of these trials, and keep the weights of those that are better than ever."""
        with deterministic():
            losses = torch.stack([self._losses(split) for split in range(len(self._splits))], 1)
            losses[~self._slots.stack.finite()] = torch.nan
        improved = []
        for place, row in enumerate(losses.tolist()):
            number = self._slots.numbers[place]
            if number not in live or self._slots.numbers.index(number) != place:
                continue
            curve = self._curves[number] = np.vstack([self._curves[number], row])
            if not diverged(curve) and best_epoch(curve, self._config.objective) == len(curve) - 1:
                improved.append(place)
        self._slots.keep_best(improved)


def _step(parts: Sequence[LiveTrials], batches: Sequence[Minibatch], momentum: float, i: int) -> None:
    """A step of every trial on batch i, v <- momentum v + g and w <- w - learning_rate v, as in torch.optim.SGD."""
    batch = batches[i]
    for part in parts:
        gradients = part.stack.gradients(mean_loss, batch.frames, batch.mask, batch.count)
        for name, w in part.stack.weights.items():
            v = part.velocity[name].mul_(momentum).add_(gradients[name])
            w.sub_(v * part.learning_rate.view(-1, *[1] * (w.dim() - 1)))


def _losses(parts: Sequence[LiveTrials], splits: Sequence[Sequence[Minibatch]], split: int) -> Tensor:
    """The loss of every trial on a split, (K,)."""
    return torch.cat([mean_nll(part.stack, splits[split]) for part in parts])

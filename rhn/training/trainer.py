"""The trainer: run K trials (training runs) of one task as one program.

    task = ChoraleTask(config, corpus)
    trainer = Trainer(task, {0: task.model(0)})
    while trainer.live():
        trainer.run_step()
    model = trainer.best_model(0)

A trial stops after `patience` epochs without a better loss, or if a loss or a weight is no longer
finite. On a CPU it has the same bits alone or beside other trials, uninterrupted or resumed:
nothing is summed over trials, and random numbers depend only on (seed, epoch, step).
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.training.ensemble import Ensemble, Weights, sums
from rhn.training.graphs import captured
from rhn.training.optimizers import Optimizer, make_optimizer
from rhn.training.state import TrialState, best_epoch, diverged, has_ended
from rhn.training.task import Task
from rhn.utils.threads import deterministic

CHECK_EVERY = 100  # steps: on a GPU each look at the weights waits for all work before it


@dataclass(frozen=True, eq=False)
class Trials:
    """K trials: index k of every tensor (K, ...) belongs to trial numbers[k]."""

    numbers: Sequence[int]
    ensemble: Ensemble
    rate: Tensor  # learning rates of the epoch, (K,) float64
    state: dict[str, Tensor]  # of the optimizer

    def __getitem__(self, which: slice | list[int]) -> "Trials":
        """Return some of the trials: views of them for a slice, copies for a list of indices."""
        numbers = np.array(self.numbers)[which].tolist()
        state = {name: t[which] for name, t in self.state.items()}
        return Trials(numbers, self.ensemble[which], self.rate[which], state)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors that change during training, by name, without a copy."""
        return {f"weights.{name}": t for name, t in self.ensemble.weights.items()} | self.state


@dataclass(eq=False)
class Epoch:
    """An epoch of K trials: its batches, the numbers that each step logs, and how far it is."""

    batches: Sequence[Any]
    log: Tensor  # (steps, K, numbers) float64
    carry: list  # the states from the last step, for each part of the trials
    done: int = 0  # steps

    @property
    def has_ended(self) -> bool:
        return self.done == len(self.batches)

    def add(self, log: Tensor, carry: list) -> None:
        """Add a step."""
        self.log[self.done], self.carry = log, carry
        self.done += 1


class Trainer:
    """Train K trials of a task, all at the same step of the same epoch, from `models` with their
    initial weights by trial number, or from `saved` states. Learning rates and optimizer are those
    of the configuration by default; `part_size` models (None: all) share one pass of a step.
    """

    numbers: list[int]
    """The trials in the ensemble: those that are live, and ended ones not yet removed."""
    _current: Epoch

    def __init__(
        self,
        task: Task,
        models: Mapping[int, nn.Module],
        learning_rates: Mapping[int, float] | None = None,
        *,
        optimizer: Optimizer | None = None,
        saved: Mapping[int, TrialState] | None = None,
        part_size: int | None = None,
    ):
        self.task, self.config = task, task.config
        self._models = dict(models)
        self._best: dict[int, Weights] = {
            n: {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
            for n, model in models.items()
        }
        self._rates = dict(learning_rates or dict.fromkeys(models, self.config.learning_rate))
        self._optimizer, self._part_size = optimizer or make_optimizer(self.config), part_size
        self._curves = {n: np.empty((0, len(task.columns))) for n in models}
        self.epoch = 0
        """Number of epochs done."""
        self.steps = 0
        """Number of optimiser steps done."""
        # the numbers that each step logs
        self._logged = ("nll", "norm") if self._optimizer.clip else ("nll",)
        live = list(models) if saved is None else self._unended(saved)
        ensemble = Ensemble.of([models[n] for n in live], task.device)
        rates = [self._rates[n] for n in live]
        rate = torch.tensor(rates, device=task.device, dtype=torch.float64)
        self._use(Trials(live, ensemble, rate, self._optimizer.start(ensemble.weights)))
        if saved is not None:
            self._resume(saved)
            return
        self._begin_epoch()
        if self.task.first_epoch == 0:
            with deterministic():
                self._extend(self._measured_rows())

    @property
    def position(self) -> tuple[int, int]:
        """The number of completed steps of the current epoch, and the number of all its steps."""
        return self._current.done, len(self._current.batches)

    def live(self) -> list[int]:
        """Return the numbers of the trials that have not ended."""
        ends: dict = {"objective": self.task.objective, "patience": self.config.patience}
        ends |= {"epochs": self.config.epochs - self.task.first_epoch}
        return [n for n, curve in self._curves.items() if not has_ended(curve, **ends)]

    def curve(self, number: int) -> np.ndarray:
        """Return the curve of a trial, (epochs, columns) float64."""
        return self._curves[number]

    def diverged(self, number: int) -> str | None:
        """Describe the end of a trial whose last loss is not finite; None for any other."""
        epoch = len(self._curves[number]) - 1 + self.task.first_epoch
        rate = self._rates[number] / self.task.schedule(epoch)
        text = f"the loss is not finite in epoch {epoch}, at a learning rate of {rate:g}"
        return text if diverged(self._curves[number]) else None

    def run_epoch(self) -> None:
        """Train to the end of the epoch on one thread. At least one trial must be live."""
        with deterministic():
            while not self.run_step():
                pass

    def run_step(self) -> bool:
        """Do one step of all live trials. Returns True if it ended the training run or an epoch."""
        epoch = self._current
        if epoch.done == 0:
            self._drop_ended()
            epoch.carry = [None] * len(self._parts)
        batch, skeleton = epoch.batches[epoch.done], self._trials.ensemble.skeleton
        inputs = [batch.inputs(skeleton, part.numbers) for part in self._parts]
        shared, drawn = zip(*inputs, strict=True)
        epoch.add(*self._step(shared[0], drawn, epoch.carry))
        self.steps += 1
        ended = epoch.has_ended
        if ended:
            self._extend(self._measured_rows())
        elif epoch.done % CHECK_EVERY == 0:
            self._extend(self._lost_rows())
            ended = not self.live()
        if ended:
            self.epoch += 1
            self._begin_epoch()
        return ended

    def model(self, number: int) -> nn.Module:
        """Return the model of a trial in the ensemble, as it is now, on the CPU."""
        model, k = copy.deepcopy(self._models[number]), self.numbers.index(number)
        weights = {n: t[k].cpu() for n, t in self._trials.ensemble.weights.items()}
        model.load_state_dict(weights, strict=False)
        return model

    def best_model(self, number: int) -> Any:
        """Return the model of a trial with its best weights so far, on the CPU."""
        model: Any = copy.deepcopy(self._models[number])
        model.load_state_dict(self._best[number], strict=False)
        return model

    def state(self, number: int) -> TrialState:
        """Return the state from which a trial continues; an ended one has only its best weights."""
        tensors = {f"best.{name}": t.cpu() for name, t in self._best[number].items()}
        if number in self.numbers:
            k = self.numbers.index(number)
            epoch = self._current
            carried = enumerate(zip(*epoch.carry, strict=True))
            within = {f"states.{i}": torch.cat(ts) for i, ts in carried}
            every = (self._trials.tensors | within).items()
            tensors |= {name: t[k].cpu().clone() for name, t in every}
            if epoch.done:
                logs = epoch.log[:, k].T.cpu()
                tensors |= {"step": torch.tensor(epoch.done, device="cpu")}
                tensors |= dict(zip(self._logged, logs, strict=True))
        return TrialState(self._curves[number], {name: t.numpy() for name, t in tensors.items()})

    def _unended(self, saved: Mapping[int, TrialState]) -> list[int]:
        """Return the trials that have more than their best weights."""
        return [n for n, best in self._best.items() if len(saved[n].arrays) > len(best)]

    def _resume(self, saved: Mapping[int, TrialState]) -> None:
        """Continue from the saved states of all trials."""
        self._curves = {n: saved[n].curve for n in self._models}
        for n, best in self._best.items():
            own = _stacked([saved[n]])
            self._best[n] = {name: own[f"best.{name}"][0] for name in best}
        kept = _stacked([saved[n] for n in self.numbers])
        for name, t in self._trials.tensors.items():
            t.copy_(kept[name])
        going = self.live() or self.numbers
        self.epoch = max(len(self._curves[n]) for n in going) + self.task.first_epoch - 1
        self._begin_epoch()
        self.steps = self.epoch * len(self._current.batches)
        if "step" in kept:
            epoch = self._current
            epoch.done = int(kept["step"][0])
            self.steps += epoch.done
            epoch.log.copy_(torch.stack([kept[name] for name in self._logged], 2).transpose(0, 1))
            count = sum(name.startswith("states.") for name in kept)
            # by number: a file has them in the order 0, 1, 10, 2, ...
            states = [kept[f"states.{i}"].to(self.task.device) for i in range(count)]
            epoch.carry = [tuple(states)] * len(self._parts)  # several parts carry nothing

    def _use(self, trials: Trials) -> None:
        self._trials, self.numbers, count = trials, list(trials.numbers), len(trials.numbers)
        size = self._part_size or count
        self._parts = [trials[start : start + size] for start in range(0, count, size)]
        # without self, see `captured`
        step = partial(training_step, self.task, self._optimizer, self._parts)
        self._step = captured(step, self.task.device, list(trials.tensors.values()))

    def _begin_epoch(self) -> None:
        batches = self.task.batches(self.epoch + 1)
        shape = len(batches), len(self.numbers), len(self._logged)
        log = torch.zeros(shape, device=self.task.device, dtype=torch.float64)
        self._current = Epoch(batches, log, carry=[])
        divisor = self.task.schedule(self.epoch + 1)
        for k, number in enumerate(self.numbers):
            self._trials.rate[k] = self._rates[number] / divisor

    def _measured_rows(self) -> dict[int, list[float]]:
        """Return the rows of an epoch that ended, by index in the ensemble."""
        rows = torch.cat([self.task.evaluate(part.ensemble) for part in self._parts]).tolist()
        if self.task.first_epoch:
            rows = self._with_logs(rows)
        return dict(enumerate(rows)) | self._lost_rows()

    def _with_logs(self, measured: list[list[float]]) -> list[list[float]]:
        """Add the mean loss of the epoch, learning rate and mean gradient norm to measured rows."""
        time_steps = sum(batch.length for batch in self._current.batches)
        logs, rates = self._current.log.permute(1, 2, 0).tolist(), self._trials.rate.tolist()
        rows = []
        for k, row in enumerate(measured):
            logged = dict(zip(self._logged, logs[k], strict=True))
            nll = math.fsum(logged["nll"]) / time_steps  # exact: no trial's depends on the others
            rows.append([nll, *row, rates[k], _finite_mean(logged.get("norm", ()))])
        return rows

    def _lost_rows(self) -> dict[int, list[float]]:
        """Return a row of NaN for weights that are not finite, by index in the ensemble."""
        weights = self._trials.ensemble.weights.values()
        finite = torch.stack([t.flatten(1).isfinite().all(1) for t in weights]).all(0).tolist()
        row = [math.nan] * len(self.task.columns)
        return {place: row for place, is_finite in enumerate(finite) if not is_finite}

    def _extend(self, rows: Mapping[int, list[float]]) -> None:
        """Add these rows, by index in the ensemble, to the curves of the live trials."""
        live, weights = self.live(), self._trials.ensemble.weights
        for place, row in rows.items():
            number = self.numbers[place]
            if number not in live:
                continue
            curve = self._curves[number] = np.vstack([self._curves[number], row])
            if not diverged(curve) and best_epoch(curve, self.task.objective) == len(curve) - 1:
                self._best[number] = {name: w[place].clone() for name, w in weights.items()}

    def _drop_ended(self) -> None:
        """Remove ended trials, on a GPU if they are at least half of all."""
        live, numbers = self.live(), self.numbers
        ended = {*numbers}.difference(live)
        is_worth_it = self.task.device.type != "cuda" or len(numbers) <= 2 * len(ended)
        if ended and is_worth_it:
            places = [k for k, number in enumerate(numbers) if number in live]
            self._current.log = self._current.log[:, places]
            self._use(self._trials[places])


def training_step(
    task: Task, optimizer: Optimizer, parts: Sequence[Trials], shared: tuple, drawn, carry
) -> tuple[Tensor, list]:
    """Do one optimiser step of all trials in place, one part after another, each with its inputs
    (`drawn`) and state from the last step (`carry`). Returns (the loss in nats, summed over time
    steps and averaged over rows, and the norm of clipped gradients, (K, n) float64; the states).
    """
    logs, carried = [], []
    for trials, *own in zip(parts, carry, drawn, strict=True):
        models = trials.ensemble
        gradients, (nll, last) = models.gradients(task.loss, *shared, own=tuple(own), has_aux=True)
        loss = nll if nll.dim() == 1 else sums(nll) / nll.shape[-1]
        norm = optimizer.step(models.weights, gradients, trials.state, trials.rate)
        logs.append(torch.stack([loss] if norm is None else [loss, norm], 1))
        carried.append(last)
    return torch.cat(logs), carried


def _stacked(states: Sequence[TrialState]) -> Weights:
    names = states[0].arrays
    return {name: torch.from_numpy(np.stack([s.arrays[name] for s in states])) for name in names}


def _finite_mean(numbers: Sequence[float]) -> float:
    """Return the mean of the finite numbers; NaN if there are none."""
    finite = [x for x in numbers if math.isfinite(x)]
    return math.fsum(finite) / len(finite) if finite else math.nan

"""The trainer: K trials of one task as one program; a single training is K = 1.

    task = ChoraleTask(config, corpus)
    trainer = Trainer(task, task.models([0]))
    while trainer.live():
        trainer.run_epoch()
    model = trainer.best_model(0)

Each trial has its own weights, learning rate, curve and end: it stops after `patience` epochs without a better loss, or if a loss or a
weight is no longer finite. Nothing is summed over trials, and all random numbers depend only on (seed, epoch, step). So on a CPU a
trial has the same bits alone or in company, whole or resumed from its state.

Ended trials leave the ensemble. On a CPU they leave before the next epoch. On a GPU the ensemble halves (60, 30, 15, ...) if half of
its trials have ended, so that CUDA graphs are captured only a few times; until then ended trials keep their places and are ignored.
"""

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.errors import DivergedError, InvalidInputError
from rhn.kernels.dispatch import recorded_choices
from rhn.kernels.info import recurrence_words
from rhn.training.curves import best_epoch, diverged, has_ended
from rhn.training.ensemble import Ensemble, Weights
from rhn.training.graphs import captured
from rhn.training.numerics import deterministic
from rhn.training.optimizers import Optimizer, make_optimizer
from rhn.training.state import TrialState

CHECK_EVERY = 100  # steps between two looks at the losses: on a GPU each look waits for all work before it


@dataclass(frozen=True, eq=False)
class Trials:
    """K trials: place k of every tensor (K, ...) belongs to trial numbers[k]. A number's first place counts."""

    numbers: Sequence[int]
    ensemble: Ensemble
    rate: Tensor
    """Learning rates of the epoch, (K,) float64."""
    state: dict[str, Tensor]
    """Of the optimizer."""
    extra: dict[str, Tensor]
    """Other tensors that the task keeps for each trial."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, which: slice | list[int]) -> "Trials":
        """Some of the places: views of them for a slice, a copy for a list."""
        numbers = self.numbers[which] if isinstance(which, slice) else [self.numbers[k] for k in which]
        state, extra = ({name: t[which] for name, t in group.items()} for group in (self.state, self.extra))
        return Trials(numbers, self.ensemble[which], self.rate[which], state, extra)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors that a resume needs, by name, not copied."""
        return {f"weights.{name}": t for name, t in self.ensemble.weights.items()} | self.state | self.extra

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """The tensors of one trial, copied to the CPU."""
        k = self.numbers.index(number)
        size = {"stack_size": np.array(len(self))} if self.rate.is_cuda else {}
        return size | {name: t[k].cpu().numpy().copy() for name, t in self.tensors.items()}

    def resumed(self, saved: Mapping[int, Mapping[str, np.ndarray]]) -> "Trials":
        """These trials with the tensors of `arrays`; on a GPU in an ensemble of the same size as then, so that the same bits follow.

        Raises KeyError or ValueError if the arrays belong to another training.
        """
        size = max(int(arrays.get("stack_size", 0)) for arrays in saved.values())
        trials = self[[*range(len(self)), *[0] * (size - len(self))]]
        for k, number in enumerate(trials.numbers):
            for name, t in trials.tensors.items():
                array = torch.from_numpy(np.array(saved[number][name]))
                if (array.shape, array.dtype) != (t[k].shape, t.dtype):
                    raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {tuple(t[k].shape)}")
                t[k] = array
        return trials


class Task:
    """Base of tasks: batches, step, measurements and wording of a training. A task object serves one trainer.

    config: a `TrainingConfig`, or another configuration with its epochs and patience.
    """

    config: Any
    unit: str
    """After which a training can be stopped: "epoch" or "step"."""
    columns: tuple[str, ...]
    """Of a curve: the training loss, the validation loss, and others."""
    first_epoch: int
    """0 if the losses before training are measured, otherwise 1."""
    logged: tuple[str, ...] = ()
    """Numbers that every step returns."""
    objective: str = "valid"
    """Loss that decides which epoch is best: "train" or "valid"."""
    measure_name: str
    """Of the losses that are shown, such as "nats/frame"."""
    rate_unit: str
    """The plural of the unit that the speed counts, such as "epochs"."""

    def models(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> dict[int, nn.Module]:
        """The first models of these seeds, on the CPU, for a training on a device. Raises InvalidInputError."""
        raise NotImplementedError

    def start(self, model: nn.Module, device: torch.device) -> None:
        """Prepare the data for models like this one on a device."""
        raise NotImplementedError

    def extra(self, ensemble: Ensemble) -> dict[str, Tensor]:
        """Tensors (K, ...) to keep for each trial beside weights and optimizer."""
        return {}

    def part_size(self) -> int | None:
        """Number of models in one pass of a step; None: all of them."""
        return None

    def use(self, parts: Sequence[Trials]) -> None:
        """Measure these trials from now on."""
        raise NotImplementedError

    def batch_count(self, epoch: int) -> int:
        """Number of batches of an epoch, counted from 1."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch in their order."""
        raise NotImplementedError

    def decay(self, epoch: int) -> float:
        """The divisor of the learning rates in an epoch."""
        return 1.0

    def begin_epoch(self, trials: Trials) -> None:
        """Reset what is carried from batch to batch."""

    def inputs(self, trials: Trials, batch: Any, epoch: int, step: int) -> tuple:
        """Arguments of `step` for a batch: tensors, or numbers of which each is one CUDA graph."""
        raise NotImplementedError

    def step(self, trials: Trials, optimizer: Optimizer, *inputs) -> Tensor | None:
        """Change the weights in place; returns the logged numbers (K, n) or None."""
        raise NotImplementedError

    def measure(self, log: Tensor, epoch: int) -> list[list[float]]:
        """The new row of each trial's curve."""
        raise NotImplementedError

    def refusal(self, row: Sequence[float], epoch: int) -> str | None:
        """Why a trial with this row leaves at once without it; None if it does not."""
        return None

    def end_epoch(self, trials: Trials, curves: Mapping[int, np.ndarray], improved: Sequence[int]) -> None:
        """Keep what the task keeps; `improved`: the places of trials with a new best epoch."""

    def weights(self, trials: Trials) -> Weights:
        """The weights that are measured."""
        return trials.ensemble.weights

    def size(self, batch: Any) -> int:
        """Number of predicted frames or tokens of a batch."""
        raise NotImplementedError

    # ---- what a run folder needs ---------------------------------------------------------------------

    def about(self, seed: int) -> dict:
        """Metadata of checkpoints beside configuration and metrics."""
        raise NotImplementedError

    def fixed(self, seeds: Sequence[int]) -> dict:
        """Entries of config.json that must not change."""
        raise NotImplementedError

    def line(self, epoch: int, row: Sequence[float]) -> dict:
        """The line of an epoch in metrics.jsonl."""
        raise NotImplementedError


class Trainer:
    """K trials of a task, all at the same step of the same epoch.

    Args:
        models: by trial number, equal but for the values of their parameters, which are the first weights if nothing is saved.
        learning_rates: by trial number; default: that of the configuration.
        optimizer: default: that of the configuration.
        saved: a state for each trial, all at the same step; None to begin. A state without arrays is that of a trial that has left.
        refuse_overflow: raise if a loss is not finite before training; otherwise that trial has ended, diverged, at epoch 0.

    Raises:
        DataError: a split has nothing to predict.
        InvalidInputError: a loss is not finite before training.
        KeyError, TypeError, ValueError: the states are of another training.
    """

    def __init__(
        self,
        task: Task,
        models: Mapping[int, nn.Module],
        learning_rates: Mapping[int, float] | None = None,
        *,
        optimizer: Optimizer | None = None,
        device: torch.device | str = "cpu",
        saved: Mapping[int, TrialState] | None = None,
        refuse_overflow: bool = True,
    ):
        self.task, self.config, self.device = task, task.config, torch.device(device)
        self._models, self._best = dict(models), {}
        self._rates = dict(learning_rates or dict.fromkeys(models, self.config.learning_rate))
        self._optimizer = optimizer or make_optimizer(self.config)
        self._curves = {n: np.empty((0, len(task.columns))) for n in models}
        self.diverged: dict[int, str] = {}
        self.samples_read = 0  # predicted frames or tokens of each trial since this object was made
        self.kernel = ""  # the implementation of the recurrence, known after the first step
        self._log = torch.empty(0)
        task.start(next(iter(models.values())), self.device)
        if saved is not None:
            self._resume(saved)
            return
        self._use(self._new_trials(list(models)))
        if task.first_epoch == 0:
            self._measure()
        for number, curve in self._curves.items():
            if refuse_overflow and diverged(curve):
                raise InvalidInputError(
                    f"the loss of trial {number} is not finite before training: draw smaller initial weights than "
                    f"{getattr(models[number], 'init', 'these')}"
                )
        self._begin_epoch()

    # ---- where it is ---------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of epochs done by the trials that have done most."""
        return max(map(len, self._curves.values())) - 1 + self.task.first_epoch

    @property
    def position(self) -> tuple[int, int]:
        """(steps done of the present epoch, steps in it)."""
        return self._done, len(self._batches)

    @property
    def steps(self) -> int:
        """Number of steps of the optimizer taken by the trials that have taken most."""
        return self._done + sum(map(self.task.batch_count, range(1, self.epoch + 1)))

    @property
    def numbers(self) -> list[int]:
        """The trials in the ensemble, in their order: the live ones, and ended ones that have not left yet."""
        return list(dict.fromkeys(self._trials.numbers))

    def live(self) -> list[int]:
        """The trials still training."""
        return [n for n, curve in self._curves.items() if n not in self.diverged and not self._has_ended(curve)]

    def curve(self, number: int) -> np.ndarray:
        """(epochs, columns of the task) float64; the losses of a diverged trial may end in inf or NaN."""
        return self._curves[number]

    def running(self) -> list[float]:
        """The logged numbers of the last steps of this epoch, means over trials; the first one is the loss of a sample."""
        recent = slice(max(0, self._done - CHECK_EVERY), self._done)
        samples = sum(map(self.task.size, self._batches[recent]))
        first, *others = self._log[recent].mean(1).unbind(1)  # the loss is a mean over rows and a sum over steps
        return [first.sum().item() * self.config.batch_size / max(1, samples), *(t.mean().item() for t in others)]

    # ---- training ------------------------------------------------------------------------------------

    def run_unit(self) -> bool:
        """Train an epoch or a step, the unit of the task; returns whether that ended an epoch."""
        if self.task.unit == "epoch":
            self.run_epoch()
            return True
        return self.run_step()

    def run_epoch(self) -> None:
        """Train to the end of the epoch, of which there must be a live trial."""
        with self._threads():
            while not self.run_step():
                pass

    def run_step(self) -> bool:
        """One step of every live trial; returns whether that ended an epoch, which is then measured.

        Raises DivergedError if the last live trials diverge; the message names the step.
        """
        if self._done == 0:
            self._drop_ended()
        batch = self._batches[self._done]
        logged = self._take_step(*self.task.inputs(self._trials, batch, self.epoch + 1, self._done))
        if logged is not None:
            self._log[self._done] = logged
        self._done += 1
        self.samples_read += self.task.size(batch)
        ended = self._done == len(self._batches)
        if ended or self._done % CHECK_EVERY == 0:
            self.check()
        if ended:
            self._measure()
            self._begin_epoch()
        return ended

    def check(self) -> None:
        """Let trials leave whose steps or weights are not finite; raises DivergedError if no live one is left."""
        if not self.task.logged or not self.live():
            return  # curves show it, or all have ended
        bad = ~self._log[: self._done].isfinite().all(2)
        why = {}
        for place in (bad.any(0) | ~self._trials.ensemble.finite()).nonzero().flatten().tolist():
            step = min([*bad[:, place].tolist(), True].index(True) + 1, self._done)  # the last one if no loss shows it
            where = f"step {step} of {len(self._batches)} of epoch {self.epoch + 1}"
            why[place] = f"the loss or its gradient is not finite at {where}"
        self._leave(why)

    # ---- results and states --------------------------------------------------------------------------

    def model(self, number: int) -> nn.Module:
        """The model of a trial in the ensemble with its present weights, or their average, on the CPU."""
        k = self._trials.numbers.index(number)
        return self._with_weights(number, {name: t[k].cpu() for name, t in self.task.weights(self._trials).items()})

    def best_model(self, number: int) -> nn.Module:
        """The model of a trial with its best weights so far, on the CPU; only if the task keeps them."""
        return self._with_weights(number, self._best[number] if number in self._best else self._best_of(number))

    def state(self, number: int) -> TrialState:
        """The data that a trial needs to go on; a trial that has left needs only its curve."""
        if number not in self._trials.numbers:
            return TrialState(self._curves[number], {})
        arrays = self._trials.arrays(number)
        if self.task.unit == "step":
            k = self._trials.numbers.index(number)
            arrays["step"] = np.array(self._done)
            arrays |= {name: self._log[:, k, i].cpu().numpy() for i, name in enumerate(self.task.logged)}
        return TrialState(self._curves[number], arrays)

    def _resume(self, saved: Mapping[int, TrialState]) -> None:
        live = [n for n in self._models if saved[n].arrays]
        if not live:
            raise ValueError("every trial in it has ended")
        for number in self._models:
            curve = np.asarray(saved[number].curve)
            if curve.ndim != 2 or curve.shape[1] != len(self.task.columns):
                raise ValueError(f"the curve has shape {curve.shape}")
            self._curves[number] = curve
        unfinished = [n for n in self._models if n not in live and not self._has_ended(self._curves[n])]
        self.diverged = dict.fromkeys(unfinished, "its loss was no longer finite before the last save")
        self._use(self._new_trials(live).resumed({n: saved[n].arrays for n in live}))
        self._begin_epoch(reset=False)
        if self.task.unit == "step":
            done = int(saved[live[0]].arrays["step"])
            if not 0 <= done < len(self._batches):
                raise ValueError(f"it is at step {done} of {len(self._batches)}")
            for k, number in enumerate(self._trials.numbers):
                for i, name in enumerate(self.task.logged):
                    column = np.asarray(saved[number].arrays[name])
                    if column.shape != (len(self._batches),):
                        raise ValueError(f"{name} has shape {column.shape}")
                    self._log[:, k, i] = torch.from_numpy(column)
            self._done = done

    # ---- within --------------------------------------------------------------------------------------

    def _take_step(self, *inputs) -> Tensor | None:
        if self.kernel:
            return self._step(*inputs)
        with recorded_choices() as choices:
            logged = self._step(*inputs)
        self.kernel = recurrence_words(choices)
        return logged

    def _new_trials(self, numbers: list[int]) -> Trials:
        ensemble = Ensemble.of([self._models[n] for n in numbers], self.device)
        rate = torch.tensor([self._rates[n] for n in numbers], device=self.device, dtype=torch.float64)
        state, extra = self._optimizer.start(ensemble.weights), self.task.extra(ensemble)
        return Trials(numbers, ensemble, rate, state, extra)

    def _use(self, trials: Trials) -> None:
        """Train these from now on."""
        size = self.task.part_size() or len(trials)
        self._trials = trials
        self._parts = [trials[start : start + size] for start in range(0, len(trials), size)]
        step = partial(_step, self.task, self._optimizer, self._parts)  # without the trainer, see `captured`
        self._step = captured(step, self.device, list(trials.tensors.values()))
        self.task.use(self._parts)

    def _begin_epoch(self, reset: bool = True) -> None:
        epoch = self.epoch + 1
        self._batches, self._done = self.task.batches(epoch), 0
        shape = len(self._batches), len(self._trials), len(self.task.logged)
        self._log = torch.zeros(shape, device=self.device, dtype=torch.float64)
        decay = self.task.decay(epoch)
        for k, number in enumerate(self._trials.numbers):
            self._trials.rate[k] = self._rates[number] / decay
        if reset:
            self.task.begin_epoch(self._trials)

    def _measure(self) -> None:
        """Add the measurements of now to the curves of the live trials."""
        live, epoch = self.live(), self.epoch + 1
        with self._threads():
            rows = self.task.measure(self._log, epoch)
        why = {place: reason for place, row in enumerate(rows) if (reason := self.task.refusal(row, epoch))}
        self._leave(why)
        rows, improved = [row for place, row in enumerate(rows) if place not in why], []
        for place, number in enumerate(self._trials.numbers):
            if number not in live or self._trials.numbers.index(number) != place:
                continue
            curve = self._curves[number] = np.vstack([self._curves[number], rows[place]])
            if not diverged(curve) and best_epoch(curve, self.task.objective) == len(curve) - 1:
                improved.append(place)
        self.task.end_epoch(self._trials, self._curves, improved)

    def _drop_ended(self) -> None:
        """Let ended trials leave as far as that saves time."""
        live, numbers = self.live(), self._trials.numbers
        places = places_to_keep([n in live and numbers.index(n) == k for k, n in enumerate(numbers)], self.device)
        if len(places) < len(numbers):
            staying = {numbers[k] for k in places}
            self._best |= {n: self._best_of(n) for n in set(numbers) - staying}
            self._keep(places)

    def _leave(self, why: Mapping[int, str]) -> None:
        """Go on without these places; the reasons by place. Raises DivergedError if no live trial is left."""
        numbers, decay, live = self._trials.numbers, self.task.decay(self.epoch + 1), self.live()
        for place, reason in why.items():
            if numbers[place] in live:
                rate = self._rates[numbers[place]] / decay
                self.diverged[numbers[place]] = f"{reason}, at a learning rate of {rate:g}"
        if why and not self.live():
            raise DivergedError(self.diverged[live[0]])
        if why:
            self._keep([place for place in range(len(numbers)) if place not in why])

    def _keep(self, places: list[int]) -> None:
        """Go on with these places of the ensemble."""
        self._log = self._log[:, places]
        self._use(self._trials[places])

    def _has_ended(self, curve: np.ndarray) -> bool:
        epochs, patience = self.config.epochs, self.config.patience
        first = self.task.first_epoch
        return has_ended(curve, self.task.objective, epochs=epochs, patience=patience, first_epoch=first)

    def _best_of(self, number: int) -> Weights:
        k = self._trials.numbers.index(number)
        best = {name: t for name, t in self._trials.extra.items() if name.startswith("best.")}
        return {name.removeprefix("best."): t[k].cpu().clone() for name, t in best.items()}

    def _with_weights(self, number: int, weights: Weights) -> nn.Module:
        model = copy.deepcopy(self._models[number])
        model.load_state_dict(weights, strict=False)
        return model

    def _threads(self):
        """One thread for tasks whose bits depend on it; otherwise those of the caller."""
        return deterministic() if self.task.unit == "epoch" else contextlib.nullcontext()


def _step(task: Task, optimizer: Optimizer, parts: Sequence[Trials], *inputs) -> Tensor | None:
    """One step of every part; returns the logged numbers (K, n) or None."""
    logged = [task.step(part, optimizer, *inputs) for part in parts]
    return None if logged[0] is None else torch.cat(logged)


def places_to_keep(live: Sequence[bool], device: torch.device) -> list[int]:
    """The places of an ensemble that go on, given which of them are live (at least one).

    >>> places_to_keep([True, False, True], torch.device("cpu"))
    [0, 2]
    >>> [places_to_keep(live, torch.device("cuda")) for live in ([True, False, True], [True, False, False, False])]
    [[0, 1, 2], [0]]
    """
    size = sum(live)
    if device.type == "cuda":
        size = len(live)
        while sum(live) <= size // 2:
            size = -(-size // 2)
    living_first = sorted(range(len(live)), key=lambda k: not live[k])  # ended ones fill what is left
    return sorted(living_first[:size])

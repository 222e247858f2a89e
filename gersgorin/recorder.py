"""`Recorder`: measure the spectra, gains, gates and gradients of a recurrent cell at regular steps
of any training.

    with Recorder(model, probe, every=100, path="run.npz") as recorder:
        for x, y in batches:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            recorder.step(loss)          # with the present gradients
            optimizer.zero_grad()
    recorder.recording                   # a Recording; `gersgorin recording run.npz` draws it

`trainability.Recorder` also measures what share of the loss the outputs explain.

A measurement uses a copy of the model in float64 and evaluation mode: training with a recorder
gives the same bits as without. Single steps are measured at a few positions spread over the probe,
from sequence to sequence in turn, and the product of the first 32 steps of these sequences. The
cost grows with the cube of the state's size, a step of training with its square: about 5 % of the
time at 64 units and the default of 100 steps from one measurement to the next. Use more steps for
larger networks.

Legend: T steps, B sequences, P positions, N state entries, L layers, K weights (of each layer).
"""

import atexit
import math
import sys
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.data.inputs import as_input
from gersgorin.linalg.spectrum import one_thread
from gersgorin.network.gradients import gradient_norms, has_gradients, weights_of
from gersgorin.network.trace import TracedCell
from gersgorin.recording import EXPONENT_STEPS, MOMENTS, RECORDED_MEASURES, Moment, Recording
from gersgorin.run.cell import GatesOf, Sizes
from gersgorin.run.run import Run
from gersgorin.validate import check_order
from rhn.errors import DataError, InvalidInputError, NotFiniteError
from rhn.utils.io import check_output
from rhn.utils.validation import whole_number
from rhn.utils.wording import counted, in_short


@torch.no_grad()
@one_thread()
def snapshot(run: Run, positions: int) -> dict[str, np.ndarray]:
    """Spectra, discs, gains and gates of single steps, and the mean exponent of the products of the
    first ones, as `Recording` names them.

    Raises InvalidInputError where states or Jacobians are not finite.
    """
    if not torch.isfinite(run.states).all():
        raise NotFiniteError(
            "a state is NaN or infinite along the probe: the weights are too large to run, or "
            "the cell's step computes something "
            "that is not finite"
        )
    moment = Moment(run, positions)
    middle = len(moment.A) // 2
    found = {name: row.of(moment) for name, row in RECORDED_MEASURES.items() if row.of} | {
        "eigenvalues": moment.eigenvalues[middle],
        "centers": moment.discs.centers[middle],
        "radii": moment.discs.radii[middle],
    }
    return {name: t.cpu().numpy() for name, t in found.items()}


def _number(loss: Any) -> float:
    """A loss as a number, NaN for None. Raises InvalidInputError for anything but a scalar."""
    try:
        return (
            math.nan if loss is None else loss.item() if isinstance(loss, Tensor) else float(loss)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"loss is {in_short(loss)}: expected a number, such as the mean of a minibatch"
        ) from error


POSITIONS = 4
SAVE_SHARE = 0.01  # largest share of the time for writing the file
LONGEST_UNSAVED = 10.0  # seconds after which the file is written in any case
NO_GRADIENTS = (
    "recorder.step found no gradients (all are None or zero) and records them as missing: call "
    "it after loss.backward() and before "
    "optimizer.zero_grad()"
)


OPEN: "weakref.WeakSet[Recorder]" = weakref.WeakSet()  # those with a file


@atexit.register
def _save_all() -> None:
    """Write the measurements that no file has yet, of recorders that were not closed."""
    for recorder in list(OPEN):
        if recorder._unsaved:
            recorder.save()


class Recorder:
    """Measure a cell on a probe batch, at the start and after every N-th optimiser step.

    Args:
        module: a cell of ours, torch.nn's RNN, LSTM, GRU or their *Cell forms, a user's cell (see
            `rhn.cells.Cell`), or a module with one of them inside, such as a `PolyphonicModel` or a
            user's own.
        probe: inputs as the module takes them: (T, m) or (T, B, m) frames ((B, T, m) if it is
            batch_first), token ids, or several inputs, see `gersgorin.open_run`.
        every: optimiser steps from one measurement to the next, at least 1.
        path: an .npz file that is kept up to date during the training run, and is whole at every
            moment; `close`, or the end of the program, writes the last measurements. None: nothing
            is written.
        log: called with (name, value, step) for every mean of a measurement, such as
            "recorder/radius": `mlflow.log_metric`, the `add_scalar` of TensorBoard's writer, or
            lambda name, value, step: run.log({name: value}, step=step) for Weights & Biases.
        start: optimiser steps that a resumed training run has done before. Measurements of these
            steps in the file at `path` are kept.
        loss: the loss before the first step, if it is known.
        loss_of: "the probe" if losses and gradients are those of the probe, for figures; "": those
            of the minibatches.
        constant: the same loss of the constant predictor, a dashed line in figures; None: not
            known.
        positions: number of places of the probe at which single steps are measured, one sequence
            after the other. The exponent is the mean over as many sequences.
        layer: which recurrent cell, counted from 1, if the module has several; each layer of a cell
            of torch.nn counts. None: the first cell, with all its layers.
        submodule: name, as in `named_modules`, of the part of the module in which to look:
            "encoder.rnn".
        batch_axis, state_size, gates: as for `gersgorin.open_run`.
        about: initial weights and data, for figures: "orthogonal:1, seed 0; sums of two numbers".
            None: as in the resumed file, or as known for a cell of ours.

    Raises:
        InvalidInputError: the module has no such cell, or the probe does not fit, is not finite, or
            leads to states that are not; `every` or another number is out of range.
        DataError: the resumed file is damaged, or is for another network, probe or `every`.
        OutputError: the file cannot be written, or exists and was not written by this toolkit.

    >>> model, x = torch.nn.GRU(2, 4), torch.rand(10, 1, 2)
    >>> recorder = Recorder(model, x, every=2)
    >>> for _ in range(4):
    ...     model(x)[0].sum().backward()
    ...     recorder.step()
    >>> recorder.recording.step.tolist()
    [0, 2, 4]
    """

    def __init__(
        self,
        module: nn.Module,
        probe: Tensor | np.ndarray,
        every: int = 100,
        *,
        path: str | Path | None = None,
        log: Callable[[str, float, int], object] | None = None,
        start: int = 0,
        loss: Tensor | float | None = None,
        loss_of: str = "",
        constant: float | None = None,
        positions: int = POSITIONS,
        layer: int | None = None,
        submodule: str | None = None,
        batch_axis: int | None = None,
        state_size: Sizes | None = None,
        gates: GatesOf | None = None,
        about: str | None = None,
    ):
        check_order("Recorder(module, probe)", module=module, probe=probe)
        for name, value, least in (
            ("every", every, 1),
            ("positions", positions, 1),
            ("start", start, 0),
        ):
            whole_number(name, value, least)
        self._module, self._every, self._positions, self._log = (
            module,
            every,
            positions,
            log,
        )
        self._path = None if path is None else check_output(path, (".npz",), force=False)
        self._traced = TracedCell(module, layer, submodule, state_size=state_size)
        self._batch_axis, self._gates = batch_axis, gates
        self._probe = as_input(probe)
        self._read = self._traced.digest(self._probe)
        self._about = self._traced.made if about is None else str(about)
        self._rows: list[dict] = []
        self._steps, self._measuring, self._next_save = start, 0.0, 0.0
        self._training, self._since = 0.0, time.perf_counter()
        self._warned, self._loss_of, self._unsaved = False, loss_of, False
        self._constant = math.nan if constant is None else float(constant)
        if self._path is not None:
            OPEN.add(self)
        if start and self._path is not None and self._path.exists():
            self._resume(Recording.load(self._path), about)
        if not self._rows:
            self.measure(start, loss)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_unsaved", False):
            self.save()

    def step(self, loss: Tensor | float | None = None) -> None:
        """Count an optimiser step; at every N-th one measure, with the gradients in `.grad`.

        Call it between `loss.backward()` and `optimizer.zero_grad()`; elsewhere a warning is
        printed once, and the gradients are recorded as missing.
        """
        self._steps += 1
        self._count_training()
        if self._steps % self._every == 0:
            if not self._warned and not has_gradients(self._module):
                self._warned = True
                warnings.warn(NO_GRADIENTS, stacklevel=2)
            self.measure(self._steps, loss)

    def since_last(self) -> dict[str, float]:
        """Numbers about the steps since the last measurement, by their names in `Recording`."""
        return {"explained": math.nan}

    def measure(self, step: int, loss: Tensor | float | None = None) -> None:
        """Measure now, after this number of steps, independently of `every`; weights or states that
        are not finite give NaN.
        """
        if next((p.is_cuda for p in self._module.parameters()), False):
            torch.cuda.synchronize()  # else the training's own work would count as measuring
        begun = self._count_training()
        norms, rates = gradient_norms(self._module)
        numbers = {"step": step, "loss": _number(loss), **self.since_last()}
        row = {name: np.array(number) for name, number in numbers.items()}
        row |= {"gradient_norm": norms, "relative_rate": rates} | self._look_or_nan()
        self._rows.append(row)
        self._unsaved = self._path is not None
        for name in RECORDED_MEASURES:
            if self._log and (known := row[name][np.isfinite(row[name])]).size:
                self._log(f"recorder/{name}", float(known.mean()), step)
        if self._count_measuring(begun) >= self._next_save:
            self.save()

    def save(self) -> None:
        """Write the file at `path`; raises OutputError."""
        if self._path is None:
            return
        begun = time.perf_counter()
        self.recording.save(self._path)
        self._unsaved = False
        now = self._count_measuring(begun)
        self._next_save = now + min((now - begun) / SAVE_SHARE, LONGEST_UNSAVED)

    def _count_training(self) -> float:
        """Count the time since the last step or measurement as training; the present moment."""
        since, self._since = self._since, time.perf_counter()
        self._training += self._since - since
        return self._since

    def _count_measuring(self, begun: float) -> float:
        """Count the time since a moment as measuring; the present one."""
        self._since = time.perf_counter()
        self._measuring += self._since - begun
        return self._since

    def close(self) -> None:
        """Write the file a last time and print the cost of measuring to stderr."""
        self.save()
        recording = self.recording
        many = counted(len(recording), "measurement")
        where = "" if self._path is None else f"; {self._path}"
        print(f"recorder: {many} in {recording.cost}{where}", file=sys.stderr)

    @property
    def recording(self) -> Recording:
        """The measurements so far."""
        moments: dict[str, Any] = {
            name: np.stack([row[name] for row in self._rows]) for name in MOMENTS
        }
        return Recording(
            title=self._traced.title,
            every=self._every,
            probe=self._read,
            about=self._about,
            loss_of=self._loss_of,
            constant=self._constant,
            gate_name=getattr(self._traced.cell, "gate_name", "transform gate"),
            parameters=np.array(list(weights_of(self._module))),
            exponent_steps=self._exponent_steps,
            measuring_seconds=self._measuring,
            training_seconds=self._training,
            **moments,
        )

    def _look(self) -> dict[str, np.ndarray]:
        """Measure the copy of the cell. Raises InvalidInputError for numbers that are not
        finite.
        """
        self._traced.refresh()
        run = self._traced.along(self._probe, batch_axis=self._batch_axis).with_gates(self._gates)
        self._exponent_steps = min(EXPONENT_STEPS, len(run))
        return snapshot(run, self._positions)

    def _look_or_nan(self) -> dict[str, np.ndarray]:
        """The same; NaN after a training run has diverged, so that its recording continues."""
        try:
            return self._look()
        except InvalidInputError as error:
            finite = all(torch.isfinite(p).all() for p in self._module.parameters())
            if not self._rows or (finite and not isinstance(error, NotFiniteError)):
                raise  # the step is broken, not the training
            told = (
                "step",
                *(name for name, measure in RECORDED_MEASURES.items() if not measure.of),
            )
            known = self._rows[0].items()
            return {name: np.full_like(row, np.nan) for name, row in known if name not in told}

    def _resume(self, found: Recording, about: str | None) -> None:
        """Keep the measurements of the steps done before. Raises DataError for those of something
        else.
        """
        shapes = {name: value.shape for name, value in self._look().items()}
        same = (
            found.parameters.tolist() == list(weights_of(self._module))
            and found.probe == self._read
        )
        if (
            not same
            or found.every != self._every
            or shapes != {k: vars(found)[k].shape[1:] for k in shapes}
        ):
            raise DataError(
                f"{self._path} is a record of another network ({found.title}), of another "
                f"probe, or not of every {self._every} steps: "
                "give another path"
            )
        kept = found.step <= self._steps
        self._rows = [
            {name: vars(found)[name][k] for name in MOMENTS} for k in np.flatnonzero(kept)
        ]
        if self._rows:
            self._about = self._about if about is not None else found.about or self._about
            self._measuring, self._training = found.measuring_seconds, found.training_seconds

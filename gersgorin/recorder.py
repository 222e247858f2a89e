"""`Recorder`: measure the spectra, gains, gates and gradients of a recurrent cell at regular
optimiser steps of any training loop.

    with Recorder(model, probe, every=100, path="run.npz") as recorder:
        for x, y in batches:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            recorder.step(loss)          # with the present gradients
            optimizer.zero_grad()
    recorder.recording                   # a Recording; `gersgorin recording run.npz` draws it

A measurement uses a copy of the model, in float64 and evaluation mode. Training therefore gives the
same bits with and without a recorder. Single time steps are measured at a few positions, each in
the next sequence of the probe batch in turn. The positions are equally spaced from the first to the
last time step of their sequence. The exponent is the mean growth rate of the product of the first
32 time steps of these sequences.

The cost of a measurement grows with the cube of the state size; the cost of an optimiser step grows
with the square. With an RHN of 64 units and `every=100` (the default), 200 optimiser steps took
3 to 18 % longer. Use a larger `every` for larger networks.

Legend: T time steps, B sequences, P positions, N entries of a state, L layers, K weights (each
layer's counted separately).
"""

import atexit
import math
import sys
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.data.inputs import as_input
from gersgorin.linalg.spectrum import one_thread
from gersgorin.network.gradients import gradient_norms, has_gradients, weights_of
from gersgorin.network.trace import TracedCell
from gersgorin.recording import (
    MOMENTS,
    RECORDED_MEASURES,
    Moment,
    Recording,
    exponent_steps,
)
from gersgorin.run.cell import GatesOf
from gersgorin.run.run import Run
from gersgorin.run.state import Sizes
from gersgorin.validate import check_order
from rhn.errors import DataError, InvalidInputError, NotFiniteError
from rhn.utils.io import check_output
from rhn.utils.old import counted, typed
from rhn.utils.validation import in_short, whole_number


@torch.no_grad()
@one_thread()
def snapshot(run: Run, positions: int) -> dict[str, np.ndarray]:
    """Measure spectra, discs, gains and gates of single steps of a run, and the mean exponent of
    the product of its first steps. Returns arrays by the names of the fields of `Recording`.

    Raises InvalidInputError if a state or a Jacobian is not finite.
    """
    moment = Moment(run.require_finite(), positions)
    middle = len(moment.A) // 2
    found = {name: row.of(moment) for name, row in RECORDED_MEASURES.items() if row.of} | {
        "eigenvalues": moment.eigenvalues[middle],
        "centers": moment.discs.centers[middle],
        "radii": moment.discs.radii[middle],
    }
    return {name: t.cpu().numpy() for name, t in found.items()}


def _number(loss: Any) -> float:
    """Convert a loss to a number, None to NaN. Raises InvalidInputError unless it is a scalar."""
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
    "it after loss.backward() and before optimizer.zero_grad(). If your loop does that, all "
    "gradients of the loss are exactly 0"
)


OPEN: "weakref.WeakSet[Recorder]" = weakref.WeakSet()  # those with a file


@atexit.register
def _save_all() -> None:
    """Save the recorders that were not closed and have measurements that are not in their file."""
    for recorder in list(OPEN):
        if recorder._unsaved:
            recorder.save()


class Recorder:
    """Measure a recurrent cell on a probe batch, at the start and after every N optimiser steps.

    Args:
        module: a recurrent cell, or a module with a cell inside, such as a `PolyphonicModel` or
            your own model. A cell is one of `rhn.cells`, one of torch.nn (RNN, LSTM, GRU or their
            *Cell forms), or your own (see `rhn.cells.Cell`).
        probe: inputs in the layout that the module takes: frames (T, m) or (T, B, m) ((B, T, m) if
            it is batch_first), token ids, or several inputs; see `gersgorin.open_run`.
        every: number N of optimiser steps from one measurement to the next, at least 1.
        path: an .npz file for the recording; None: nothing is written. The file is updated during
            the training run, and is complete at every moment. `close`, or the end of the program,
            writes the last measurements.
        log: a function that is called with (name, value, step) for the mean of each measure, such
            as "recorder/radius". Pass `mlflow.log_metric`, the `add_scalar` of TensorBoard's
            writer, or for Weights & Biases `lambda name, value, step: run.log({name: value},
            step=step)`.
        start: number of optimiser steps done before, if the training run is resumed. The
            measurements of these steps in the file at `path` are kept.
        loss: the loss before the first optimiser step, if it is known.
        loss_of: "the probe" if losses and gradients are measured on the probe, "" if they are
            measured on the minibatches. Figures show these words.
        constant: the loss of the constant predictor, which is a dashed line in figures; None: not
            known.
        positions: number of time steps at which spectra, gains and gates are measured. Position 1
            lies in the first sequence of the probe, position 2 in the second, and so on. If there
            are more positions than sequences, the count begins again at the first sequence.
            Position k of P lies at the fraction (k - 1) / (P - 1) of the length of its own
            sequence. The exponent is the mean over these sequences.
        layer: number of the recurrent cell, counted from 1, if the module has several. Each layer
            of an nn.RNN, nn.LSTM or nn.GRU counts as one cell. None: the first cell, with all its
            layers.
        submodule: the part of the module in which to search for the cell, by its name in
            `named_modules`: "encoder.rnn".
        batch_axis, state_size, gates: as for `gersgorin.open_run`.
        about: words about initial weights and data, for figures: "orthogonal:1, seed 0; sums of two
            numbers". None: the words of the resumed file, or the configuration of a cell of `rhn`.

    Raises:
        InvalidInputError: the module has no such cell; the probe does not fit, is not finite, or
            leads to states that are not finite; `every` or another number is out of range.
        DataError: the resumed file is damaged, or records another network, probe or `every`.
        OutputError: the file cannot be written.

    >>> model, x = torch.nn.GRU(2, 4), torch.rand(10, 1, 2)
    >>> recorder = Recorder(model, x, every=2)
    >>> for _ in range(4):
    ...     model(x)[0].sum().backward()
    ...     recorder.step()
    >>> recorder.recording.step.tolist()
    [0, 2, 4]
    """

    @typed
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
        self._path = None if path is None else check_output(path, (".npz",))
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
        """Count an optimiser step, and measure at every N-th one, with the gradients in `.grad`.

        Call this method between `loss.backward()` and `optimizer.zero_grad()`. If it is called
        elsewhere, it records the gradients as missing, and warns once.
        """
        self._steps += 1
        self._count_training()
        if self._steps % self._every == 0:
            if not self._warned and not has_gradients(self._module):
                self._warned = True
                warnings.warn(NO_GRADIENTS, stacklevel=2)
            self.measure(self._steps, loss)

    def measure(self, step: int, loss: Tensor | float | None = None) -> None:
        """Measure now, independently of `every`. The measures are NaN if weights or states are not
        finite.

        step: the number of optimiser steps done so far. loss: the loss now; None: not known.
        """
        if next((p.is_cuda for p in self._module.parameters()), False):
            torch.cuda.synchronize()  # else the training's own work would count as measuring
        begun = self._count_training()
        norms, rates = gradient_norms(self._module)
        numbers = {"step": step, "loss": _number(loss)}
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
        """Write the file at `path`, if there is one. Raises OutputError."""
        if self._path is None:
            return
        begun = time.perf_counter()
        self.recording.save(self._path)
        self._unsaved = False
        now = self._count_measuring(begun)
        self._next_save = now + min((now - begun) / SAVE_SHARE, LONGEST_UNSAVED)

    def _count_training(self) -> float:
        """Add the time since the last step or measurement to the time of training. Returns the
        present time.
        """
        since, self._since = self._since, time.perf_counter()
        self._training += self._since - since
        return self._since

    def _count_measuring(self, begun: float) -> float:
        """Add the time since `begun` to the time of measuring. Returns the present time."""
        self._since = time.perf_counter()
        self._measuring += self._since - begun
        return self._since

    def close(self) -> None:
        """Write the file a last time and print the cost of measuring to stderr."""
        recording = self.recording  # before its file is written, which takes time too
        self.save()
        self._measuring = recording.measuring_seconds  # as in the file
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
        """Measure the copy of the cell. Raises InvalidInputError if a number is not finite."""
        self._traced.refresh()
        run = self._traced.along(self._probe, batch_axis=self._batch_axis).with_gates(self._gates)
        run = run.named(replace(run.label, reads="the probe"))
        self._exponent_steps = exponent_steps(run)
        return snapshot(run, self._positions)

    def _look_or_nan(self) -> dict[str, np.ndarray]:
        """Measure as `_look` does; return NaN after a training run has diverged, so that its
        recording continues.
        """
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
        """Keep the measurements of the optimiser steps done before. Raises DataError if the file
        records another network, probe or interval.
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

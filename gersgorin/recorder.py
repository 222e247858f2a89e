"""`Recorder`: measure spectra, gains, gates and gradients of a recurrent network at regular
optimiser steps of any training loop.

A measurement uses a copy of the model, in float64 and evaluation mode, so training gives the same
bits with and without a recorder.

Legend: T time steps, P positions, N entries of a state, K weights (those of each layer separately).
"""

import hashlib
import math
import time
import warnings
import weakref
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.analyses.gains import input_gains, layer_gains
from gersgorin.double_precision import copied
from gersgorin.jacobians import jacobians
from gersgorin.linalg import gersgorin_discs, jacobian_product
from gersgorin.linalg.spectrum import eigenvalues_or_nan
from gersgorin.linalg.threads import one_thread
from gersgorin.packing import real_view
from gersgorin.recording import ARRAYS, Recording
from gersgorin.run import Run, RunOptions, names_options, open_run
from rhn.cells import Cell
from rhn.errors import DataError, InvalidInputError, NotFiniteError
from rhn.utils.io import check_output
from rhn.utils.torch_private import tree_leaves
from rhn.utils.validation import number, whole_number

LONGEST_PRODUCT = 32  # time steps
LONGEST_UNSAVED = 10.0  # seconds after which a measurement writes the file
NO_GRADIENTS = "gradients are 0 or missing: expected step() between backward() and zero_grad()"
OF_TRAINING = ("step", "loss", "gradient_norm", "relative_rate")  # arrays without the probe


class Recorder:
    """Measure a recurrent network on a probe, at the start and after every N optimiser steps.

    Args:
        model: a cell, a layer of torch.nn, or a module with one recurrent layer inside.
        x: the probe, one sequence as for `open_run`, or a list of sequences, of which the first P
            are read.
        every: number N of optimiser steps from one measurement to the next.
        path: an .npz file, which is complete at every moment. `close`, or the end of the program,
            writes the last measurements.
        start: number of optimiser steps done before, if the training run is resumed. The
            measurements of these steps in the file are kept.
        loss, constant: the loss before training, and that of the constant predictor, if known.
        positions: number P of time steps at which spectra, gains and gates are measured. Position k
            of P lies in sequence k of the probe (after the last one, in the first one again), at
            the share (k - 1) / (P - 1) of its length.
        s0, state_size, ..., progress: as for `open_run`.

    Raises InvalidInputError; DataError if the resumed file records another network, probe, `every`
    or `positions`; OutputError if the file cannot be written.

    >>> model, x = torch.nn.GRU(2, 4), torch.rand(10, 2)
    >>> recorder = Recorder(model, x, every=2)
    >>> for _ in range(4):
    ...     model(x)[0].sum().backward()
    ...     recorder.step()
    >>> recorder.recording.step.tolist()
    [0, 2, 4]
    """

    @names_options(RunOptions)
    def __init__(
        self,
        model: nn.Module,
        x: Any,
        every: int = 100,
        *,
        path: str | Path | None = None,
        start: int = 0,
        loss: Tensor | float | None = None,
        constant: float | None = None,
        positions: int = 4,
        s0: Any = None,
        **how: Unpack[RunOptions],
    ):
        checks.require(isinstance(model, nn.Module), "model", checks.kind(model), "a module")
        self._model, self._probe = checks.a_network(model), x if isinstance(x, list) else [x]
        self._probe = self._probe[: whole_number("positions", positions)]
        checks.require(len(self._probe) > 0, "x", "an empty list", "at least one sequence")
        self._every, self._steps = whole_number("every", every), whole_number("start", start, 0)
        self._positions, self._s0, self._how = positions, s0, how
        self._path = None if path is None else check_output(path, (".npz",))
        self._copy = copied(self._model)
        constant = None if constant is None else number("constant", constant)
        self._fixed: dict[str, Any] = {
            "every": self._every,
            "probe": checksum_of_probe(self._probe),
        }
        self._fixed |= {"parameters": tuple(weights_of(self._model)), "constant": constant}
        self._rows = list[dict[str, np.ndarray]]()
        self._saved, self._warned, self._next_save = list[dict[str, np.ndarray]](), False, 0.0
        if start and self._path is not None and self._path.exists():
            self._resume(Recording.load(self._path))
        if not self._rows:
            self.measure(start, loss)
        # also at the end of the program
        self._file = weakref.finalize(self, write, self._path, self._fixed, self._rows, self._saved)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.save()

    def step(self, loss: Tensor | float | None = None) -> None:
        """Count an optimiser step, and measure at every N-th one, with the gradients in `.grad`.

        Call this method between `loss.backward()` and `optimizer.zero_grad()`; elsewhere gradients
        are NaN, with one warning.
        """
        self._steps += 1
        if self._steps % self._every == 0:
            self.measure(self._steps, loss)
            if not self._warned and not has_gradients(self._model):
                self._warned = True
                warnings.warn(NO_GRADIENTS, stacklevel=2)

    def measure(self, step: int, loss: Tensor | float | None = None) -> None:
        """Measure now, after this number of optimiser steps, independently of `every`. Measures are
        NaN if weights or states are not finite, and eigenvalues that do not converge are NaN. loss:
        the loss now; None: unknown.
        """
        norms, rates = gradient_norms(self._model)
        row = {"step": np.array(step), "loss": np.array(_number(loss))}
        row |= {"gradient_norm": norms, "relative_rate": rates}
        try:
            row |= self._look()
        except NotFiniteError:
            if not self._rows:
                raise
            known = self._rows[0].items()
            row |= {k: np.full_like(a, np.nan) for k, a in known if k not in OF_TRAINING}
        self._rows.append(row)
        if time.monotonic() >= self._next_save:
            self.save()

    def save(self) -> None:
        """Write measurements that are not in the file at `path` yet. Raises OutputError."""
        write(self._path, self._fixed, self._rows, self._saved)
        self._next_save = time.monotonic() + LONGEST_UNSAVED

    close = save

    @property
    def recording(self) -> Recording:
        """The measurements so far."""
        return joined_rows(self._fixed, self._rows)

    def _look(self) -> dict[str, np.ndarray]:
        """Measure a copy of the network."""
        self._copy.load_state_dict(self._model.state_dict())
        runs = [open_run(self._copy, x, self._s0, **self._how) for x in self._probe]
        steps = min(LONGEST_PRODUCT, *map(len, runs))
        self._fixed |= {"network": runs[0].title, "data": runs[0].data, "exponent_steps": steps}
        return snapshot(runs, self._positions, steps)

    def _resume(self, found: Recording) -> None:
        """Keep the measurements of the optimiser steps done before."""
        shapes = {name: value.shape for name, value in self._look().items()}
        same = {name: vars(found)[name].shape[1:] for name in shapes} == shapes
        names = ("every", "probe", "parameters")
        if not same or any(vars(found)[name] != self._fixed[name] for name in names):
            what = f"{self._path} records {found.network}, every {found.every} optimiser steps"
            raise DataError(f"{what}: expected this network, probe, every and positions")
        kept = np.flatnonzero(found.step <= self._steps)
        self._rows += [{name: vars(found)[name][k] for name in ARRAYS} for k in kept]


def joined_rows(fixed: dict[str, Any], rows: list[dict[str, np.ndarray]]) -> Recording:
    """The recording of some measurements."""
    fields = {**fixed, **{name: np.stack([row[name] for row in rows]) for name in ARRAYS}}
    return Recording(**fields)


def write(path: Path | None, fixed: dict[str, Any], rows: list, saved: list) -> None:
    """Write measurements to a file unless it has them: those in the list `saved`."""
    if path is not None and len(rows) != len(saved):
        joined_rows(fixed, rows).save(path)
        saved[:] = rows


def checksum_of_probe(probe: list) -> str:
    """Hash of the shapes and numbers of a probe, 16 letters."""
    tensors = [checks.numbers("x", leaf) for leaf in tree_leaves(probe)]
    arrays = [(t.double() if t.is_floating_point() else t).numpy(force=True) for t in tensors]
    parts = [f"{a.dtype}{a.shape}".encode() + a.tobytes() for a in arrays]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@torch.no_grad()
@one_thread()
def snapshot(runs: list[Run], positions: int, steps: int) -> dict[str, np.ndarray]:
    """Measure single time steps of the runs of several sequences, and the mean growth rate of the
    products of their first steps. Returns arrays by the names of the fields of `Recording`.
    """
    step, P = runs[0].step, min(positions, max(map(len, runs)))
    at = [position_in(k, P, runs[k % len(runs)]) for k in range(P)]
    x = torch.stack([run.inputs[t] for run, t in at])
    s = torch.stack([run.states[t] for run, t in at])
    A, own = jacobians(step, x, s), step.own("gates")
    discs, values = gersgorin_discs(A), eigenvalues_or_nan(A)
    first = [run.jacobians(slice(steps)) for run in runs[:P]]
    product, log_scale = jacobian_product(torch.stack(first, 1))
    growth = (torch.linalg.matrix_norm(product, 2).log() + log_scale) / steps
    gates = [gate.mean(-1) for gate in own(x, s).t] if own else []
    found = {
        "radius": values[:, 0].abs(),
        "bulk": discs.centers.mean(-1),
        "reach": discs.norm,
        "exponent": growth.mean(),
        "gate": torch.stack(gates, -1) if gates else A.new_empty(len(A), 0),
        "eigenvalues": values[P // 2],
        "centers": discs.centers[P // 2],
        "radii": discs.radii[P // 2],
        "input_gain": input_gains(step, x, s).double(),
        "state_gain": layer_gains(step, x, s).double(),
    }
    return {name: t.cpu().numpy() for name, t in found.items()}


def position_in(k: int, P: int, run: Run) -> tuple[Run, int]:
    """The run, and the time step in it, of position k of P."""
    last = len(run) - 1
    return run, round(k * last / max(1, P - 1))


def _number(loss: Any) -> float:
    """A loss as a number; NaN for None."""
    try:
        loss = loss.item() if isinstance(loss, Tensor) else loss
        return math.nan if loss is None else float(loss)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInputError(f"loss is {checks.kind(loss)}: expected one number") from None


@torch.no_grad()
def weights_of(module: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Pairs (weight, its gradient) by name. If a cell of `rhn` stacks the weights of its layers in
    one tensor, each layer has its own name, such as "cells.0.weight_hh[1]".
    """
    stacks = {p for cell in module.modules() if isinstance(cell, Cell) for p in _stacks(cell)}
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name, weight in module.named_parameters():
        gradient = None if weight.grad is None else weight.grad.to_dense()
        if weight in stacks:
            layers = zip(
                weight, [None] * len(weight) if gradient is None else gradient, strict=True
            )
            found |= {f"{name}[{k}]": layer for k, layer in enumerate(layers)}
        else:
            found[name] = weight, gradient
    return found


def _stacks(cell: Cell) -> list[Tensor]:
    """The parameters that have an axis of layers."""
    biases = {name for name, _ in cell.named_parameters() if "bias" in name.rpartition(".")[2]}
    return [p for name, p in cell.named_parameters() if p.dim() == (2 if name in biases else 3)]


def has_gradients(module: nn.Module) -> bool:
    """True if a weight has a gradient other than 0."""
    gradients = [gradient for _, gradient in weights_of(module).values()]
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


@torch.no_grad()
def gradient_norms(module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """The norms ||dL/dW|| and the ratios ||dL/dW|| / ||W|| of all weights, (K,) each; NaN without a
    gradient, and if all gradients are 0. The ratio is NaN also if W is zero.
    """
    pairs = weights_of(module).values()
    size = np.array([_norm(weight) for weight, _ in pairs])
    slope = np.array([np.nan if gradient is None else _norm(gradient) for _, gradient in pairs])
    if not has_gradients(module):
        slope[:] = np.nan
    return slope, np.divide(slope, size, out=np.full_like(slope, np.nan), where=size > 0)


def _norm(t: Tensor) -> float:
    # squares of tiny gradients vanish in single precision
    return float(torch.linalg.vector_norm(real_view(t), dtype=torch.float64))

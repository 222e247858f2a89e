"""Gains: 2-norms of the Jacobians of the input and of each layer of a step.

Gains of single steps do not compose, see `gersgorin.analyses.products`.

Legend: T time steps; L layers; N entries of a state; s_l the state after layer l.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from gersgorin.jacobians import input_jacobians, jacobians, with_scale
from gersgorin.linalg.threads import one_thread
from gersgorin.results import StepResult
from gersgorin.run import RunOptions, names_options, open_run
from gersgorin.step import Step
from rhn.cells import StackedCell

INPUT, LAYER = "input, ||ds'/dx||_2", "gain of layer"
NO_NUMBER = "steps without an input gain"
NORM, INPUT_CURVE, LAYER_CURVE = "2-norm", "input", "layer"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Gains(StepResult):
    """2-norms of the Jacobians of the input and of each layer at every step.

    >>> from rhn.cells import RHN
    >>> found = gains(RHN(3, 8, 2), torch.rand(20, 3))
    >>> found.input.shape, found.layers.shape
    ((20,), (20, 2))
    """

    page: ClassVar[str] = "docs/guides/spectra.md"
    label: ClassVar[str] = NORM
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, INPUT, LAYER, NO_NUMBER, NORM, INPUT_CURVE, LAYER_CURVE,
    )  # fmt: skip

    input: Annotated[np.ndarray, "step"]
    """||ds'/dx||_2, (T,); NaN for ids, and if the Jacobian over- or underflows."""
    layers: Annotated[np.ndarray, "step", "layer"]
    """||ds_l/ds_{l-1}||_2 of each layer, (T, L), with the state before the step held fixed. In a
    stack: of each layer's state with respect to its own state before the step. Without known
    layers: ||ds'/ds||_2, (T, 1).
    """

    def table(self) -> Mapping[str, Any]:
        layers = {f"{LAYER} {k + 1}": gain for k, gain in enumerate(self.layers.T)}
        return {INPUT: self.input, **layers}

    def coordinates(self) -> Mapping[str, Any]:
        return {"layer": np.arange(1, self.layers.shape[1] + 1)}

    def curves(self) -> dict[str, np.ndarray]:
        layers = {f"{LAYER_CURVE} {k + 1}": gain for k, gain in enumerate(self.layers.T)}
        return {INPUT_CURVE: self.input, **layers}

    def notes(self) -> Mapping[str, int]:
        return {NO_NUMBER: int(np.isnan(self.input).sum())}


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def gains(network: Any, x: Any = None, s0: Any = None, **how: Unpack[RunOptions]) -> Gains:
    """Measure the gain of the input, (T,), and of each layer, (T, L), along a run.

    network, x, s0, state_size, ..., progress: as for `open_run`, with its errors. A gain is state
    over input, or state over state.

    >>> found = gains(lambda x, s: 2 * s + 3 * x, torch.zeros(5, 1), torch.zeros(1))
    >>> found.input.tolist(), found.layers[0].tolist()
    ([3.0, 3.0, 3.0, 3.0, 3.0], [2.0])
    """
    run = open_run(network, x, s0, **how)
    run.check_memory()
    inputs, layers = [], []
    with run.reporting("gains") as reporting:
        for now in reporting.slices():
            x, s = run.at(now)
            inputs.append(input_gains(run.step, x, s, now.start))
            layers.append(layer_gains(run.step, x, s, now.start))
            reporting.report(now.stop)
    arrays = [torch.cat(each).cpu().double().numpy() for each in (inputs, layers)]
    return Gains(**run.heading, input=arrays[0], layers=arrays[1])


def input_gains(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """||ds'/dx||_2 at rows x (B, m) and s (B, N), (B,), as in `Gains.input`. first: the number of
    the first row, for messages.
    """
    B, e = with_scale(step, "input_jacobian", input_jacobians(step, x, s, first), x, s)
    gain = torch.full_like(e, torch.nan, dtype=B.dtype)
    known = (e == 0) & B.isfinite().all(-1).all(-1)
    gain[known] = torch.linalg.matrix_norm(B[known], 2)
    return gain


def layer_gains(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """The gains of the layers at rows x (B, m) and s (B, N), (B, L), as in `Gains.layers`."""
    N, own = s.shape[1], step.own("layer_jacobians")
    if isinstance(step.cell, StackedCell):
        sizes = step.cell.sizes
        A, ends = jacobians(step, x, s, first), accumulate(sizes)
        blocks = [slice(end - n, end) for n, end in zip(sizes, ends, strict=True)]
        layers = [A[:, rows, rows] for rows in blocks]
    elif own and step.depth > 1:
        layers = [J[..., :N, :N] for J in own(x, s)]
    else:
        layers = [jacobians(step, x, s, first)]
    return torch.stack([torch.linalg.matrix_norm(J, 2) for J in layers], -1)

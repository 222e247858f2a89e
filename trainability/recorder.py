"""`Recorder`: record a training run, also how much of its loss the outputs explain.

    with Recorder(model, probe, every=100, loss_fn=loss_fn) as recorder:
        for x, y in batches:
            output = model(x)
            loss = loss_fn(output, y)
            loss.backward()
            optimizer.step()
            recorder.step(loss, output, y)
            optimizer.zero_grad()
    recorder.recording.explained    # (M,), a number for each measurement

The loss as a function of the outputs is expanded to second order around their mean output. The
share that they explain is the decrease along their deviations from it, at the best multiple of at
most 1 of these deviations, relative to the loss of the mean output.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin import recorder
from gersgorin.losses import Loss
from rhn.errors import InvalidInputError
from rhn.utils.wording import kind_of

MEMORY = 100  # steps of the running mean of the outputs


class Recorder(recorder.Recorder):
    """A `gersgorin.Recorder` that also measures which share of the loss the outputs explain.

    Args:
        module, probe, every, options: as for `gersgorin.Recorder`.
        loss_fn: loss_fn(output, y) of the training run; units are the last axis of outputs.

    Raises:
        InvalidInputError, DataError, OutputError: as for `gersgorin.Recorder`.

    >>> model, x, y = nn.RNN(2, 4), torch.rand(10, 1, 2), torch.rand(10, 1, 4)
    >>> loss_fn = nn.MSELoss()
    >>> recorder = Recorder(model, x, every=2, loss_fn=loss_fn)
    >>> for _ in range(4):
    ...     output = model(x)[0]
    ...     loss = loss_fn(output, y)
    ...     loss.backward()
    ...     recorder.step(loss, output, y)
    >>> recorder.recording.explained.shape  # (M,)
    (3,)
    """

    def __init__(
        self, module: nn.Module, probe: Any, every: int = 100, *, loss_fn: Loss, **options: Any
    ):
        self._loss_fn, self._window = loss_fn, Window()
        self._mean, self._seen = torch.zeros(()), 0
        super().__init__(module, probe, every, **options)

    def step(
        self,
        loss: Tensor | float | None = None,
        output: Tensor | None = None,
        y: Tensor | None = None,
    ) -> None:
        """Count an optimiser step; at every N-th one measure.

        Call it between `loss.backward()` and `optimizer.zero_grad()`. output, y: those of this
        step's minibatch.
        """
        if output is not None:
            self._explain(output, y)
        super().step(loss)

    def since_last(self) -> dict[str, float]:
        """The share that the outputs explain, over the steps since the last call."""
        window, self._window = self._window, Window()
        return {"explained": window.gain}

    @torch.enable_grad()
    def _explain(self, output: Any, y: Any) -> None:
        """Add a minibatch to the window. Raises InvalidInputError for outputs of another kind."""
        if y is None:
            raise InvalidInputError("y is missing: expected step(loss, output, y)")
        if not isinstance(output, Tensor):
            raise InvalidInputError(
                f"output is {kind_of(output)}: expected the tensor that loss_fn takes"
            )
        units = output.shape[-1] if output.dim() > 1 else 1
        if self._seen and self._mean.numel() != units:
            raise InvalidInputError(
                f"output has {units} units, and had {self._mean.numel()} before: expected them last"
            )
        mean = output.detach().reshape(-1, units).mean(0)
        self._seen += 1
        self._mean = self._mean.to(mean) + (mean - self._mean.to(mean)) / min(self._seen, MEMORY)
        constant = self._mean.expand(output.shape).requires_grad_()
        loss = self._loss_fn(constant.clone(), y)
        if torch.isfinite(loss):  # unlike that of a minibatch whose targets are all masked
            self._window.add(loss, constant, output.detach() - mean)


class Window:
    """Sums over the steps since the last measurement."""

    def __init__(self) -> None:
        self.steps, self.loss, self.slope, self.power = 0, 0.0, 0.0, 0.0
        self.curvature = 0.0

    def add(self, loss: Tensor, constant: Tensor, d: Tensor) -> None:
        """Add the loss of the mean output, and the deviations d of the outputs from theirs."""
        (slope,) = torch.autograd.grad(
            loss, constant, retain_graph=not self.steps, materialize_grads=True
        )
        if not self.steps:
            self.curvature = curvature(loss, constant, d)
        self.steps += 1
        self.loss += loss.item()
        self.slope -= float((slope * d).sum())
        self.power += float(d.square().mean())

    @property
    def gain(self) -> float:
        """The share of the loss that the outputs explain; NaN of fewer than two steps, or of a loss
        that is singular at a constant output.
        """
        if self.steps < 2 or not self.loss:
            return math.nan
        first, second = self.slope / self.loss, self.power * self.curvature / self.loss
        a = min(1.0, max(0.0, first / second)) if second > 0 else 1.0
        gain = max(0.0, a * first - a * a * second / 2)
        return gain if gain <= 1 else math.nan


def curvature(loss: Tensor, output: Tensor, d: Tensor) -> float:
    """Second derivative of a loss in an output along d, for a mean square of 1; 0 of a loss without
    second derivatives.
    """
    try:
        (slope,) = torch.autograd.grad(loss, output, create_graph=True)
        (bend,) = torch.autograd.grad((slope * d).sum(), output, materialize_grads=True)
    except RuntimeError:
        return 0.0
    value = float((bend * d).sum() / d.square().mean())
    return value if math.isfinite(value) else 0.0

"""`Recorder`: record a training run, and how much of its loss the outputs explain.

    with Recorder(model, probe, every=100, loss_fn=loss_fn) as recorder:
        for x, y in batches:
            output = model(x)
            loss = loss_fn(output, y)
            loss.backward()
            optimizer.step()
            recorder.step(loss, output, y)
            optimizer.zero_grad()
    recorder.recording.explained    # (M,), a number for each measurement

The explained share is 1 - loss / loss of the mean output. The mean output is computed for each
minibatch, over the outputs whose targets the loss counts. Padding, and targets that a mask leaves
out, do not enter this mean. A share of 1 is perfect; at 0 or below, the outputs are no better than
their mean.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin import recorder
from gersgorin.losses import Loss
from rhn.errors import InvalidInputError
from rhn.utils.wording import kind_of
from trainability.axes import class_axis
from trainability.losses import enters_loss


class Recorder(recorder.Recorder):
    """A `gersgorin.Recorder` that also measures how much of the loss the outputs explain.

    Args:
        module, probe, every, options: as for `gersgorin.Recorder`.
        loss_fn: the loss of the training run, loss_fn(output, y). The last axis of the outputs
            holds units; classes lie along the axis where the loss expects them.

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
        self._loss_fn, self._losses = loss_fn, [0.0, 0.0]  # of outputs, and of their mean
        super().__init__(module, probe, every, **options)

    def step(
        self,
        loss: Tensor | float | None = None,
        output: Tensor | None = None,
        y: Tensor | None = None,
    ) -> None:
        """Count an optimiser step; measure if the count is a multiple of `every`.

        Call this method between `loss.backward()` and `optimizer.zero_grad()`. loss, output, y: the
        loss, outputs and targets of the minibatch of this step.
        """
        if output is not None:
            self._explain(output, y)
        super().step(loss)

    def since_last(self) -> dict[str, float]:
        """Return the share of the loss that the outputs explain, over the steps since the last
        call; NaN if there was no step, or if the loss may be negative.
        """
        (loss, of_mean), self._losses = self._losses, [0.0, 0.0]
        is_share = loss >= 0 and of_mean > 0
        return {"explained": 1 - loss / of_mean if is_share else math.nan}

    def _explain(self, output: Any, y: Any) -> None:
        """Add the losses of a minibatch. Raises InvalidInputError if y is missing or the output is
        no tensor.
        """
        if y is None:
            raise InvalidInputError("y is missing: expected step(loss, output, y)")
        if not isinstance(output, Tensor):
            raise InvalidInputError(
                f"output is {kind_of(output)}: expected the tensor that loss_fn takes"
            )
        output, classes = output.detach(), class_axis(output.detach(), y, self._loss_fn)
        counts = enters_loss(self._loss_fn, output, y, classes)
        mean = mean_output(output, counts, classes)
        with torch.no_grad():
            losses = [float(self._loss_fn(z.clone(), y)) for z in (output, mean)]
        if all(map(math.isfinite, losses)):  # unlike those of targets that are all masked
            self._losses = [sum(pair) for pair in zip(self._losses, losses, strict=True)]


def mean_output(output: Tensor, counts: Tensor, classes: int | None) -> Tensor:
    """Return the mean of the outputs that count, for each class or unit, in the shape of the
    outputs.

    >>> counts = torch.tensor([[True, True], [True, False]])
    >>> mean_output(torch.tensor([[1.0, 2.0], [3.0, 9.0]]), counts, None).tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    units = output.dim() - 1 if classes is None else classes
    others = [axis for axis in range(output.dim()) if axis != units or output.dim() == 1]
    totals = output.masked_fill(~counts, 0).sum(others, keepdim=True)
    return (totals / counts.sum(others, keepdim=True)).expand(output.shape)

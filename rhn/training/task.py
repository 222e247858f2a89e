"""What a training run needs of its model and data: a task, which the trainer trains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rhn.training.ensemble import Ensemble
    from rhn.training.state import Objective


class Task:
    """The base class of tasks: the model, data, loss and measurements of a training run."""

    data: type
    """The class of its data."""
    columns: tuple[str, ...]
    """Names of the columns of a curve in files."""
    first_epoch = 0
    """0: both losses are measured, also before training. 1: the training loss is the mean over the
    steps of an epoch, and curves have learning rate and gradient norm too.
    """
    measure = "nll"
    """The name of the measure of the columns' losses, see `rhn.training.evaluation.measure`."""
    objective: "Objective" = "valid"
    """The loss that decides which weights are best."""

    def __init__(self, config: Any, device: torch.device | str = "cpu"):
        self.config, self.device = config, torch.device(device)

    def model(self, seed: int) -> nn.Module:
        """Build the model of a seed on the CPU, with its initial weights."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Sequence[Any]:
        """Return the batches of an epoch, counted from 1: `inputs(model, numbers)` has what trials
        share and a tree of their own tensors (K, ...); with first_epoch = 1 they have a `length`.
        """
        raise NotImplementedError

    def loss(self, model, own: tuple, *shared) -> tuple[Tensor, tuple[Tensor, Any]]:
        """Return (a number, (losses in nats, state for the next step)) of one model. own: (state
        from the last step, None in the first of an epoch; the model's part of the inputs).
        """
        raise NotImplementedError

    def evaluate(self, ensemble: "Ensemble") -> Tensor:
        """Measure the losses of each model: (K, 2), or (K, 1) without the training loss."""
        raise NotImplementedError

    def schedule(self, epoch: int) -> float:
        """Return the divisor of the learning rates in an epoch."""
        return 1.0

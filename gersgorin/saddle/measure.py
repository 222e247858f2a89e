"""`gersgorin.plateau`: from a model, its sequences and its loss to a `Plateau`."""

from functools import partial
from typing import Any

from torch import nn

from gersgorin.losses import Loss
from gersgorin.objective import Objective
from gersgorin.saddle.escape import follow
from gersgorin.saddle.rates import measure_rates
from gersgorin.saddle.record import Plateau


def plateau(model: nn.Module, sequences: Any, loss: str | Loss | None = None) -> Plateau:
    """Measure the plateau that a network stands on, or would, with its output at the best constant.

    Args:
        model, sequences, loss: as for `gersgorin.Objective`: a model with an output, what it reads, and what it is judged by.

    Returns:
        A record with `loss`, `rates`, `slopes`, `order`, and `escape_epochs(learning_rate, momentum, batches)`. The model is left as
        it was; what is done to it later does not change the record.

    Raises:
        InvalidInputError: as for `gersgorin.Objective`.
    """
    objective = Objective(model, sequences, loss)
    rates = measure_rates(objective)
    return Plateau(
        loss=objective.best_constant()[1], rates=rates.own, slopes=rates.slopes, follow=partial(follow, objective)
    )

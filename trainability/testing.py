"""`assert_learns`, for tests: a test fails if a training run does not learn."""

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from rhn.utils.progress import reported
from rhn.utils.validation import number
from trainability.changes import NONE, Known
from trainability.door import TrainingOptions, opened_run, refuse_few, refuse_unknown


def assert_learns(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    below: float = 0.5,
    steps: int = 1000,
    **how: Unpack[TrainingOptions],
) -> None:
    """Train in place; raise AssertionError unless the error on held-out examples is low enough.
    Everything that is given is restored.

    Args:
        model, x, y, loss_fn, optimizer, steps: as for `check`.
        below: the error must be less; 1 is the constant predictor. For a loss of your own it is
            the loss.
        how: batch_size, clip_norm, scheduler, predict, batch_axis, shuffle, validation and seed of
            `check`.

    Raises:
        AssertionError: the error is too large.
        InvalidInputError: as `check`.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Linear(3, 1), torch.randn(200, 3)
    >>> adam = torch.optim.Adam(model.parameters(), 0.1)
    >>> assert_learns(model, x, x.sum(1, keepdim=True), nn.MSELoss(), adam, steps=50)
    """
    __tracebackhide__ = True  # pytest shows the lines of the caller only
    below = number("below", below)
    refuse_unknown("assert_learns", how)
    with opened_run(model, x, y, loss_fn, optimizer, steps=steps, **how) as own:
        refuse_few(own.run.data)
        race = own.race(Known(), steps)
        with reported(None, "assert_learns") as advance:
            race = race.counted(advance)
            race.expect([(NONE, 0)])
            race.errors(NONE, 0)
        error = float(torch.cat(race.found[NONE, 0]).mean())
    if not error < below:
        raise AssertionError(f"the error is {error:.3g}: expected less than {below:g}")

"""Optimisers by name, and schedules: made or checked."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from rhn.errors import InvalidInputError
from rhn.utils.wording import in_short

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def times(rate: float, factor: float) -> float:
    """A learning rate multiplied by a factor, to six digits, so that printed ones are those that
    were tried.
    """
    return rate if factor == 1 else float(f"{rate * factor:.6g}")


def above_zero(name: str, value: Any) -> float:
    """A finite number above 0. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name} is {in_short(value)}, expected a number above 0")
    return value


def optimizer_of(model: nn.Module, optimizer: Any, learning_rate: float | None) -> Optimizer:
    """The optimiser, made from its name if only that is given. Raises InvalidInputError."""
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            raise InvalidInputError(
                f"optimizer is {optimizer!r}, expected one of {', '.join(OPTIMIZERS)}, or an "
                "instance as torch.optim.Adam(model.parameters(), lr=1e-3)"
            )
        if learning_rate is None:
            raise InvalidInputError(
                f"{optimizer} given by name needs a learning rate: add learning_rate=1e-3"
            )
        kind = OPTIMIZERS[optimizer.lower()]
        return kind(model.parameters(), lr=above_zero("learning_rate", learning_rate))
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(
            f"optimizer is a {type(optimizer).__name__}, expected a name, or an instance as "
            "torch.optim.Adam(model.parameters(), lr=1e-3)"
        )
    if learning_rate is not None:
        raise InvalidInputError("learning_rate is for an optimiser given by its name")
    refuse_hooks(model, optimizer)
    rates = [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
    if any(not 0 <= rate < math.inf for rate in rates):
        raise InvalidInputError(f"the learning rates are {rates}, expected finite numbers")
    return optimizer


def refuse_hooks(model: nn.Module, optimizer: Optimizer) -> None:
    """Raise InvalidInputError for what the copies that are trained would not have."""
    hooked = [
        name
        for name, p in model.named_parameters()
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None)
    ]
    methods = map(vars(optimizer).get, ("step", "zero_grad"))
    replaced = any(f and not hasattr(f, "_wrapped_by_lr_sched") for f in methods)
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if hooked or replaced or own:
        which = hooked[0] if hooked else type(optimizer).__name__
        raise InvalidInputError(
            f"{which} has a hook or a replaced method, which the copies that are trained do not "
            "have: clip gradients by clip_norm, and freeze parameters by requires_grad_(False)"
        )


def scheduler_of(scheduler: Any, optimizer: Optimizer | None) -> Any:
    """The scheduler, None too. Raises InvalidInputError if it is none of this optimiser, or depends
    on the loss.
    """
    if scheduler is None:
        return None
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
        raise InvalidInputError(
            f"scheduler is {type(scheduler).__name__}, expected one of "
            "torch.optim.lr_scheduler that does not depend on the loss"
        )
    if scheduler.optimizer is not optimizer:
        raise InvalidInputError("the scheduler belongs to another optimiser")
    return scheduler

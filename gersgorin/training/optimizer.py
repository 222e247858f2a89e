"""The optimiser and the scheduler of a training, made from names or checked: copies of a model are
trained by copies of them.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gersgorin.checking.causes.cause import prevented
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


def rates_of(optimizer: Optimizer, scheduled: bool) -> list[float]:
    """Learning rates of the groups; with a scheduler those that it multiplies, because a warm-up
    may begin at 0.
    """
    return [
        float((scheduled and group.get("initial_lr")) or group.get("lr", 0))
        for group in optimizer.param_groups
    ]


def optimizer_of(
    model: nn.Module, optimizer: Any, learning_rate: float | None, scheduled: bool
) -> Optimizer:
    """The optimiser, made from its name if only this is given."""
    if next(model.parameters(), None) is None:
        raise InvalidInputError(
            f"{type(model).__name__} has no parameters: there is nothing to train"
        )
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            raise InvalidInputError(
                f"optimizer is {in_short(optimizer)}, expected one of {', '.join(OPTIMIZERS)}, or an "
                "instance"
            )
        if learning_rate is None:
            kind = OPTIMIZERS[optimizer.lower()].__name__
            raise InvalidInputError(
                f"{kind} given by name needs a learning rate: add learning_rate=1e-3"
            )
        return OPTIMIZERS[optimizer.lower()](
            model.parameters(), lr=above_zero("learning_rate", learning_rate)
        )
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(
            f"optimizer is {in_short(optimizer)}, expected a name, or an instance as "
            "torch.optim.Adam(model.parameters(), lr=1e-3)"
        )
    if learning_rate is not None:
        raise InvalidInputError(
            "learning_rate is for an optimiser given by its name; an instance has its own"
        )
    parameters = list(model.named_parameters())
    hooked = [
        name
        for name, p in parameters
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None)
    ]
    replaced = [
        f
        for f in map(vars(optimizer).get, ("step", "zero_grad"))
        if f and not hasattr(f, "_wrapped_by_lr_sched")
    ]
    if (
        hooked
        or replaced
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
    ):
        raise InvalidInputError(
            f"{hooked[0] if hooked else type(optimizer).__name__} has a hook or a replaced "
            "method, which the copies that are "
            "trained do not have: expected none; clip gradients by clip_norm, and freeze "
            "parameters by requires_grad_(False)"
        )
    own = {id(p) for p in model.parameters()}
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if (others := len(set(held) - own)) and own <= set(held):
        raise InvalidInputError(
            f"{others} of the optimiser's parameters are not the model's: expected an "
            "optimiser on model.parameters()"
        )
    if others:
        raise prevented(
            "untrained weights",
            f"The optimiser holds {others} tensors that are no parameters of this model, and "
            f"{len(own & set(held))} of its {len(own)}.",
            "Make it after the model was built, moved or converted: optimizer = "
            "type(optimizer)(model.parameters(), lr=...).",
        )
    rates = rates_of(optimizer, scheduled)
    if not any(rates) or any(not 0 <= rate < math.inf for rate in rates):
        raise InvalidInputError(
            f"the learning rates of the optimiser are {rates}, expected finite numbers, one above 0"
        )
    return optimizer


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

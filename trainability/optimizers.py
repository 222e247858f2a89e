"""Make, check and scale the optimiser and the scheduler of a training run."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from rhn.errors import InvalidInputError
from rhn.utils.validation import number
from rhn.utils.wording import kind_of

SCHEDULED = "lr", "momentum", "betas"  # what a scheduler changes
TORCH_OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def scaled_rate(rate: float, factor: float) -> float:
    """Return a learning rate times a factor, rounded to six digits.

    The printed rate is then exactly the rate that was tried.
    """
    return rate if factor == 1 else float(f"{rate * factor:.6g}")


def optimizer_of(model: nn.Module, optimizer: Any, learning_rate: float | None) -> Optimizer:
    """Return the optimiser; create it if only its name is given. Raises InvalidInputError."""
    if isinstance(optimizer, str):
        if optimizer.lower() not in TORCH_OPTIMIZERS:
            raise InvalidInputError(
                f"optimizer is {optimizer!r}, expected one of {', '.join(TORCH_OPTIMIZERS)}, or an "
                "instance as torch.optim.Adam(model.parameters(), lr=1e-3)"
            )
        kind = TORCH_OPTIMIZERS[optimizer.lower()]
        if learning_rate is None:
            return kind(model.parameters())
        return kind(model.parameters(), lr=number("learning_rate", learning_rate, above=0))
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(
            f"optimizer is {kind_of(optimizer)}, expected a name, or an instance as "
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
    """Raise InvalidInputError for hooks and replaced methods. The copies that are trained would not
    have them.
    """
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
    """Return the scheduler, which may be None.

    Raises InvalidInputError if the scheduler belongs to another optimiser, or depends on the loss.
    """
    if scheduler is None:
        return None
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
        raise InvalidInputError(
            f"scheduler is {kind_of(scheduler)}, expected one of "
            "torch.optim.lr_scheduler that does not depend on the loss"
        )
    if scheduler.optimizer is not optimizer:
        raise InvalidInputError("the scheduler belongs to another optimiser")
    return scheduler


class Schedule:
    """A scheduler of any kind that sets the rates of another optimiser, times a factor.

    Args:
        scheduler: the scheduler of the optimiser `like`.
        optimizer: the optimiser whose rates are set; `like` itself if only the factor differs.
        groups: for each parameter group of `optimizer`, the number of the group of `like` that it
            follows.
        factor: factor on the learning rates.
    """

    def __init__(
        self,
        scheduler: Any,
        like: Optimizer,
        optimizer: Optimizer,
        groups: list[int],
        factor: float = 1.0,
    ):
        self.scheduler, self.like, self.optimizer = scheduler, like, optimizer
        self.groups, self.factor = groups, factor
        self.own = [{"lr": group["lr"]} for group in like.param_groups]
        if optimizer is not like:
            for group in like.param_groups:
                group["params"] = []  # only the rates are used

    def step(self) -> None:
        """Let the scheduler take a step at its own rates, then set the rates of the optimiser."""
        for group, own in zip(self.like.param_groups, self.own, strict=True):
            group["lr"] = own["lr"]
        self.scheduler.step()
        self.set_rates()

    def set_rates(self) -> None:
        """Copy the rates and momenta that the scheduler has set to the optimiser, rates times the
        factor.
        """
        self.own = [
            {name: group[name] for name in SCHEDULED if name in group}
            for group in self.like.param_groups
        ]
        for group, k in zip(self.optimizer.param_groups, self.groups, strict=True):
            known = {name: value for name, value in self.own[k].items() if name in group}
            group.update(known | {"lr": known["lr"] * self.factor})

"""Copy a model, its optimiser and its scheduler, and find what a model stores beside its
weights.
"""

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin.validate import users_code
from rhn.errors import USERS_FAULT


def copied(model: nn.Module, optimizer: Optimizer, scheduler: Any) -> tuple[Any, Any, Any]:
    """Return copies of model, optimiser and scheduler that belong together; the optimiser's state
    is empty.
    """
    memo: dict[int, Any] = {}
    said = f"{type(model).__name__} or its optimiser cannot be copied"
    with users_code(said, lambda: not_copied(model)), torch.inference_mode(False):
        other = copy.deepcopy(model, memo)
        return other, copy_of_optimizer(optimizer, memo), copy.deepcopy(scheduler, memo)


def state_of(value: Any) -> list[Any]:
    """Return a list of objects that differs after an attribute has changed, even in place.

    The list has the version of a tensor, the items of a list or dictionary, or the attributes of an
    object.
    """
    if isinstance(value, Tensor):
        return [value, None if value.is_inference() else value._version]
    if isinstance(value, list | tuple):
        return [value, *value]
    parts = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return [value, *parts.values()]


def attributes(model: nn.Module) -> dict[str, Any]:
    """Return everything that a model and its parts store, by name, buffers included and weights
    left out.
    """
    return {
        f"{name}.{key}".lstrip("."): value
        for name, module in model.named_modules()
        for key, value in (vars(module) | module._buffers).items()
        if key not in ("_modules", "_parameters", "_buffers")
    }


def states_in(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that a model stores beside its weights, by name."""
    return {
        name: tuple(part.shape)
        for name, value in attributes(model).items()
        for part in (value if isinstance(value, list | tuple) else (value,))
        if isinstance(part, Tensor)
    }


def not_copied(model: nn.Module) -> str:
    """Return the remedy for the first attribute of a model that cannot be copied; "" if all can."""
    for name, value in attributes(model).items():
        try:
            copy.deepcopy(value)
        except USERS_FAULT:
            computed = isinstance(value, Tensor) and value.grad_fn is not None
            remedy = "store it with .detach(), or set it" if computed else "set it"
            return f"its attribute {name} is the reason: {remedy} to None before"
    return ""


def copy_of_optimizer(optimizer: Optimizer, memo: dict[int, Any]) -> Any:
    """Return a copy of an optimiser with an empty state. memo: the memo of deepcopy, with the
    copied parameters.
    """
    memo[id(optimizer.state)] = defaultdict(dict)
    other = copy.deepcopy(optimizer, memo)
    for name in vars(optimizer).keys() - vars(other).keys() - {"step"}:  # as of L-BFGS
        setattr(other, name, copy.deepcopy(getattr(optimizer, name), memo))
    return other

"""The loss that a user gives: find the loss by name, find what it reads, and explain why it refuses
targets.

loss = target_loss("mse")            # a function (output, y) -> a scalar
misfit(loss, output, y)              # why the loss fails for these, in words
"""

import contextlib
import functools
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.utils.wording import in_short

GAUSSIAN = (  # what to do with the loss that takes three arguments
    "it also needs a variance: let the model give the mean and its log, loss_fn=lambda output, y: "
    "loss(output[..., :1], y, output[..., 1:].exp())"
)
SHARES = "it takes outputs between 0 and 1: end the network at a sigmoid, or use a loss of logits"


def _shaped(y: Tensor, shape: torch.Size) -> Tensor:
    """Return targets in a shape that differs only in axes of length 1, for a named loss.

    Raises InvalidInputError for any other shape.
    """
    if [n for n in y.shape if n != 1] != [n for n in shape if n != 1]:
        raise InvalidInputError(
            f"in a minibatch, the loss needs y of shape {tuple(shape)}, and y has "
            f"{tuple(y.shape)}: give one target for each output"
        )
    return y.reshape(shape)


LOSSES = {
    "mse": lambda output, y: F.mse_loss(output, _shaped(y, output.shape).to(output.dtype)),
    "cross-entropy": lambda output, y: F.cross_entropy(
        output.flatten(0, -2), _shaped(y, output.shape[:-1]).flatten().long()
    ),
    "bernoulli": lambda output, y: F.binary_cross_entropy_with_logits(
        output, _shaped(y, output.shape).to(output.dtype)
    ),
}


def target_loss(loss_fn: Any) -> Loss:
    """Return the loss for a name, or the given function (output, y) -> a scalar. Raises
    InvalidInputError for anything else.
    """
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        name = f"nn.{loss_fn.__name__}" if hasattr(nn, loss_fn.__name__) else loss_fn.__name__
        raise InvalidInputError(f"loss_fn is the class {loss_fn.__name__}: did you mean {name}()?")
    if callable(loss_fn):
        return loss_fn
    if not isinstance(loss_fn, str) or loss_fn not in LOSSES:
        raise InvalidInputError(
            f"loss_fn is {in_short(loss_fn)}, expected a function (output, y) or one of "
            f"{', '.join(LOSSES)}"
        )
    return LOSSES[loss_fn]


@contextlib.contextmanager
def broadcasting_unwarned() -> Iterator[None]:
    """Context manager: silence torch's warning about a loss that broadcasts, since a fact states
    it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using a (target|input) size", UserWarning)
        yield


def reads(loss: Any) -> tuple[list[Any], set[str]]:
    """Return (objects that a loss can read besides its arguments, names of attributes that it
    reads).

    Functions that the loss calls by name are searched too.
    """
    objects, names, found = [loss], set[str](), set[int]()
    for value in objects:  # grows
        if id(value) in found:
            continue
        found.add(id(value))
        if isinstance(value, functools.partial):
            objects += [value.func, *value.args, *value.keywords.values()]
        elif inspect.ismethod(value):
            objects += [value.__func__, *_parts(value.__self__)]
        elif inspect.isfunction(value):
            with contextlib.suppress(ValueError):  # a name that has no value yet
                named = inspect.getclosurevars(value)
                objects += [*named.nonlocals.values(), *named.globals.values()]
            names.update(value.__code__.co_names)
        elif isinstance(value, list | tuple | dict):
            objects += value.values() if isinstance(value, dict) else value
        elif value is loss:
            objects += [getattr(type(value), "forward", type(value).__call__), *_parts(value)]
    return objects, names


def _parts(owner: Any) -> list[Any]:
    """A module and its parts, or an object and its attributes without tensors, which are known by
    their names.
    """
    if isinstance(owner, nn.Module):
        return [*owner.modules()]
    values = getattr(owner, "__dict__", {}).values()
    return [owner, *(value for value in values if not isinstance(value, Tensor))]


def misfit(loss: Loss, output: Tensor, y: Tensor) -> str:
    """Return what is wrong with an output or targets that a loss has refused; "" if not known.

    The loss is called with zeros as targets, either as numbers in the shape of the output, or as
    classes, which lack one axis of the output. The user's targets are compared with the most
    similar zeros that the loss accepts.
    """
    if isinstance(loss, nn.GaussianNLLLoss):
        return GAUSSIAN
    output, shape = output.detach(), tuple(output.shape)
    tried = [torch.zeros_like(output)]
    axes = {1, len(shape) - 1} & {*range(1, len(shape))}
    tried += [output.select(axis, 0).long() * 0 for axis in axes]
    taken = [zeros for zeros in tried if _takes(loss, output, zeros)]
    if not taken:
        return _needs_shares(loss, output, y)
    like = max(taken, key=lambda zeros: _similarity(zeros, y))
    if like.shape != y.shape and len(shape) > 2 and shape[:-1] == y.shape:
        return (
            "if its targets are classes, give loss_fn='cross-entropy', which takes the classes last"
        )
    wanted = f"y of shape {tuple(like.shape)}"
    if like.is_floating_point():
        faults = [f"expected {wanted}, as the output"] if like.shape != y.shape else []
        faults += [] if y.is_floating_point() else [f"y is {_dtype(y)}: give y.float()"]
        return "; ".join(faults)
    count = output.numel() // max(1, like.numel())
    return "; ".join(_faults_of_classes(y, like, count, getattr(loss, "ignore_index", -100)))


def _needs_shares(loss: Loss, output: Tensor, y: Tensor) -> str:
    """Return advice if outputs lie beyond 0 and 1, and the loss takes those between them."""
    beyond = bool(((output < 0) | (output > 1)).any())
    return SHARES if beyond and _takes(loss, output.nan_to_num().sigmoid(), y) else ""


def _takes(loss: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss raises nothing, and does not broadcast."""
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):
            loss(output, y)
    except USERS_FAULT:
        return False
    return True


def _similarity(zeros: Tensor, y: Tensor) -> tuple[bool, bool, bool]:
    return (
        zeros.shape == y.shape,
        zeros.numel() == y.numel(),
        zeros.is_floating_point() == y.is_floating_point(),
    )


def _faults_of_classes(y: Tensor, like: Tensor, count: int, ignored: int) -> Iterator[str]:
    """Yield what is wrong with targets that should be classes 0 to count - 1, in the shape of
    `like`.
    """
    if y.shape != like.shape:
        yield f"expected classes, y of shape {tuple(like.shape)}"
    if y.is_floating_point():
        yield f"y is {_dtype(y)} and the loss takes classes, whole numbers: give y.long()"
    classes = y[y != ignored]
    least, largest = classes.aminmax() if len(classes) else (0, 0)
    least, largest = int(least), int(largest)
    if least < 0 or largest >= count:
        yield f"y holds classes {least} to {largest}, the output has {count}: 0 to {count - 1}"


def _dtype(y: Tensor) -> str:
    return str(y.dtype).removeprefix("torch.")

"""Pass the input x on to a module: an array or a packed sequence as model(x), a tuple of several
inputs as model(*x), a dictionary as model(**x), or as model(x) if the module takes the whole
dictionary.

Legend: T steps, B sequences, m numbers of a step.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gersgorin.data.layout import Layout, is_ids
from gersgorin.validate import finite_tensor
from rhn.errors import InvalidInputError
from rhn.utils.validation import kind_of

Input = Tensor | PackedSequence | tuple | dict


def is_several(x: Any) -> bool:
    """True if x contains several inputs of a module, in a tuple or a dictionary."""
    return isinstance(x, tuple | dict) and not isinstance(x, PackedSequence)


def as_input(x: Any) -> Input:
    """Convert x to tensors. Raises InvalidInputError for anything but real numbers, and
    NotFiniteError for NaN or infinity.
    """
    if isinstance(x, PackedSequence):
        finite_tensor("x", x.data)
        return x
    check_not_empty(x)
    if isinstance(x, dict):
        return {name: _part(f"x[{name!r}]", part) for name, part in x.items()}
    if is_several(x):
        return tuple(_part(f"x[{k}]", part) for k, part in enumerate(x))
    return finite_tensor("x", x)


def check_not_empty(x: Any) -> None:
    """Raise InvalidInputError for a tuple or a dictionary without inputs."""
    if is_several(x) and not x:
        raise InvalidInputError("x is empty: expected a sequence")


def _part(name: str, value: Any) -> Any:
    """Convert one of several inputs; a value that is not an array is left unchanged."""
    return finite_tensor(name, value) if isinstance(value, Tensor | np.ndarray) else value


def reads_ids(module: nn.Module, x: Tensor) -> bool:
    """True if a module reads x as ids of tokens: whole numbers (T,), or of any shape if the module
    has an nn.Embedding or a part with `takes_ids`, such as a `LanguageModel`. Other whole numbers
    are frames.
    """
    embeds = any(
        isinstance(part, nn.Embedding) or getattr(part, "takes_ids", False)
        for part in module.modules()
    )
    return is_ids(x) and (x.dim() == 1 or embeds)


def ids_hint(module: nn.Module, x: Any) -> str:
    """A hint for the error of a module if x contains ids that its embedding does not have; else
    "".
    """
    sizes = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    if not sizes or not isinstance(x, Tensor) or not is_ids(x):
        return ""
    least, most = int(x.min()), int(x.max())
    if least >= 0 and most < max(sizes):
        return ""
    return f"x has ids from {least} to {most}: expected ids from 0 to {max(sizes) - 1}"


def converted(module: nn.Module, x: Any, like: Tensor) -> Any:
    """Convert numbers in x to the device and precision of `like`, and move ids to its device.

    If x has several inputs, whole numbers after the first input are lengths, which are left
    unchanged.
    """
    if isinstance(x, PackedSequence):
        return x._replace(data=converted(module, x.data, like))
    if isinstance(x, dict):
        return dict(zip(x, converted(module, tuple(x.values()), like), strict=True))
    if isinstance(x, tuple):
        first = tuple(converted(module, part, like) for part in x[:1])
        return first + tuple(
            converted(module, part, like) if _holds_floats(part) else part for part in x[1:]
        )
    if not isinstance(x, Tensor):
        return x
    return x.to(like.device) if reads_ids(module, x) else x.to(like.device, like.dtype)


def _holds_floats(part: Any) -> bool:
    data = part.data if isinstance(part, PackedSequence) else part
    return isinstance(data, Tensor) and data.is_floating_point()


def call(module: Callable, x: Input) -> Any:
    """Call a module on its input x and return the output. For a dictionary see `reads_whole`.

    >>> call(lambda values, mask: values * mask, {"values": 2, "mask": 3})
    6
    >>> call(lambda batch: batch["values"] * batch["mask"], {"values": 2, "mask": 3})
    6
    """
    if isinstance(x, dict) and not reads_whole(module, x):
        return module(**x)
    return module(*x) if isinstance(x, tuple) and is_several(x) else module(x)


def reads_whole(module: Callable, x: dict) -> bool:
    """True if a module takes the dictionary as a single argument, and not its entries by name."""
    try:
        signature = inspect.signature(module.forward if isinstance(module, nn.Module) else module)
    except (TypeError, ValueError):  # of a compiled function
        return False
    return not _binds(signature, **x) and _binds(signature, x)


def _binds(signature: inspect.Signature, *arguments: Any, **named: Any) -> bool:
    try:
        signature.bind(*arguments, **named)
    except TypeError:
        return False
    return True


def main_input(x: Input) -> Tensor | PackedSequence:
    """The input whose axis of time counts: x, or the first of several inputs. Raises
    InvalidInputError if it is not an array.
    """
    first = next(iter(x.values() if isinstance(x, dict) else x), None) if is_several(x) else x
    if not isinstance(first, Tensor | PackedSequence):
        raise InvalidInputError(
            f"x begins with {kind_of(first)}: expected the sequence first, then the "
            "other inputs of the module"
        )
    return first


def shape_of(x: Input) -> tuple[int, ...]:
    """The shape of the sequence in x, for messages."""
    frames = main_input(x)
    return tuple(frames.data.shape if isinstance(frames, PackedSequence) else frames.shape)


def unpacked(x: Any) -> Any:
    """The frames (T, B, m) of a packed sequence, with zeros after the end of shorter sequences;
    anything else is returned unchanged.
    """
    return pad_packed_sequence(x)[0] if isinstance(x, PackedSequence) else x


def one_sequence(x: Tensor, *, ids: bool = False) -> Tensor:
    """Return one sequence in its own layout: numbers (T, m), (T, 1, m) or (1, T, m), or ids of
    tokens.

    Args:
        x: see `as_input`. Numbers (T,) are frames of one unit.
        ids: whether x contains ids, see `reads_ids`.

    Raises:
        InvalidInputError: x has another shape or several sequences.
    """
    if ids:
        if not is_ids(x):
            raise InvalidInputError(
                f"x is {x.dtype} of shape {tuple(x.shape)}: expected ids of tokens (T,), integers"
            )
        x = x.long()
    elif not x.is_floating_point():
        x = x.double()  # frames of keys are bytes
    x = x[:, None] if x.dim() == 1 and not ids else x
    Layout.of_one(x, ids=ids)
    return x

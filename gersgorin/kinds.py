"""Kinds of networks: which arguments a network takes, which modules are a step or a recurrent
layer, and which axis of their input is the batch.
"""

from collections.abc import Callable
from contextlib import suppress
from inspect import Parameter
from typing import Any

from torch import nn

from rhn.cells import Cell
from rhn.utils.validation import signature_of


def takes(function: Callable, *given: Any) -> bool:
    """True if a function, or the forward of a module, takes these arguments."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        signature_of(called).bind(*given)
    except TypeError:
        return False
    except ValueError:  # a built-in function without a signature
        pass
    return True


def required(module: nn.Module) -> list[str]:
    """The names of the arguments that the forward of a module requires.

    >>> required(nn.Bilinear(2, 2, 3)), required(nn.GRU(2, 3))
    (['input1', 'input2'], ['input'])
    """
    with suppress(ValueError):  # a built-in function without a signature
        arguments = signature_of(module.forward).parameters.values()
        several = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
        return [a.name for a in arguments if a.default is a.empty and a.kind not in several]
    return []


def has_step(module: Any) -> bool:
    """True for an object with a method step(x, s); a part of this name, such as a cell, is none."""
    own: Any = getattr(module, "step", None)
    return not isinstance(own, nn.Module) and takes(own, None, None)


def is_step(network: Any, has_state: bool) -> bool:
    """True for a function, a recurrent layer, and a module that takes a state; a module with a
    recurrent layer inside whose state is optional is a step only if a state is given.
    """
    if not isinstance(network, nn.Module) or is_recurrent(network) or has_step(network):
        return True
    optional = takes(network, None) and not has_state
    return takes(network, None, None) and not (optional and bool(recurrent_layers(network)))


def is_recurrent(module: nn.Module) -> bool:
    """True for a layer that `layer=` can name: of torch.nn, of rhn.cells, or a step of known
    size.
    """
    if isinstance(module, nn.RNNBase | nn.RNNCellBase | Cell):
        return True
    return hasattr(module, "state_size") and (has_step(module) or takes(module, None, None))


def recurrent_layers(module: nn.Module) -> list[str]:
    """The names of the recurrent layers in a module, without parts of them."""
    found = list[str]()
    for place, part in module.named_modules():
        inside = any(place.startswith(f"{outer}.") for outer in found)
        if place and not inside and is_recurrent(part):
            found.append(place)
    return found


def batch_first_of(model: Any) -> bool | None:
    """The layout of a model that reads a sequence: its attribute batch_first, or that of all its
    parts that have one; None if there is none, or if parts differ.

    >>> batch_first_of(nn.Sequential(nn.GRU(2, 3, batch_first=True))), batch_first_of(nn.Tanh())
    (True, None)
    """
    return _layout(model, lambda part: True)


def batch_first_of_step(step: Any) -> bool | None:
    """The layout of a step, or of a recurrent layer, as `batch_first_of`, but of its recurrent
    parts only: attention inside a step reads other axes.
    """
    return _layout(step, is_recurrent)


def _layout(network: Any, counts: Callable[[nn.Module], bool]) -> bool | None:
    """The attribute batch_first of a network, or of all parts that count and have one."""
    own = getattr(network, "batch_first", None)
    if own is not None:
        return bool(own)
    inside = network.modules() if isinstance(network, nn.Module) else ()
    each = [getattr(part, "batch_first", None) for part in inside if counts(part)]
    known = {bool(first) for first in each if first is not None}
    return known.pop() if len(known) == 1 else None

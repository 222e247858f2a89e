"""Build the user's modules.

A user's factory, `package.module:factory`, is called without arguments, or with input_size and
hidden_size if it takes them. The factory returns a torch module or a step f(x, s). A function
f(x, s) is a step instead of a factory.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin.run.cell import flat_step, own_title
from gersgorin.run.state import Sizes, zero_state
from gersgorin.validate import users_code
from rhn.cells import is_known
from rhn.cells.convert import OURS
from rhn.cells.registry import import_named
from rhn.checkpoints import BEST, weights_file
from rhn.errors import InvalidInputError
from rhn.utils.validation import kind_of
from rhn.weights import sizes_in_file

UNITS = 64  # of a new cell, or if a factory requires a hidden_size
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # of files of weights
IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def build_module(
    name: str,
    *,
    input_size: int | None,
    hidden_size: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    state_size: Sizes | None = None,
) -> nn.Module:
    """Build the module of a factory, with initial weights drawn from a seed. The state of torch's
    random generator does not change.

    input_size, hidden_size: passed on if the factory takes them; None for hidden_size: the user did
    not give it. weights: a file from which the sizes of a torch.nn module are read; the weights are
    not loaded here. state_size: size of the state of a step f(x, s).

    Raises InvalidInputError if there is no such factory, or if the factory raises an error,
    requires other arguments, or returns neither a module nor a step.
    """
    found = import_named(name, "module")
    built = isinstance(found, nn.Module) or is_function_of_state(found)
    takes = {} if built else _arguments(found)
    if hidden_size is not None and "hidden_size" not in takes:
        raise InvalidInputError(
            f"hidden_size is {hidden_size}: {name} takes no hidden_size; leave it out"
        )
    units = UNITS if takes.get("hidden_size") and hidden_size is None else hidden_size
    sizes = {"input_size": input_size, "hidden_size": units}
    keywords = {key: value for key, value in sizes.items() if key in takes and value is not None}
    if weights is not None and hidden_size is None and not built and _is_torchs(found):
        keywords |= sizes_in_file(found, weights_file(weights))
    hint = _hint_of_factory(found, keywords)
    with users_code(f"cannot build {name}", hint), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = found if built else found(**keywords)
    return _module_of(made, name, state_size)


def _module_of(made: Any, name: str, state_size: Sizes | None) -> nn.Module:
    """The module, or the module of the step, that the factory `name` returned. Raises
    InvalidInputError for anything else.
    """
    module = module_of_step(made, state_size) if is_function_of_state(made) else made
    if not isinstance(module, nn.Module):
        raise InvalidInputError(
            f"{name} returns {kind_of(module)}: expected a torch.nn.Module or a step f(x, s)"
        )
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        raise InvalidInputError(f"{name} has weights of no size yet: run it once in its factory")
    return module


def is_function_of_state(found: Any) -> bool:
    """True for a function of an input and a state, which is not a factory of a module.

    >>> is_function_of_state(lambda x, s: s), is_function_of_state(nn.GRU)
    (True, False)
    """
    if isinstance(found, type | nn.Module) or not callable(found):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # built-in functions have no signature
        return False
    required = [p.name for p in parameters if p.default is p.empty and p.kind in IN_ORDER]
    return len(required) == 2 and not {"input_size", "hidden_size"} & {*required}


def module_of_step(step: Callable, state_size: Sizes | None = None) -> nn.Module:
    """Wrap a function f(x, s) as a module without weights that has the name of the function. If
    there are several sizes, the function gets a tuple of tensors (n,), which are joined side by
    side in the state of the module.

    Raises InvalidInputError if the size is not known.
    """
    if state_size is None and not hasattr(step, "state_size"):
        raise InvalidInputError(
            f"{kind_of(step)} takes an input and a state: give --state-size, the "
            "entries of its state, such as 16, or 16,16 for two tensors"
        )
    if isinstance(state_size, tuple):
        step = flat_step(step, zero_state(state_size, torch.zeros(1)))
    module = type(own_title(step), (nn.Module,), {"step": staticmethod(step)})()
    vars(module).update(vars(step))
    if isinstance(state_size, int):
        module.state_size = state_size
    return module


def names_weights(word: str) -> bool:
    """True if a word names a file or folder of weights. The name of a cell does not, even if there
    is a folder of that name.
    """
    if word.endswith(SUFFIXES) or os.sep in word:
        return True
    return not is_known(word) and os.path.exists(os.path.join(word, BEST))  # noqa: PTH110, PTH118 (Path raises for long names)


def _is_torchs(factory) -> bool:
    return any(factory.__init__ is theirs.__init__ for theirs in OURS)


def _hint_of_factory(factory: Callable, keywords: dict[str, Any]) -> str:
    """A hint for the error of a factory that takes or needs other arguments; "" for any other."""
    try:
        inspect.signature(factory).bind(**keywords)
    except TypeError:
        return "expected a factory without arguments, or of input_size and hidden_size"
    except ValueError:  # built-in functions have no signature
        pass
    return ""


def _arguments(factory) -> dict[str, bool]:
    """The sizes that a factory takes as arguments, each with True if it is required."""
    if _is_torchs(factory):  # their signatures hide the arguments
        return {"input_size": True, "hidden_size": True}
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built-in functions have no signature
        return {}
    taken = (name for name in ("input_size", "hidden_size") if name in parameters)
    return {name: parameters[name].default is inspect.Parameter.empty for name in taken}

"""Build the user's modules, and read their weights from files.

A user's factory, `package.module:factory`, is called without arguments, or with input_size and
hidden_size if it takes them. The factory returns a torch module. A function f(x, s) is a step
instead of a factory. Weights are read from .safetensors, or from a state_dict that torch.save
wrote; only tensors are unpickled.
"""

import inspect
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from gersgorin.run.cell import flat_step
from gersgorin.run.state import Sizes, zero_state
from gersgorin.validate import users_code
from rhn.cells import is_known
from rhn.cells.convert import OURS
from rhn.cells.registry import import_named
from rhn.checkpoints import BEST, weights_file
from rhn.errors import CheckpointError, DataError, InvalidInputError
from rhn.utils.io import check_file
from rhn.utils.validation import not_dense_real
from rhn.utils.wording import first_line, kind_of

UNITS = 64  # of a new cell, or if a factory requires a hidden_size
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # of files of weights
# keys of the weights in files of training runs
WRAPPED = ("state_dict", "model_state_dict", "model")
IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
PREFIXES = ("module.", "_orig_mod.")  # of names wrapped by DataParallel and torch.compile


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
    requires other arguments, or does not return a module.
    """
    found = import_named(name, "module")
    if is_function_of_state(found):
        found = module_of_step(found, state_size)
    built = isinstance(found, nn.Module)
    takes = {} if built else _arguments(found)
    if hidden_size is not None and "hidden_size" not in takes:
        raise InvalidInputError(
            f"hidden_size is {hidden_size}: {name} takes no hidden_size; leave it out"
        )
    units = UNITS if takes.get("hidden_size") and hidden_size is None else hidden_size
    sizes = {"input_size": input_size, "hidden_size": units}
    keywords = {key: value for key, value in sizes.items() if key in takes and value is not None}
    if weights is not None and hidden_size is None and not built and _is_torchs(found):
        keywords |= sizes_in(read_weights(weights_file(weights)))
    expected = "expected a factory without arguments, or of input_size and hidden_size"
    with users_code(f"cannot build {name}", expected), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = found if built else found(**keywords)
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"{name} returns {kind_of(module)}: expected a torch.nn.Module")
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
    module = type(getattr(step, "__name__", "f"), (nn.Module,), {"step": staticmethod(step)})()
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


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a file.

    Raises CheckpointError for a file that is missing or damaged, contains more than tensors, or
    does not match the module's names and shapes.
    """
    path = weights_file(path)
    found = read_weights(path)
    for prefix in PREFIXES:
        if not any(name.startswith(prefix) for name in module.state_dict()):
            consume_prefix_in_state_dict_if_present(found, prefix)
    if wrong := [f"{name} is {kind}" for name, t in found.items() if (kind := not_dense_real(t))]:
        raise CheckpointError(f"{path}: {wrong[0]}, expected dense real numbers")
    own = module.state_dict()
    for name, t in found.items():
        if name in own and own[name].is_floating_point() and not t.is_floating_point():
            raise CheckpointError(f"{path}: {name} holds {t.dtype}, expected {own[name].dtype}")
    try:
        module.load_state_dict(found)
    except RuntimeError as error:
        # a line for all missing names, one for all unknown names, and one for each other shape
        lines = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__}: {lines:.300}"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU, from a .safetensors file, a file of a state_dict, or a file
    of a training run that contains a state_dict.

    Raises CheckpointError if the file cannot be read.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    try:
        check_file(path)
        found = _content(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than tensors, and nothing else is unpickled: expected what "
            "torch.save(model.state_dict(), FILE) writes, or .safetensors"
        ) from error
    except Exception as error:  # whatever torch makes of a damaged file
        advice = "weights_only" in str(error)  # of torch, to run code
        reason = "" if advice or isinstance(error, KeyError) else f": {first_line(error)}"
        raise CheckpointError(
            f"{path} is not a complete file of weights (truncated or damaged){reason}"
        ) from error
    candidates = [found, *(found.get(key) for key in WRAPPED if isinstance(found, Mapping))]
    for state in candidates:
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(t, Tensor) for t in state.values())
        ):
            return dict(state)
    raise CheckpointError(
        f"{path} holds {kind_of(found)}: expected a state_dict, by itself or under "
        f"{' or '.join(WRAPPED)}"
    )


def _content(path: Path) -> Any:
    """The tensors of a .safetensors file by name, or what torch unpickles from another one."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
    with warnings.catch_warnings(action="ignore"):  # about pickles of other protocols
        return torch.load(path, map_location="cpu", weights_only=True)


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Constructor arguments of the RNN, LSTM, GRU or *Cell of torch.nn to which these weights
    belong; empty for other modules.

    >>> sizes_in(nn.LSTM(3, 5, num_layers=2, bias=False).state_dict())
    {'input_size': 3, 'hidden_size': 5, 'bias': False, 'num_layers': 2}
    """
    layers = sorted(
        {name.removeprefix("weight_ih") for name in state if re.match(r"weight_ih(_l\d+)?$", name)}
    )
    shapes = [
        state[name].shape
        for k in layers[:1]
        for name in (f"weight_ih{k}", f"weight_hh{k}")
        if name in state
    ]
    if [len(shape) for shape in shapes] != [2, 2]:
        return {}
    sizes: dict[str, int | bool] = {
        "input_size": shapes[0][1],
        "hidden_size": shapes[1][1],
        "bias": f"bias_hh{layers[0]}" in state,
    }
    if layers[0]:
        sizes["num_layers"] = len(layers)
    if any(name.endswith("_reverse") for name in state):
        sizes["bidirectional"] = True
    return sizes


def _is_torchs(factory) -> bool:
    return any(factory.__init__ is theirs.__init__ for theirs in OURS)


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

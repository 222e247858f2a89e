"""A user's own network, `package.module:factory`, with weights from a file: what it needs to be looked at as our cells are.

A factory is called without arguments, or with those of input_size and hidden_size that it takes, and gives a torch module. Weights are
names and tensors, from .safetensors or from a state_dict that torch.save wrote; of a pickle nothing but tensors is ever loaded.
"""

import inspect
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rhn.cells.base import not_dense_real, require_possible
from rhn.cells.convert import OURS
from rhn.cells.registry import import_named
from rhn.checkpoints import weights_file
from rhn.engine.memory import free_memory, in_words
from rhn.errors import USERS_FAULT, CheckpointError, InvalidInputError, RhnError
from rhn.wording import first_line

COPIES = 2  # of the weights, one of them to be looked at in float64
UNITS = 64  # of a factory that needs to be told how many
WRAPPED = ("state_dict", "model_state_dict", "model")  # where trainings keep the weights among other things
PREFIXES = ("module.", "_orig_mod.")  # of what DataParallel and torch.compile wrap


def build_module(name: str, **options) -> nn.Module:
    """The module that a factory gives, see `drawn_module`."""
    return drawn_module(name, **options)[0]


def drawn_module(
    name: str, *, input_size: int | None, hidden_size: int | None = None, seed: int = 0, weights: Path | None = None
) -> tuple[nn.Module, bool]:
    """(The module that a factory gives, its first weights drawn from a seed; whether they were, or it draws them in a way of its own).

    Torch's random numbers are left as they were.

    input_size: what it is to read, where it takes such an argument; hidden_size: likewise, None where the user says nothing.
    weights: a file that says how large torch.nn's own modules are to be; nothing else of it is used here.

    Raises InvalidInputError where there is no such factory, or it raises, needs other arguments, or gives no module.
    """
    found = import_named(name, "module")
    takes = {} if isinstance(found, nn.Module) else _arguments(name, found)
    if hidden_size is not None and "hidden_size" not in takes:
        raise InvalidInputError(f"--hidden-size {hidden_size}: {name} takes no hidden_size; leave it out")
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    if takes.get("hidden_size") and hidden_size is None:
        sizes["hidden_size"] = UNITS
    keywords = {key: value for key, value in sizes.items() if key in takes and value is not None}
    require_possible(input_size or 1, hidden_size or 1)
    if weights is not None and hidden_size is None and _is_torchs(found):
        keywords |= sizes_in(read_state(weights_file(weights)))
    try:
        with torch.random.fork_rng(devices=[]):
            if "hidden_size" in takes:
                _check_memory(name, lambda: found(**keywords))
            torch.default_generator.manual_seed(seed)
            before = torch.default_generator.get_state()
            module = found if isinstance(found, nn.Module) else found(**keywords)
            same_seed = torch.default_generator.initial_seed() == seed
            drawn = same_seed and not torch.equal(before, torch.default_generator.get_state())
    except RhnError:
        raise
    except USERS_FAULT as error:  # whatever a user's factory raises
        expected = "expected a factory without arguments, or of input_size and hidden_size"
        raise InvalidInputError(
            f"cannot build {name}: {type(error).__name__}: {first_line(error)}; {expected}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"{name} gives a {type(module).__name__}: expected a torch.nn.Module")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        raise InvalidInputError(f"{name} has weights of no size yet: run it once in its factory")
    return module, drawn


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a module the weights of a file, all of them and no others; it stays as it is where they do not fit.

    Raises CheckpointError for a file that is missing or damaged, asks for more than tensors, does not fit the module's names and
    shapes, or holds NaN.
    """
    expected, path = module.state_dict(), weights_file(path)
    found = _without_prefix(read_state(path), expected)
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        words = [f"lacks {_few(missing)}"] * bool(missing) + [f"has an unknown {_few(unknown)}"] * bool(unknown)
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: it {' and '.join(words)}")
    for name, t in found.items():
        if kind := not_dense_real(t):
            raise CheckpointError(
                f"{path}: {name} is {kind}, expected dense real numbers: convert it before torch.save"
            )
        if t.shape != expected[name].shape:
            shapes = f"{name} of shape {tuple(t.shape)}, expected {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path} does not fit {type(module).__name__}: it has {shapes}")
        if not torch.isfinite(t).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity: the training that wrote it had diverged")
    module.load_state_dict(found)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a .safetensors file or of a state_dict, alone or in what a training saved beside it.

    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with warnings.catch_warnings(action="ignore"):  # of pickles of other protocols
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} asks for more than tensors, and nothing else is unpickled: expected what "
            "torch.save(model.state_dict(), FILE) writes, or .safetensors"
        ) from error
    except Exception as error:  # whatever torch makes of a damaged file
        reason = first_line(error)
        raise CheckpointError(f"{path} is no whole file of weights (truncated or damaged): {reason}") from error
    candidates = [found, *(found.get(key) for key in WRAPPED if isinstance(found, Mapping))]
    state = next((each for each in candidates if _is_state(each)), None)
    if state is None:
        said = f"keys {_few(map(str, found))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path} holds {said}: expected a state_dict, alone or under {' or '.join(WRAPPED)}")
    return dict(state)


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """What torch.nn's RNN, LSTM or GRU (or one of their cells) with these weights were built with; nothing where they are others'.

    >>> sizes_in(nn.LSTM(3, 5, num_layers=2, bias=False).state_dict())
    {'input_size': 3, 'hidden_size': 5, 'bias': False, 'num_layers': 2}
    """
    found = re.findall(r"^weight_ih(_l\d+)?$", "\n".join(state), re.MULTILINE)
    if not found or f"weight_hh{found[0]}" not in state:
        return {}
    shapes = [tuple(state[f"{name}{found[0]}"].shape) for name in ("weight_ih", "weight_hh")]
    if not all(len(shape) == 2 for shape in shapes):
        return {}
    sizes = {"input_size": shapes[0][1], "hidden_size": shapes[1][1], "bias": f"bias_hh{found[0]}" in state}
    several = {"num_layers": len(found)} if found[0] else {}
    return sizes | several | ({"bidirectional": True} if any(name.endswith("_reverse") for name in state) else {})


def _is_torchs(factory) -> bool:
    return any(getattr(factory, "__init__", None) is theirs.__init__ for theirs in OURS)


def _check_memory(name: str, build: Callable[[], nn.Module]) -> None:
    """Build without memory first, where a factory can be run so: raise InvalidInputError for weights that do not fit."""
    try:
        with torch.device("meta"):
            need = COPIES * sum(8 * p.numel() for p in build().parameters())
    except Exception:  # it needs numbers, or what it raises is told when it is built in earnest
        return
    if need > (have := free_memory()):
        raise InvalidInputError(
            f"{name} needs about {in_words(need)} of memory, {in_words(have)} are available: use a smaller --hidden-size"
        )


def _arguments(name: str, factory) -> dict[str, bool]:
    """Which of the two sizes a factory takes, and whether it needs to be told."""
    if not callable(factory):
        raise InvalidInputError(f"{name} is a {type(factory).__name__}: expected a module, or what builds one")
    if _is_torchs(factory):  # whose signature does not say it
        return {"input_size": True, "hidden_size": True}
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # one that does not tell its arguments
        return {}
    taken = (name for name in ("input_size", "hidden_size") if name in parameters)
    return {name: parameters[name].default is inspect.Parameter.empty for name in taken}


def _is_state(value) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(t, Tensor) for t in value.values())


def _without_prefix(found: dict[str, Tensor], expected: Mapping) -> dict[str, Tensor]:
    """Without what wrappers put before every name, unless the module has it too."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found) and not any(name.startswith(prefix) for name in expected):
            found = {name.removeprefix(prefix): t for name, t in found.items()}
    return found


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

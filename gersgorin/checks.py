"""The checks of the values that a user gives, each with one sentence "name is VALUE: expected
RANGE". They are called where a value enters, and nothing checks it again.

Afterwards x is a tensor of numbers (T, m) or of ids (T,), and a state is a tensor or a nest of
tensors. Checks of a value against a network are in the module that first has both.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.linalg.matrices import not_dense_real
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError, RhnError, UsersCodeError
from rhn.utils.resources import check_room
from rhn.utils.torch_private import tree_leaves, tree_map, uncompiled
from rhn.utils.validation import is_whole_number, number, whole_number

PRECISIONS = (torch.float32, torch.float64, torch.complex64, torch.complex128)
DENSE = "a dense tensor or array of numbers"
FEW = 3  # names or values in a message
Sizes = int | tuple[int, ...]


def require(holds: bool, name: str, value: Any, expected: str) -> None:
    """Raise InvalidInputError unless the condition holds."""
    if not holds:
        is_array = isinstance(value, Tensor | np.ndarray) and value.ndim > 0
        shown = kind(value) if is_array else value
        raise InvalidInputError(f"{name} is {shown}: expected {expected}")


def kind(value: Any) -> str:
    """The shape and type of a tensor, or the type of any other value."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def tensor_of(name: str, value: Any) -> Tensor:
    """A dense tensor of real or complex numbers with its graph, or a table or an array of NumPy as
    a tensor.
    """
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.from_numpy(np.array(value))
    form = not_dense_real(value) if isinstance(value, Tensor) else kind(value)
    dense = isinstance(value, Tensor) and form in (None, "complex")
    require(dense, name, form, DENSE)
    return value


def numbers(name: str, value: Any) -> Tensor:
    """A tensor of finite numbers, which shares no memory with the user's."""
    value = tensor_of(name, value)
    require(value.numel() > 0, name, kind(value), "at least one number")
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        said = f"{name} is NaN or infinite at {bad} of {value.numel()} places: expected numbers"
        raise NotFiniteError(said, of=name, values=value)
    with torch.inference_mode(False):
        return value.detach().clone()


def argument(value: Any, module: Any) -> Any:
    """An argument for a network. If it is one of numbers, it becomes a tensor; for a module in
    float64, on its device.
    """
    if not isinstance(value, Tensor | np.ndarray) and not hasattr(value, "to_numpy"):
        return value
    t = numbers("x", value)
    if isinstance(module, nn.Module):
        t = t.to(next((p.device for p in module.parameters()), t.device))
        t = t.double() if t.is_floating_point() else t
    return t


def sequence(x: Any, batch_first: bool | None = None) -> Tensor:
    """One sequence: numbers (T, m), or ids (T,). An axis of the batch, which is the first one with
    `batch_first`, must have the length 1.
    """
    x = numbers("x", x)
    axis = 0 if batch_first else 1
    if x.dim() == 3 and batch_first is not None and x.shape[axis] == 1:
        x = x.squeeze(axis)
    ids = x.dim() == 1 and not x.is_floating_point()
    one = (x.dim() == 2 or ids) and not x.is_complex()
    require(one, "x", kind(x), "one sequence of numbers (T, m), or of ids (T,)")
    return x.long() if ids else x


def first_state(s0: Any, state_size: Any = None) -> Any:
    """The first state, a nest of tensors; zeros of `state_size`; or None."""
    if s0 is None and state_size is None:
        return None
    require(s0 is None or state_size is None, "state_size", state_size, "None beside s0")
    if s0 is None:
        sizes = state_size if isinstance(state_size, tuple) else (state_size,)
        good = len(sizes) > 0 and all(map(is_whole_number, sizes))
        require(good, "state_size", state_size, "a whole number above 0, or a tuple of them")
        check_room(8 * sum(sizes), f"state_size {state_size}", "give a smaller one")
        zeros = tuple(torch.zeros(int(n), dtype=torch.float64, device="cpu") for n in sizes)
        return zeros if isinstance(state_size, tuple) else zeros[0]
    s0 = tree_map(lambda part: numbers("s0", part), s0)
    found = " and ".join(str(part.dtype) for part in tree_leaves(s0))
    good = bool(found) and all(part.dtype in PRECISIONS for part in tree_leaves(s0))
    require(good, "s0", found or "empty", "tensors in float32 or float64, or complex ones")
    return s0


def a_network(network: Any) -> Any:
    """A module, without a wrapper of torch.compile, or a function f(x, s)."""
    require(is_callable(network), "network", kind(network), "a module or a function f(x, s)")
    return uncompiled(network)


def layers_of_stack(layers: Any) -> list[Any]:
    """The layers of a stack: modules, without a wrapper of torch.compile, or functions."""
    wanted = "a list of modules or functions s -> s'"
    require(isinstance(layers, Iterable), "layers", kind(layers), wanted)
    found = [*layers]
    require(len(found) > 0, "layers", "empty", wanted)
    for layer in found:
        require(is_callable(layer), "layers", f"a list with {kind(layer)}", wanted)
    return [uncompiled(layer) for layer in found]


def is_callable(value: Any) -> bool:
    """True for a module or a function, not for a class."""
    return callable(value) and not isinstance(value, type)


def are_finite(name: str, t: Tensor, first: int = 0) -> None:
    """Refuse states (T, N) or derivatives (T, N, k), from step `first` on, that are not finite."""
    bad = (~torch.isfinite(t)).flatten(1).any(1)
    if bad.any():
        said = f"{name} is NaN or infinite at step {first + int(bad.int().argmax())}"
        raise NotFiniteError(f"{said}: expected numbers", of=name)


def gates_of_step(made: Any) -> dict[str, Tensor]:
    """The gates by name that a user's function returns for one step."""
    found = made if isinstance(made, dict) else {"gate": made}
    good = len(found) > 0 and all(isinstance(gate, Tensor) for gate in found.values())
    require(good, "what gates(x, s) returns", kind(made), "a tensor, or tensors by name")
    numbers = torch.cat([gate.detach().flatten() for gate in found.values()])
    low, high = float(numbers.min()), float(numbers.max())
    require(-1e-6 <= low <= high <= 1 + 1e-6, "gate", f"{low:.3g} to {high:.3g}", "0 to 1")
    return found


def step_of_run(step: Any, count: int) -> int:
    """The number of a time step, counted from 0."""
    return whole_number("step", step, 0, count - 1)


def limit_of_panel(limit: Any) -> float | None:
    """Half the width of a panel of the complex plane; None: no limit."""
    return None if limit is None else number("limit", limit, above=0)


@contextmanager
def users_code(sentence: str) -> Iterator[None]:
    """Run the user's code, and turn an error into "sentence: the first line of the error"."""
    try:
        yield
    except (RhnError, MemoryError):
        raise
    except USERS_FAULT as error:
        line = (str(error).strip() or "-").splitlines()[0].partition(". ")[0]
        raise UsersCodeError(f"{sentence}: {type(error).__name__}: {line}") from error

"""Every check of what a user gave, each with one sentence "name is VALUE: expected
RANGE". Nothing checks it again.

Afterwards x is a tensor of numbers (T, m) or of ids (T,), a state is a tensor or a nest of
tensors, and a network is a function or a copy of the user's module in float64.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.linalg.spectrum import not_dense_real
from rhn.cells import Cell
from rhn.errors import USERS_FAULT, InvalidInputError, NotFiniteError, RhnError, UsersCodeError
from rhn.utils.resources import check_room
from rhn.utils.torch_private import replace_tensors, tree_leaves, tree_map, uncompiled
from rhn.utils.validation import is_whole_number, number, signature_of, whole_number

PRECISIONS = (torch.float32, torch.float64, torch.complex64, torch.complex128)
FEW = 3  # names or values in a message
Sizes = int | tuple[int, ...]


def require(holds: bool, name: str, value: Any, expected: str) -> None:
    """Raise InvalidInputError unless the condition holds."""
    if not holds:
        raise InvalidInputError(f"{name} is {value}: expected {expected}")


def kind(value: Any) -> str:
    """The shape and type of a tensor, or the type of any other value."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def numbers(name: str, value: Any) -> Tensor:
    """A tensor of finite numbers, which shares no memory with the user's."""
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.from_numpy(np.array(value))
    form = not_dense_real(value) if isinstance(value, Tensor) else kind(value)
    dense = isinstance(value, Tensor) and form in (None, "complex")
    require(dense, name, form, "a dense tensor or array of numbers")
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
    good = callable(network) and not isinstance(network, type)
    require(good, "network", kind(network), "a module or a function f(x, s)")
    return uncompiled(network)


def nothing_beside_a_run(**given: Any) -> None:
    """Refuse arguments beside a `Run`, which was computed without them."""
    for name, value in given.items():
        require(value is None, name, kind(value), "None beside a Run")


def copied(module: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, whose weights are constants."""
    name = type(module).__name__
    with torch.inference_mode(False), users_code(f"{name} cannot be copied"):
        found = copy.deepcopy(module).eval().requires_grad_(False)
        replace_tensors(found, _in_double)
        bad = [name for name, p in found.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        said = f"weights of {name} are NaN or infinite in {', '.join(bad[:FEW])}"
        raise NotFiniteError(f"{said}: expected numbers", of="weights")
    return found


def _in_double(t: Tensor) -> Tensor:
    """Real and complex numbers in double precision; whole numbers as they are."""
    if t.is_complex():
        return t.to(torch.complex128)
    return t.to(torch.float64) if t.is_floating_point() else t


def one_direction(module: nn.Module) -> None:
    """Refuse a module that reads a sequence in two directions."""
    both = any(getattr(part, "bidirectional", False) for part in module.modules())
    require(not both, "bidirectional", both, "False, for a step from each state to the next")


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


def has_step(module: Any) -> bool:
    """True for an object with a method step(x, s); a part of this name, such as a cell, is none."""
    own = getattr(module, "step", None)
    return callable(own) and not isinstance(own, nn.Module) and takes(own, None, None)


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


def recurrent_layer(module: nn.Module, name: str | None) -> str:
    """The name of the recurrent layer in a module; None: of its only one."""
    found = recurrent_layers(module)
    if name is None:
        names = f"None, {type(module).__name__} has recurrent layers {', '.join(found) or 'none'}"
        require(len(found) == 1, "layer", names, "the name of one of its layers, or s0")
        return found[0]
    is_name = isinstance(name, str) and name != ""
    part = dict(module.named_modules()).get(name) if is_name else None
    good = part is not None and (is_recurrent(part) or takes(part, None, None))
    usual = ", ".join(found) or "rnn"
    require(good, "layer", repr(name), f"the name of a recurrent layer, such as {usual}")
    return name


def one_step_read(x: Tensor) -> Tensor:
    """The input (1, m), or id (1,), that a cell without a layout reads in one call."""
    rows = x[None] if x.dim() == x.is_floating_point() else x
    good = len(rows) == 1 and rows.dim() == 1 + x.is_floating_point()
    require(good, "input of one call of the layer", kind(x), f"one row (1, m); {WHOLE_STEP}")
    return rows


WHOLE_STEP = "give the whole step as f(x, s) with s0"


def entries(name: str, parts: list[Tensor], count: int, layers: int) -> list[Tensor]:
    """The tensors of a first state with the number of entries that a cell has."""
    total = sum(t.numel() for t in parts)
    good = total == count and not any(t.numel() % layers for t in parts)
    require(good, "s0", f"{total} numbers", f"{count} for {name}")
    return parts


def state_known(name: str, known: bool) -> None:
    """Refuse a network without a first state."""
    require(known, "s0", "None", f"the first state of {name}, or its state_size")


def no_next_state(name: str, returned: Any, like: list[Tensor]) -> None:
    """Refuse a step that returns no state like the one that it gets."""
    got = " and ".join(kind(part) for part in tree_leaves(returned)[:FEW])
    shapes = " and ".join(kind(part) for part in like[:FEW])
    require(False, f"what {name} returns", got, f"a state {shapes}, or (output, state)")


def step_runs(name: str, rows: Callable, x: Tensor, s: Tensor) -> None:
    """Run one step of rows x (1, m) or ids (1,) and s (1, N), and check the next state."""
    with users_code(f"{name} takes no step from x[0] {tuple(x.shape[1:])} and a state"):
        after = rows(x, s)
    good = isinstance(after, Tensor) and after.shape == s.shape and after.dtype == s.dtype
    require(good, f"next state of {name}", kind(after), f"{s.dtype} of shape {tuple(s.shape)}")


def rows_are_alone(name: str, together: Tensor, alone: Tensor) -> None:
    """Refuse states (T, N) of one batch that differ from those of single steps: rows that mix,
    random numbers, or a state that the network keeps.
    """
    # a part may compute in float32
    _are_the_same(name, together, alone, max(torch.finfo(alone.dtype).eps ** 0.5, 1e-5))


def calls_are_equal(name: str, first: Tensor, second: Tensor) -> None:
    """Refuse states of one batch that change at a second call: random numbers that all rows share,
    small ones, or a state that the network keeps.
    """
    _are_the_same(name, first, second, torch.finfo(first.dtype).eps ** 0.5)


def _are_the_same(name: str, first: Tensor, second: Tensor, close: float) -> None:
    same = torch.allclose(first, second, rtol=close, atol=close)
    require(same, f"state of {name} from equal x and s", "another one at a second call",
            "the same one: rows are independent, no dropout, no kept state")  # fmt: skip


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

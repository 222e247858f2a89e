"""How far rounding moves a result: the scale of a tolerance in float32, whatever the processor and
its libraries.

Monte Carlo arithmetic (Parker 1997): a function runs in float64 while each of its operations,
forward and backward, is as inexact as in float32, at random. How far this moves the result, in a
few draws, is the function's condition times the precision. The error of one run in float32 is one
draw of that: as a tolerance it would be one machine's luck.
"""

import functools
import random
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

EPSILON = torch.finfo(torch.float32).eps
DRAWS = 4
SAFETY = 10  # times the largest of the draws; errors of right results reach two
COPIES = ("cat", "clone", "index", "select_backward", "slice_backward", "stack", "_to_copy")
SUMS = ("addmm", "baddbmm", "bmm", "cumsum", "dot", "mean", "mm", "mv", "sum")


class Roundings(TorchDispatchMode):
    """Within it, operations on floating-point numbers have random errors of at most one unit in the
    last place of float32.
    """

    def __init__(self, draw: int) -> None:
        super().__init__()
        self.random, self.noise = random.Random(draw), _noise()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kind = _kind(function)
        if kind != "sum":
            result = function(*args, **(kwargs or {}))
            return result if kind == "exact" else self._moved(result)
        result = function(
            *map(self._moved, args), **(kwargs or {})
        )  # each term is inexact, and each sum of some of them
        *_, last = tensors = [a for a in args if isinstance(a, torch.Tensor)]
        terms = tensors[-2].shape[-1] if len(tensors) > 1 else last.numel() / max(1, result.numel())
        return self._moved(result, max(1, terms) ** 0.5)

    def _moved(self, value, roundings: float = 1.0):
        if isinstance(value, tuple | list):
            return type(value)(map(self._moved, value))
        if not (isinstance(value, torch.Tensor) and value.is_floating_point()):
            return value
        start = self.random.randrange(len(self.noise) - value.numel())
        noise = self.noise[start : start + value.numel()].view(value.shape)
        return torch.addcmul(value, value, noise, value=roundings * EPSILON)


@functools.cache
def _noise() -> torch.Tensor:
    """Random numbers between -1 and 1, of which operations take windows."""
    return (
        2 * torch.rand(1 << 22, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    )


@functools.cache
def _kind(function) -> str:
    """Of an operation: views, copies and writes in place are exact."""
    name = function._schema.name.removeprefix("aten::")
    if name in COPIES or any(returned.alias_info for returned in function._schema.returns):
        return "exact"
    return "sum" if name in SUMS else "other"


def assert_as_exact(
    found: dict[str, torch.Tensor],
    reference: Callable[[], dict[str, torch.Tensor]],
    sizes: dict[str, float] | None = None,
) -> None:
    """Each tensor is as near to the reference, which computes in float64, as rounding in their
    precision lets it be.

    `sizes` has the least sizes of numbers that are rounded within one operation of the reference,
    where nothing sees them.
    """
    exact, moved = reference(), []
    unit = max(torch.finfo(t.dtype).eps for t in found.values()) / EPSILON
    for draw in range(DRAWS):
        with Roundings(draw):
            moved.append(reference())
    for name, wanted in exact.items():
        rounding = EPSILON * max(
            largest(wanted), (sizes or {}).get(name, torch.finfo(torch.float32).tiny)
        )
        spread = max(rounding, *(largest(m[name] - wanted) for m in moved))
        assert_within(largest(found[name].double() - wanted), SAFETY * spread * unit, name)


def assert_within(error: float, allowed: float, name: str) -> None:
    """`tests/hosts.py` notes how near every error comes to what is allowed."""
    assert error <= allowed, f"{name}: error {error:.2e}, allowed {allowed:.1e}"


def largest(t: torch.Tensor) -> float:
    return t.detach().abs().max().item() if t.numel() else 0.0

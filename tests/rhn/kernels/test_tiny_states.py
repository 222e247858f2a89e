"""Tiny weights: states and gradients keep their relative precision in every kernel.

On the plateau of a deep transition every layer multiplies the state by the size of its weights. A kernel whose nonlinearity or operands
end at 1e-7 returns zeros there, and a training would stand still because of the kernel. Judge: the equation in float64, entries
compared with the largest one of their time step, layer and gate, as long as that is a normal float32.
"""

import pytest
import torch
from cases import KERNELS
from rounding import assert_within
from tables import for_each

from rhn import kernels
from rhn.kernels.function import Code, batched_function

T, B, M, N = 3, 4, 5, 16
ROWS = {case.name: case for case in KERNELS}
NETWORKS = ("highway", "highway-uncoupled", "deep-transition", "deep-transition-skip-all", "deep-transition-relu")
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
LARGEST_ERROR = 1e-4


def arguments(name: str, std: float, depth: int) -> dict[str, torch.Tensor]:
    """Weights and biases of a standard deviation, a state that starts at 0."""
    g, gates = torch.Generator().manual_seed(depth), {"highway": 2, "highway-uncoupled": 3}.get(name, 1)
    draw = lambda *shape: std * torch.randn(shape, generator=g)  # noqa: E731
    x, s0 = torch.randn(T, B, M, generator=g), torch.zeros(B, N)
    tensors = {"x": x, "s0": s0, "W": draw(gates * N, M), "R": draw(depth, gates * N, N), "b": draw(depth, gates * N)}
    tensors["b"] *= 0.1
    if "transition" in name:
        tensors["S"] = draw(depth - 1, N, N) if "skip" in name else None
    return tensors


def results(function, tensors: dict, dtype: torch.dtype, **options) -> dict[str, torch.Tensor]:
    """States and the gradients of a projection of them, in float64."""
    leaves = {key: None if t is None else t.to(dtype).requires_grad_() for key, t in tensors.items()}
    states = function(*leaves.values(), **options)
    w = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
    present = {key: t for key, t in leaves.items() if t is not None}
    gradients = torch.autograd.grad((states * w.to(dtype)).sum(), list(present.values()))
    return {key: t.double().cpu() for key, t in zip(("states", *present), (states.detach(), *gradients), strict=True)}


def error(name: str, found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error relative to the largest entry of its time step (states, x) or of its layer and gate."""
    if name in ("W", "R", "b", "S"):
        axis = 0 if name == "W" else 1
        found, exact = (t.unflatten(axis, (-1, N)).flatten(0, axis) for t in (found, exact))
    elif name == "s0":
        found, exact = found.unsqueeze(0), exact.unsqueeze(0)
    found, exact = found.flatten(1), exact.flatten(1)
    largest = exact.abs().amax(1)
    known = largest > 1e3 * SMALLEST_NORMAL
    return ((found - exact).abs().amax(1) / largest)[known].nan_to_num(torch.inf).max().item() if known.any() else 0.0


def fused(name: str):
    """The fused code in Python."""
    kernel = kernels.HIGHWAY if "highway" in name else kernels.DEEP_TRANSITION
    code, masks = Code(name, *kernel.fused), (None,) * (2 if "highway" in name else 1)
    options = {**kernel.options, **ROWS[name].options}
    return lambda *tensors: batched_function(code, *tensors, *masks, keep=True, **options)


every_network = pytest.mark.parametrize("name", NETWORKS)
every_size = pytest.mark.parametrize(
    ("depth", "std"),
    [
        *((2, 1e-8), (4, 1e-6)),
        *(
            pytest.param(*size, marks=pytest.mark.chaos)
            for size in ((2, 1e-4), (2, 1e-6), (4, 1e-4), (4, 1e-8), (6, 1e-4), (6, 1e-6), (6, 1e-8))
        ),
    ],
)


@every_size
@every_network
def test_tiny_states_and_their_gradients_survive_in_float32(name, depth, std):
    tensors, case = arguments(name, std, depth), ROWS[name]
    exact = results(case.reference, tensors, torch.float64, **case.options)
    found = results(fused(name), tensors, torch.float32)
    errors = {key: error(key, found[key], exact[key]) for key in exact}
    assert_within(max(errors.values()), LARGEST_ERROR, str(errors))


@for_each("name", ["highway-masked", "highway-uncoupled-masked-apart", "deep-transition-skip-all-masked"])
@for_each(("depth", "std"), [(2, 1e-4), (2, 1e-8), (4, 1e-6)])
def test_tiny_states_survive_in_c_with_masks(name, depth, std):
    family = name.partition("-masked")[0]
    tensors, case = arguments(family, std, depth), ROWS[name]
    exact = results(case.reference, tensors, torch.float64, **case.options)
    found = results(case.manual, tensors, torch.float32, **case.options)
    errors = {key: error(key, found[key], exact[key]) for key in exact}
    assert_within(max(errors.values()), LARGEST_ERROR, str(errors))

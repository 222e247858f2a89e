"""Tiny weights: states and gradients keep their relative precision in every kernel, or precision "mixed" refuses them.

On the plateau of a deep transition every layer multiplies the state by the size of its weights. A kernel whose nonlinearity or operands
end at 1e-7 returns zeros there, and a training would stand still because of the kernel. Judge: the equation in float64, entries
compared with the largest one of their time step, layer and gate, as long as that is a normal float32.
"""

import pytest
import torch
from cases import KERNELS

from rhn.errors import InvalidInputError
from rhn.kernels.ensemble import recurrence
from rhn.kernels.highway.manual import HIGHWAY
from rhn.kernels.persistent.highway import PERSISTENT_HIGHWAY
from rhn.kernels.persistent.transition import PERSISTENT_TRANSITION
from rhn.kernels.transition.manual import DEEP_TRANSITION

T, B, M, N = 3, 4, 5, 16
ROWS = {case.name: case for case in KERNELS}
NETWORKS = ("highway", "highway-uncoupled", "deep-transition", "deep-transition-skip-all", "deep-transition-relu")
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
LARGEST_ERROR = {"float32": 1e-4, "tf32": 1e-3, "mixed": 5e-3}


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
    w = torch.linspace(-1, 1, states.numel()).view_as(states)
    present = {key: t for key, t in leaves.items() if t is not None}
    gradients = torch.autograd.grad((states * w.to(dtype)).sum(), list(present.values()))
    return {key: t.double() for key, t in zip(("states", *present), (states.detach(), *gradients), strict=True)}


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


def kernel(name: str, persistent: bool):
    if "highway" in name:
        chosen, options = PERSISTENT_HIGHWAY if persistent else HIGHWAY, ROWS[name].options | {"activation": "tanh"}
        return lambda *tensors, **more: recurrence(chosen, *tensors, None, None, **options, **more)
    chosen = PERSISTENT_TRANSITION if persistent else DEEP_TRANSITION
    options = {"nonlinearity": "relu" if "relu" in name else "tanh"}
    return lambda *tensors, **more: recurrence(chosen, *tensors, None, **options, **more)


def judged(name: str, std: float, depth: int, precision: str, persistent: bool) -> None:
    tensors, case = arguments(name, std, depth), ROWS[name]
    exact = results(case.reference, tensors, torch.float64, **case.options)
    found = results(kernel(name, persistent), tensors, torch.float32, precision=precision)
    errors = {key: error(key, found[key], exact[key]) for key in exact}
    assert max(errors.values()) < LARGEST_ERROR[precision], errors


every_network = pytest.mark.parametrize("name", NETWORKS)
every_depth = pytest.mark.parametrize("depth", [2, 4, 6])
every_std = pytest.mark.parametrize("std", [1e-4, 1e-6, 1e-8])


@every_std
@every_depth
@every_network
def test_tiny_states_and_their_gradients_survive_in_float32_and_tf32(name, depth, std):
    judged(name, std, depth, "float32", persistent=False)
    if "relu" not in name:
        pytest.importorskip("triton", reason="Triton is not installed")
        judged(name, std, depth, "tf32", persistent=True)


@pytest.mark.parametrize("persistent", [False, True], ids=["hand-derived", "persistent"])
@pytest.mark.parametrize("std", [1.0, 0.1, 1e-3, 1e-4, 1e-8])
@every_depth
@every_network
def test_mixed_precision_is_right_or_refuses(name, depth, std, persistent):
    if persistent:
        if "relu" in name:
            pytest.skip("the persistent kernel has tanh only")
        pytest.importorskip("triton", reason="Triton is not installed")
    std = std if std < 1 else 1 / N**0.5
    try:
        judged(name, std, depth, "mixed", persistent)
    except InvalidInputError as refusal:
        assert "float16" in str(refusal) and std < 0.1
    else:
        assert std > 1e-8

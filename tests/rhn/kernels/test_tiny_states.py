"""Tiny weights: states and gradients keep their relative precision in every kernel.

On the plateau of a deep transition every layer multiplies the state by the size of its weights. A
kernel whose nonlinearity or operands end at 1e-7 returns zeros there, and a training would stand
still because of the kernel. Judge: the equation in float64, entries compared with the largest one
of their time step, layer and gate, as long as that is a normal float32.
"""

import pytest
import torch
from cases import KERNELS
from rounding import assert_within
from tables import for_each
from test_kernels import results

from rhn.kernels import compiled

T, B, M, N = 3, 4, 5, 16
ROWS = {case.name: case for case in KERNELS}
NETWORKS = (
    "highway",
    "highway-uncoupled",
    "deep-transition",
    "deep-transition-skip-all",
    "deep-transition-relu",
)
MASKED = ("highway-masked", "highway-uncoupled-masked-apart", "deep-transition-skip-all-masked")
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def error(name: str, found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error relative to the largest entry of its time step (states, x) or of its layer
    and gate.
    """
    if name in ("W", "R", "b", "S"):
        axis = 0 if name == "W" else 1
        found, exact = (t.unflatten(axis, (-1, N)).flatten(0, axis) for t in (found, exact))
    elif name == "s0":
        found, exact = found.unsqueeze(0), exact.unsqueeze(0)
    found, exact = found.flatten(1), exact.flatten(1)
    largest = exact.abs().amax(1)
    known = largest > 1e3 * SMALLEST_NORMAL
    return (
        ((found - exact).abs().amax(1) / largest)[known].nan_to_num(torch.inf).max().item()
        if known.any()
        else 0.0
    )


@for_each("language", ["C", "Python"])
@for_each("name", [*NETWORKS, *MASKED])
@for_each(("depth", "std"), [(2, 1e-8), (4, 1e-6), (6, 1e-4)])
def test_tiny_states_and_their_gradients_survive_in_float32(name, depth, std, language):
    case = ROWS[name]
    tensors = case.arguments(T, B, M, N, depth, seed=depth)
    tensors["s0"] *= 0
    tensors |= {key: std * tensors[key] for key in ("W", "R", "b", "S") if key in tensors}
    exact, single = (
        results(case, tensors, reference=True),
        {k: t.float() for k, t in tensors.items()},
    )
    with pytest.MonkeyPatch.context() as patch:
        if language == "Python":
            patch.setattr(compiled, "library", lambda: None)
        found = results(case, single)
    errors = {key: error(key, found[key].double(), exact[key]) for key in exact}
    assert_within(max(errors.values()), 1e-4, str(errors))

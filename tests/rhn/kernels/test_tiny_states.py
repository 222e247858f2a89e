"""Tiny weights: states and gradients keep their relative precision in every kernel, or precision "mixed" refuses them.

On the plateau of a deep transition every layer multiplies the state by the size of its weights. A kernel whose nonlinearity or operands
end at 1e-7 returns zeros there, and a training would stand still because of the kernel. Judge: the equation in float64, entries
compared with the largest one of their time step, layer and gate, as long as that is a normal float32.
"""

import pytest
import torch
from cases import KERNELS
from rounding import assert_within
from tables import for_each

from rhn.cells import RHN
from rhn.errors import InvalidInputError
from rhn.kernels import softmax_nll
from rhn.kernels.autograd import batched_function
from rhn.kernels.bernoulli import output_nll
from rhn.kernels.dispatch import Operation
from rhn.kernels.highway import FUSED as FUSED_HIGHWAY
from rhn.kernels.transition import FUSED as FUSED_TRANSITION

T, B, M, N = 3, 4, 5, 16
ROWS = {case.name: case for case in KERNELS}
NETWORKS = ("highway", "highway-uncoupled", "deep-transition", "deep-transition-skip-all", "deep-transition-relu")
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
LARGEST_ERROR = {"float32": 1e-4, "mixed": 16 * 2**-11}


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


def kernel(name: str):
    if "highway" in name:
        operation, options = Operation("highway", FUSED_HIGHWAY), ROWS[name].options
        return lambda *tensors, **more: batched_function(
            operation, *tensors, None, None, **options, activation="tanh", **more
        )
    operation, options = (
        Operation("transition", FUSED_TRANSITION),
        {"nonlinearity": "relu" if "relu" in name else "tanh"},
    )
    return lambda *tensors, **more: batched_function(operation, *tensors, None, **options, **more)


def judged(name: str, std: float, depth: int, precision: str) -> None:
    tensors, case = arguments(name, std, depth), ROWS[name]
    exact = results(case.reference, tensors, torch.float64, **case.options)
    found = results(kernel(name), tensors, torch.float32, precision=precision)
    errors = {key: error(key, found[key], exact[key]) for key in exact}
    assert_within(max(errors.values()), LARGEST_ERROR[precision], str(errors))


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
UNIT_GAIN = N**-0.5


@every_size
@every_network
def test_tiny_states_and_their_gradients_survive_in_float32(name, depth, std):
    judged(name, std, depth, "float32")


@for_each("name", ["highway-masked", "highway-uncoupled-masked-apart", "deep-transition-skip-all-masked"])
@for_each(("depth", "std"), [(2, 1e-4), (2, 1e-8), (4, 1e-6)])
def test_tiny_states_survive_in_c_with_masks(name, depth, std):
    family = name.partition("-masked")[0]
    tensors, case = arguments(family, std, depth), ROWS[name]
    exact = results(case.reference, tensors, torch.float64, **case.options)
    found = results(case.manual, tensors, torch.float32, **case.options)
    errors = {key: error(key, found[key], exact[key]) for key in exact}
    assert_within(max(errors.values()), LARGEST_ERROR["float32"], str(errors))


@every_network
@pytest.mark.parametrize(
    ("depth", "std"),
    [
        *((2, UNIT_GAIN), (2, 1e-8)),
        pytest.param(4, 1e-3, marks=pytest.mark.chaos),
        *(
            pytest.param(depth, std, marks=pytest.mark.chaos)
            for depth in (4, 6)
            for std in (UNIT_GAIN, 0.1, 1e-2, 1e-4)
        ),
    ],
)
def test_mixed_precision_is_right_or_refuses(name, depth, std):
    refusal = ""
    try:
        judged(name, std, depth, "mixed")
    except InvalidInputError as error:
        refusal = str(error)
    assert ("float16" in refusal) or std > 1e-8
    assert not refusal or std < 0.1


def test_mixed_precision_refuses_one_vanishing_model_of_a_stack_and_says_what_to_do():
    cells = [RHN(M, N, 2, precision="mixed") for _ in range(2)]
    with torch.no_grad():
        for p in cells[1].parameters():
            p.mul_(1e-8)
    stack, _ = torch.func.stack_module_state(cells)
    x = torch.randn(T, B, M)
    with pytest.raises(
        InvalidInputError, match=r"would lose the weights of this network: .*; use precision 'float32' or"
    ):
        torch.func.vmap(lambda weights: torch.func.functional_call(cells[0], weights, x)[0])(stack)


@pytest.mark.parametrize("size", [2.0**-100, 2.0**-20, 2.0**60])
def test_the_size_of_a_gradient_does_not_matter_in_mixed_precision(size):
    cell, x = RHN(M, N, 3, precision="mixed"), torch.randn(T, B, M)
    grads = [torch.autograd.grad((factor * cell(x)[0]).sum(), cell.weight_hh)[0] for factor in (1.0, size)]
    assert torch.equal(grads[1] / size, grads[0])


def test_the_output_layers_refuse_vanishing_states_in_mixed_precision():
    y, W, b = 1e-8 * torch.randn(T, B, N), torch.randn(7, N), torch.zeros(7)
    with pytest.raises(InvalidInputError, match="would lose the states"):
        softmax_nll(y, W, b, torch.zeros(T, B, dtype=torch.int64), precision="mixed")
    with pytest.raises(InvalidInputError, match="would lose the states"):
        output_nll(y, W, b, torch.zeros(T, B, 7), torch.ones(T, B), precision="mixed")

"""The recurrence as one Triton kernel each way equals the equation in double precision: values and
all gradients, for sizes that fill no tile, tiny weights and closed gates.
"""

import pytest
import torch
from choices import recorded_choices
from tables import for_each
from torch.func import grad, vmap

from rhn.kernels import TRANSITION

NAMES = ("x", "s0", "W", "R", "b")
SIZES = [  # T, B, m, n, L
    (3, 1, 2, 7, 1),
    (4, 20, 5, 7, 10),
    (3, 32, 1, 16, 3),
    (5, 3, 4, 262, 2),
    (3, 20, 262, 262, 10),
    (35, 20, 830, 830, 10),
    (2, 1, 7, 830, 1),
    (3, 17, 9, 1000, 2),
]
SCALES = {"usual": 1.0, "tiny": 1e-8, "saturated": 1.0}


def drawn(T, B, m, n, L, *, weights="usual", masked=True, models=(), seed=0) -> dict:
    g = torch.Generator().manual_seed(seed)
    scale = SCALES[weights]

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    bias = normal(*models, L, 2 * n) * (12 if weights == "saturated" else 0.5)
    return {
        "x": normal(T, B, m),
        "s0": 0.3 * normal(*models, B, n),
        "W": scale * normal(*models, 2 * n, m) / m**0.5,
        "R": scale * normal(*models, L, 2 * n, n) / n**0.5,
        "b": scale * bias,
        "state_mask": (normal(*models, 1, B, n) > -0.7).double() / 0.75 if masked else None,
    }


def total(x, s0, W, R, b, state_mask, weights):
    y = TRANSITION(x, s0, W, R, b, None, state_mask, None)
    return (y * weights).sum(), y


def gradients(arguments, weights, **convert) -> tuple[torch.Tensor, ...]:
    """States and gradients of all arguments but the mask."""
    given = [
        None if t is None else t.to(**convert).requires_grad_(name in NAMES)
        for name, t in arguments.items()
    ]
    loss, y = total(*given, weights.to(**convert))
    return y, *torch.autograd.grad(loss, given[:5])


def errors(found, expected) -> dict[str, float]:
    """The largest error of each tensor for its largest entry."""
    return {
        name: ((a.cpu().double() - e).abs().max() / e.abs().max().clamp_min(1e-300)).item()
        for name, a, e in zip(("states", *NAMES), found, expected, strict=True)
    }


@pytest.fixture(params=["highest", "high"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
@for_each("masked", [True, False])
@for_each("weights", SCALES)
@for_each("size", SIZES)
def test_values_and_gradients_equal_the_equation(size, weights, masked, precision):
    T, B, _, n, L = size
    arguments = drawn(*size, weights=weights, masked=masked)
    dy = torch.randn(T, B, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = gradients(arguments, dy, dtype=torch.float64)
    with recorded_choices() as choices:
        found = gradients(arguments, dy, dtype=torch.float32, device="cuda")
    assert choices == ["Triton"]
    plain = gradients(arguments, dy, dtype=torch.float32)  # what float32 itself loses
    allowed = {name: 20 * e + 5e-6 for name, e in errors(plain, expected).items()}
    if precision == "high":
        allowed = {name: 1000 * e for name, e in allowed.items()}
    wrong = {
        name: (e, allowed[name])
        for name, e in errors(found, expected).items()
        if not e <= allowed[name]
    }
    assert not wrong


@pytest.mark.gpu
@for_each("n", [7, 262])
def test_stacked_models_each_get_their_own(n):
    size, K = (4, 20, 5, n, 3), 3
    arguments = drawn(*size, models=(K,))
    dy = torch.randn(K, 4, 20, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def both(device, dtype):
        given = [t.to(device, dtype) for t in arguments.values()]
        function = grad(total, argnums=(1, 2, 3, 4), has_aux=True)
        return vmap(function, in_dims=(None, 0, 0, 0, 0, 0, 0))(*given, dy.to(device, dtype))

    expected, y = both("cpu", torch.float64)
    with recorded_choices() as choices:
        found, states = both("cuda", torch.float32)
    assert choices == ["Triton"]
    for a, e in zip((states, *found), (y, *expected), strict=True):
        assert (a.cpu().double() - e).abs().max() < 2e-5 * e.abs().max()


@pytest.mark.gpu
def test_more_models_than_the_gpu_holds_at_once_are_computed_otherwise():
    arguments = drawn(3, 4, 5, 262, 2, models=(9,))
    given = [t.to("cuda", torch.float32) for t in arguments.values()]
    run = lambda *tensors: TRANSITION(*tensors[:5], None, tensors[5], None)  # noqa: E731
    states = vmap(run, in_dims=(None, 0, 0, 0, 0, 0))(*given)
    alone = run(given[0], *(t[8] for t in given[1:]))
    assert (states[8] - alone).abs().max() < 1e-5


@pytest.mark.gpu
def test_the_same_call_gives_the_same_bits_also_in_a_graph():
    arguments = {
        name: t.to("cuda", torch.float32) for name, t in drawn(6, 20, 5, 262, 4).items()
    }
    dy = torch.ones(6, 20, 262, device="cuda")
    run = lambda: gradients(arguments, dy)  # noqa: E731
    first, side = run(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert all(map(torch.equal, first, captured))

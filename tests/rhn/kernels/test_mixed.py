"""Mixed precision: float16 operands, everything else float32; at n = 64, L = 5, T = 35 and a batch of 20."""

import copy

import pytest
import torch
from cases import assert_close, dropout_mask, randomize
from tables import for_each
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from rhn.cells import LSTM, RHN, CellMasks
from rhn.errors import InvalidInputError
from rhn.kernels import highway, highway_reference

NAMES = ("states", "x", "s0", "W", "R", "b")
ERROR = 2**-10 * (35 * 5) ** 0.5  # of the largest entry: a rounding of every product, at random
VARIANTS = [(True, 0), (True, 1), (True, 2), (False, 3)]
every_variant = pytest.mark.parametrize(("coupled", "J"), VARIANTS)


def arguments(coupled, J, *, T=35, B=20, n=64, L=5, seed=0, device="cpu"):
    """float32 (x, s0, W, R, b) with m = n, and the two masks (None where J = 0)."""
    g, G = torch.Generator().manual_seed(seed), 2 if coupled else 3
    draw = lambda *shape, scale=1.0: scale * torch.randn(shape, generator=g)  # noqa: E731
    gain = 0.9 / n**0.5
    tensors = draw(T, B, n), draw(B, n, scale=0.5), draw(G * n, n, scale=gain), draw(L, G * n, n, scale=gain)
    tensors += (draw(L, G * n, scale=0.3),)
    masks = (dropout_mask(J, B, n), dropout_mask(B, n, seed=6)) if J else (None, None)
    return [t.to(device) for t in tensors], [None if m is None else m.float().to(device) for m in masks]


def results(function, tensors, masks, *, weight=1.0, dtype=torch.float32, **options):
    """States, and the gradients of a projection of them with entries of the size of `weight`."""
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    states = function(*leaves, *(None if m is None else m.to(dtype) for m in masks), **options)
    w = weight * torch.randn(states.shape, generator=torch.Generator().manual_seed(9)).to(states)
    return [t.detach() for t in (states, *torch.autograd.grad((states * w).sum(), leaves))]


def errors(got, wanted):
    """Largest errors relative to the largest entries."""
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(got, wanted, strict=True)]


@every_variant
@for_each("weight", [1.0, 1e-5])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_values_and_gradients_are_near_float32_however_small_the_gradients(device, coupled, J, weight):
    tensors, masks = arguments(coupled, J, device=device)
    mixed = results(highway, tensors, masks, weight=weight, coupled=coupled, precision="mixed")
    wanted = results(highway, tensors, masks, weight=weight, coupled=coupled)
    for name, a, b in zip(NAMES, mixed, wanted, strict=True):
        assert_close(a, b, ERROR, name)
        assert not torch.equal(a, b), f"{name}: nothing was rounded"


@every_variant
def test_errors_are_at_most_twice_those_of_the_equation_under_float16_autocast(coupled, J):
    def autocast(*tensors, **options):
        with torch.autocast("cpu", dtype=torch.float16):
            return highway_reference(*tensors, **options)

    tensors, masks = arguments(coupled, J)
    exact = results(highway_reference, tensors, masks, dtype=torch.float64, coupled=coupled)
    ours = errors(results(highway, tensors, masks, coupled=coupled, precision="mixed"), exact)
    theirs = errors(results(autocast, tensors, masks, coupled=coupled), exact)
    for name, mine, plain in zip(NAMES, ours, theirs, strict=True):
        assert mine <= 2 * plain, f"{name}: error {mine:.1e}, autocast {plain:.1e}"


def test_one_layer_rounds_the_operands_of_its_products_and_nothing_else():
    (x, s0, W, R, b), _ = arguments(True, 0, T=1, L=1)
    half = lambda t: t.half().double()  # noqa: E731
    z_h, z_t = (half(x[0]) @ half(W).T + half(s0) @ half(R[0]).T + b[0].double()).chunk(2, -1)
    t = z_t.sigmoid()
    wanted = t * z_h.tanh() + (1 - t) * s0.double()
    assert_close(highway(x, s0, W, R, b, precision="mixed")[0].double(), wanted, 4e-6, "states")  # sums of 128 terms


def test_the_carried_state_keeps_every_bit():
    (x, s0, W, R, b), masks = arguments(True, 1)
    b[:, 64:] = -1e4
    states = highway(x, s0, W, R, b, *masks, precision="mixed")
    assert torch.equal(states, s0.expand_as(states))


def test_stacked_models_equal_single_ones_to_the_bit():
    cells = [RHN(5, 64, 2, precision="mixed") for _ in range(3)]
    for k, cell in enumerate(cells):
        randomize(cell, k)
    x, w = torch.randn(6, 32, 5), torch.randn(6, 32, 64)
    masks = CellMasks(None, dropout_mask(1, 32, 64, dtype=torch.float32))

    def loss(parameters, cell=cells[0]):
        return (functional_call(cell, parameters, (x,), {"dropout": masks})[0] * w).sum()

    stack = {name: p.detach() for name, p in stack_module_state(cells)[0].items()}
    gradients, _ = vmap(grad_and_value(loss))(stack)
    for k, cell in enumerate(cells):
        alone, _ = grad_and_value(loss)({name: p.detach() for name, p in cell.named_parameters()})
        for name in alone:
            assert torch.equal(gradients[name][k], alone[name]), f"gradient of {name}, model {k}"


@pytest.mark.gpu
def test_on_cuda_stacked_models_are_near_single_ones():
    tensors, _ = arguments(True, 0, device="cuda")
    others, _ = arguments(True, 0, seed=1, device="cuda")
    both = [torch.stack(pair) for pair in zip(tensors, others, strict=True)]
    states = vmap(lambda *model: highway(*model, precision="mixed"))(*both)
    for k, single in enumerate((tensors, others)):
        assert_close(states[k], highway(*single), ERROR, f"states of model {k}")


def test_a_cell_is_told_its_precision_at_any_time_and_does_not_save_it():
    cell = RHN(5, 8, 2)
    x = torch.randn(3, 4, 5)
    plain = cell(x)[0]
    config = cell.config()
    cell.precision = "mixed"
    mixed = copy.deepcopy(cell)(x)[0]
    assert not torch.equal(mixed, plain)
    assert_close(mixed, plain, ERROR, "outputs")
    assert cell.config() == config
    assert "precision='mixed'" in repr(cell)
    cell.precision = "float32"
    assert torch.equal(cell(x)[0], plain)


@for_each(
    ("call", "message"),
    [
        (lambda: RHN(3, 4, precision="half"), "RHN .* has no precision 'half': expected 'float32' or 'mixed'"),
        (lambda: LSTM(3, 4, precision="mixed"), "LSTM .* has no precision 'mixed': expected 'float32'$"),
        (lambda: RHN(3, 4, kernel="reference", precision="mixed"), "kernel='reference' has no precision 'mixed'"),
        (lambda: RHN(3, 4, precision="mixed").double()(torch.zeros(2, 2, 3).double()), "'mixed' runs in torch.float32"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()

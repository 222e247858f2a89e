"""A kernel that returns wrong numbers is not used, and one that does not start is replaced by the fused version."""

import functools
import warnings

import pytest
import torch
from tables import for_each
from torch.func import grad_and_value, vmap

from rhn.kernels import highway
from rhn.kernels.autograd import batched_function
from rhn.kernels.dispatch import Implementation, Operation, recorded_choices
from rhn.kernels.highway import FUSED, TRITON
from rhn.kernels.info import recurrence_words
from rhn.kernels.persistent import device
from rhn.kernels.persistent import highway as persistent

CPU = torch.device("cpu")
SMALL = persistent.Shape(1, 5, 3, 2, True, 0, False)
OPTIONS = {"coupled": True, "activation": "tanh"}
RESULTS = ["states", "x", "s0", "W", "R", "b"]
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the kernels themselves are checked")


def one_nan(t):
    t = t.clone()
    t[(0,) * t.dim()] = torch.nan
    return t


def one_layer_zero(t):
    """As a kernel would return it that writes only the last layer's, step's or row's part."""
    t = t.clone()
    t[:, 0] = 0
    return t


DAMAGES = {
    "all NaN": lambda t: t * torch.nan,
    "one NaN": one_nan,
    "infinite": lambda t: t * torch.inf,
    "zero": torch.zeros_like,
    "one layer zero": one_layer_zero,
    "sign": lambda t: -t,
    "three percent": lambda t: 1.03 * t,
}


def damaged(kernel: Implementation, which: int, damage) -> Implementation:
    """The kernel with its states (0) or the gradient of a tensor (1, 2, ...) damaged."""

    def forward(*tensors, **options):
        states, *residuals = kernel.forward(*tensors, **options)
        return damage(states) if which == 0 else states, *residuals

    def backward(*arguments, **options):
        gradients = list(kernel.backward(*arguments, **options))
        if which > 0:
            gradients[which - 1] = damage(gradients[which - 1])
        return tuple(gradients)

    return Implementation("damaged", forward, backward)


@for_each("size", [1.0, 1e-4])
@for_each("damage", DAMAGES)
def test_the_comparison_finds_a_wrong_result_in_any_one_tensor(damage, size):
    tensors, options = persistent.example(SMALL, CPU, size), OPTIONS | {"precision": "float32"}
    assert device.compare(FUSED, FUSED, tensors, **options) == 0
    for which, what in enumerate(RESULTS):
        broken = damaged(FUSED, which, DAMAGES[damage])
        assert device.compare(broken, FUSED, tensors, **options) > device.TOLERANCE, what


@interpreted
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_the_check_accepts_a_right_kernel_and_refuses_a_broken_one(precision, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    assert persistent.check(FUSED, CPU, precision, SMALL) < device.TOLERANCE / 2
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {})
    monkeypatch.setattr(persistent, "implementation", lambda fused: damaged(TRITON, 4, DAMAGES["all NaN"]))
    with pytest.warns(
        UserWarning, match=f"persistent highway kernel is not used in precision {precision}: .* is off by"
    ):
        assert device.refusal("highway", precision, CPU, functools.partial(persistent.check, FUSED), SMALL) is not None


@pytest.mark.gpu
def test_on_a_gpu_every_shape_of_the_check_goes_well():
    for shape in persistent.SHAPES:
        assert persistent.check(FUSED, torch.device("cuda"), "mixed", shape) < device.TOLERANCE, shape


# ---- a launch that fails -------------------------------------------------------------------------------


class Failing:
    """A Triton kernel that is not compiled or does not start."""

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            raise RuntimeError("out of resource: shared memory, Required: 1, Hardware limit: 0.\nmore")

        return launch


def arguments(K=None):
    g, T, B, m, n, L = torch.Generator().manual_seed(0), 2, 2, 4, 5, 2
    lead = () if K is None else (K,)
    sizes = {"s0": (B, n), "W": (2 * n, m), "R": (L, 2 * n, n), "b": (L, 2 * n)}
    draw = lambda *shape: 0.5 * torch.randn(shape, generator=g)  # noqa: E731
    return [2 * draw(T, B, m), *(draw(*lead, *size) for size in sizes.values())]


def results(operation, tensors, precision, K=None):
    """States and every gradient, alone or of K models at once."""

    def loss(*tensors):
        states = batched_function(operation, *tensors, None, None, **OPTIONS, precision=precision, keep=True)
        return states.square().sum(), states

    run = grad_and_value(loss, argnums=tuple(range(len(tensors))), has_aux=True)
    run = run if K is None else vmap(run, in_dims=(None, *[0] * (len(tensors) - 1)))
    gradients, (_, states) = run(*tensors)
    return states, *gradients


@interpreted
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("K", "precision"), [(None, "float32"), (2, "mixed")])
def test_a_launch_that_fails_falls_back_with_one_warning(K, precision, direction, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    tensors, fused = arguments(K), Operation("highway", FUSED)
    operation = Operation("highway", Implementation("Triton", TRITON.forward, TRITON.backward), FUSED)
    wanted = results(fused, tensors, precision, K)
    states = wanted[0] if direction == "forward" else results(operation, tensors, precision, K)[0]
    launch = persistent.launch
    monkeypatch.setattr(
        persistent,
        "launch",
        lambda code, *rest, **more: launch(Failing() if direction in code.__name__ else code, *rest, **more),
    )
    with pytest.warns(UserWarning, match="highway kernel in Triton is not used any more: a launch failed") as caught:
        found = results(operation, tensors, precision, K)
    assert len(caught) == 1
    assert torch.equal(found[0], states)
    for a, b in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 if precision == "float32" else 1e-3)
    with warnings.catch_warnings(), recorded_choices() as choices:
        warnings.simplefilter("error")
        again = results(operation, tensors, precision, K)
    assert all(map(torch.equal, again, wanted))
    words = recurrence_words(choices, torch.device("cuda"), precision)
    assert words.startswith("fused, not in Triton: a launch failed")


@interpreted
def test_the_public_function_has_that_fallback(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {})
    tensors, launch = arguments(), persistent.launch
    monkeypatch.setattr(persistent, "launch", lambda code, *rest, **more: launch(Failing(), *rest, **more))
    with pytest.warns(UserWarning, match="its check on this device raised LaunchError"):
        states = highway(*tensors, precision="mixed")
    monkeypatch.undo()
    torch.testing.assert_close(states, highway(*tensors, precision="mixed"))

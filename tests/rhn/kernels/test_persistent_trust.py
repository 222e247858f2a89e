"""A kernel that returns wrong numbers is not used, and one that does not start is replaced by the hand-derived one."""

import functools
import warnings

import pytest
import torch
from torch.func import grad_and_value, vmap

from rhn.kernels import deep_transition, highway
from rhn.kernels.ensemble import Kernel, recurrence
from rhn.kernels.highway import manual as highway_manual
from rhn.kernels.persistent import device
from rhn.kernels.persistent import highway as persistent_highway
from rhn.kernels.persistent import transition as persistent_transition
from rhn.kernels.report import recurrence_words
from rhn.kernels.routes import Way, routed
from rhn.kernels.told import listening
from rhn.kernels.transition import manual as transition_manual
from rhn.kernels.update import descend, gradient_norm, one_pass

CPU = torch.device("cpu")
MODULES = {"highway": persistent_highway, "transition": persistent_transition}
SMALL = {
    "highway": persistent_highway.Shape(1, 5, 3, 2, True, 0, False),
    "transition": persistent_transition.Shape(1, 5, 3, 3, True, False),
}
MANUAL = {"highway": highway_manual.MANUAL, "transition": transition_manual.MANUAL}
OPTIONS = {"highway": {"coupled": True, "activation": "tanh"}, "transition": {"nonlinearity": "tanh"}}
RESULTS = {
    "highway": ["states", "x", "s0", "W", "R", "b"],
    "transition": ["states", "x", "s0", "W", "R", "b", "S"],
}
both = pytest.mark.parametrize("name", ["highway", "transition"])
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


def damaged(kernel: Kernel, which: int, damage) -> Kernel:
    """The kernel with its states (0) or the gradient of a tensor (1, 2, ...) damaged."""

    def forward(*tensors, **options):
        states, *residuals = kernel.forward(*tensors, **options)
        return damage(states) if which == 0 else states, *residuals

    def backward(*arguments, **options):
        gradients = list(kernel.backward(*arguments, **options))
        if which > 0:
            gradients[which - 1] = damage(gradients[which - 1])
        return tuple(gradients)

    return Kernel("damaged", forward, backward)


@pytest.mark.parametrize("size", [1.0, 1e-4])
@pytest.mark.parametrize("damage", DAMAGES)
@both
def test_the_comparison_finds_a_wrong_result_in_any_one_tensor(name, damage, size):
    tensors, options = MODULES[name]._example(SMALL[name], size, CPU), OPTIONS[name] | {"precision": "float32"}
    assert device.compare(MANUAL[name], MANUAL[name], tensors, **options) == 0
    for which, what in enumerate(RESULTS[name]):
        broken = damaged(MANUAL[name], which, DAMAGES[damage])
        assert device.compare(broken, MANUAL[name], tensors, **options) > device.TOLERANCE, what


@interpreted
@pytest.mark.parametrize("precision", ["tf32", "mixed"])
@both
def test_the_check_takes_a_right_kernel_and_refuses_a_broken_one(name, precision, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    module, shape = MODULES[name], SMALL[name]
    assert module.check(CPU, precision, shape) < device.TOLERANCE / 2
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {})
    attribute = f"PERSISTENT_{name.upper()}"
    monkeypatch.setattr(module, attribute, damaged(getattr(module, attribute), 4, DAMAGES["all NaN"]))
    with pytest.warns(
        UserWarning, match=f"persistent {name} kernel is not used in precision {precision}: .* is off by"
    ):
        assert device.refusal(name, precision, CPU, module.check, shape) is not None


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "mixed"])
@both
def test_on_a_gpu_every_shape_of_the_check_goes_well(name, precision):
    for shape in MODULES[name].SHAPES:
        assert MODULES[name].check(torch.device("cuda"), precision, shape) < device.TOLERANCE, shape


# ---- a launch that fails -------------------------------------------------------------------------------


class Failing:
    """A Triton kernel that is not compiled or does not start."""

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            raise RuntimeError("out of resource: shared memory, Required: 1, Hardware limit: 0.\nmore")

        return launch


def arguments(name, K=None):
    g, T, B, m, n, L = torch.Generator().manual_seed(0), 2, 2, 4, 5, 2
    rows, lead = n * (2 if name == "highway" else 1), () if K is None else (K,)
    sizes = {"s0": (B, n), "W": (rows, m), "R": (L, rows, n), "b": (L, rows)}
    draw = lambda *shape: 0.5 * torch.randn(shape, generator=g)  # noqa: E731
    return [2 * draw(T, B, m), *(draw(*lead, *size) for size in sizes.values())]


def results(kernel, name, tensors, precision, K=None):
    """States and every gradient, alone or of K models at once."""
    rest = (None, None)

    def loss(*tensors):
        states = recurrence(kernel, *tensors, *rest, **OPTIONS[name], precision=precision)
        return states.square().sum(), states

    run = grad_and_value(loss, argnums=tuple(range(len(tensors))), has_aux=True)
    run = run if K is None else vmap(run, in_dims=(None, *[0] * (len(tensors) - 1)))
    gradients, (_, states) = run(*tensors)
    return states, *gradients


@interpreted
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("K", "precision"), [(None, "tf32"), (2, "mixed")])
@both
def test_a_launch_that_fails_falls_back_with_one_warning(name, K, precision, direction, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    module, tensors = MODULES[name], arguments(name, K)
    kernel = routed(MANUAL[name], Way(getattr(module, f"PERSISTENT_{name.upper()}"), lambda *tensors, **options: None))
    wanted = results(MANUAL[name], name, tensors, precision, K)
    states = wanted[0] if direction == "forward" else results(kernel, name, tensors, precision, K)[0]
    launch = module.launch
    monkeypatch.setattr(
        module,
        "launch",
        lambda code, *rest, **more: launch(Failing() if direction in code.__name__ else code, *rest, **more),
    )
    with pytest.warns(
        UserWarning, match="is left for the hand-derived one: a launch failed .out of resource"
    ) as caught:
        found = results(kernel, name, tensors, precision, K)
    assert len(caught) == 1
    assert torch.equal(found[0], states)
    for a, b in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 if precision == "tf32" else 1e-3)
    with warnings.catch_warnings(), listening() as told:
        warnings.simplefilter("error")
        again = results(kernel, name, tensors, precision, K)
    assert all(map(torch.equal, again, wanted))
    assert recurrence_words(told, torch.device("cuda"), precision).startswith(
        "hand-derived, not persistent: a launch failed"
    )


@interpreted
@both
def test_the_public_functions_have_that_fallback(name, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {})
    module, tensors = MODULES[name], arguments(name)
    function = functools.partial(highway if name == "highway" else deep_transition, precision="tf32")
    launch = module.launch
    monkeypatch.setattr(module, "launch", lambda code, *rest, **more: launch(Failing(), *rest, **more))
    with pytest.warns(UserWarning, match="its check on this device raised LaunchError"):
        states = function(*tensors)
    monkeypatch.undo()
    torch.testing.assert_close(states, function(*tensors))


@interpreted
@pytest.mark.parametrize("failing", ["squares_kernel", "descend_kernel"])
def test_an_update_that_does_not_start_is_made_by_the_equations(failing, monkeypatch):
    triton_kernels = pytest.importorskip("rhn.kernels.update.triton_kernels", reason="Triton is not installed")
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {("update", "float32", CPU): None})
    monkeypatch.setattr(one_pass, "library", lambda: None)
    g = torch.Generator().manual_seed(0)
    weights, gradients = ({name: torch.randn(2, 7, generator=g) for name in "pq"} for _ in range(2))
    wanted, one = {name: w.clone() for name, w in weights.items()}, torch.ones(2)
    norm = gradient_norm(weights, gradients)
    descend(wanted, gradients, 0.3 * one, one, one.bool(), shrink=0.1)
    monkeypatch.setattr(one_pass, "_kind", lambda *tensors: "cuda")
    monkeypatch.setattr(triton_kernels, failing, Failing())
    with pytest.warns(UserWarning, match="the update kernel is used no more: a launch failed"):
        found = gradient_norm(weights, gradients), descend(weights, gradients, 0.3 * one, one, one.bool(), shrink=0.1)
    torch.testing.assert_close(found[0], norm)
    for name, w in weights.items():
        torch.testing.assert_close(w, wanted[name])


@pytest.mark.parametrize("damage", ["all NaN", "one NaN", "zero", "sign"])
@pytest.mark.parametrize("step", ["norm", "descend"])
def test_the_check_of_the_update_finds_wrong_results(step, damage, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    name = "_squares_triton" if step == "norm" else "_step_triton"
    right = getattr(one_pass, name)

    def broken(w, *rest):
        if step == "norm":
            return DAMAGES[damage](right(w, *rest))
        before = w.clone()
        right(w, *rest)
        return w.copy_(before + DAMAGES[damage](w - before))

    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert one_pass.check(where, "float32") < 1e-5
    monkeypatch.setattr(one_pass, name, broken)
    assert not one_pass.check(where, "float32") < device.TOLERANCE

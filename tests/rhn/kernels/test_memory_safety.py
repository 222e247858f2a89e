"""No kernel reads or writes beyond its tensors, whatever it is given: a wrong input is refused, or has the reference's result."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import KERNELS
from tables import for_each
from test_kernels import value_and_gradients
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from rhn import kernels
from rhn.cells import CELLS, RHN
from rhn.errors import InvalidInputError
from rhn.kernels import softmax
from rhn.kernels.compiled import build, call, recurrence
from rhn.kernels.compiled.signatures import FUNCTIONS
from rhn.kernels.dispatch import Kernel
from rhn.kernels.validation import shape_of

SIZES = {"T": 3, "B": 5, "m": 4, "n": 7, "L": 3}
CASES = {case.name: case for case in KERNELS}
TRACED = ("highway", "deep-transition-skip-all", "lstm", "gru", "loop")
compiled = pytest.mark.skipif(build.library() is None, reason="no compiled kernels: no C compiler, or RHN_COMPILED=0")


def arguments(name: str = "highway", **changes) -> dict:
    return CASES[name].arguments(*(SIZES | changes).values(), dtype=torch.float32)


WRONG = {
    "float64": torch.Tensor.double, "whole numbers": torch.Tensor.long, "complex": torch.Tensor.cfloat,
    "sparse": torch.Tensor.to_sparse, "a list": torch.Tensor.tolist, "nothing": lambda t: None, "meta": lambda t: t.to("meta"),
    "one dimension more": lambda t: t.unsqueeze(0), "flat": torch.Tensor.flatten,
}  # fmt: skip
VIEWS = {  # the same values in other memory: valid
    "strided": lambda t: torch.stack((t, t + 1), -1)[..., 0],
    "at an offset": lambda t: torch.cat((t.flatten()[:1], t.flatten()))[1:].view(t.shape),
    "expanded": lambda t: t[:1].expand_as(t),
    "negated": lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
}


def of_the_row(kernel: Kernel, **changes) -> dict[str, torch.Tensor]:
    """Random tensors for all arguments of a row of the table, by name."""
    numbers = SIZES | {"G": 2, "shortcuts": 2, "V": 11, "keys": 11, "g": 6, "k": 8, "j": 8} | changes
    shapes = {name: shape_of(text.replace("1|", ""), numbers) for name, text in kernel.arguments.items() if name != "*"}
    words = {"targets": torch.randint(numbers["V"], (numbers["T"], numbers["B"]))}
    return {name: words.get(name, torch.randn(shape)) for name, shape in shapes.items()}


@for_each("kernel", kernels.KERNELS)
def test_a_tensor_longer_than_its_row_says_is_refused_in_every_dimension(kernel):
    given = of_the_row(kernel)
    same, _ = kernel.check(*given.values())
    assert all(t is valid for t, valid in zip(same, given.values(), strict=True))
    said = re.findall("[A-Za-z]+", " ".join(kernel.arguments[name] for name in given))
    for name, t in given.items():
        for dim, size in enumerate(kernel.arguments[name].split()):
            if said.count(size) == 1 and size != "shortcuts":
                continue  # the only word about this size
            longer = torch.cat((t, t.narrow(dim, 0, 1)), dim)
            with pytest.raises(InvalidInputError, match=f"{name.removesuffix('?')} |has shape|layers"):
                kernel.check(*(given | {name: longer}).values())


@for_each("kernel", [kernels.HIGHWAY, kernels.SOFTMAX])
@for_each("kind", WRONG)
def test_what_is_no_tensor_beside_the_others_is_refused(kernel, kind):
    given = of_the_row(kernel)
    for name, t in given.items():
        if kind in {"targets": ["whole numbers"], "b": ["flat"]}.get(name, ()) or (kind == "nothing" and "?" in name):
            continue
        with pytest.raises(InvalidInputError, match="expected"):
            kernel(*(given | {name: WRONG[kind](t)}).values())


@for_each("name", TRACED)
def test_a_view_is_as_good_as_its_values(name):
    for argument, t in arguments(name).items():
        for view in VIEWS.values():
            every = (arguments(name) | {argument: t} for t in (view(t), view(t).clone()))
            found, same = (CASES[name].manual(*given.values(), **CASES[name].options) for given in every)
            torch.testing.assert_close(found, same, rtol=1e-4, atol=1e-5)


@for_each("view", VIEWS)
def test_a_view_is_as_good_as_its_values_in_the_output_too(view):
    given = [*of_the_row(kernels.OUTPUT).values()]
    found = kernels.OUTPUT(*map(VIEWS[view], given))
    torch.testing.assert_close(found, kernels.OUTPUT(*(VIEWS[view](t).clone() for t in given)), rtol=1e-4, atol=1e-5)


@pytest.fixture
def guarded(monkeypatch):
    """Every tensor of a compiled call lies between guards: NaN that would spread from reads, and that no write may change.

    The names of the functions that were called.
    """
    names, original = [], call.call

    def within_guards(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        buffer = torch.full((t.numel() + 128,), torch.nan, dtype=t.dtype)
        inner = buffer[64:-64].view(t.shape)
        inner.copy_(t)
        return buffer, inner

    def run(name, K, **given):
        names.append(name)
        tensors = {key: within_guards(t) for key, t in given.items() if isinstance(t, torch.Tensor)}
        original(name, K, **given | {key: inner for key, (_, inner) in tensors.items()})
        for key, (buffer, inner) in tensors.items():
            assert buffer[:64].isnan().all() and buffer[-64:].isnan().all(), f"{name} wrote beyond {key}"
            written = key in FUNCTIONS[name].outputs
            assert written or torch.equal(inner, given[key]), f"{name} wrote to {key}"
            given[key].copy_(inner)

    monkeypatch.setattr(recurrence, "call", run)
    monkeypatch.setattr(call, "call", run)
    return names


MASKED = ("highway-masked", "highway-uncoupled-masked-apart", "deep-transition-skip-all-masked")


@compiled
@pytest.mark.parametrize(
    "name", ["highway", "highway-uncoupled", "deep-transition-skip-all", "deep-transition-relu", *MASKED]
)
@for_each(
    ("size", "sparse"),
    [((1, 1, 1, 1, 1), False), ((3, 31, 2, 15, 2), True), ((2, 33, 17, 17, 3), False), ((9, 64, 5, 3, 4), True)],
)
def test_compiled_recurrences_keep_within_their_tensors(name, size, sparse, guarded):
    guarded.clear()
    case = CASES[name]
    given = case.arguments(*size, dtype=torch.float32)
    if sparse:
        given["x"] *= torch.rand_like(given["x"]) < 0.1
    ours, truth = (value_and_gradients(f, given, **case.options) for f in (case.manual, case.reference))
    assert len(guarded) == 2
    torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-4)


OUTPUT_SIZES = [(1, 1, 1, 1), (3, 33, 7, 88), (2, 31, 33, 65), (70, 32, 17, 300)]  # T, B, n, keys or words


@compiled
@for_each(("kernel", "calls"), [(kernels.OUTPUT, 1), (kernels.SOFTMAX, 3)])
@for_each("size", OUTPUT_SIZES)
def test_compiled_losses_keep_within_their_tensors(kernel, calls, size, guarded, monkeypatch):
    guarded.clear()
    monkeypatch.setattr(softmax, "VOCABULARIES", range(1, 1000))
    (T, B, n, V), found = size, []
    y, W, b, *rest = of_the_row(kernel, T=T, B=B, n=n, V=V, keys=V).values()
    for function in (kernel, kernel.reference):
        leaves = [t.clone().requires_grad_() for t in (y, W, b)]
        loss = function(*leaves, *rest)
        found.append(
            [loss, *torch.autograd.grad((loss * torch.linspace(1, 2, loss.numel()).view(loss.shape)).sum(), leaves)]
        )
    assert len(guarded) == calls
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@compiled
@for_each(
    "change",
    [
        {"W": torch.zeros(1, 3, 2, dtype=torch.float64)},
        {"W": torch.zeros(1, 2, 3).mT},
        {"b": torch.zeros(1, 4)},
        {"totals": torch.zeros(2, dtype=torch.float64)},
        {"keys": 4},
    ],
)
def test_a_function_of_the_library_gets_the_tensors_of_its_signature(change):
    usual = {"T": 1, "B": 1, "n": 2, "keys": 3, "y": torch.zeros(1, 1, 2, 32), "W": torch.zeros(1, 3, 2)}
    usual |= {"b": torch.zeros(1, 3), "frames": torch.zeros(1, 1, 3, 32), "mask": torch.zeros(1, 1, 32)}
    usual |= {"dy": None, "dW": None, "db": None, "totals": torch.zeros(1, dtype=torch.float64)}
    call.call("rhn_bernoulli", 1, **usual)
    with pytest.raises(ValueError, match="expected contiguous"):
        call.call("rhn_bernoulli", 1, **usual | change)


@for_each("name", ["highway", "lstm"])
def test_one_initial_state_stands_for_all_rows_and_has_a_gradient_of_its_own_shape(name):
    case, given = CASES[name], arguments(name)
    for s0 in (given["s0"][:1].clone(), given["s0"][0].clone()):
        given["s0"] = s0
        ours, truth = (value_and_gradients(f, given, **case.options) for f in (case.manual, case.reference))
        assert ours[1]["s0"].shape == s0.shape
        torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-5)


def test_a_refusal_names_the_tensor_and_the_shape_that_was_expected():
    with pytest.raises(
        InvalidInputError, match=r"W of the highway .* \(7, 4\): expected \(G\*n, m\) with G = 2, m = 4, n = 7"
    ):
        kernels.HIGHWAY(*(arguments() | {"W": torch.zeros(7, 4)}).values())


@for_each(
    ("name", "options"), [("highway", {"activation": "softmax"}), ("deep-transition", {"nonlinearity": "sigmoid"})]
)
def test_an_unknown_name_is_refused(name, options):
    for reference in (False, True):
        with pytest.raises(InvalidInputError, match="unknown"):
            CASES[name].manual(*arguments(name).values(), **options, reference=reference)


@for_each(("name", "mode"), [*((name, "real") for name in TRACED), ("highway", "symbolic"), ("loop", "symbolic")])
def test_where_operations_are_recorded_the_record_has_the_result_for_other_inputs(name, mode):
    case, given = CASES[name], arguments(name)
    others = [t * 0.5 for t in given.values()]

    def total(function):
        loss = lambda *tensors: function(*tensors, **case.options).square().sum()  # noqa: E731
        return torch.func.grad(loss) if mode == "real" else loss

    record = make_fx(total(case.manual), tracing_mode=mode)(*given.values())
    torch.testing.assert_close(record(*others), total(case.reference)(*others), rtol=1e-3, atol=1e-5)


@for_each("name", TRACED)
def test_pretended_tensors_have_pretended_results(name):
    case = CASES[name]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t) for t in arguments(name).values()]
    states = case.manual(*fake, **case.options)
    assert states.shape == case.reference(*arguments(name).values(), **case.options).shape
    meta = [t.to("meta") for t in arguments(name).values()]
    assert case.manual(*meta, **case.options).is_meta


@compiled
def test_a_backward_pass_alone_cannot_be_recorded():
    x, *others = arguments().values()
    x.requires_grad_()
    states = kernels.HIGHWAY(x, *others)
    with pytest.raises(InvalidInputError, match="trace the forward pass too"):
        make_fx(lambda g: torch.autograd.grad(states, x, g))(torch.ones_like(states))


@compiled
@for_each("view", [*VIEWS, "without memory"])
def test_a_gradient_may_be_any_view(view):
    name = "highway"
    given = arguments(name)
    grad = torch.randn(SIZES["T"], SIZES["B"], SIZES["n"])
    grad = torch._efficientzerotensor(grad.shape) if view == "without memory" else VIEWS[view](grad)
    results = []
    for function in (CASES[name].manual, CASES[name].reference):
        leaves = [t.clone().requires_grad_() for t in given.values()]
        dense = grad if function is CASES[name].manual else grad + 0
        results.append(torch.autograd.grad(function(*leaves, **CASES[name].options), leaves, dense))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


REPLACED: dict[str, Callable] = {
    "more units": lambda: RHN(4, 70, depth=5),
    "more inputs": lambda: RHN(40, 7, depth=5),
    "one gate more": lambda: RHN(4, 7, depth=5, coupled=False),
}


@for_each("other", REPLACED)
@for_each("kernel", ["manual", "reference"])
def test_weights_of_another_cell_are_refused_however_they_come(other, kernel):
    cell, weights = RHN(4, 7, depth=5, kernel=kernel), dict(REPLACED[other]().named_parameters())
    x, s0 = torch.randn(3, 5, 4), torch.zeros(5, 7)
    with pytest.raises(InvalidInputError, match="expected"):
        functional_call(cell, weights, (x,))
    with pytest.raises(InvalidInputError, match="expected"):
        torch.func.vmap(lambda w: functional_call(cell, w, (x,)))(
            {k: p.expand(2, *p.shape) for k, p in weights.items()}
        )
    for name, weight in weights.items():
        setattr(cell, name, nn.Parameter(weight.detach()))
    with pytest.raises(InvalidInputError, match="expected"):
        cell.states(x, s0)


@for_each(
    ("key", "kernel", "dtype"),
    [
        ("rhn", "manual", torch.float64),
        ("indrnn", "reference", torch.complex64),
        ("mgu", "manual", torch.complex64),
        ("lru", "reference", torch.float64),
    ],
)
def test_a_weight_of_another_type_is_refused(key, kernel, dtype):
    cell = CELLS[key](4, 7, kernel=kernel)
    for name, weight in cell.named_parameters():
        with pytest.raises(InvalidInputError, match=f"{dtype}"):
            functional_call(cell, {name: weight.to(dtype)}, (torch.randn(3, 5, 4),))


@for_each("key", CELLS)
def test_states_of_a_cell_refuse_inputs_of_another_size(key):
    cell = CELLS[key](4, 7)
    x, s0 = torch.randn(3, 5, 4), torch.ones(5, cell.state_size)
    assert cell.states(x, s0).shape == (3, 5, cell.state_size)
    for bad_x, bad_s0 in (
        (x[..., :3], s0), (torch.cat((x, x), -1), s0), (x, s0[:, :3]), (x, torch.cat((s0, s0))), (x[:0], s0), (x[0], s0)
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=r"has (shape|no time steps)"):
            cell.states(bad_x, bad_s0)


@pytest.fixture
def sanitizing(tmp_path) -> dict[str, str]:
    """An environment in which the library is built with the address and undefined-behaviour sanitizers."""
    gcc = shutil.which(os.environ.get("CC", "gcc"))
    if gcc is None:
        pytest.skip("no gcc")
    found = subprocess.run(
        [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if "/" not in found:
        pytest.skip(f"{gcc} has no address sanitizer")
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\nexec {gcc} "$@" -O2 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all\n'
    )
    compiler.chmod(0o755)
    options = "detect_leaks=0:allocator_may_return_null=1:abort_on_error=0:exitcode=99"
    return os.environ | {
        "CC": str(compiler),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LD_PRELOAD": f"{found}:libstdc++.so.6",  # whose exceptions the sanitizer intercepts
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@pytest.mark.chaos
def test_the_sanitizers_find_nothing_in_the_kernels(sanitizing):
    probe = "from rhn.kernels.compiled.build import library; print(library() is not None)"
    done = subprocess.run([sys.executable, "-c", probe], env=sanitizing, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"], done.stderr
    here = Path(__file__).parent
    files = [here / name for name in ("test_compiled.py", "test_memory_safety.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not chaos", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, env=sanitizing, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]

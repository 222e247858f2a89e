"""The persistent kernels are the equations: under Triton's interpreter with one block a model, on a GPU at real sizes.

With float32 operands the products of the interpreter are exact but for the order of sums; on a GPU operands are float16.
"""

import pytest
import torch
from cases import KERNELS, assert_close, dropout_mask
from tables import for_each
from torch.func import grad_and_value, vmap

from rhn.kernels import highway, highway_reference
from rhn.kernels.autograd import batched_function
from rhn.kernels.dispatch import Implementation, Operation, recorded_choices
from rhn.kernels.highway import TRITON
from rhn.kernels.info import recurrence_words
from rhn.kernels.persistent import device, operands, shapes

pytest.importorskip("triton", reason="Triton is not installed")
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the kernels themselves are tested")

ROWS = {case.name: case for case in KERNELS}
PERSISTENT = Operation("highway", Implementation("Triton", TRITON.forward, TRITON.backward))  # unchecked
ERROR = {"float32": 1e-5, "mixed": 4e-3}  # of the largest entry; measured up to 1e-6 and 2.2e-3
CASES = [  # K, n, B, T, L, kernel, masks of the state (J), a mask of the candidate
    (1, 7, 1, 1, 1, "highway", 0, False),
    (3, 33, 5, 1, 3, "highway", 1, True),
    (1, 33, 5, 2, 2, "highway-uncoupled", 3, True),
    (1, 7, 33, 3, 1, "highway", 2, False),
    (3, 7, 1, 3, 1, "highway-uncoupled", 1, False),
]


def calls(case, J, candidate, B, n):
    """(persistent kernel, reference) of a row of the shared table, with masks that all models share."""
    masks = [dropout_mask(J, B, n) if J else None, dropout_mask(B, n, seed=6) if candidate else None]
    options = {**case.options, "activation": "tanh"}

    def masks_like(tensors):
        return [None if m is None else m.to(tensors[0]) for m in masks]

    def persistent(*tensors, precision):
        return batched_function(PERSISTENT, *tensors, *masks_like(tensors), **options, precision=precision)

    def reference(*tensors):
        return case.reference(*tensors, *masks_like(tensors), **case.options)

    return persistent, reference


def assert_equals_the_reference(K, n, B, T, L, name, J, candidate, precision="float32", tolerance=None, where="cpu"):
    case = ROWS[name]
    tensors = {key: t.float() for key, t in case.arguments(T, B, 3, n, L, stack=K).items()}
    tensors["x"] = tensors["x"][0]  # which all models share
    w = torch.randn(T, B, n, generator=torch.Generator().manual_seed(9))
    persistent, reference = calls(case, J, candidate, B, n)

    def results(function, to, **options):
        def loss(*tensors):
            states = function(*tensors, **options)
            return (states * w.to(states)).sum(), states

        run = grad_and_value(loss, argnums=tuple(range(len(tensors))), has_aux=True)
        gradients, (_, states) = vmap(run, in_dims=(None, *[0] * (len(tensors) - 1)))(*map(to, tensors.values()))
        return states.cpu(), *(g.cpu() for g in gradients)

    got = results(persistent, lambda t: t.to(where), precision=precision)
    wanted = results(reference, lambda t: t.to(where).double())
    for key, a, b in zip(("states", *tensors), got, wanted, strict=True):
        assert_close(a, b.float(), tolerance or ERROR[precision], key, floor=1e-3)


@interpreted
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_every_gradient_equal_the_reference(case):
    assert_equals_the_reference(*case)


@interpreted
@pytest.mark.parametrize("case", [CASES[1], CASES[4]], ids=str)
def test_float16_operands_stay_near(case):
    assert_equals_the_reference(*case, precision="mixed")


@interpreted
@pytest.mark.parametrize("case", [CASES[3], CASES[4]], ids=str)
def test_a_block_that_has_one_chunk_takes_its_weights_ahead(case, monkeypatch):
    monkeypatch.setattr(shapes, "ONE_CHUNK", {"forward": (64,), "backward": (64,)})
    shapes.spread.cache_clear()
    assert shapes.spread(shapes.Work("backward", 1, 7, 2, 1), 1, 1 << 30).ahead
    assert_equals_the_reference(*case)
    shapes.spread.cache_clear()


@interpreted
def test_mixed_precision_goes_through_them_where_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(device, "missing", lambda device: None)
    monkeypatch.setattr(device, "_CHECKED", {})
    launched = []
    monkeypatch.setattr(
        "rhn.kernels.persistent.highway.launch",
        lambda kernel, *rest, **more: launched.append(kernel) or device.launch(kernel, *rest, **more),
    )
    arguments = [t.float() for t in ROWS["highway"].arguments(2, 3, 4, 5, 2).values()]
    highway(*arguments, precision="mixed")
    assert len(launched) == 3, "both passes of the check, and the call"
    launched.clear()
    with recorded_choices() as choices:
        states = highway(*arguments, precision="mixed")
    assert recurrence_words(choices, arguments[0].device, "mixed") == "in Triton, precision mixed"
    highway(*arguments, precision="mixed", activation="relu")
    highway(*arguments)
    assert len(launched) == 1
    assert_close(states, highway_reference(*arguments), ERROR["mixed"], "states")


@interpreted
@pytest.mark.parametrize("case", [CASES[1]], ids=str)
def test_weights_are_padded_once_for_both_passes(case, monkeypatch):
    padded, original = [], operands.padded_weights
    monkeypatch.setattr(operands, "padded_weights", lambda R, *rest: padded.append(R.shape) or original(R, *rest))
    assert_equals_the_reference(*case)
    assert len(padded) == 1


def test_a_kernel_that_fails_its_check_is_not_used_and_says_so_once(monkeypatch):
    monkeypatch.setattr(device, "missing", lambda device: None)
    cpu, asked = torch.device("cpu"), []

    def raising(where, precision):
        asked.append(where)
        raise RuntimeError("no such launch\nmore")

    with pytest.warns(
        UserWarning, match="persistent sieve kernel is not used in precision mixed: .* RuntimeError: no such launch$"
    ):
        assert "no such launch" in device.refusal("sieve", "mixed", cpu, raising)
    assert "no such launch" in device.refusal("sieve", "mixed", cpu, raising)
    assert asked == [cpu]
    for error in (0.5, float("nan"), float("inf")):
        with pytest.warns(UserWarning, match="is off by"):
            device.refusal(f"wrong by {error}", "float32", cpu, lambda where, precision, error=error: error)
    with pytest.warns(UserWarning, match="is off by"):
        device.refusal("wrong for seven", "float32", cpu, lambda where, precision, units: 1.0, 7)
    assert device.refusal("wrong for seven", "float32", cpu, lambda where, precision, units: 0.0, 8) is None
    assert device.refusal("right", "float32", cpu, lambda where, precision: 1e-3) is None
    monkeypatch.undo()
    assert device.refusal("right", "float32", cpu, raising) == "it needs a CUDA device"
    monkeypatch.setenv(device.SWITCH, "0")
    assert device.missing(torch.device("cuda")) == "turned off by RHN_PERSISTENT=0"


@for_each("direction", ["forward", "backward"])
@for_each("operand", [2, 4])
def test_a_pass_never_asks_for_more_than_a_device_has(direction, operand):
    for n in (1, 16, 215, 262, 830, 1000, 1500):
        for models, batch, gates in ((1, 1, 2), (1, 20, 2), (1, 128, 3), (60, 32, 2), (500, 64, 3)):
            work = shapes.Work(direction, models, n, gates, batch, operand)
            plan = shapes.spread(work, 132, 232448)
            if plan is None:
                assert operand == 4 or (gates == 3 and n > 1000), work
                continue
            assert plan.blocks == 1 or models * plan.groups * plan.blocks <= 132, work
            assert plan.blocks * plan.chunks * plan.units >= plan.padded_units >= n, work
            assert plan.padded_rows == shapes.padded_batch(batch) >= batch, work
            assert shapes.shared(work, plan.rows, plan.units, ahead=plan.ahead) <= 232448, work


REAL = [
    (1, 830, 20, 35, 10, "highway", 1, False),
    (60, 262, 32, 60, 6, "highway", 0, False),
    (1, 1000, 128, 50, 10, "highway", 1, True),
    (2, 500, 64, 20, 5, "highway-uncoupled", 3, False),
]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("case", "precision"),
    [(case, "mixed") for case in (*CASES, *REAL)],
    ids=str,
)
def test_on_a_gpu_values_and_every_gradient_are_near_the_reference(case, precision):
    assert_equals_the_reference(*case, precision=precision, tolerance=ERROR["mixed"], where="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize(("K", "n", "B"), [(1, 830, 20), (20, 262, 32)])
def test_on_a_gpu_200_repetitions_in_a_graph_give_the_same_bits(K, n, B):
    """A block that read before another had written would now and then give other numbers."""
    T, L = 12, 5
    tensors = [t.float().cuda() for t in ROWS["highway"].arguments(T, B, 9, n, L, stack=K).values()] + [
        None,
        None,
    ]
    grad = torch.randn(K, T, B, n, device="cuda")
    options = {"coupled": True, "activation": "tanh", "precision": "mixed"}

    def once():
        states, *residuals = TRITON.forward(*tensors, **options)
        return states, *TRITON.backward(grad, (True,) * 7, tensors, residuals, **options)

    first, graph = once(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again = once()
    for repetition in range(200):
        graph.replay()
        for a, b in zip(again, first, strict=True):
            assert torch.equal(a, b), repetition

"""Every public computation without a branch on numbers runs where its tensors are: here on torch's
meta device, of which no number can be read, and without one tensor on the CPU. What fails here
would fail, or wait for a copy, on a GPU. All others are listed by name.
"""

import importlib
from dataclasses import fields

import pytest
import torch
from cases import CELL_CASES, others_slow
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gersgorin
import rhn
from gersgorin import checks, linalg
from gersgorin.linalg import discs, inclusion, jacobian_products, matrices, spectrum
from rhn.cells import CellMasks, Gates, StackedCell
from rhn.kernels import GRU, LSTM, OUTPUT, SOFTMAX, TRANSITION
from rhn.models import LanguageModel, PolyphonicModel
from rhn.models.dropout import Masks
from rhn.training.optimizers import OPTIMIZERS
from rhn.utils import scale

PACKAGES = "rhn", "rhn.cells", "rhn.kernels", "rhn.models", "gersgorin", "gersgorin.linalg"
K, B, T, M, N, L = 2, 3, 4, 5, 7, 2


def numbers(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta", dtype=torch.float64)


def single(*shape: int) -> Tensor:
    return numbers(*shape).float()


def ids(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta", dtype=torch.long)


class NothingOnTheCPU(TorchDispatchMode):
    """Collects the operations that return a tensor on the CPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t.device.type == "cpu" for t in tree_leaves(result)):
            self.found.append(str(function))
        return result


def tensors_of(result) -> list[Tensor]:
    if isinstance(result, Gates):
        result = [getattr(result, field.name) for field in fields(result)]
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]


def runs_on_meta(call) -> None:
    with NothingOnTheCPU() as mode:
        found = tensors_of(call())
    assert {t.device.type for t in found} <= {"meta"} and mode.found == []


def gradients(module: nn.Module, loss) -> list:
    return torch.autograd.grad(loss(module), [*module.parameters()], materialize_grads=True)


def of_cell(case, kernel: str) -> dict:
    """The computations of a cell, by name."""
    cell = case.plain(M, N, device="meta", kernel=kernel)
    x, s, row = numbers(T, B, M), numbers(B, cell.state_size), numbers(B, M)
    found = {
        "forward": lambda: cell(x),
        "states": lambda: cell.states(x, s),
        "backward": lambda: gradients(cell, lambda cell: cell.states(x, s).sum()),
        "step": lambda: cell.step(row, s),
        "run_layer": lambda: [cell.run_layer(k, row, s, s) for k in range(cell.depth)],
        "outputs_of": lambda: cell.outputs_of(s),
        "gates": lambda: cell.gates(row, s),
        "norm_bound": lambda: cell.norm_bound(),
    }
    for name in ("jacobian", "input_jacobian", "layer_jacobians", "scaled_jacobian",
                 "scaled_input_jacobian"):  # fmt: skip
        if own := getattr(cell, name, None):
            found[name] = lambda own=own: own(row, s)
    if own := getattr(cell, "scaled_norm_bound", None):
        found["scaled_norm_bound"] = own
    return found


PRODUCTS = ("jacobian", "input_jacobian")
"""Of several layers of rhn, dt-rnn and dts-rnn: multiplied again in scaled form if they
overflow.
"""


@pytest.mark.parametrize("kernel", ["manual", "reference"])
@pytest.mark.parametrize(
    "case", others_slow(CELL_CASES, *(case for case in CELL_CASES if not case.options)), ids=str
)
def test_a_cell_runs_where_its_weights_are(case, kernel, subtests):
    for name, call in of_cell(case, kernel).items():
        with subtests.test(name):
            if case.depth > 1 and name in PRODUCTS:
                with pytest.raises(RuntimeError, match="meta"):
                    call()
            else:
                runs_on_meta(call)


def lstm():
    return rhn.make_cell("lstm", M, N, device="meta", dtype=torch.float64)


def stack():
    sizes = (M, N), (N, N)
    how = {"device": "meta", "dtype": torch.float64}
    return StackedCell([rhn.make_cell("gru", *each, **how) for each in sizes])


def polyphonic():
    return PolyphonicModel("rhn", hidden_size=N, depth=L, device="meta")


def language(**options):
    return LanguageModel("rhn", vocabulary_size=9, hidden_size=N, depth=L, device="meta", **options)


def ensemble():
    return rhn.Ensemble.of([polyphonic(), polyphonic()], "meta")


def optimizer_step(name: str):
    optimizer = OPTIMIZERS[name](clip=1.0, weight_decay=0.1)
    weights, gradient = {"w": single(K, N, M)}, {"w": single(K, N, M)}
    state = optimizer.start(weights)
    return optimizer.step(weights, gradient, state, numbers(K)), weights, state


class Own(nn.Module):
    """A step of a user."""

    def step(self, x, s):
        return torch.tanh(s + x.sum(-1, keepdim=True))


FRAMES, ROLL, MASK, TOKENS = single(T, B, 88), single(T, B, 88), single(T, B), ids(T, B)
ROW = numbers(B, M), numbers(B, 2 * N)
A, POINTS = numbers(B, N, N), torch.empty(6, device="meta", dtype=torch.complex128)
DROPPED = Masks(single(T, B), (CellMasks(single(1, B, N), single(1, B, N)),), single(B, N))
H, LAYER = numbers(T, B, N), (numbers(9, N), numbers(9))
CALLS = {
    "rhn.cells.StackedCell": lambda: stack()(numbers(T, B, M)),
    "rhn.cells.StackedCell jacobian": lambda: stack().jacobian(numbers(B, M), numbers(B, 2 * N)),
    "rhn.PolyphonicModel": lambda: polyphonic()(FRAMES),
    "rhn.PolyphonicModel loss": lambda: polyphonic()(FRAMES, ROLL, MASK),
    "rhn.PolyphonicModel nll": lambda: polyphonic().nll(FRAMES, MASK.bool()),
    "rhn.LanguageModel": lambda: language()(TOKENS),
    "rhn.LanguageModel loss": lambda: language(tied=True)(TOKENS, targets=TOKENS),
    "rhn.LanguageModel masks": lambda: language()(TOKENS, None, DROPPED),
    "rhn.LanguageModel backward": lambda: gradients(
        language(), lambda model: model(TOKENS, targets=TOKENS).nll.sum()
    ),
    "rhn.Ensemble map": lambda: ensemble().map(lambda model, x: model(x), FRAMES),
    "rhn.Ensemble gradients": lambda: ensemble().gradients(lambda model, x: model(x, x), FRAMES),
    "rhn.from_torch": lambda: rhn.from_torch(nn.GRU(M, N, device="meta"))(single(T, B, M)),
    "rhn.from_torch layers": lambda: rhn.from_torch(nn.LSTM(M, N, 2, device="meta"))(
        single(T, B, M)
    ),
    **{f"optimizer {name}": lambda name=name: optimizer_step(name) for name in OPTIMIZERS},
    "rhn.kernels.TRANSITION": lambda: TRANSITION(
        numbers(T, B, M), numbers(B, N), numbers(N, M), numbers(L, N, N), numbers(L, N)
    ),
    "rhn.kernels.LSTM": lambda: LSTM(
        numbers(T, B, M), numbers(B, 2 * N), numbers(4 * N, M), numbers(4 * N, N), numbers(4 * N)
    ),
    "rhn.kernels.GRU": lambda: GRU(
        numbers(T, B, M),
        numbers(B, N),
        numbers(3 * N, M),
        numbers(3 * N, N),
        numbers(3 * N),
        numbers(N),
    ),
    "rhn.kernels.OUTPUT": lambda: OUTPUT(H, *LAYER, numbers(T, B, 9), numbers(T, B)),
    "rhn.kernels.SOFTMAX": lambda: SOFTMAX(H, *LAYER, TOKENS, numbers(B, N)),
    "gersgorin.temporal_jacobian": lambda: gersgorin.temporal_jacobian(lstm(), *ROW),
    "gersgorin.temporal_jacobian jacrev": lambda: gersgorin.temporal_jacobian(
        lstm(), *ROW, method="jacrev"
    ),
    "gersgorin.temporal_jacobian jacfwd": lambda: gersgorin.temporal_jacobian(
        lstm(), *ROW, method="jacfwd"
    ),
    "gersgorin.input_jacobian": lambda: gersgorin.input_jacobian(lstm(), *ROW),
    "gersgorin.layer_jacobians": lambda: gersgorin.layer_jacobians(lstm(), *ROW),
    "gersgorin.norm_bound": lambda: gersgorin.norm_bound(lstm()),
    "gersgorin.jacobian_product": lambda: gersgorin.jacobian_product(A),
    "gersgorin.linalg.Discs": lambda: linalg.Discs(numbers(B, N), numbers(B, N)).contains(POINTS),
    "gersgorin.linalg.Discs norm": lambda: linalg.Discs(numbers(B, N), numbers(B, N)).norm,
    "gersgorin.linalg.half_life": lambda: linalg.half_life(numbers(3)),
    "gersgorin.linalg.doubling_time": lambda: linalg.doubling_time(numbers(3)),
    "gersgorin.linalg.in_brauer_ovals": lambda: linalg.in_brauer_ovals(A, POINTS),
    "gersgorin.linalg.in_ostrowski_discs": lambda: linalg.in_ostrowski_discs(A, POINTS),
    "gersgorin.linalg.in_minimal_gersgorin_set": lambda: linalg.in_minimal_gersgorin_set(A, POINTS),
    "gersgorin.linalg.departure_from_normality": lambda: linalg.departure_from_normality(
        A, torch.empty(B, N, device="meta", dtype=torch.complex128)
    ),
    "scaled": lambda: scale.scaled(A),
    "unscaled": lambda: scale.unscaled(A, ids(B)),
    "plus": lambda: scale.plus(A, ids(B), A),
    "scaled_product": lambda: scale.scaled_product([A, A, A]),
    "out_of_range": lambda: scale.out_of_range(A),
}


@pytest.fixture
def no_door(monkeypatch):
    """Without the checks of arguments, which read all numbers once."""
    for module in (discs, inclusion, jacobian_products, spectrum):
        monkeypatch.setattr(module, "check_square", lambda A, **how: A)
    for module in (matrices, checks):
        monkeypatch.setattr(
            module, "not_dense_real", lambda t: "complex" if t.is_complex() else None
        )


@pytest.mark.parametrize("name", CALLS)
def test_a_computation_runs_where_its_tensors_are(name, no_door):
    runs_on_meta(CALLS[name])


READS_NUMBERS = {
    "rhn": ("evaluate", "sample", "train"),
    "gersgorin": (
        "Recorder", "Run", "compare", "eigenvalues", "fixed_points", "gains", "gates",
        "gersgorin_discs", "influence", "layer_inputs", "lyapunov", "open_run", "products",
        "pseudospectra", "spectra", "trajectory", "truncation",
    ),
    "gersgorin.linalg": ("eigenvalue_conditions", "numerical_radius", "pseudospectrum"),
}  # fmt: skip
"""Computations that branch on numbers, or that LAPACK or NumPy does on the CPU."""
NO_COMPUTATION = {
    "rhn": (
        "RhnError", "__version__", "load", "load_data", "make_cell", "preset", "register_cell",
        "save",
    ),
    "rhn.cells": (
        "CELLS", "GateBlocks", "Initialization", "Layer", "Part", "accepts", "cell_options",
        "described_layers", "hidden_size_for_budget", "is_known", "name_of_cell",
        "num_parameters", "read_options", "recurrent_parts", "resolve_cell",
    ),
    "gersgorin": ("layers_as_steps", "load"),
}  # fmt: skip
CELLS = "Cell", "CellMasks", "DTRNN", "DTSRNN", "GRU", "Gates", "IRNN", "LSTM", "RHN", "RNN"
"""Run by `test_a_cell_runs_where_its_weights_are`."""


def test_every_public_name_runs_or_is_listed():
    listed = {*CELLS, *(name.split()[0].rpartition(".")[2] for name in CALLS)}
    for names in (*READS_NUMBERS.values(), *NO_COMPUTATION.values()):
        listed |= set(names)
    public = {name for package in PACKAGES for name in importlib.import_module(package).__all__}
    assert public - listed == set()

"""Making, copying and describing cells; sizes, names and inputs that do not fit are refused in a
sentence.
"""

import copy
import pickle

import pytest
import torch
from cases import SHALLOW_CASES, assert_close, inputs
from tables import for_each

from rhn.cells import CELLS, DTRNN, DTSRNN, GRU, LSTM, RHN, Cell, resolve_cell
from rhn.errors import InvalidInputError

shallow = for_each("case", SHALLOW_CASES)


# ---- a torch module like any other ---------------------------------------------------------------


@shallow
def test_state_dict_deepcopy_pickle_dtype_and_config(case):
    cell = case.build()
    x, _ = inputs(cell, 3, 2)
    other = case.plain()
    assert not torch.equal(other(x)[0], cell(x)[0])
    other.load_state_dict(cell.state_dict())
    copies = [other, copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))]
    for twin in copies:
        assert torch.equal(twin(x)[0], cell(x)[0])
        assert twin.config() == cell.config()
        assert repr(twin) == repr(cell)
    single = copy.deepcopy(cell).to(torch.float32)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert_close(single(x.float())[0].double(), cell(x)[0], 1e-5, "float32")
    with torch.no_grad():
        next(copies[1].parameters()).zero_()
    assert next(cell.parameters()).any(), "a deep copy shares nothing"
    unusual = case.plain(init="gaussian:0.123", batch_first=True, kernel="reference")
    twin = type(cell)(**unusual.config())
    assert twin.config() == unusual.config()
    assert [(n, p.shape) for n, p in twin.named_parameters()] == [
        (n, p.shape) for n, p in cell.named_parameters()
    ]


@shallow
def test_the_meta_device_needs_no_memory_and_no_random_numbers(case):
    before = torch.get_rng_state()
    cell = case.plain(10, 10**5, device="meta")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.is_meta for p in cell.parameters())
    small = case.plain(3, 4, device="meta")
    assert isinstance(small, Cell) and (small.input_size, small.hidden_size, small.depth) == (
        3,
        4,
        case.depth,
    )
    first, *others = [name for name, _ in small.named_parameters()]
    assert first == "weight_ih" and (others[0] == "weight_hh" or "weight_hh" not in others)
    x = torch.empty(5, 2, 3, dtype=torch.float64, device="meta")
    assert small(x)[0].shape == (5, 2, 4)
    real = small.to_empty(device="cpu")
    real.reset_parameters(torch.Generator().manual_seed(3))
    wanted = case.plain(3, 4, generator=torch.Generator().manual_seed(3))
    assert all(
        torch.equal(p, q) for p, q in zip(real.parameters(), wanted.parameters(), strict=True)
    )


def test_extra_repr_tells_the_configuration():
    options = "coupled=True, transform_bias=-2.0, activation='tanh', gate_constant=0.0"
    assert repr(RHN(88, 64, 5)) == f"RHN(88, 64, depth=5, init='uniform:0.04', {options})"
    assert "batch_first=True" in repr(LSTM(3, 4, batch_first=True))
    assert "kernel='reference'" in repr(GRU(3, 4, kernel="reference"))


# ---- what is refused, and how --------------------------------------------------------------------


@for_each(
    ("sizes", "named"), [((0, 4), "input_size"), ((3, 4.0), "hidden_size"), ((3, 4, 0), "depth")]
)
def test_sizes_are_whole_numbers_of_at_least_one(sizes, named):
    for cell in CELLS.values():
        with pytest.raises(InvalidInputError, match=named):
            cell(*sizes)


@for_each(
    ("build", "message"),
    [
        (lambda: RHN(3, 4, kernel="fast"), "unknown kernel 'fast'"),
        (lambda: RHN(3, 4, init="xavier"), "unknown initialisation 'xavier'"),
        (
            lambda: RHN(3, 4, activation="gelu"),
            "activation is gelu, expected one of 'tanh', 'relu'",
        ),
        (
            lambda: RHN(3, 4, gate_constant=float("inf")),
            "gate_constant is inf, expected a finite number",
        ),
        (lambda: DTRNN(3, 4, nonlinearity="gelu"), "nonlinearity is gelu"),
        (lambda: DTSRNN(3, 4, 2, skip="first"), "skip is first"),
        (lambda: resolve_cell("rnh"), "unknown cell 'rnh'; did you mean"),
        (lambda: resolve_cell("math:nothing"), "cannot load the cell"),
        (lambda: resolve_cell("math:pi"), "is not callable"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


@for_each(
    ("call", "message"),
    [
        (lambda c: c(torch.zeros(3)), r"x has shape \(3,\): expected \(T, B, m\) with m = 3"),
        (lambda c: c(torch.zeros(5, 2, 4)), r"x has shape \(5, 2, 4\): expected \(T, B, m\)"),
        (lambda c: c(torch.zeros(0, 2, 3)), r"x has shape \(0, 2, 3\): expected"),
        (lambda c: c(torch.zeros(5, 2, 3).double()), "convert one"),
        (
            lambda c: c(torch.zeros(5, 2, 3), torch.zeros(3, 4)),
            r"s0 has shape \(3, 4\).*: expected \(B, N\) with .*B = 2",
        ),
        (
            lambda c: c(torch.zeros(5, 3), torch.zeros(1, 4)),
            r"s0 has shape \(1, 4\).*: expected \(N\) with .*N = 4",
        ),
        (lambda c: c(torch.zeros(5, 2, 3), torch.zeros(2, 4).double()), "s0 is torch.float64"),
        (lambda c: c([[1.0, 2.0, 3.0]]), "x is a list"),
        (lambda c: c(torch.zeros(5, 3).to_sparse()), "x is .*sparse"),
        (lambda c: c(torch.zeros(5, 3), torch.zeros(4) * 1j), "s0 is torch.complex64"),
    ],
)
def test_what_does_not_fit_is_said_in_the_callers_layout(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(RHN(3, 4, 2))

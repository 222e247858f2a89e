"""Making, copying and describing cells; sizes, names and inputs that do not fit are refused in a
sentence.
"""

import copy
import pickle

import pytest
import torch
from cases import SHALLOW_CASES, assert_close, inputs
from tables import for_each

from rhn.cells import CELLS, GRU, LSTM, RHN, Cell
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

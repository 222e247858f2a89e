"""A cell that is called with something else than tensors that fit says so in one sentence."""

import pytest
import torch
from tables import for_each

from rhn.cells import CELLS, LSTM, RHN
from rhn.errors import InvalidInputError

X = torch.rand(6, 3)
WRONG = {
    "text": "numbers",
    "list": [[1.0, 2.0, 3.0]],
    "array": X.numpy(),
    "complex": X + 1j,
    "sparse": X.to_sparse(),
    "compressed": X.to_sparse_csr(),
    "meta": X.to("meta"),
    "quantised": torch.quantize_per_tensor(X, 0.1, 0, torch.quint8),
    "nested": torch.nested.nested_tensor([X, X]),
    "other precision": X.double(),
}


@for_each("cell", [RHN(3, 4, 2), LSTM(3, 4)])
@for_each("kind", WRONG)
def test_what_is_no_tensor_that_fits_is_refused(cell, kind):
    wrong = WRONG[kind]
    for arguments in ((wrong,), (X, wrong), (X, None, wrong), (X, None, None, wrong)):
        with pytest.raises(InvalidInputError) as refusal:
            cell(*arguments)
        assert "\n" not in str(refusal.value)
    with pytest.raises(InvalidInputError, match="x is NoneType"):
        cell(None)


def test_inputs_made_in_inference_mode_are_refused_where_gradients_are_taken():
    cell = RHN(3, 4, 2)
    with torch.inference_mode():
        x = X.clone()
        inside = cell(x)[0]
    with pytest.raises(InvalidInputError, match="x was made in torch"):
        cell(x)
    with torch.no_grad():
        assert torch.equal(cell(x)[0], inside)


@pytest.mark.parametrize("key", ["rhn", "lstm", "antisymmetric", "orthogonal"])
def test_a_cell_made_in_inference_mode_is_refused_where_gradients_are_taken(key):
    with torch.inference_mode():
        cell = CELLS[key](3, 4)
        inside = cell(X)[0]
    with pytest.raises(InvalidInputError, match="the cell was made in torch"):
        cell(X)
    with torch.no_grad():
        assert torch.equal(cell(X)[0], inside)

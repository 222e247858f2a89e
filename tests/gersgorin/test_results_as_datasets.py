"""Results as datasets of xarray and tables of pandas: named axes, and the numbers of the result."""

import numpy as np
import pytest
import torch

from gersgorin import gains, gates, products, spectra
from rhn.cells import RHN

pytest.importorskip("xarray", reason="xarray is optional")
T, N = 30, 4


@pytest.fixture(scope="module", params=[spectra, products, gains, gates])
def found(request):
    cell = RHN(3, N, 2, generator=torch.Generator().manual_seed(0))
    return request.param(cell, torch.rand(T, 3, generator=torch.Generator().manual_seed(1)))


def test_every_array_of_a_result_is_a_variable(found):
    data = found.to_xarray()
    arrays = {k: v for k, v in vars(found).items() if isinstance(v, np.ndarray) and k[0] != "_"}
    assert {*data.variables} == arrays.keys() - {"overlap"}
    for name, array in data.variables.items():
        np.testing.assert_array_equal(array.values, arrays[name])
        assert dict(zip(array.dims, array.shape, strict=True))["step"] == T
    assert data.attrs["network"] == "rhn, depth 2, 4 units" and data.attrs["steps"] == T


def test_a_step_and_an_eigenvalue_are_chosen_by_their_names(found):
    if hasattr(found, "eigenvalues"):
        chosen = found.to_xarray().eigenvalues.isel(step=7, eigenvalue=0)
        assert complex(chosen) == found.eigenvalues[7, 0]


def test_a_frame_has_a_column_for_each_row_of_the_table(found):
    pytest.importorskip("pandas", reason="pandas is optional")
    frame = found.to_frame()
    assert [*frame.columns] == [*found.table()] and len(frame) == T
    for row, value in found.table().items():
        np.testing.assert_array_equal(frame[row][: np.size(value)], np.ravel(value))

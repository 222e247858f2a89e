"""A whole network given where a cell is expected: one sentence tells how to come by the cell and
what it reads.
"""

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import (
    compare,
    extract_cell,
    fixed_points,
    lyapunov,
    spectra,
    temporal_jacobian,
    trajectory,
)
from gersgorin.run.jacobians import norm_bound
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

NETWORKS = {
    "sequential": lambda: nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 5)).double(),
    "polyphonic": lambda: PolyphonicModel(
        "gru", input_size=3, output_size=3, hidden_size=5
    ).double(),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_functions_of_a_step_refuse_a_whole_network_that_functions_of_a_run_take(network):
    module, x = NETWORKS[network](), torch.rand(6, 3, dtype=torch.float64)
    s = torch.zeros(5, dtype=torch.float64)
    for call in (
        lambda: temporal_jacobian(module, x, s),
        lambda: norm_bound(module),
        lambda: trajectory(module, x),
    ):
        with pytest.raises(
            InvalidInputError, match=r"gersgorin\.extract_cell\(module, x\)"
        ) as said:
            call()
        assert "\n" not in str(said.value)
    cell, read = extract_cell(module, x)
    assert np.array_equal(spectra(module, x).norm, spectra(cell, read[:, 0]).norm)
    assert np.array_equal(lyapunov(module, x).exponents, lyapunov(cell, read[:, 0]).exponents)
    starts = torch.rand(9, cell.state_size, generator=torch.Generator().manual_seed(0)).double()
    points, same = (
        fixed_points(module, x[0], starts=starts),
        fixed_points(cell, read[0, 0], starts=starts),
    )
    np.testing.assert_allclose(points.states, same.states, atol=1e-12)
    assert np.array_equal(compare({"it": module}, x)["it"].norm, spectra(module, x).norm)

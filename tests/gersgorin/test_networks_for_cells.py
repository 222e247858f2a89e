"""A whole network given where a cell is expected: one sentence tells how to come by the cell and what it reads."""

import pytest
import torch
from torch import nn

from gersgorin import (
    bounds,
    compare,
    fixed_points,
    layer_jacobians,
    lyapunov,
    temporal_jacobian,
    trajectory,
)
from gersgorin.jacobian import norm_bound
from gersgorin.operators import leading_eigenvalues
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

NETWORKS = {
    "sequential": lambda: nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 5)).double(),
    "tuple": lambda: WithState().double(),
    "polyphonic": lambda: PolyphonicModel("gru", input_size=3, output_size=3, hidden_size=5).double(),
}


class WithState(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 5)

    def forward(self, x, state=None):
        return self.rnn(x.view(1, -1), None if state is None else state.view(1, -1))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_whole_network_in_a_cells_place_is_told_of_its_recurrent_part(network):
    module, x = NETWORKS[network](), torch.zeros(6, 3, dtype=torch.float64)
    s = torch.zeros(5, dtype=torch.float64)
    calls = [lambda: temporal_jacobian(module, x, s), lambda: fixed_points(module, x[0], s[None])]
    calls += [
        lambda: norm_bound(module),
        lambda: layer_jacobians(module, x, s),
        lambda: leading_eigenvalues(module, x[0], s, 2),
    ]
    for function in (lyapunov, trajectory, bounds):
        calls += [lambda f=function: f(module, x), lambda f=function: f(module, x, s0=s)]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"gersgorin\.extract_cell\(module, x\)") as said:
            call()
        assert "\n" not in str(said.value)
    if network != "tuple":  # which reads a step at a time
        assert len(compare(module, x[None]).sequence) == 1  # a sequence says what the cell reads

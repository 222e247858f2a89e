"""The paper's networks from their parameter budgets."""

import torch
from cases import CELL_CASES
from tables import for_each
from torch import nn

from rhn.cells import CELLS, RHN, hidden_size_for_budget, num_parameters


def whole(case, n, inputs, outputs):
    """Parameters of the whole network, counted on real tensors."""
    cell = CELLS[case.key](inputs, n, case.depth, **case.options)
    return sum(p.numel() for p in nn.Sequential(cell, nn.Linear(n, outputs)).parameters())


@for_each("case", CELL_CASES)
def test_the_largest_that_fits(case):
    budget, inputs, outputs = 5_000, 7, 3
    n = hidden_size_for_budget(
        case.key, budget, case.depth, input_size=inputs, output_size=outputs, **case.options
    )
    assert whole(case, n, inputs, outputs) <= budget < whole(case, n + 1, inputs, outputs)


def test_num_parameters_counts_what_trains():
    cell = RHN(3, 4, 2)
    assert num_parameters(cell) == 8 * 3 + 2 * 8 * 4 + 2 * 8
    cell.bias.requires_grad_(False)
    assert num_parameters(cell) == 8 * 3 + 2 * 8 * 4
    assert num_parameters(nn.Linear(2, 3, device=torch.device("meta"))) == 9

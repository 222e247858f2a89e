"""Attributes of a user's module change no number, though cells of the toolkit have the same names:
only the documented ones are read.
"""

import numpy as np
import pytest
import torch
from torch import nn
from user_modules import Vectors

import gersgorin
from rhn.cells import GRU, StackedCell
from tests.numbers.record import M, N, X, filled

DOCUMENTED = {"step", "state_size", "batch_first", "jacobian", "input_jacobian", "layer_jacobians",
              "norm_bound", "initial_state"}  # fmt: skip
OURS = StackedCell([GRU(M, N), GRU(N, N)])
NAMES = {*dir(OURS)} - {*dir(nn.Linear(1, 1))} - DOCUMENTED
VALUES = {"list": [2, N - 2], "number": 3, "part": nn.Linear(1, 1), "method": lambda *given: [3]}


class Named(Vectors):
    """A step of vectors with further attributes."""

    def __init__(self, value=None, names=()):
        super().__init__(M, N)
        for name in names:
            setattr(self, name, value)


def measured(module):
    """Numbers of every analysis of steps, and of the functions of one step."""
    run = gersgorin.open_run(module, X)
    results = [f(run) for f in (gersgorin.gains, gersgorin.gates, gersgorin.spectra,
                                gersgorin.lyapunov, gersgorin.products)]  # fmt: skip
    arrays = [value for found in results for value in vars(found).values()]
    x, s = X.double(), run.states[:-1]
    functions = gersgorin.temporal_jacobian, gersgorin.input_jacobian, gersgorin.layer_jacobians
    arrays += [f(module.double(), x, s) for f in functions]
    arrays.append(gersgorin.trajectory(module, x))
    return [np.asarray(value.detach() if torch.is_tensor(value) else value) for value in arrays]


@pytest.mark.parametrize("kind", VALUES)
def test_only_documented_attributes_of_a_module_are_read(kind):
    assert {"sizes", "stacked", "depth", "gates", "states", "blocks", "layers"} <= NAMES
    one, other = filled(Named()), filled(Named(VALUES[kind], sorted(NAMES)))
    other.load_state_dict(one.state_dict(), strict=False)
    for a, b in zip(measured(one), measured(other), strict=True):
        np.testing.assert_equal(a, b)

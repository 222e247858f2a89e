"""Closed-form Jacobians of saturated cells keep their digits: slopes against mpmath, cells in
float32 against float64.
"""

import copy

import pytest
import torch
from cases import SHALLOW_CASES, inputs
from tables import for_each

from rhn.kernels.activations import ACTIVATIONS

mp = pytest.importorskip(
    "mpmath", reason="mpmath is not installed: nothing to check against"
).mp.clone()
mp.dps = 300


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


EXACT = {"tanh": lambda z: mp.sech(z) ** 2, "sigmoid": lambda z: sigmoid(z) * sigmoid(-z)}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 300), (torch.float32, 80)], ids=str)
def test_derivatives_are_accurate_to_a_few_roundings(name, dtype, largest):
    z = torch.cat((torch.linspace(0, largest, 301), torch.logspace(-12, 1, 50))).to(dtype)
    z = torch.cat((z, -z))
    unit, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for value, found in zip(z.tolist(), ACTIVATIONS[name].derivative(z).tolist(), strict=True):
        wanted = EXACT[name](mp.mpf(value))
        assert abs(found - wanted) <= 4 * unit * wanted + 2 * tiny, value


@for_each("case", SHALLOW_CASES)
def test_float32_agrees_with_float64_where_everything_is_saturated(case):
    cell = case.build(5, 7, saturated=True, dtype=torch.float32)
    x, s = inputs(cell, 4)
    wide = copy.deepcopy(cell).double()
    for name in ("jacobian", "input_jacobian"):
        found, wanted = (
            getattr(cell, name)(x, s).double(),
            getattr(wide, name)(x.double(), s.double()),
        )
        far = (found - wanted).abs() - 1e-3 * wanted.abs()
        assert (far <= 1e-35).all(), (
            f"{name}: {wanted[far > 1e-35][:3].tolist()}, got {found[far > 1e-35][:3].tolist()}"
        )

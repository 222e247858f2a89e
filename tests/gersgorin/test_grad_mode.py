"""What differentiates does so for every caller: evaluation code often has gradients turned off."""

import numpy as np
import torch
from tables import for_each

from gersgorin import influence, spectra, temporal_jacobian
from rhn.cells import DTSRNN
from rhn.models import PolyphonicModel

CELL = DTSRNN(
    3, 6, 3, dtype=torch.float64, init="gaussian:0.4", generator=torch.Generator().manual_seed(0)
)
MODEL = PolyphonicModel(
    hidden_size=4,
    input_size=3,
    output_size=3,
    init="gaussian:0.3",
    generator=torch.Generator().manual_seed(0),
)


def runs():
    """Inputs (T, m), a state (N,) and frames (T, B, m), made where they are asked for."""
    generator = torch.Generator().manual_seed(1)
    x, s = (
        torch.randn(5, 3, generator=generator).double(),
        torch.randn(6, generator=generator).double(),
    )
    return x, s, (torch.rand(7, 2, 3, generator=generator) < 0.5).double()


MEASURES = {
    "a step by autograd": lambda: temporal_jacobian(CELL, *at_a_step(), method="jacrev").detach(),
    "leading eigenvalues": lambda: spectra(CELL, runs()[0], leading=2).log_norm_product,
    "influence": lambda: (
        influence(MODEL, runs()[2][:-1], of="bernoulli", y=runs()[2][1:]).influence
    ),
}


def at_a_step():
    x, s, _ = runs()
    return x[0], s


@for_each("mode", [torch.no_grad, torch.inference_mode])
@for_each("name", MEASURES)
def test_a_measure_is_the_same_where_the_caller_turned_gradients_off(name, mode):
    wanted = MEASURES[name]()
    with mode():
        found = MEASURES[name]()
        assert not torch.is_grad_enabled()
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-9, atol=1e-12)

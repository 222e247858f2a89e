"""What the note on the plateau says of rates and slopes, measured again: slopes of the depth less
one in deep transitions, and of an RHN as its gates open.
"""

import csv
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from examples.paper.plateau import BORDER, GATE_STD, measure, predicted_slope, relative_gradients
from rhn.models import PolyphonicModel

NOTE = Path(__file__).parents[2] / "docs/results/plateau.csv"
REPEATED = [("lstm", 1), ("irnn", 1), ("dt-rnn", 4), ("dts-rnn", 6), ("rhn", 4)]


@pytest.mark.parametrize(("cell", "depth"), REPEATED)
def test_rates_and_orders_are_those_of_the_note(cell, depth):
    rows = [
        row
        for row in csv.DictReader(NOTE.read_text().splitlines())
        if (row["cell"], row["depth"]) == (cell, str(depth))
    ]
    assert len(rows) == 3
    for row in rows:
        found = measure(cell, depth, float(row["init_std"]))
        assert found.fastest == row["fastest"]
        assert found.rates[found.fastest] == pytest.approx(float(row["rate"]), rel=1e-3)
        assert found.order == pytest.approx(float(row["order"]), rel=1e-3, abs=1e-6)


def plain_rates(cell: str, depth: int, std: float) -> list[float]:
    """||dL/dM|| / ||M|| of W, V, R_1, ... R_L of a new network at the constant output, by loops."""
    generator, n = torch.Generator().manual_seed(0), 16
    x = (torch.rand(12, 8, generator=generator) < 0.3).double()
    gates = cell == "rhn"
    shapes = [(n + gates * n, 8), (8, n), *[(n + gates * n, n)] * depth]
    M = [torch.randn(s, generator=generator).double().mul(std).requires_grad_() for s in shapes]
    W, V, *R = M
    s, loss = torch.zeros(n).double(), torch.tensor(0.0).double()
    constant = x[1:].mean(0).clamp(1e-3, 1 - 1e-3).logit()
    for t in range(len(x) - 1):
        for k in range(depth):
            z = R[k] @ s + (W @ x[t] if k == 0 else 0)
            gate = torch.sigmoid(z[n:] - 1) if gates else 1.0
            s = gate * torch.tanh(z[:n]) + (1 - gate) * s
        loss = loss + F.binary_cross_entropy_with_logits(constant + V @ s, x[t + 1])
    loss.backward()
    return [(m.grad.norm() / m.norm()).item() for m in M]


@pytest.mark.parametrize(
    ("cell", "depth"), [("dt-rnn", 1), ("dt-rnn", 2), ("dt-rnn", 4), ("rhn", 4)]
)
def test_the_note_has_the_power_of_each_matrix(cell, depth):
    L = depth
    noted = [0, 0, *[1] * L] if cell == "rhn" else [L - 1, L - 1, 2 * L - 1, *[L - 1] * (L - 1)]
    large, small = plain_rates(cell, depth, 1e-3), plain_rates(cell, depth, 1e-4)
    powers = [math.log10(a / b) for a, b in zip(large, small, strict=True)]
    assert powers == pytest.approx(noted, abs=0.02)
    slopes = measure(cell, depth, 1e-3).slopes
    assert sorted(slopes.values()) == pytest.approx(sorted(noted), abs=0.02)


def test_an_rhn_whose_gates_open_becomes_a_deep_transition_at_the_predicted_bias():
    for depth in (1, 4):
        slopes = {}
        for bias in (-8.0, 0.0, 6.0, 12.0):
            found = measure("rhn", depth, GATE_STD, transform_bias=bias)
            slopes[bias] = found.slopes["output.weight"]
            assert slopes[bias] == pytest.approx(predicted_slope(depth, bias), abs=0.2)
        assert slopes[-8.0] == pytest.approx(0, abs=0.05)
        assert slopes[12.0] == pytest.approx(depth - 1, abs=0.05)
    assert predicted_slope(4, BORDER, GATE_STD / 1e3) == pytest.approx(0, abs=1e-3)


def test_rates_are_gradients_at_the_constant_output():
    generator = torch.Generator().manual_seed(1)
    sizes = {"hidden_size": 6, "depth": 2, "input_size": 5, "output_size": 5}
    model = PolyphonicModel("dt-rnn", **sizes, init="gaussian:0.3", generator=generator).double()
    x = (torch.rand(12, 6, 5, generator=generator) < 0.4).double()
    rates = relative_gradients(model, x)
    p = x[1:].mean((0, 1))
    torch.testing.assert_close(model(x[:-1]).mean((0, 1)), p.logit())
    model.nll(x).mean().backward()
    R, W = model.cells[0].weight_hh, model.output.weight
    assert rates == {
        "cells.0.weight_ih": pytest.approx(_rate(model.cells[0].weight_ih)),
        "cells.0.weight_hh[0]": pytest.approx((R.grad[0].norm() / R[0].norm()).item()),
        "cells.0.weight_hh[1]": pytest.approx((R.grad[1].norm() / R[1].norm()).item()),
        "output.weight": pytest.approx(_rate(W)),
    }


def _rate(weight: torch.Tensor) -> float:
    return (weight.grad.norm() / weight.norm()).item()

"""Orders of every cell and depth, and the factors that its gates put into the rate, measured against what is derived for them."""

from dataclasses import dataclass

import numpy as np
import torch

from gersgorin.analyses.plateau import put_at_constant, rates_at_constant
from gersgorin.objective import Objective
from gersgorin.paper.plateau_sweeps import UNITS, measure, probe
from rhn.cells import CELLS
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

DEPTHS = (1, 2, 4, 6, 10)
STDS = (1e-2, 1e-4, 1e-6)


@dataclass(frozen=True)
class Order:
    """One network; the field names are the columns."""

    cell: str
    depth: int
    init_std: float
    order: float
    fastest: str
    rate: float


@dataclass(frozen=True)
class Factor:
    """The output matrix's rate near zero weights: measured, and of the linear network s(t) = sum_k memory^k gain P W x(t - k)."""

    cell: str
    depth: int
    gain: float
    memory: float
    measured: float
    predicted: float


def orders() -> list[Order]:
    """Every cell of the registry at every depth that it has."""
    rows = []
    for cell, factory in CELLS.items():
        for depth in DEPTHS if getattr(factory, "deep", True) else (1,):
            for std in STDS:
                p = measure(cell, depth, std)
                rows.append(Order(cell, depth, std, p.order, p.fastest, p.rates[p.fastest]))
    return rows


def factors(std: float = 1e-6) -> list[Factor]:
    """The cells with gates, and the plain RNN; P is the identity, so of RHNs the carry path alone."""
    t = 1 / (1 + np.exp(2.0))  # of an RHN with transform bias -2
    known = {("rnn", 1): (1.0, 0.0), ("lstm", 1): (0.25, 0.5), ("gru", 1): (0.5, 0.5)}
    known |= {("rhn", depth): (t * (1 - t) ** (depth - 1), (1 - t) ** depth) for depth in (1, 2, 4, 6, 10)}
    return [_factor(cell, depth, *pair, std) for (cell, depth), pair in known.items()]


def _factor(cell: str, depth: int, gain: float, memory: float, std: float) -> Factor:
    generator = torch.Generator().manual_seed(1)
    model = PolyphonicModel(cell, hidden_size=UNITS, depth=depth, init=f"gaussian:{std!r}", generator=generator)
    objective = Objective(model, probe())
    measured = rates_at_constant(objective)["output.weight"]
    W = dict(objective.model.named_parameters())["cells.0.weight_ih"].detach()
    candidate = {"lstm": slice(2 * UNITS, 3 * UNITS), "gru": slice(2 * UNITS, 3 * UNITS)}.get(cell, slice(0, UNITS))
    s, states = torch.zeros(objective.inputs.shape[1], UNITS, dtype=torch.float64), []
    for x in objective.inputs:
        s = memory * s + gain * x @ W[candidate].T
        states.append(s)
    put_at_constant(objective)
    z = objective.outputs().detach().requires_grad_()
    (errors,) = torch.autograd.grad(objective.mean_loss(z), z)
    slope = torch.einsum("tbk,tbn->kn", errors, torch.stack(states))
    weight = dict(objective.model.named_parameters())["output.weight"].detach()
    return Factor(cell, depth, gain, memory, measured, float(slope.norm() / weight.norm()))


def require_orders(rows: list[Order]) -> None:
    """Raise InvalidInputError where an order is not the derived one: the depth less one without a carry path, else 0."""
    for row in rows:
        wanted = row.depth - 1 if row.cell in ("dt-rnn", "dts-rnn") else 0
        if abs(row.order - wanted) > 0.05:
            raise InvalidInputError(f"{row}: expected the order {wanted}")

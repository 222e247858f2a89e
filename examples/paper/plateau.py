"""Measure how fast untrained networks learn on the plateau: `python -m examples.paper.plateau`.

A network with small initial weights first learns its output bias. Then its loss stays at that of
the constant predictor. There

    rate of a matrix M = ||dL/dM|| / ||M||

is the inverse of the time in which gradient flow changes M by its own size. For M in a product of P
small matrices, the rate falls as their scale to the power P - 2. This power is measured as `slope`,
d log rate / d log scale, between the scale of the network and a tenth of it. The first table
repeats the powers of docs/results/plateau.md: L - 1 in a deep transition of L layers, 0 in all
other cells.

The second table is about gates. Near zero weights a layer of an RHN is s -> (c I + t R) s with t =
sigmoid(b), c = 1 - t. If R has n x n independent entries of standard deviation std, the root mean
square of its gain is

    gain = sqrt(c^2 + t^2 n std^2)

The input passes L - 1 such layers, so the rate of the output matrix is proportional to gain^(L -
1). That is constant if c is larger, and proportional to std^(L - 1) if t std sqrt(n) is larger. The
border is at the gate bias b = -log(std sqrt(n)).

Legend: T frames, B sequences, L layers of a cell, n hidden units.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.data import chorales
from rhn.models import PolyphonicModel

UNITS, PIECES, FRAMES = 32, 16, 24
CELLS = {
    "rnn": (1,),
    "irnn": (1,),
    "lstm": (1,),
    "gru": (1,),
    "dt-rnn": (1, 2, 4, 6, 10),
    "dts-rnn": (1, 2, 4, 6, 10),
    "rhn": (1, 2, 4, 6, 10),
}
"""Cells of the first table, and their depths."""
STDS = (1e-2, 1e-4, 1e-6)
GATE_DEPTHS, GATE_BIASES, GATE_STD = (1, 2, 4, 6), (-8.0, -4.0, 0.0, 4.0, 8.0, 12.0), 1e-3
BORDER = -math.log(GATE_STD * math.sqrt(UNITS))
"""Gate bias at which the carried and the transformed part of the state are equally strong."""
TENTH = 0.1
CLIP = 1e-7  # least distance of a key's share of the frames from 0 and 1, for finite odds


@dataclass(frozen=True)
class Rates:
    """The relative gradients of the matrices of one network, at the loss of the constant
    predictor.
    """

    rates: dict[str, float]
    """||dL/dM|| / ||M|| of every matrix M by name, the layers of a stack apart."""
    slopes: dict[str, float]
    """d log rate / d log scale of all weights, by matrix; NaN for a rate of 0."""

    @property
    def fastest(self) -> str:
        """Name of the matrix with the highest rate."""
        return max(self.rates, key=lambda name: self.rates[name])

    @property
    def order(self) -> float:
        """Slope of the matrix with the highest rate."""
        return self.slopes[self.fastest]


def measure(cell: str, depth: int, std: float, **options) -> Rates:
    """Measure the rates of an untrained network with seed 1 on the beginnings of training
    chorales.
    """
    generator = torch.Generator().manual_seed(1)
    given = {"depth": depth, "init": f"gaussian:{float(std)!r}", "generator": generator} | options
    model = PolyphonicModel(cell, hidden_size=UNITS, **given).double()
    frames = beginnings()
    tenth = relative_gradients(scaled(model, TENTH), frames)
    own = relative_gradients(model, frames)
    return Rates(own, {name: _slope(rate, tenth[name]) for name, rate in own.items()})


def beginnings() -> Tensor:
    """Return the first frames of evenly spaced training chorales, (T, B, 88)."""
    pieces = [piece for piece in chorales().train if len(piece) >= FRAMES]
    some = pieces[:: len(pieces) // PIECES][:PIECES]
    return torch.as_tensor(np.stack([piece[:FRAMES] for piece in some], 1)).double()


def relative_gradients(model: PolyphonicModel, frames: Tensor) -> dict[str, float]:
    """Compute ||dL/dM|| / ||M|| of every matrix. Before that, set the output bias so that the mean
    output is that of the constant predictor.
    """
    x, y = frames[:-1], frames[1:]
    best_constant = y.mean((0, 1)).clamp(CLIP, 1 - CLIP).logit()
    with torch.no_grad():
        model.output.bias += best_constant - model(x).mean((0, 1))
    loss = F.binary_cross_entropy_with_logits(model(x), y, reduction="none").sum(-1).mean()
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [*parameters.values()])
    slopes = matrices(dict(zip(parameters, gradients, strict=True)))
    weights = matrices(parameters)
    return {name: (slopes[name].norm() / M.norm()).item() for name, M in weights.items()}


def matrices(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return views of the matrices among some parameters, with one view for each layer of a stack.

    >>> list(matrices({"R": torch.zeros(2, 3, 3), "b": torch.zeros(3)}))
    ['R[0]', 'R[1]']
    """
    found: dict[str, Tensor] = {}
    for name, p in parameters.items():
        if "bias" in name:  # of which some cells have a stack, too
            continue
        if p.dim() == 2:
            found[name] = p.detach()
        elif p.dim() == 3:
            found |= {f"{name}[{k}]": layer for k, layer in enumerate(p.detach())}
    return found


def scaled(model: PolyphonicModel, factor: float) -> PolyphonicModel:
    """Return a copy with all matrices multiplied by a factor. In square blocks nearer to the
    identity than to zero, the difference from the identity is multiplied.
    """
    other = copy.deepcopy(model)
    for M in matrices(dict(other.named_parameters())).values():
        rows, columns = M.shape
        centre = torch.zeros_like(M)
        for start in range(0, rows - columns + 1, columns):
            if M[start : start + columns].diagonal().mean() > 0.5:
                centre[start : start + columns].fill_diagonal_(1)
        M.copy_(centre + factor * (M - centre))
    return other


def _slope(own: float, tenth: float) -> float:
    if own == 0 or tenth == 0:
        return math.nan
    return math.log(own / tenth) / -math.log(TENTH)


def predicted_slope(depth: int, bias: float, std: float = GATE_STD, units: int = UNITS) -> float:
    """Return the mean slope of gain^(L - 1) between a standard deviation and a tenth of it.

    >>> predicted_slope(6, -8.0) < 0.01, predicted_slope(6, 30.0) > 4.99
    (True, True)
    """
    t = 1 / (1 + math.exp(-bias))
    large, small = ((1 - t) ** 2 + t * t * units * s * s for s in (std, TENTH * std))
    return (depth - 1) * 0.5 * math.log(large / small) / -math.log(TENTH)


def main() -> None:
    """Print both tables."""
    print("rate of the fastest matrix, and its slope, by the standard deviation of the weights")
    print(f"{'cell':9}{'depth':>5}" + "".join(f"{std:>19.0e}" for std in STDS))
    for cell, depths in CELLS.items():
        for depth in depths:
            found = [measure(cell, depth, std) for std in STDS]
            row = "".join(f"{each.rates[each.fastest]:>12.4g}{each.order:>z7.2f}" for each in found)
            print(f"{cell:9}{depth:>5}{row}")
    print("\nslope of the output matrix of an RHN, by the bias of its gates: measured (predicted)")
    print(f"depth{'':4}" + "".join(f"{bias:>14.0f}" for bias in GATE_BIASES))
    for depth in GATE_DEPTHS:
        row = ""
        for bias in GATE_BIASES:
            measured = measure("rhn", depth, GATE_STD, transform_bias=bias).slopes["output.weight"]
            row += f"{measured:>z6.2f}{f'({predicted_slope(depth, bias):.2f})':>8}"
        print(f"{depth:<9}{row}")
    print(f"\nThe carried and the transformed part are equally strong at a bias of {BORDER:.2f}.")


if __name__ == "__main__":
    main()

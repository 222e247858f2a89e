"""Sections 3 and 4: discs of two initialisations (figure 2), the Jacobian of an RHN layer and its
discs (equations 10 to 15), what gates move, and highway networks without time.

The networks are those of the gallery (`examples.figures`).
"""

import csv
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from examples import figures
from gersgorin import eigenvalues, temporal_jacobian
from gersgorin.analyses.compare import Comparison
from gersgorin.analyses.spectra import Spectra
from paper.values import RESULTS, Value, seeds, student
from rhn.cells import DTRNN, RHN

LAYERS, DEEP, UNITS = 20, 50, 32  # random layers of equations 10 to 13; layers without time
SMALL = "gaussian:0.01"


def firsts(found: Comparison) -> list[Spectra]:
    """Return the spectra of each network of a comparison."""
    return [found[one.row, one.column] for one in found.networks]


def figure_2() -> dict[str, Value]:
    """Return mean centres and radii of the row discs of the first step, smallest and largest."""
    small, identity = firsts(figures.initialisations())
    return {
        "small_centre": seeds(small.centers[0]),
        "small_radius": seeds(small.row_radii[0]),
        "identity_centre": seeds(identity.centers[0]),
        "identity_radius": seeds(identity.row_radii[0]),
    }


def random_layer(seed: int) -> tuple[RHN, Tensor, Tensor]:
    """Return an uncoupled highway layer of 6 units with standard normal weights, an input and a
    state.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = RHN(3, 6, coupled=False, **figures.seeded(seed))
    with torch.no_grad():
        for p in cell.parameters():
            p.normal_(generator=generator)
    x = torch.randn(3, dtype=torch.float64, generator=generator)
    return cell, x, torch.randn(6, dtype=torch.float64, generator=generator).tanh()


def by_autograd(function: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
    """Return the Jacobian of a function of a state (n,), by reverse-mode differentiation."""
    jacobian = torch.autograd.functional.jacobian(function, s)
    assert isinstance(jacobian, Tensor)
    return jacobian


def gate(cell: RHN, x: Tensor, name: str, s: Tensor) -> Tensor:
    """Return h, t or c of a highway layer in a state."""
    return getattr(cell.gates(x, s), name)[0]


def equations_10_to_13() -> dict[str, Value]:
    """Return the largest differences from autograd over random layers: of the Jacobian of a layer;
    of H', T' and C' with factors that multiply rows; and of their transposes, which are printed.
    """
    whole, ours, printed = [0.0], [0.0], [0.0]
    for seed in range(LAYERS):
        cell, x, s = random_layer(seed)
        layer = by_autograd(partial(cell.step, x), s)
        whole.append((temporal_jacobian(cell, x, s) - layer).abs().max().item())
        gates = cell.gates(x, s)
        h, t, c = gates.h[0], gates.t[0], gates.c[0]
        slopes = {"h": 1 - h * h, "t": t * (1 - t), "c": c * (1 - c)}
        weights = dict(zip(slopes, cell.weight_hh[0].chunk(3), strict=True))
        for name, slope in slopes.items():
            true = by_autograd(partial(gate, cell, x, name), s)
            with_rows = slope.unsqueeze(-1) * weights[name]
            ours.append((with_rows - true).abs().max().item())
            printed.append((with_rows.mT - true).abs().max().item())
    return {
        "equation_10": rounding(max(whole)),
        "equation_11_13": rounding(max(ours)),
        "equation_11_13_printed": max(printed),
    }


def rounding(difference: float) -> float:
    """Return 0 for a difference of at most 1e-12, whose digits depend on the processor."""
    return difference if difference > 1e-12 else 0.0


def equation_14() -> dict[str, Value]:
    """Count random layers with an eigenvalue outside of the discs."""
    jacobians, printed = figures.random_layers()
    z = eigenvalues(jacobians)
    is_outside = {
        "equation_14": figures.outside(jacobians, z),
        "equation_14_printed": figures.outside(printed, z, tol=1e-6),
    }
    counts = {name: float(found.any(-1).sum()) for name, found in is_outside.items()}
    return {"equation_14_layers": float(len(z)), **counts}


def equation_15() -> dict[str, Value]:
    """Return the largest distance of an eigenvalue from 1 and the largest radius with closed
    gates, and the largest distance of the spectrum from that of H' with open gates.
    """
    closed, opened = firsts(figures.gate_limits())
    cell, x = figures.gated(40.0), torch.as_tensor(figures.chorale(figures.CHORALE))[0].double()
    h = cell.gates(x, x.new_zeros(figures.UNITS)).h[0]
    candidate = (1 - h * h)[:, None] * cell.weight_hh[0, : figures.UNITS]
    from_candidate = np.abs(opened.eigenvalues[0] - eigenvalues(candidate).numpy()).max()
    return {
        "closed_eigenvalues": rounding(float(np.abs(closed.eigenvalues - 1).max())),
        "closed_radii": rounding(float(closed.row_radii.max())),
        "open_spectrum": rounding(float(from_candidate)),
    }


def movement() -> dict[str, Value]:
    """Return how far spectral radius and mean eigenvalue move along a piece in trained networks of
    section4.csv: the mean of five seeds, the smallest and the largest.
    """
    with (RESULTS / "section4.csv").open(newline="") as file:
        trained = [row for row in csv.DictReader(file) if row["moment"] == "matched"]
    found = dict[str, Value]()
    for cell in ("rnn", "rhn"):
        own = [row for row in trained if row["cell"] == cell]
        found[f"radius_moves_{cell}"] = seeds([float(row["radius_std"]) for row in own])
        found[f"mean_moves_{cell}"] = seeds([float(row["bulk_std"]) for row in own])
    return found


def through_layers(cell: RHN, s: Tensor) -> Tensor:
    """Return the output of a feedforward highway network with coupled gates: the recurrent weights
    and biases of the cell, and no input.
    """
    for R, b in zip(cell.weight_hh, cell.bias, strict=True):
        for_h, for_t = (R @ s + b).chunk(2)
        t = for_t.sigmoid()
        s = for_h.tanh() * t + s * (1 - t)
    return s


def log_norm(A: Tensor) -> float:
    """Return log10 of the 2-norm of a matrix."""
    return torch.linalg.matrix_norm(A, 2).log10().item()


def without_time() -> dict[str, Value]:
    """Return the largest difference between the Jacobian of 50 feedforward highway layers, by
    autograd, and the temporal Jacobian of an RHN of this depth without an input; and log10 of the
    2-norm of this Jacobian, and of that of 50 plain layers, over 20 seeds. The weights have a
    standard deviation of 0.01, the largest of figure 4, and the transform biases are -3.
    """
    differences, highway, plain = list[float](), list[float](), list[float]()
    x = torch.zeros(1, dtype=torch.float64)
    for seed in range(LAYERS):
        generator = torch.Generator().manual_seed(seed)
        s = torch.randn(UNITS, dtype=torch.float64, generator=generator)
        cell = RHN(1, UNITS, DEEP, init=SMALL, transform_bias=-3.0, **figures.seeded(seed))
        layers_without_gates = DTRNN(1, UNITS, DEEP, init=SMALL, **figures.seeded(seed))
        A = temporal_jacobian(cell, x, s)
        feedforward = by_autograd(partial(through_layers, cell), s)
        differences.append((A - feedforward).abs().max().item())
        highway.append(log_norm(A))
        plain.append(log_norm(temporal_jacobian(layers_without_gates, x, s)))
    return {
        "without_time": rounding(max(differences)),
        "highway_layers": student(highway),
        "plain_layers": student(plain),
    }


def rows() -> dict[str, Value]:
    """Return the numbers of figure 2, equations 10 to 15 and section 4."""
    return {
        **figure_2(),
        **equations_10_to_13(),
        **equation_14(),
        **equation_15(),
        **movement(),
        **without_time(),
    }

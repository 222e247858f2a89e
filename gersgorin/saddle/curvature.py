"""The way down from the plateau: the most negative curvature of the loss there, and which matrices its direction is made of.

The Hessian is that of all weights but the output bias, which is where it has to be. It is never formed: Lanczos' method (ARPACK) needs
its products with vectors, each a derivative of a derivative (Pearlmutter 1994). Near a saddle of order P - 2 the eigenvalue is as small
as the rates are; it is looked for in units of the Hessian's own size, because ARPACK takes what is below 1e-11 for zero.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gersgorin.objective import Objective
from gersgorin.saddle.matrices import matrices
from gersgorin.saddle.rates import put_at_constant
from rhn.result import Result

TOLERANCE = 1e-4


@dataclass(frozen=True, repr=False)
class Curvature(Result):
    """The lowest eigenvalue of the Hessian."""

    value: float
    """1 / time of gradient flow: a direction of curvature -c grows as exp(c t). NaN where it was not found."""
    overlap: dict[str, float]
    """The share of the eigenvector, in squares, that is in each matrix; the rest, of 1, is in biases."""


def lowest_curvature(objective: Objective) -> Curvature:
    """At the constant output; the objective must have been made with `second_derivatives`, and is left as it was."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    bias = objective.parameters.get(objective.output_bias)
    before = None if bias is None else bias.detach().clone()
    put_at_constant(objective)
    weights = {name: p for name, p in objective.parameters.items() if name != objective.output_bias}
    try:
        slopes = torch.autograd.grad(
            objective.mean_loss(), list(weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        start = np.random.default_rng(0).standard_normal(sum(p.numel() for p in weights.values()))
        size = max(np.linalg.norm(_product(slopes, weights, start)) / np.linalg.norm(start), np.finfo(float).tiny)
        operator = LinearOperator(
            (start.size, start.size), lambda v: _product(slopes, weights, v.ravel()) / size, dtype=float
        )
        (value,), vectors = eigsh(operator, 1, which="SA", v0=start, tol=TOLERANCE, maxiter=50)
    except ArpackNoConvergence:
        return Curvature(np.nan, dict.fromkeys(matrices(weights), np.nan))
    finally:
        if before is not None:
            bias.data.copy_(before)
    parts = dict(zip(weights, _split(vectors[:, 0], weights), strict=True))
    return Curvature(float(value * size), {name: float(v.square().sum()) for name, v in matrices(parts).items()})


def _product(slopes: tuple[Tensor, ...], weights: dict[str, Tensor], vector: np.ndarray) -> np.ndarray:
    """Hessian times vector: the gradient of the slope along the vector."""
    along = sum((g * v).sum() for g, v in zip(slopes, _split(vector, weights), strict=True))
    if not along.requires_grad:
        return np.zeros_like(vector)
    parts = torch.autograd.grad(
        along, list(weights.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in parts]).cpu().numpy()


def _split(vector: np.ndarray, weights: dict[str, Tensor]) -> list[Tensor]:
    """One long vector as tensors of the shapes of the weights."""
    whole = torch.as_tensor(vector, device="cpu").split([p.numel() for p in weights.values()])
    return [part.view_as(p).to(p) for part, p in zip(whole, weights.values(), strict=True)]

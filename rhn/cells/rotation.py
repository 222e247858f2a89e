"""Rotation matrices as exponentials of antisymmetric matrices, which n (n - 1) / 2 numbers
determine.

    skew(w) = M         M[i, j] = w[k] and M[j, i] = -w[k] for the k-th pair i > j, row by row
    rotation(w) = exp(skew(w))        orthogonal with determinant 1

Every rotation has such a w, and w has no constraint.

`torch.nn.utils.parametrizations.orthogonal` computes the same exponential, but is not used for two
reasons. It changes the class of its module, which can then neither be pickled nor be stacked to K
models with the bits of one model; and it keeps n^2 numbers instead of n (n - 1) / 2.
"""

import torch
from torch import Tensor

from rhn.cells.init import haar
from rhn.kernels.table import Kernel


def skew(w: Tensor, n: int) -> Tensor:
    """Return the antisymmetric matrix (n, n) that has the entries w (n (n - 1) / 2,).

    >>> skew(torch.tensor([1.0, 2.0, 3.0]), 3)
    tensor([[ 0., -1., -2.],
            [ 1.,  0., -3.],
            [ 2.,  3.,  0.]])
    """
    row = torch.arange(n, device=w.device)
    i, j = row.unsqueeze(1), row.unsqueeze(0)
    low, high = torch.minimum(i, j), torch.maximum(i, j)
    pair = high * (high - 1) // 2 + low + 1  # place in (0, w, -w), for i > j
    place = torch.where(i == j, 0, torch.where(i > j, pair, pair + len(w)))
    return torch.cat((w.new_zeros(1), w, -w))[place]


def entries(M: Tensor) -> Tensor:
    """Return the entries w (n (n - 1) / 2,) of an antisymmetric matrix M, the inverse of `skew`."""
    rows, columns = torch.tril_indices(len(M), len(M), -1, device=M.device)
    return M[rows, columns]


def rotation(w: Tensor, n: int) -> Tensor:
    """Compute exp(skew(w)) (n, n), in plain differentiable operations. Numbers of 16 bits are
    computed in 32 bits.
    """
    return _exp(_wide(skew(w, n))).to(w.dtype)


def stacked_rotation(w: Tensor, n: int) -> Tensor:
    """Compute exp(skew(w)) (n, n) as `rotation` does, but so that a model's matrix and gradient
    have the same bits alone or under `vmap`. This function has no second derivatives.
    """
    return _EXPONENTIAL(_wide(skew(w, n))).to(w.dtype)


def random_rotation(n: int, generator: torch.Generator | None) -> Tensor:
    """Draw a uniform (Haar) rotation, and return its w (n (n - 1) / 2,) in float64: the entries of
    its logarithm, with angles of at most pi.
    """
    Q = haar(torch.randn(n, n, generator=generator, dtype=torch.float64, device="cpu"))
    Q[:, 0] *= torch.linalg.det(Q).sign()
    values, vectors = torch.linalg.eig(Q)
    M = (vectors * values.log() @ torch.linalg.inv(vectors)).real
    return entries((M - M.T) / 2)


def _wide(M: Tensor) -> Tensor:
    return M.to(torch.promote_types(M.dtype, torch.float32))


def _exp(M: Tensor) -> Tensor:
    """Compute exp(M), in a batch of two: for a single matrix torch ends the series too early, with
    errors of 5e-5 in float32 and 3e-10 in float64.
    """
    return torch.matrix_exp(torch.stack((M, torch.zeros_like(M))))[0]


def _forward(M: Tensor, *, K: int, keep: bool) -> tuple[Tensor]:
    """Compute exp(M) (K, n, n), one matrix after another."""
    return (torch.stack([_exp(m) for m in M]),)


def _backward(grad, needs, residuals, *, M: Tensor) -> dict[str, Tensor]:
    """Compute the gradient for M: the upper right block of exp([[M', G], [0, M']]) (Najfeld and
    Havel 1995).
    """
    n, blocks = grad.shape[-1], []
    for m, g in zip(M.expand(grad.shape), grad, strict=True):
        below = torch.cat((torch.zeros_like(m), m.T), 1)
        blocks.append(_exp(torch.cat((torch.cat((m.T, g), 1), below)))[:n, n:])
    return {"M": torch.stack(blocks)}


_EXPONENTIAL = Kernel(
    name="matrix exponential", arguments={"M": "n n"}, reference=_exp, fused=(_forward, _backward)
)

"""Oracles that several test files need: products, exponents, rows of spectra, a plain loop."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.linalg
import torch


def close(found, wanted, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest entry."""
    wanted = np.asarray(wanted)
    assert np.shape(found) == wanted.shape
    largest = abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * largest)


class LogProduct:
    """A product P exp(log) of matrices, with the largest entry of P at 1."""

    def __init__(self, n: int) -> None:
        self.P, self.log = np.eye(n), 0.0

    def then(self, J: np.ndarray) -> None:
        self.P = J @ self.P
        if size := np.abs(self.P).max():
            self.P, self.log = self.P / size, self.log + math.log(size)

    @property
    def log_norm(self) -> float:
        return self.log + math.log(np.linalg.norm(self.P, 2))


def log_norms(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """log ||A[t] ... A[0]||_2 for each t."""
    product, found = None, []
    for A in matrices:
        product = product or LogProduct(len(A))
        product.then(A)
        found.append(product.log_norm)
    return np.array(found)


def qr_exponents(matrices: Iterable[np.ndarray], Q: np.ndarray) -> np.ndarray:
    """Mean log |R_ii|, the largest first: one decomposition of NumPy a step."""
    logs = []
    for A in matrices:
        Q, R = np.linalg.qr(A @ Q)
        logs.append(np.log(np.abs(np.diag(R))))
    return np.sort(np.mean(logs, 0))[::-1]


def differences(f: Callable[[torch.Tensor], torch.Tensor], s: torch.Tensor, h: float = 1e-6):
    """The Jacobian of f at s (N,) by central differences."""
    with torch.no_grad():
        steps = h * torch.eye(len(s), dtype=s.dtype)
        return torch.stack([(f(s + e) - f(s - e)) / (2 * h) for e in steps], 1)


def highway_step(weights: Sequence[np.ndarray], x: np.ndarray, s: np.ndarray):
    """(Jacobians of the layers, next state) of a step of an RHN with weights W, R, b."""
    W, R, b = weights
    n, found = len(s), []
    for k in range(len(R)):
        z = R[k] @ s + b[k] + (W @ x if k == 0 else 0)
        h, t = np.tanh(z[:n]), 1 / (1 + np.exp(-z[n:]))
        dh, dt = (1 - h * h) * t, t * (1 - t) * (h - s)
        found.append(np.diag(1 - t) + dh[:, None] * R[k][:n] + dt[:, None] * R[k][n:])
        s = h * t + s * (1 - t)
    return found, s


def transition_step(weights: Sequence[np.ndarray], x: np.ndarray, s: np.ndarray):
    """(Jacobians of the layers, next state) of a step of a DT-RNN with weights W, R, b."""
    W, R, b = weights
    found = []
    for k in range(len(R)):
        s = np.tanh(R[k] @ s + b[k] + (W @ x if k == 0 else 0))
        found.append((1 - s * s)[:, None] * R[k])
    return found, s


def rows_of_spectra(A: np.ndarray) -> dict[str, float]:
    """The rows of `Spectra` about one Jacobian, by NumPy and SciPy."""
    center, off = np.diag(A), np.abs(A - np.diag(np.diag(A)))
    row, column = off.sum(1), off.sum(0)
    values, left, right = scipy.linalg.eig(A, left=True)
    triangle, _ = scipy.linalg.schur(A, output="complex")
    overlap = np.linspace(-1, 1, 2001)[:, None] + 1j * np.linspace(0, 1, 1001)
    overlap *= max(np.abs(center + row).max(), np.abs(center - row).max())
    for radii in (row, column):
        overlap = overlap[(np.abs(overlap[..., None] - center) <= radii).any(-1)]
    turns = np.exp(-2j * np.pi * np.arange(128) / 128)
    support = [np.linalg.eigvalsh(turn * A + (turn * A).conj().T)[-1] / 2 for turn in turns]
    return {
        "spectral radius": np.abs(values).max(),
        "largest modulus in the row discs": (np.abs(center) + row).max(),
        "largest modulus in the column discs": (np.abs(center) + column).max(),
        "largest modulus in the overlap of both": np.abs(overlap).max(),  # to 0.1 % of the grid
        "rightmost point of the row discs": (center + row).max(),
        "rightmost point of the column discs": (center + column).max(),
        "rightmost point of the overlap of both": overlap.real.max(),
        "row discs inside the unit circle (share)": (np.abs(center) + row <= 1).mean(),
        "column discs inside the unit circle (share)": (np.abs(center) + column <= 1).mean(),
        "2-norm": np.linalg.norm(A, 2),
        "numerical radius (upper bound)": max(support) / math.cos(math.pi / 128),
        "departure from normality (0 to 1)": np.linalg.norm(np.triu(triangle, 1))
        / np.linalg.norm(A),
        "largest eigenvalue condition": (1 / np.abs((left.conj() * right).sum(0))).max(),
        "entries of a state": len(A),
        "eigenvalues of a step": len(A),
    }


def relative_error(z: np.ndarray, y: np.ndarray, train: np.ndarray) -> float:
    """Squared error of outputs, relative to that of the mean of the training targets."""
    return ((z - y) ** 2).sum() / ((y - train.mean(0)) ** 2).sum()


def plain_losses(
    model, x, y, loss_fn, optimizer, steps: int, scheduler=None, *, size=32
) -> list[float]:
    """The losses of a plain loop over minibatches of `size` examples, in the order of seed 0,
    without smaller ones.
    """
    generator, losses = torch.Generator().manual_seed(0), list[float]()
    while len(losses) < steps:
        rows = torch.randperm(len(y), generator=generator).split(size)
        whole = [each for each in rows if len(each) == size]
        for rows in whole[: steps - len(losses)]:
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(loss.item())
    return losses

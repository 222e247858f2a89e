"""Lyapunov spectra, fixed points, discs and eigenvalues against what their users take today."""

import importlib.util
from functools import partial

import numpy as np
import torch

from benchmarks.procedures import (
    discs_by_loops,
    exponents_by_autograd,
    exponents_by_diagonals,
    fixed_points_by_adam,
    three_bits,
)
from benchmarks.registry import benchmark
from gersgorin import eigenvalues, fixed_points, gersgorin_discs, lyapunov

STARTS = 512


def original_fixed_points(rnn, x, starts, rate: float = 1.0):
    """FixedPointFinder's own code; its checkout (github.com/mattgolub/fixed-point-finder) has to be
    on PYTHONPATH.
    """
    from FixedPointFinderTorch import FixedPointFinderTorch

    finder = FixedPointFinderTorch(
        rnn, lr_init=rate, dtype=str(starts.dtype).removeprefix("torch."), verbose=False
    )
    return finder.find_fixed_points(starts.clone().numpy(), x.unsqueeze(0).numpy())[0]


def has_original() -> bool:
    """True if FixedPointFinder's own code can be imported."""
    return importlib.util.find_spec("FixedPointFinderTorch") is not None


FINDER = "fixed-point-finder: its published procedure (Adam on q)"
FINDERS = [fixed_points_by_adam]
if has_original():
    FINDER += " and its own code"
    FINDERS.append(original_fixed_points)
HYPEROPT = "lyapunov-hyperopt: its published procedure"


for n, floor in ((15, 2.0), (63, 1.0)):

    @benchmark(f"27 fixed points of a tanh RNN n={n} from {STARTS} starts", FINDER, floor, pairs=5)
    def _(device, n=n):
        (rnn, starts), x = three_bits(n, STARTS), torch.zeros(3, dtype=torch.float64)
        others = [partial(finder, rnn, x, starts) for finder in FINDERS]
        return partial(fixed_points, rnn, x, starts=starts), *others


for n, T in ((64, 200), (256, 50)):

    @benchmark(
        f"all Lyapunov exponents of a tanh RNN n={n} T={T}",
        f"{HYPEROPT} (closed form or autograd, QR each step)",
        pairs=5,
    )
    def _(device, n=n, T=T):
        rnn, x = torch.nn.RNN(8, n, dtype=torch.float64), torch.randn(T, 8, dtype=torch.float64)
        procedures = lyapunov, exponents_by_autograd, exponents_by_diagonals
        return tuple(partial(procedure, rnn, x) for procedure in procedures)

    @benchmark(
        f"10 Lyapunov exponents of a GRU n={n} T={T}",
        f"{HYPEROPT} (autograd, QR each step)",
        pairs=3,
    )
    def _(device, n=n, T=T):
        rnn, x = torch.nn.GRU(8, n, dtype=torch.float64), torch.randn(T, 8, dtype=torch.float64)
        return (lambda: lyapunov(rnn, x, count=10)), (lambda: exponents_by_autograd(rnn, x, 10))


@benchmark("row discs of (64, 64, 64) float64", "NumPy loops over the entries", 10.0, pairs=5)
def _(device):
    A = torch.randn(64, 64, 64, dtype=torch.float64)
    return (lambda: gersgorin_discs(A)), (lambda: discs_by_loops(A.numpy()))


# both pass twice over the entries, ours a third time to check that they are finite
@benchmark("row discs of (64, 64, 64) float64", "NumPy without loops")
def _(device):
    A = torch.randn(64, 64, 64, dtype=torch.float64)
    array = A.numpy()

    def by_numpy():
        moduli = np.abs(array)
        moduli[:, range(64), range(64)] = 0  # not subtracted, which loses small radii
        return array.diagonal(axis1=1, axis2=2), moduli.sum(2)

    return (lambda: gersgorin_discs(A)), by_numpy


@benchmark("eigenvalues of (64, 64, 64) float64", "a loop of numpy.linalg.eigvals")
def _(device):
    A = torch.randn(64, 64, 64, dtype=torch.float64)
    return (lambda: eigenvalues(A)), (lambda: [np.linalg.eigvals(M) for M in A.numpy()])

"""The margins of Lyapunov exponents cover rounding: products of matrices with 50 digits."""

import math

import mpmath
import numpy as np
import pytest
import torch

from gersgorin.analyses.frames import growth, random_frame
from gersgorin.analyses.lyapunov import lyapunov
from gersgorin.run import open_run
from tests.gersgorin.test_exponents import ZERO, d, drawn, steps


def rotation(N, seed):
    return torch.linalg.qr(drawn(N, N, seed=seed))[0]


def of_condition(number, N):
    """A matrix with singular values from 1 down to 1 / number."""
    sizes = torch.logspace(0, -math.log10(number), N, dtype=d)
    return rotation(N, 1) @ sizes.diag() @ rotation(N, 2)


def of_eigenvalue_condition(number, N):
    """A matrix with the eigenvalues 1.2, ..., 0.3 and eigenvectors of this condition."""
    V = of_condition(number, N)
    return V @ torch.linspace(1.2, 0.3, N, dtype=d).diag() @ torch.linalg.inv(V)


ROTATED = rotation(2, 3)
SYSTEMS = {  # name: (the matrices of the steps, in turn; number of exponents)
    "random": ([drawn(5, 5)], 5),
    "random, other at each step": (list(drawn(40, 5, 5)), 5),
    "random, the largest": (list(drawn(40, 5, 5)), 1),
    "two nearly equal columns": ([torch.tensor([[1, 1], [1, 1 + 1e-12]], dtype=d)], 2),
    "condition 1e6": ([of_condition(1e6, 4)], 4),
    "condition 1e12": ([of_condition(1e12, 4)], 4),
    "condition 1e9, other at each step": (
        [rotation(3, k) @ of_condition(1e9, 3) for k in range(40)], 3),
    "eigenvalue condition 1e4": ([of_eigenvalue_condition(1e4, 4)], 4),
    "eigenvalue condition 1e4, the largest": ([of_eigenvalue_condition(1e4, 4)], 1),
    "a large entry above the diagonal": (
        [ROTATED @ torch.tensor([[1, 1e6], [0, 0.5]], dtype=d) @ ROTATED.T], 2),
    "the same, the largest": (
        [ROTATED @ torch.tensor([[1, 1e6], [0, 0.5]], dtype=d) @ ROTATED.T], 1),
    "orthogonal": ([rotation(6, 4)], 6),
    "in single precision": ([of_condition(1e3, 3).float()], 3),
}  # fmt: skip


def exact_growth(matrices, Q):
    """Mean log |R_ii| along the run, by Gram and Schmidt with 50 digits."""
    with mpmath.workdps(50):
        columns, logs = orthonormal(Q.T.tolist())[0], []
        for A in matrices:
            rows = [[mpmath.mpf(a) for a in row] for row in A.tolist()]
            columns, sizes = orthonormal([[mpmath.fdot(row, q) for row in rows] for q in columns])
            logs.append([mpmath.log(size) for size in sizes])
        return np.array([float(mpmath.fsum(each) / len(logs)) for each in zip(*logs, strict=True)])


def orthonormal(columns):
    """The columns of Q and the diagonal of R of a QR decomposition."""
    found, sizes = [], []
    for column in columns:
        q = [mpmath.mpf(entry) for entry in column]
        for other in found:
            share = mpmath.fdot(other, q)
            q = [a - share * b for a, b in zip(q, other, strict=True)]
        sizes.append(mpmath.sqrt(mpmath.fdot(q, q)))
        found.append([a / sizes[-1] for a in q])
    return found, sizes


@pytest.mark.parametrize("name", SYSTEMS)
def test_margins_cover_the_rounding_that_50_digits_show(name):
    (some, k), T = SYSTEMS[name], 40
    matrices = [some[t % len(some)] for t in range(T)]
    N, x = len(some[0]), torch.stack(matrices).reshape(T, -1)
    run = open_run(lambda x, s: x.reshape(N, N) @ s, x, torch.zeros(N).to(x))
    Q = random_frame(N, k, 0, run.states)
    logs, found = growth(run, Q)[0], lyapunov(run, count=k)
    exact = exact_growth(matrices, Q)
    errors = np.abs(logs[0].mean(0).numpy() - exact)
    eps = torch.finfo(x.dtype).eps
    rounding = eps * np.maximum(logs[2].mean(0).numpy(), math.sqrt(N))
    assert (errors <= 2 * rounding).all(), errors / rounding
    order = np.argsort(-logs[0].mean(0).numpy(), kind="stable")
    assert (found.margins >= 2 * rounding[order]).all()


def test_the_rounding_of_an_orthogonal_step_is_that_of_a_sum_of_its_entries():
    (Q,), N = SYSTEMS["orthogonal"][0], 6
    found = lyapunov(lambda x, s: Q @ s, steps(40), torch.zeros(N, dtype=d))
    margins = 2 * np.finfo(float).eps * math.sqrt(N)
    assert (found.margins >= margins * (1 - 1e-6)).all() and (found.margins < 9 * margins).all()


def test_the_margin_of_a_small_exponent_is_not_that_of_the_largest():
    """60 digits give -28.32407940."""
    A = torch.tensor([[1.0, 1.0], [1.0, 1 + 1e-12]], dtype=d)
    found = lyapunov(lambda x, s: A @ s, steps(1000), ZERO, warmup=100)
    error = abs(found.exponents[1] + 28.32407940)
    assert 1e-6 < error < found.margins[1] < 0.01 and found.margins[0] < 1e-13

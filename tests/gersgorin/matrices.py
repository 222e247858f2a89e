"""The one table of hard matrices that shared tests run over, in float64.

A new row is tested by every test that takes `MATRICES`; a new inclusion set is tested on every row.
"""

import numpy as np
import scipy.linalg
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

rng = np.random.default_rng(20160712)


def _normal(n: int) -> np.ndarray:
    return rng.standard_normal((n, n))


def jordan(n: int, value: float) -> np.ndarray:
    return value * np.eye(n) + np.diag(np.ones(n - 1), 1)


def grcar(n: int) -> np.ndarray:
    return scipy.linalg.toeplitz([1.0, -1] + [0] * (n - 2), [1.0, 1, 1, 1] + [0] * (n - 4))


def shuffled(A: np.ndarray) -> np.ndarray:
    order = rng.permutation(len(A))
    return A[np.ix_(order, order)]


QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])

MATRICES: dict[str, torch.Tensor] = {
    name: torch.from_numpy(np.array(A, dtype=complex if np.iscomplexobj(A) else float))
    for name, A in {
        "random": _normal(20),
        "one_by_one": [[-3.0]],
        "zero": np.zeros((6, 6)),
        "identity": np.eye(5),
        "huge": 1e150 * _normal(9),
        "tiny": 1e-150 * _normal(9),
        "upper_triangular": np.triu(_normal(15)),
        "lower_triangular": np.tril(_normal(15)),
        "jordan": jordan(8, 0.9),
        "jordan_shuffled": shuffled(jordan(12, -0.5)),
        "jordan_of_rotations": shuffled(
            np.kron(jordan(4, 0.0), np.eye(2)) + np.kron(np.eye(4), QUARTER_TURN)
        ),
        "nilpotent": [[0.0, 2.0], [0.0, 0.0]],
        "rotations": np.kron(np.eye(3), QUARTER_TURN),
        "permutation": shuffled(np.eye(9))[rng.permutation(9)],
        "stochastic": rng.dirichlet(np.ones(12), size=12),
        "doubly_stochastic": (np.eye(7) + np.roll(np.eye(7), 1, axis=0)) / 2,
        "companion": scipy.linalg.companion(np.poly([1.0, 2, 3, 4, 5])),
        "grcar": grcar(30),
        "nearly_closed_gates": np.eye(10) + 1e-9 * _normal(10),
        "closed_gates_below_rounding": np.eye(4) + 1e-20 * (1 - np.eye(4)),
        "badly_scaled": _normal(8) * np.exp(3 * _normal(8)),
        "separate_discs": np.diag([-9.0, -1, -0.5, 8, 8.5, 20]) + 0.1 * (1 - np.eye(6)),
        "symmetric": (lambda B: B + B.T)(_normal(11)),
        "complex": _normal(8) + 1j * _normal(8),
    }.items()
}
REAL_MATRICES = {name: A for name, A in MATRICES.items() if not A.is_complex()}


def square_matrices(largest: int = 7) -> st.SearchStrategy[torch.Tensor]:
    """Random real matrices, n = 1..largest, with zeros, repeated values and entries over 12 orders
    of magnitude.
    """
    magnitude = st.floats(-6, 6).map(lambda e: 10.0**e)
    entry = st.one_of(st.sampled_from([0.0, 0.0, 1.0, -1.0]), st.floats(-3, 3, width=32), magnitude)
    sizes = st.integers(1, largest)
    return sizes.flatmap(lambda n: hnp.arrays(np.float64, (n, n), elements=entry)).map(
        torch.from_numpy
    )

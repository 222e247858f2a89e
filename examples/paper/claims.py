"""The paper's statements (Zilly et al. 2017, arXiv 1607.03474) as numbers, for the gallery and its
tests.
"""

import torch
from torch import Tensor

from gersgorin import gersgorin_discs, spectra, temporal_jacobian
from gersgorin.analyses.spectra import Spectra
from rhn.cells import IRNN, RHN, RNN
from rhn.data import chorale

CHORALE = "bwv269"
KEYS, UNITS = 88, 64


def seeded(seed: int = 0) -> dict:
    """Return keyword arguments for a float64 cell with its own random generator."""
    return {"dtype": torch.float64, "generator": torch.Generator().manual_seed(seed)}


def of_matrices(matrices: Tensor, title: str) -> Spectra:
    """Return the spectra of given matrices (T, n, n), one for each time step: s' = A[t] s."""
    n = matrices.shape[-1]
    return spectra(
        lambda x, s: x.reshape(n, n) @ s, matrices.flatten(1), s0=matrices.new_zeros(n), title=title
    )


def on_chorale(cell: torch.nn.Module, title: str) -> Spectra:
    """Return the spectra of a cell along the chorale of the gallery."""
    x = torch.as_tensor(chorale(CHORALE))
    return spectra(cell, x, title=title, data=CHORALE, unit="quarter notes")


def initialisations() -> list[Spectra]:
    """Return the spectra of an RNN with small Gaussian weights, and with identity weights (figure
    2).
    """
    return [
        on_chorale(RNN(KEYS, UNITS, init=init, **seeded()), f"RNN, {init}")
        for init in ("gaussian:0.02", "identity:0.005")
    ]


def gate_limits() -> list[tuple[RHN, Spectra]]:
    """Return an RHN with closed gates (t = 0, c = 1) and one with open gates (t = 1, c = 0), each
    with its spectra.
    """
    cells = [
        RHN(KEYS, UNITS, init="gaussian:0.05", transform_bias=bias, **seeded())
        for bias in (-40.0, 40.0)
    ]
    titles = ("RHN, transform bias -40", "RHN, transform bias 40")
    return [(cell, on_chorale(cell, title)) for cell, title in zip(cells, titles, strict=True)]


def moving_spectra(seed: int = 0) -> list[Spectra]:
    """Return the spectra of an RNN, an IRNN and an RHN with ten times larger input weights, to show
    how they change from step to step (section 4).
    """
    cells = {
        "RNN": RNN(KEYS, UNITS, init="gaussian:0.1", **seeded(seed)),
        "IRNN": IRNN(KEYS, UNITS, **seeded(seed)),
        "RHN": RHN(KEYS, UNITS, init="gaussian:0.1", transform_bias=-1.0, **seeded(seed)),
    }
    with torch.no_grad():
        for cell in cells.values():
            cell.weight_ih *= 10
    return [on_chorale(cell, name) for name, cell in cells.items()]


def gaussian_matrix(n: int, std: float = 0.05) -> Tensor:
    """Draw a Gaussian matrix (n, n). The mean radius of its row discs is about (n - 1) std sqrt(2 /
    pi), and its spectral radius about std sqrt(n).
    """
    generator = torch.Generator().manual_seed(n)
    return std * torch.randn(n, n, dtype=torch.float64, generator=generator)


def counterexamples() -> list[Spectra]:
    """Return two examples in which spectra of single steps do not compose: steps of radius 0 with a
    growing product, and steps of radius 2 with a product of 0.
    """
    N, D = torch.tensor([[[0.0, 2.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    return [
        of_matrices(torch.stack([N, N.T] * 5), "[[0, 2], [0, 0]] and its transpose in turn"),
        of_matrices(torch.stack([D, D.flip(0, 1)] * 5), "diag(2, 0) and diag(0, 2) in turn"),
    ]


def equation_14(cell: RHN, x: Tensor, s: Tensor, *, printed: bool) -> Tensor:
    """Return the matrix (n, n) whose row discs are those of equation 14, for one uncoupled highway
    layer, x (m,) and s (n,): for each i

        |z - c_i - H'_ii t_i - C'_ii s_i - T'_ii h_i|
            <= sum over j != i of |H'_ij t_i + C'_ij s_i + T'_ij h_i|

    printed: if True, H' = R_H^T diag[tanh'(z_H)], and C' and T' likewise, as in equations 11 to 13.
    If False, their transposes, which give the Jacobian.
    """
    gates = cell.gates(x, s)
    h, t, c = gates.h[0], gates.t[0], gates.c[0]
    A, slopes, factors = c.diag(), (1 - h * h, t * (1 - t), c * (1 - c)), (t, h, s)
    for R, slope, factor in zip(cell.weight_hh[0].chunk(3), slopes, factors, strict=True):
        derivative = slope.unsqueeze(-1) * R  # [i, j] = d h_i / d s_j, and so for t and c
        A = A + factor.unsqueeze(-1) * (derivative.mT if printed else derivative)
    return A


@torch.no_grad()
def random_layers(count: int = 2000, n: int = 4) -> tuple[Tensor, Tensor]:
    """Return the Jacobians of random highway layers, and the matrices of equation 14 as printed,
    (count, n, n) each.

    All recurrent weights and biases are standard normal, the input is 0, the state is tanh of a
    standard normal vector.
    """
    generator = torch.Generator().manual_seed(14)
    cell, x, matrices = (
        RHN(1, n, coupled=False, **seeded()),
        torch.zeros(1, dtype=torch.float64),
        [],
    )
    for _ in range(count):
        for p in cell.parameters():
            p.normal_(generator=generator)
        s = torch.randn(n, dtype=torch.float64, generator=generator).tanh()
        matrices.append(
            torch.stack((temporal_jacobian(cell, x, s), equation_14(cell, x, s, printed=True)))
        )
    return tuple(torch.stack(matrices, 1))


def outside(A: Tensor, z: Tensor, tol: float | None = None) -> Tensor:
    """Return True for points z (count, k) outside of the union of the row discs of A (count, n, n),
    whose radii are enlarged by tol; None: by rounding.
    """
    return ~gersgorin_discs(A).contains(z, tol)

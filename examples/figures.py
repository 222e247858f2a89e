"""Draw pictures of docs/gallery.md and docs/concepts.md.

    python -m examples.figures docs/figures initialisations gate-limits

The gallery shows the paper's statements (Zilly et al. 2017, arXiv 1607.03474); tests compute with
the same functions.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from gersgorin import compare, eigenvalues, gersgorin_discs, open_run, temporal_jacobian
from gersgorin.analyses.compare import Comparison
from gersgorin.analyses.complex_plane import IMAGINARY, REAL, label_planes
from gersgorin.analyses.disc_panels import IN_LEGEND, JacobianDiscs, draw_discs, whole_square
from gersgorin.run import Run
from rhn.cells import IRNN, RHN, RNN
from rhn.data import chorale
from rhn.utils.composer import composed, fitted, legend_above
from rhn.utils.figures import BLUE, GREY, RED, call_text, figure_width, save_figure
from rhn.utils.named_curves import folded

CHORALE = "bwv269"
KEYS, UNITS = 88, 64
MATRIX = torch.tensor([[0.5, 0.2, 0.1], [0.1, -0.3, 0.2], [0.05, 0.25, 0.9]])


def seeded(seed: int = 0) -> dict:
    """Return keyword arguments for a float64 cell with its own random generator."""
    return {"dtype": torch.float64, "generator": torch.Generator().manual_seed(seed)}


def on_chorale(cells: dict, *panels: str) -> Comparison:
    """Compare cells along the chorale of the gallery."""
    x = torch.as_tensor(chorale(CHORALE))
    return compare(cells, x, panels=panels, data=CHORALE, unit="quarter notes")


def initialisations() -> Comparison:
    """Compare an RNN with small Gaussian weights, and one with identity weights (figure 2)."""
    schemes = {
        "Gaussian weights of deviation 0.02": "gaussian:0.02",
        "identity weights and noise of 0.005": "identity:0.005",
    }
    cells = {name: RNN(KEYS, UNITS, init=init, **seeded()) for name, init in schemes.items()}
    return on_chorale(cells, "discs")


def gated(bias: float) -> RHN:
    """Return an RHN with closed gates (-40: t = 0, c = 1) or open ones (40: t = 1, c = 0)."""
    return RHN(KEYS, UNITS, init="gaussian:0.05", transform_bias=bias, **seeded())


def gate_limits() -> Comparison:
    """Compare closed and open gates."""
    return on_chorale({"closed gates": gated(-40.0), "open gates": gated(40.0)}, "discs")


def moving_spectra(seed: int = 0) -> Comparison:
    """Compare an RNN, an IRNN and an RHN with ten times larger input weights, whose spectra change
    from step to step (section 4).
    """
    cells = {
        "RNN": RNN(KEYS, UNITS, init="gaussian:0.1", **seeded(seed)),
        "IRNN": IRNN(KEYS, UNITS, **seeded(seed)),
        "RHN": RHN(KEYS, UNITS, init="gaussian:0.1", transform_bias=-1.0, **seeded(seed)),
    }
    with torch.no_grad():
        for cell in cells.values():
            cell.weight_ih *= 10
    return on_chorale(cells, "discs", "radius", "product")


def gaussian_matrix(n: int, std: float = 0.05) -> Tensor:
    """Draw a Gaussian matrix (n, n). The mean radius of its row discs is about (n - 1) std sqrt(2 /
    pi), and its spectral radius about std sqrt(n).
    """
    generator = torch.Generator().manual_seed(n)
    return std * torch.randn(n, n, dtype=torch.float64, generator=generator)


def of_matrices(*matrices: Tensor) -> Run:
    """Return a run along given matrices (n, n), one for each time step: s' = A[t] s."""
    A, n = torch.stack(matrices), len(matrices[0])
    return open_run(lambda x, s: x.reshape(n, n) @ s, A.flatten(1), A.new_zeros(n), data="s' = A s")


def draw_radii(size: str | float = "page") -> Figure:
    """Draw the mean disc radius and the spectral radius of Gaussian matrices (section 4)."""
    sizes = np.array([8, 16, 32, 64, 128, 256, 512])
    matrices = [gaussian_matrix(n) for n in sizes.tolist()]
    means = [float(gersgorin_discs(A).radii.mean()) for A in matrices]
    largest = [float(eigenvalues(A)[0].abs()) for A in matrices]

    def draw(part: SubFigure) -> float:
        ax = part.add_subplot()
        linear, root = means[0] * sizes / sizes[0], largest[0] * (sizes / sizes[0]) ** 0.5
        ax.loglog(sizes, means, "o-", color=BLUE, label="mean radius of the row discs")
        ax.loglog(sizes, linear, ":", color=GREY, label="in proportion to n")
        ax.loglog(sizes, largest, "s-", color=RED, label="spectral radius")
        ax.loglog(sizes, root, "--", color=GREY, label="in proportion to n$^{1/2}$")
        ax.set(xlabel="units n", ylabel="radius", xticks=sizes, xticklabels=sizes)
        ax.minorticks_off()
        legend_above(part, [ax])
        return fitted(part, 1.6 + 0.3 * figure_width(part))

    title = "Gaussian matrices of standard deviation 0.05"
    return composed(draw, title, size, call=call_text("draw_radii", size=size))


def counterexamples() -> Comparison:
    """Compare two examples in which spectra of single steps do not compose: steps of radius 0 with
    a growing product, and steps of radius 2 with a product of 0.
    """
    N, D = torch.tensor([[[0.0, 2.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    growing, vanishing = of_matrices(*[N, N.T] * 5), of_matrices(*[D, D.flip(0, 1)] * 5)
    return compare({"radius 0": growing, "radius 2": vanishing}, panels=("radius", "product"))


def rotations() -> Comparison:
    """Compare multiples of an orthogonal matrix, whose product explodes, stays or vanishes."""
    Q = torch.linalg.qr(gaussian_matrix(32))[0]
    names = {"explodes": 1.3, "stays": 1.0, "vanishes": 0.7}
    runs = {name: of_matrices(*[factor * Q] * 40) for name, factor in names.items()}
    return compare(runs, panels=("product",))


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
    generator, matrices = torch.Generator().manual_seed(14), []
    cell, x = RHN(1, n, coupled=False, **seeded()), torch.zeros(1, dtype=torch.float64)
    for _ in range(count):
        for p in cell.parameters():
            p.normal_(generator=generator)
        s = torch.randn(n, dtype=torch.float64, generator=generator).tanh()
        printed = equation_14(cell, x, s, printed=True)
        matrices.append(torch.stack((temporal_jacobian(cell, x, s), printed)))
    return tuple(torch.stack(matrices, 1))


def outside(A: Tensor, z: Tensor, tol: float | None = None) -> Tensor:
    """Return True for points z (count, k) outside of the union of the row discs of A (count, n, n),
    whose radii are enlarged by tol; None: by rounding.
    """
    return ~gersgorin_discs(A).contains(z, tol)


def draw_matrices(
    matrices: dict[str, Tensor], z: Tensor, title: str, size: str | float = "page"
) -> Figure:
    """Draw points z and the row discs of each matrix, in panels with common limits."""
    each = [
        JacobianDiscs(
            centers=A.diagonal().numpy(),
            row_radii=gersgorin_discs(A).radii.numpy(),
            eigenvalues=z.numpy(),
        )
        for A in matrices.values()
    ]

    def draw(part: SubFigure) -> float:
        axes = [*part.subplots(1, len(each), squeeze=False)[0]]
        letters = int(11 * figure_width(part) / len(each))
        square = max(map(whole_square, each))
        for ax, name, discs in zip(axes, matrices, each, strict=True):
            draw_discs(ax, discs, square).set(xlabel=REAL, ylabel=IMAGINARY)
            ax.set_title(folded(name, letters))
        label_planes(axes)
        legend_above(part, axes, IN_LEGEND)
        return 1.2 + min(2.7, 0.9 * figure_width(part) / len(each))

    return composed(draw, title, size, call=call_text("draw_matrices", size=size))


def draw_equation_14(size: str | float = "page") -> Figure:
    """Draw eigenvalues of a random highway layer that are outside the discs of equation 14 as
    printed, and the discs with the transposes.
    """
    jacobians, printed = random_layers()
    z = eigenvalues(jacobians)
    k = int(outside(printed, z).any(-1).nonzero()[0])
    both = {"as printed": printed[k], "with the transposes of H', C', T'": jacobians[k]}
    return draw_matrices(both, z[k], "Equation 14 and the eigenvalues of a highway layer", size)


def draw_example(size: str | float = "page") -> Figure:
    """Draw the discs and the eigenvalues of a matrix of three rows."""
    z = eigenvalues(MATRIX)
    return draw_matrices({"": MATRIX}, z, "Geršgorin discs of a matrix of three rows", size)


Picture = Callable[[str | float], Figure]
PICTURES: dict[str, Picture] = {
    "initialisations": lambda size: initialisations().figure(limit=1.6, size=size),
    "gate-limits": lambda size: gate_limits().figure(size=size),
    "radii-grow": draw_radii,
    "moving-spectra": lambda size: moving_spectra().figure(size=size),
    "counterexamples": lambda size: counterexamples().figure(size=size),
    "equation-14": draw_equation_14,
    "concepts-product": lambda size: rotations().figure(size=size),
    "concepts-discs": draw_example,
}
"""Functions that draw a picture of a size."""

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or PICTURES:
        save_figure(Path(folder) / f"{name}.png", partial(PICTURES[name], "page"))

"""Draw all or some figures of the gallery of the paper's statements: `python -m
examples.paper.figures docs/figures radii-grow`.

Every picture is a function without arguments; its numbers come from `claims`.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.paper import claims
from gersgorin.analyses.spectra import Spectra
from gersgorin.comparison import draw_comparison
from gersgorin.figures import plot_products, plot_spectrum
from gersgorin.labels import Identity, footer_of
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import INCLUSION_SETS
from gersgorin.linalg.spectrum import eigenvalues, spectral_radius
from rhn.plotting.figure import (
    CIRCLE,
    DASHED,
    Block,
    compose,
    line_style,
)
from rhn.utils.figures import BLUE, GREY, RED, save_figure
from rhn.utils.old import time_label

CELLS = {"rnn": "RNN with tanh", "irnn": "IRNN (ReLU)", "rhn": "RHN with gates"}
MATRICES = {
    "spectral radius 0 at every step": "[[0, 2], [0, 0]] and its transpose in turn",
    "spectral radius 2 at every step": "diag(2, 0) and diag(0, 2) in turn",
}
SETS = {
    "gersgorin-row": "Geršgorin discs of the rows",
    "gersgorin-column": "Geršgorin discs of the columns",
    "ostrowski": "Ostrowski's discs",
    "brauer": "Brauer's ovals",
    "minimal": "minimal Geršgorin set",
    "numerical-range": "numerical range",
}


def draw_moving_spectra() -> Figure:
    """Draw spectral radius and mean eigenvalue over time, on the same scale."""
    records = claims.moving_spectra()
    T = len(records[0].eigenvalues)

    def over_time(record: Spectra, ax: Axes) -> None:
        bulk, radius = record.row_centers.mean(1), record.spectral_radius
        ax.plot(radius, color=RED, label="spectral radius")
        ax.plot(bulk, color=BLUE, linestyle="--", label="trace / n, the mean eigenvalue")
        ax.set_title(CELLS[record.title])
        ax.set(
            xlabel=time_label(record.unit),
            xlim=(0, T - 1),
            ylim=(-0.1, 1.2),
            ylabel="value at one step",
        )

    draws = [partial(over_time, record) for record in records]
    return compose(
        "The tanh RNN moves its spectral radius, the IRNN and the RHN their mean eigenvalue",
        "; ".join(f"{record.title}: {record.about.partition(';')[0]}" for record in records),
        Block(draws, 2.6, len(records), "xy", legend=True),
    )


def draw_moving_over_time() -> Figure:
    """Draw the same networks at one step, and their gradients and discs over time."""
    records = claims.moving_spectra()
    names = [record.title for record in records]
    networks = [Identity(cell=r.title, made=r.about, along=r.along) for r in records]
    return draw_comparison(records, names, footer_of(networks, names), limit=2.0)


def draw_radii() -> Figure:
    """Draw section 4: at a fixed standard deviation the radii grow with the matrix."""
    sizes = [8, 16, 32, 64, 128, 256, 512]
    matrices = [claims.gaussian_matrix(n) for n in sizes]

    def radii(ax: Axes) -> None:
        mean_radii = [gersgorin_discs(A).radii.mean() for A in matrices]
        ax.plot(sizes, mean_radii, "o-", color=BLUE, label="mean radius of the discs")
        ax.plot(
            sizes, [spectral_radius(A) for A in matrices], "s--", color=RED, label="spectral radius"
        )
        ends = np.array([sizes[0], sizes[-1]])
        laws = 0.05 * np.sqrt(2 / np.pi) * ends, 0.05 * np.sqrt(ends)
        for label, law in zip(("theory: ∝ n, and ∝ √n", None), laws, strict=True):
            ax.plot(ends, law, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), label=label)
        ax.axhline(1, **DASHED, linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="units n", ylabel="radius of one n x n matrix")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()

    title = "Discs grow with the matrix, faster than its spectrum"
    return compose(
        title, "standard deviation 0.05; seed n for n units", Block([radii], 3.4), width=6.5
    )


def draw_counterexamples() -> Figure:
    """Draw the spectra of single steps, and below them the product of the steps."""

    def product(record: Spectra, ax: Axes) -> None:
        plot_products(record, ax).set(
            title="what the product does", xlabel="time step", ylim=(-0.3, 3.3)
        )

    def step(record: Spectra, ax: Axes) -> None:
        plot_spectrum(record, 0, limit=2.4, ax=ax).set_title(
            f"{MATRICES[record.title]}:\n{record.title}"
        )

    records = claims.counterexamples()
    above = Block([partial(step, record) for record in records], 3.2, 2, "xy", legend=True)
    below = Block([partial(product, record) for record in records], 2.2, 2, "y")
    title = "Spectra of single steps do not determine the growth of their product"
    return compose(title, "matrices chosen by hand, not random", above, below)


def draw_equation_14() -> Figure:
    """Draw eigenvalues of a random highway layer that are outside the discs of equation 14 as
    printed, and the discs with the transposes.
    """
    jacobians, printed = claims.random_layers()
    spectra = eigenvalues(jacobians)
    first = int((~INCLUSION_SETS["gersgorin-row"](printed).contains(spectra)).any(-1).nonzero()[0])

    def layer(title: str, matrices, ax: Axes) -> None:
        for k, curve in enumerate(INCLUSION_SETS["gersgorin-row"](matrices[first]).outline()):
            style = {"facecolor": f"{BLUE}26", "edgecolor": BLUE, "linewidth": 1.2}
            ax.fill(curve.real, curve.imag, label=None if k else "union of the discs", **style)
        _plot_eigenvalues(ax, spectra[first])
        ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
        outside = spectra[first][
            ~INCLUSION_SETS["gersgorin-row"](matrices).contains(spectra)[first]
        ]
        if len(outside):
            ring = {"marker": "o", "ms": 13, "mfc": "none", "color": "black", "linestyle": "none"}
            ax.plot(outside.real, outside.imag, label="eigenvalue outside of the discs", **ring)
        ax.set_title(title)

    titles = {"equation 14 as printed": printed, "with the transposes of H', C', T'": jacobians}
    block = Block([partial(layer, *row) for row in titles.items()], 3.8, 2, "xy", legend=True)
    about = f"a highway layer of 4 units, standard normal weights, seed 14, number {first} of"
    return compose(
        "An eigenvalue lies outside of the discs of equation 14, unless factors are transposed",
        f"{about} {len(spectra)} random layers",
        block,
    )


def draw_inclusion_sets() -> Figure:
    """Draw every inclusion set of `gersgorin.linalg.inclusion` around one RHN Jacobian."""
    A = claims.rhn_jacobian()

    def regions(ax: Axes) -> None:
        for i, (name, inclusion) in enumerate(INCLUSION_SETS.items()):
            region = inclusion(A)
            for k, polygon in enumerate(region.outline()):
                label = f"{SETS[name]} (area {region.area():.2f})" if k == 0 else None
                ax.plot(polygon.real, polygon.imag, linewidth=1.4, label=label, **line_style(i))
        _plot_eigenvalues(ax, eigenvalues(A), "black")

    about = f"an RHN, depth 2, 24 units, step 0 of chorale {claims.CHORALE}; gaussian:0.25"
    return compose(
        "The numerical range is the smallest of six sets that contain all eigenvalues",
        f"{about}, transform bias 0, seed 0",
        Block([regions], 4.6),
        width=7,
    )


def _plot_eigenvalues(ax: Axes, values, color: str = RED) -> None:
    """Draw points of the complex plane, with the same scale on both axes."""
    ax.plot(values.real, values.imag, ".", color=color, label="eigenvalues")
    ax.set(aspect="equal", xlabel="real part", ylabel="imaginary part")


GALLERY: dict[str, Callable[[], Figure]] = {
    "radii-grow": draw_radii,
    "moving-spectra": draw_moving_spectra,
    "moving-spectra-over-time": draw_moving_over_time,
    "counterexamples": draw_counterexamples,
    "equation-14": draw_equation_14,
    "inclusion-sets": draw_inclusion_sets,
}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or GALLERY:
        save_figure(Path(folder) / f"{name}.png", GALLERY[name])

"""Draw all or some figures of the gallery of the paper's statements: `python -m
examples.paper.figures docs/figures radii-grow`.

Every picture is a function without arguments; its numbers come from `claims`.
"""

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
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
    shade_style,
)
from rhn.utils.figures import BLUE, GREY, RED, save_figure, time_label

ROOT = Path(__file__).resolve().parents[2]
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


def draw_plateau() -> Figure:
    """Draw the rates of learning on the plateau, by the scale of the weights and the depth."""
    with (ROOT / "docs/results/plateau.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["cell"] in ("dt-rnn", "rhn")]

    def rates(cell: str, ax: Axes) -> None:
        for k, depth in enumerate(("1", "2", "4", "6", "10")):
            own = [row for row in rows if (row["cell"], row["depth"]) == (cell, depth)]
            points = [(float(row["init_std"]), float(row["rate"])) for row in own]
            style = shade_style(k, 5)
            ax.plot(*np.transpose(points), marker="o", label=f"depth {depth}", **style)
        ax.set(xscale="log", yscale="log", xlabel="standard deviation of the initial weights")
        ax.set(ylabel="relative rate of learning", title=cell)

    draws = [partial(rates, "dt-rnn"), partial(rates, "rhn")]
    title = "RHNs learn at the same rate for all weight scales, deep transitions do not"
    return compose(
        title, "32 units, 16 training chorales, seed 1", Block(draws, 3.2, 2, "y", legend=True)
    )


def draw_new_layers() -> Figure:
    """Draw how far back nine layers look before training, from docs/results/layers.csv."""
    with (ROOT / "docs/results/layers.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["effective_length"]))

    def lengths(ax: Axes) -> None:
        values = [float(row["effective_length"]) for row in rows]
        bars = ax.barh([row["layer"] for row in rows], values, color=BLUE)
        ax.bar_label(bars, [f"{value:.2g}" for value in values], padding=3)
        ax.set(xlabel="effective length of the influence (time steps)", xlim=(0, 12))

    title = "Before training, gated cells look a few steps back, xLSTM and attention about ten"
    about = "32 inputs and outputs, 64 steps of white noise, seed 0"
    return compose(title, about, Block([lengths], 3.2), width=6.5)


def draw_saddle_escape() -> Figure:
    """Draw the median time on the plateau by the scale of the weights, from
    docs/results/saddle-escape.csv; one panel if only matrices learn, and one if all parameters
    learn.
    """
    table = pd.read_csv(ROOT / "docs/results/saddle-escape.csv")
    cells = table[["cell", "depth"]].drop_duplicates().itertuples(index=False)
    medians = table.groupby(["learns", "cell", "depth", "eps"]).time.median()
    networks = [(cell, depth) for cell, depth in cells]

    def panel(learns: str, title: str, ax: Axes) -> None:
        for k, (cell, depth) in enumerate(networks):
            times = medians[learns, cell, depth]
            label = f"{cell}, depth {depth}"
            ax.loglog(times.index, times, marker=".", label=label, **line_style(k))
        ax.set(xlabel="standard deviation of the initial weights", title=title)
        ax.set(ylabel="time of gradient flow until the loss leaves the plateau")

    draws = [
        partial(panel, "matrices", "Only matrices learn"),
        partial(panel, "all", "Matrices and biases learn"),
    ]
    title = "If only matrices learn, small weights lengthen the plateau as a power of 1 / scale"
    return compose(title, "12 units, 16 chorales", Block(draws, 3.6, 2, "y", legend=True))


GALLERY: dict[str, Callable[[], Figure]] = {
    "layers": draw_new_layers,
    "plateau": draw_plateau,
    "saddle-escape": draw_saddle_escape,
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

"""Draw the gallery of the paper's statements: `python -m examples.paper.figures docs/figures` (or `make figures`).

Every picture is a function without arguments; its numbers come from `claims` and `plateau`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.paper import claims, plateau
from gersgorin.comparing.comparison import draw_comparison
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import INCLUSION_SETS
from gersgorin.linalg.spectrum import eigenvalues, spectral_radius
from gersgorin.plotting.figure import CIRCLE, DASHED, Shown, laid_out, legend_below, legend_beside, line_style
from gersgorin.plotting.run_figure import plot_products, plot_spectrum
from rhn.utils.figures import BLUE, RED, save_figure, time_label, titled


def draw_moving_spectra() -> Figure:
    """Draw the eigenvalues of all steps, coloured by time; below, mean and radius over time at one scale."""
    figure = Shown(11, 7.6)
    records = claims.moving_spectra()
    T, N = records[0].eigenvalues.shape
    grid = figure.subplots(2, len(records), sharex="row", sharey="row", height_ratios=(1.5, 1))
    for (upper, lower), record in zip(grid.T, records, strict=True):
        values, time = record.eigenvalues.ravel(), np.repeat(np.arange(T), N)
        dots = upper.scatter(values.real, values.imag, c=time, s=3, cmap="viridis", linewidths=0, rasterized=True)
        upper.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1)
        upper.set(title=record.title, aspect="equal", xlabel="real part", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        bulk, radius = record.row_centers.mean(1), record.spectral_radius
        lower.plot(radius, color=RED, label="spectral radius")
        lower.plot(bulk, color=BLUE, linestyle="--", label="trace / n, the mean eigenvalue")
        lower.set_title(f"the radius moves by {np.ptp(radius):.3f},\nthe mean by {np.ptp(bulk):.3f}")
        lower.set(xlabel=time_label(record.unit), ylim=(-0.1, 1.2))
    grid[0, 0].set_ylabel("imaginary part")
    grid[1, 0].set_ylabel("value at one step")
    figure.colorbar(dots, ax=grid[0], label=time_label(records[0].unit))
    legend_below(figure, grid[1])
    title = f"What moves from step to step: the spectra of all {T} steps of chorale {claims.CHORALE}"
    return _finished(figure, title, "seed 0, input weights ten times as large")


def draw_radii() -> Figure:
    """Draw section 4: at a fixed standard deviation the radii grow with the matrix."""
    figure = Shown(7.5, 4.2)
    ax, sizes = figure.subplots(), [8, 16, 32, 64, 128, 256, 512]
    matrices = [claims.gaussian_matrix(n) for n in sizes]
    mean_radii = [gersgorin_discs(A).radii.mean() for A in matrices]
    ax.plot(sizes, mean_radii, "o-", color=BLUE, label="mean radius of the discs")
    ax.plot(sizes, [spectral_radius(A) for A in matrices], "s--", color=RED, label="spectral radius")
    ax.axhline(1, **DASHED, linewidth=1, label="1")
    ax.set(xscale="log", yscale="log", xlabel="units n", ylabel="of one matrix, n x n")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    legend_beside(ax)
    return _finished(figure, "Discs grow with the matrix, faster than its spectrum", "gaussian:0.05, seeds n")


def draw_counterexamples() -> Figure:
    """Draw single steps above, their product below."""
    figure = Shown(9, 7.4)
    grid = figure.subplots(2, 2, height_ratios=(1.4, 1))
    for (upper, lower), record in zip(grid.T, claims.counterexamples(), strict=True):
        plot_spectrum(record, 0, limit=2.4, ax=upper).set_title(record.title)
        plot_products(record, lower, exponent_axis=False).set_title("what the product does")
        lower.set(xlabel="time step", ylim=(-0.3, 3.3))
    legend_below(figure, grid.T.flat, columns=5)
    title = "Spectra of single steps do not tell what their products do: two matrices in turn, 2 x 2"
    return _finished(figure, title, "chosen, not drawn")


def draw_equation_14() -> Figure:
    """Draw a random highway layer with eigenvalues outside the discs of equation 14 as printed, and the discs with the transposes."""
    jacobians, printed = claims.random_layers()
    spectra = eigenvalues(jacobians)
    first = int((~INCLUSION_SETS["gersgorin-row"](printed).contains(spectra)).any(-1).nonzero()[0])
    figure = Shown(9, 5.2)
    titles = {"equation 14 as printed": printed, "with the transposes of H', C', T'": jacobians}
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (title, matrices) in zip(axes, titles.items(), strict=True):
        for k, curve in enumerate(INCLUSION_SETS["gersgorin-row"](matrices[first]).outline()):
            style = {"facecolor": f"{BLUE}26", "edgecolor": BLUE, "linewidth": 1.2}
            ax.fill(curve.real, curve.imag, label=None if k else "union of the discs", **style)
        _plot_eigenvalues(ax, spectra[first])
        ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
        ax.set_title(title)
        ax.label_outer()
    legend_below(figure, axes)
    title = "Equation 14 needs the transposes: discs and eigenvalues of one highway layer of 4 units"
    return _finished(figure, title, f"standard normal weights, seed 14, layer {first} of {len(spectra)}")


def draw_inclusion_sets() -> Figure:
    """Draw every inclusion set of `gersgorin.linalg.inclusion` around one RHN Jacobian."""
    A = claims.rhn_jacobian()
    figure = Shown(9, 5.6)
    ax = figure.subplots()
    for i, (name, inclusion) in enumerate(INCLUSION_SETS.items()):
        region = inclusion(A)
        for k, polygon in enumerate(region.outline()):
            label = f"{name} (area {region.area():.2f})" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, linewidth=1.4, label=label, **line_style(i))
    _plot_eigenvalues(ax, eigenvalues(A))
    legend_beside(ax)
    title = f"Sets that hold every eigenvalue: an RHN, depth 2, 24 units, step 0 of chorale {claims.CHORALE}"
    return _finished(figure, title, "gaussian:0.25, transform bias 0, seed 0")


def _finished(figure: Shown, title: str, about: str) -> Shown:
    titled(figure, title, about)
    return laid_out(figure)


def _plot_eigenvalues(ax: Axes, values) -> None:
    """Draw points of the complex plane, at one scale for both axes."""
    ax.plot(values.real, values.imag, ".", color=RED, label="eigenvalues")
    ax.set(aspect="equal", xlabel="real part", ylabel="imaginary part")


GALLERY: dict[str, Callable[[], Figure]] = {
    "radii-grow": draw_radii,
    "moving-spectra": draw_moving_spectra,
    "moving-spectra-over-time": lambda: draw_comparison(claims.moving_spectra()),
    "counterexamples": draw_counterexamples,
    "equation-14": draw_equation_14,
    "inclusion-sets": draw_inclusion_sets,
    "plateau-rates": plateau.draw_rates,
    "plateau-gates": plateau.draw_gates,
}

if __name__ == "__main__":
    for name, draw in GALLERY.items():
        save_figure(Path(sys.argv[1]) / f"{name}.png", draw, dpi=110)

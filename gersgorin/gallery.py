"""The paper's statements as pictures: `python -m gersgorin.gallery --out docs/figures` (or `make figures`).

Every picture is a function of no arguments; the numbers it shows are those of `gersgorin.statements`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin import statements
from gersgorin.comparing.plots import draw_comparison
from gersgorin.discs import gersgorin_discs
from gersgorin.inclusion import INCLUSION_SETS
from gersgorin.plots import CIRCLE, DASHED, plot_products, plot_spectrum
from gersgorin.run_plots import draw_run
from gersgorin.saddle.plots import draw_gate_sweep, draw_rate_sweeps
from gersgorin.saddle.sweeps import sweep_gates, sweep_rates
from gersgorin.spectrum import eigenvalues, spectral_radius
from rhn.command import run_command
from rhn.errors import OutputError
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, save_figure
from rhn.options import Arg
from rhn.parsing import parse


def draw_initialisations() -> Figure:
    """One disc of each, highlighted, as in the paper's figure 2."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for ax, record in zip(figure.subplots(1, 2, sharex=True, sharey=True), statements.initialisations(), strict=True):
        plot_spectrum(record, 0, limit=2.2, ax=ax).set_title(record.title)
        center, radius = record.row_centers[0, 0], record.row_radii[0, 0]
        circle = center + radius * CIRCLE
        ax.plot(circle.real, circle.imag, color=GREEN, linewidth=1.5, label="one disc")
    ax.legend(loc="upper left")
    return figure


def draw_gate_limits() -> Figure:
    """Both limits at the first step."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    for ax, record in zip(figure.subplots(1, 2), statements.gate_limits(), strict=True):
        plot_spectrum(record, 0, ax=ax).set(title=record.title, xlabel="real part", ylabel="imaginary part")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_moving_spectra() -> Figure:
    """Every step's eigenvalues over one another, coloured by time; below, bulk and radius over time at one scale."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    records = statements.moving_spectra()
    grid = figure.subplots(2, len(records), sharex="row", sharey="row", height_ratios=(1.5, 1))
    for (upper, lower), record in zip(grid.T, records, strict=True):
        T, N = record.eigenvalues.shape
        values, time = record.eigenvalues.ravel(), np.repeat(np.arange(T), N)
        dots = upper.scatter(values.real, values.imag, c=time, s=3, cmap="viridis", linewidths=0, rasterized=True)
        upper.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1)
        upper.set(title=record.title, aspect="equal", xlabel="real part")
        bulk, radius = statements.mean_eigenvalue(record), record.spectral_radius
        lower.plot(radius, color=RED, label=f"spectral radius, range {np.ptp(radius):.3f}")
        lower.plot(bulk, color=BLUE, linestyle="--", label=f"trace / n, range {np.ptp(bulk):.3f}")
        lower.set(xlabel=record.time_label, ylim=(-0.1, 1.5))
        lower.legend(loc="upper right")
    grid[0, 0].set_ylabel("imaginary part")
    grid[1, 0].set_ylabel("value at one step")
    figure.colorbar(dots, ax=grid[0], label=records[0].time_label)
    return figure


def draw_radii() -> Figure:
    """Section 4: at a fixed standard deviation the radii grow with the matrix."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax, sizes = figure.subplots(), [8, 16, 32, 64, 128, 256, 512]
    matrices = [statements.gaussian_matrix(n) for n in sizes]
    mean_radii = [gersgorin_discs(A).radii.mean() for A in matrices]
    ax.plot(sizes, mean_radii, "o-", color=BLUE, label="mean radius of the discs")
    ax.plot(sizes, [spectral_radius(A) for A in matrices], "s--", color=RED, label="spectral radius")
    ax.axhline(1, **DASHED, linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="units n", title="Gaussian weights of standard deviation 0.05")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.legend()
    return figure


def draw_counterexamples() -> Figure:
    """Single steps above, their product below."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(1.4, 1))
    for (upper, lower), record in zip(grid.T, statements.counterexamples(), strict=True):
        plot_spectrum(record, 0, limit=2.4, ax=upper).set_title(record.title)
        plot_products(record, lower, exponent_axis=False).set_title("what the product does", loc="left")
        lower.set_xlabel("step")
    upper.legend(loc="upper left")
    return figure


def draw_equation_14() -> Figure:
    """A random highway layer whose eigenvalues leave the discs of equation 14 as printed, and those with the transposes."""
    jacobians, printed = statements.random_layers()
    spectra = eigenvalues(jacobians)
    first = int((~gersgorin_discs(printed).contains(spectra)).any(-1).nonzero()[0])
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    titles = {"equation 14 as printed": printed, "with the transposes of H', C', T'": jacobians}
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (title, matrices) in zip(axes, titles.items(), strict=True):
        for k, curve in enumerate(gersgorin_discs(matrices[first]).outline()):
            ax.fill(curve.real, curve.imag, color=BLUE, alpha=0.15, label=None if k else "union of the discs")
        plot_eigenvalues(ax, spectra[first])
        ax.set_title(title)
    axes[0].legend(loc="upper left")
    return figure


def draw_inclusion_sets() -> Figure:
    """Every inclusion set of `gersgorin.inclusion` around one RHN Jacobian."""
    A = statements.rhn_jacobian()
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax, colours = figure.subplots(), iter((BLUE, ORANGE, GREY, "black", PURPLE, GREEN, SKY))
    for name, inclusion in INCLUSION_SETS.items():
        region, colour = inclusion(A), next(colours)
        for k, polygon in enumerate(region.outline()):
            label = f"{name} (area {region.area():.2f})" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, color=colour, linewidth=1.2, label=label)
    plot_eigenvalues(ax, eigenvalues(A))
    ax.set_title("rhn, depth 2, 24 units")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


def plot_eigenvalues(ax: Axes, values) -> None:
    """Points of the complex plane, at one scale for both axes."""
    ax.plot(values.real, values.imag, ".", color=RED, label="eigenvalues")
    ax.set(aspect="equal", xlabel="real part", ylabel="imaginary part")


GALLERY: dict[str, Callable[[], Figure]] = {
    "rhn-depth5": lambda: draw_run(statements.depth_5()),
    "initialisations": draw_initialisations,
    "gate-limits": draw_gate_limits,
    "radii-grow": draw_radii,
    "moving-spectra": draw_moving_spectra,
    "moving-spectra-over-time": lambda: draw_comparison(statements.moving_spectra()),
    "counterexamples": draw_counterexamples,
    "equation-14": draw_equation_14,
    "inclusion-sets": draw_inclusion_sets,
    "plateau-rates": lambda: draw_rate_sweeps([sweep_rates("dt-rnn"), sweep_rates("rhn")]),
    "plateau-gates": lambda: draw_gate_sweep(sweep_gates()),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw the paper's statements.

    example:
      python -m gersgorin.gallery --out docs/figures
    """

    out: Annotated[Path, Arg("DIR")]
    """Folder of the pictures; it must exist."""


def draw_gallery(options: Options) -> None:
    """Draw every picture into the folder and say where each one is."""
    if not options.out.is_dir():
        raise OutputError(f"cannot write to {options.out}: it is not a folder; create it first")
    for name, draw in GALLERY.items():
        path = options.out / f"{name}.png"
        save_figure(path, draw, dpi=110)
        print(path)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: draw_gallery(parse(Options, args, prog="python -m gersgorin.gallery")))


if __name__ == "__main__":
    sys.exit(main())

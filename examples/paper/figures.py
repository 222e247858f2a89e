"""Draw all or some figures of the gallery of the paper's statements: `python -m
examples.paper.figures docs/figures radii-grow`.

Every picture is a function without arguments; its numbers come from `claims`.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from examples.paper import claims
from gersgorin import eigenvalues, gersgorin_discs
from gersgorin.analyses.spectra import Spectra

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "0.5"
COLOURS = (RED, BLUE, ORANGE, GREEN)
GROWTH = "log10 ||ds[t]/ds[0]||"


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure with a title; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def draw_steps(
    panels: Sequence[Axes], records: Sequence[Spectra], limit: float, step: int | None = None
) -> None:
    """Draw discs and eigenvalues of one step of each network, on the same scale; None: of the step
    with the median spectral radius.
    """
    for ax, record in zip(panels, records, strict=True):
        record.plot(ax, step)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        ax.set_title(f"{record.network}: {ax.get_title(loc='left')}", loc="left")
    for name in [text for ax in panels[:-1] for text in ax.texts]:
        name.remove()


def draw_growth(ax: Axes, record: Spectra) -> None:
    """Draw the norm of the product of the steps from the first state on."""
    ax.plot(np.append(0, record.log_norm_product) / np.log(10), color=BLUE)
    ax.set(xlabel=f"time step ({record.unit})", ylabel=GROWTH)


def draw_pair(title: str, records: Sequence[Spectra], limit: float) -> Figure:
    """Draw two networks at step 0."""
    figure = new_figure(title, 10.5, 4.3)
    draw_steps(figure.subplots(1, 2), records, limit, 0)
    return figure


def draw_initialisations() -> Figure:
    """Draw figure 2 of the paper."""
    title = "Initial weights: standard deviation 0.02, and identity + standard deviation 0.005"
    return draw_pair(title, claims.initialisations(), 1.6)


def draw_gate_limits() -> Figure:
    """Draw closed and open gates."""
    records = [record for _, record in claims.gate_limits()]
    return draw_pair("Closed gates (t = 0, c = 1) and open gates (t = 1, c = 0)", records, 3.5)


def draw_moving_spectra() -> Figure:
    """Draw spectral radius and mean eigenvalue over time, on the same scale."""
    records = claims.moving_spectra()
    figure = new_figure("Spectral radius and mean eigenvalue, step by step", 10, 3.6)
    panels = figure.subplots(1, len(records), sharey=True)
    for ax, record in zip(panels, records, strict=True):
        ax.plot(record.spectral_radius, color=RED, label="spectral radius")
        ax.plot(record.centers.mean(1), "--", color=BLUE, label="trace / n, the mean eigenvalue")
        ax.set(title=record.network, xlabel=f"time step ({record.unit})")
    name_curves(figure, panels[0])
    return figure


def draw_moving_over_time() -> Figure:
    """Draw the same networks at one step, and their measures and products over time."""
    records = claims.moving_spectra()
    figure = new_figure("Spectra, discs and products of three cells", 12, 11)
    panels = figure.subplots(3, 3, sharey="col")
    draw_steps(panels[:, 0], records, 2.0)
    for record, (_, each, last) in zip(records, panels, strict=True):
        for (name, curve), colour in zip(record.curves().items(), COLOURS, strict=True):
            each.plot(curve, color=colour, label=name)
        each.set(xlabel=f"time step ({record.unit})", yscale="log")
        draw_growth(last, record)
    name_curves(figure, each)
    return figure


def name_curves(figure: Figure, ax: Axes) -> None:
    """Write the names of the curves of one panel, which are those of all panels, below them."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False)


def draw_radii() -> Figure:
    """Draw section 4: at a fixed standard deviation the radii grow with the matrix."""
    sizes = np.array([8, 16, 32, 64, 128, 256, 512])
    matrices = [claims.gaussian_matrix(n) for n in sizes.tolist()]
    radii = [float(gersgorin_discs(A).radii.mean()) for A in matrices]
    largest = [float(eigenvalues(A)[0].abs()) for A in matrices]
    figure = new_figure("One n x n matrix, standard deviation 0.05", 7, 4)
    ax = figure.subplots()
    ax.plot(sizes, radii, "o-", color=BLUE, label="mean radius of the discs")
    ax.plot(sizes, 0.05 * np.sqrt(2 / np.pi) * sizes, ":", color=GREY, label="0.05 n sqrt(2 / pi)")
    ax.plot(sizes, largest, "s--", color=RED, label="spectral radius")
    ax.plot(sizes, 0.05 * np.sqrt(sizes), "-.", color=GREY, label="0.05 sqrt(n)")
    ax.set(xscale="log", yscale="log", xlabel="units n", ylabel="radius")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.legend(frameon=False)
    return figure


def draw_counterexamples() -> Figure:
    """Draw the spectra of single steps, and below them the product of the steps."""
    records = claims.counterexamples()
    figure = new_figure("Spectra of single steps, and the product of the steps", 10.5, 7)
    above, below = figure.subplots(2, 2, height_ratios=(1.6, 1))
    draw_steps(above, records, 2.4, 0)
    for ax, record in zip(below, records, strict=True):
        draw_growth(ax, record)
        ax.set(xlim=(-0.5, 10.5), ylim=(-0.3, 3.3))
    return figure


def draw_equation_14() -> Figure:
    """Draw eigenvalues of a random highway layer that are outside the discs of equation 14 as
    printed, and the discs with the transposes.
    """
    jacobians, printed = claims.random_layers()
    z = eigenvalues(jacobians)
    first = int(claims.outside(printed, z).any(-1).nonzero()[0])
    figure = new_figure(f"Equation 14 of highway layer {first} of 2000 random ones", 9, 5)
    matrices = {"as printed": printed, "with the transposes of H', C', T'": jacobians}
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (title, A) in zip(panels, matrices.items(), strict=True):
        for k, (center, radius) in enumerate(zip(*gersgorin_discs(A[first]), strict=True)):
            disc = {"facecolor": f"{BLUE}26", "edgecolor": BLUE, "label": "" if k else "discs"}
            ax.add_patch(Circle((float(center), 0), float(radius), **disc))
        ax.add_patch(Circle((0, 0), 1, fill=False, linestyle="--", label="unit circle"))
        ax.plot(z[first].real, z[first].imag, ".", color=RED, label="eigenvalues")
        out = z[first][claims.outside(A, z)[first]]
        ring = {"mfc": "none", "color": "black", "label": "eigenvalue outside of the discs"}
        ax.plot(out.real, out.imag, "o", markersize=12, **ring)
        ax.set(title=title, aspect="equal", xlabel="real part", ylabel="imaginary part")
    name_curves(figure, panels[0])
    return figure


GALLERY: dict[str, Callable[[], Figure]] = {
    "initialisations": draw_initialisations,
    "gate-limits": draw_gate_limits,
    "radii-grow": draw_radii,
    "moving-spectra": draw_moving_spectra,
    "moving-spectra-over-time": draw_moving_over_time,
    "counterexamples": draw_counterexamples,
    "equation-14": draw_equation_14,
}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or GALLERY:
        GALLERY[name]().savefig(Path(folder) / f"{name}.png")

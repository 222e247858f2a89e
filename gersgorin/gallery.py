"""The paper's statements as pictures: `python -m gersgorin.gallery --out docs/figures` (or `make figures`).

Every picture is a function of no arguments with its seed inside; the numbers it shows are those that `tests/gersgorin/test_paper.py`
asserts. References are to Zilly et al. 2017 (arXiv 1607.03474).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure

from gersgorin.discs import gersgorin_discs
from gersgorin.inclusion import INCLUSION_SETS
from gersgorin.jacobian import temporal_jacobian
from gersgorin.measure import measure_spectrum
from gersgorin.plots import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    STYLE,
    draw_comparison,
    draw_run,
    plot_products,
    plot_spectrum,
)
from gersgorin.record import SpectrumRecord
from gersgorin.spectrum import eigenvalues
from rhn.cells import RHN, RNN
from rhn.command import parse, run_command
from rhn.data import chorale
from rhn.errors import OutputError
from rhn.files import atomic_path

CHORALE = "bwv269"
UNITS = 64


def seeded(seed: int = 0) -> torch.Generator:
    """A generator for one picture."""
    return torch.Generator().manual_seed(seed)


class Linear(torch.nn.Module):
    """s' = A s, where the input of a step is its matrix A, flattened."""

    state_size = 2

    def forward(self, x, s):
        return (x.unflatten(-1, (self.state_size, self.state_size)) * s.unsqueeze(-2)).sum(-1)


def of_matrices(matrices: list[np.ndarray], title: str) -> SpectrumRecord:
    """A record of bare 2 x 2 matrices, one a step."""
    x = torch.as_tensor(np.array(matrices)).flatten(1)
    return measure_spectrum(Linear(), x, name="linear", chorale="none", title=title)


def on_chorale(cell: torch.nn.Module, title: str) -> SpectrumRecord:
    """A record of a float64 cell on the gallery's chorale."""
    x = torch.as_tensor(chorale(CHORALE)).double()
    return measure_spectrum(cell, x, name=title, chorale=CHORALE, title=title)


def initialisations() -> list[SpectrumRecord]:
    """Figure 2: an RNN with small random weights (discs centred near 0) and one with identity initialisation (near 1)."""
    small = RNN(88, UNITS, init="gaussian:0.02", dtype=torch.float64, generator=seeded())
    identity = RNN(88, UNITS, init="identity:0.005", dtype=torch.float64, generator=seeded())
    return [on_chorale(small, "small random weights"), on_chorale(identity, "identity initialisation")]


def gate_limits() -> list[SpectrumRecord]:
    """The two limits of section 4: gates closed (A = I, every radius 0) and open (the spectrum of H')."""
    cells = []
    for bias in (-40.0, 40.0):
        cells.append(RHN(88, UNITS, transform_bias=bias, init="gaussian:0.05", dtype=torch.float64, generator=seeded()))
    return [on_chorale(cells[0], "closed gates: c = 1, t = 0"), on_chorale(cells[1], "open gates: c = 0, t = 1")]


def moving_spectra() -> list[SpectrumRecord]:
    """Section 4: gates move the spectrum from step to step; an RNN's stays about where its weights put it."""
    rnn = RNN(88, UNITS, init="gaussian:0.1", dtype=torch.float64, generator=seeded())
    rhn = RHN(88, UNITS, init="gaussian:0.1", transform_bias=-1.0, dtype=torch.float64, generator=seeded())
    with torch.no_grad():
        rhn.weight_ih[UNITS:] *= 10  # gates that listen to the music, as training makes them
    return [on_chorale(rnn, "rnn"), on_chorale(rhn, "rhn, gates driven by the input")]


def mean_radius(n: int, std: float = 0.05) -> float:
    """Mean radius of the row discs of an n x n Gaussian matrix: about (n - 1) std sqrt(2 / pi)."""
    A = torch.randn(n, n, dtype=torch.float64, generator=seeded(n)) * std
    return float(gersgorin_discs(A).radii.mean())


def counterexamples() -> list[SpectrumRecord]:
    """Spectra of single steps do not compose: radius 0 each and a growing product; radius 2 each and a product of 0."""
    N, D = np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    return [
        of_matrices([N, N.T] * 5, "spectral radius 0 at every step"),
        of_matrices([D, D[::-1, ::-1].copy()] * 5, "spectral radius 2 at every step"),
    ]


def draw_initialisations() -> Figure:
    """One disc of each, highlighted, as in the paper's figure 2."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for ax, record in zip(figure.subplots(1, 2, sharex=True, sharey=True), initialisations(), strict=True):
        plot_spectrum(record, 0, limit=2.2, ax=ax).set_title(record.title)
        center, radius = record.row_centers[0, 0], record.row_radii[0, 0]
        circle = center + radius * np.exp(1j * np.linspace(0, 2 * np.pi, 181))
        ax.plot(circle.real, circle.imag, color=PURPLE, linewidth=1.5, label="one disc")
    ax.legend(loc="upper left")
    return figure


def draw_gate_limits() -> Figure:
    """Both limits at the first step."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for ax, record in zip(figure.subplots(1, 2), gate_limits(), strict=True):
        plot_spectrum(record, 0, ax=ax).set_title(record.title)
    ax.legend(loc="upper left")
    return figure


def draw_moving_spectra() -> Figure:
    """Every step's eigenvalues over one another, coloured by time."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, record in zip(axes, moving_spectra(), strict=True):
        T, N = record.eigenvalues.shape
        values, time = record.eigenvalues.ravel(), np.repeat(np.arange(T), N)
        dots = ax.scatter(values.real, values.imag, c=time, s=3, cmap="viridis", linewidths=0, rasterized=True)
        circle = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
        ax.plot(circle.real, circle.imag, color="black", linestyle=(0, (4, 3)), linewidth=1)
        ax.set(title=record.title, aspect="equal", xlabel="real part")
    axes[0].set_ylabel("imaginary part")
    figure.colorbar(dots, ax=axes, label="time step (quarter notes)")
    return figure


def draw_radii() -> Figure:
    """Section 4: at a fixed standard deviation the radii grow with the matrix."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax, sizes = figure.subplots(), np.array([8, 16, 32, 64, 128, 256, 512])
    ax.plot(sizes, [mean_radius(int(n)) for n in sizes], "o-", color=BLUE, label="mean radius of the discs")
    radii = [
        eigenvalues(torch.randn(int(n), int(n), dtype=torch.float64, generator=seeded(int(n))) * 0.05)[0].abs()
        for n in sizes
    ]
    ax.plot(sizes, radii, "s--", color=RED, label="spectral radius")
    ax.axhline(1, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(
        xscale="log", yscale="log", xlabel="units n", title="Gaussian weights of standard deviation 0.05", xticks=sizes
    )
    ax.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    ax.minorticks_off()
    ax.legend()
    return figure


def draw_counterexamples() -> Figure:
    """Single steps above, their product below."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(1.4, 1))
    for (upper, lower), record in zip(grid.T, counterexamples(), strict=True):
        plot_spectrum(record, 0, limit=2.4, ax=upper).set_title(record.title)
        plot_products(record, lower, exponent_axis=False).set_title("what the product does", loc="left")
        lower.set_xlabel("step")
    upper.legend(loc="upper left")
    return figure


def draw_inclusion_sets() -> Figure:
    """Every inclusion set of `gersgorin.inclusion` around one RHN Jacobian."""
    cell = RHN(88, 24, depth=2, init="gaussian:0.25", transform_bias=0.0, dtype=torch.float64, generator=seeded())
    x = torch.as_tensor(chorale(CHORALE))[0].double()
    with torch.no_grad():
        A = temporal_jacobian(cell, x, torch.zeros(24, dtype=torch.float64))
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    ax, colours = figure.subplots(), iter((BLUE, ORANGE, GREY, "black", PURPLE, "#009E73"))
    for name, inclusion in INCLUSION_SETS.items():
        region, colour = inclusion(A), next(colours)
        for k, polygon in enumerate(region.outline()):
            label = f"{name} (area {region.area():.2f})" if k == 0 else None
            ax.plot(polygon.real, polygon.imag, color=colour, linewidth=1.2, label=label)
    values = eigenvalues(A)
    ax.plot(values.real, values.imag, ".", color=RED, label="eigenvalues")
    ax.set(aspect="equal", xlabel="real part", ylabel="imaginary part", title="rhn, depth 2, 24 units")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def draw_main_job() -> Figure:
    """What `gersgorin-plot --cell rhn --depth 5` draws."""
    return draw_run(on_chorale(RHN(88, UNITS, 5, dtype=torch.float64, generator=seeded()), "rhn, depth 5, 64 units"))


GALLERY: dict[str, Callable[[], Figure]] = {
    "rhn-depth5": draw_main_job,
    "initialisations": draw_initialisations,
    "gate-limits": draw_gate_limits,
    "radii-grow": draw_radii,
    "moving-spectra": draw_moving_spectra,
    "moving-spectra-over-time": lambda: draw_comparison(moving_spectra()),
    "counterexamples": draw_counterexamples,
    "inclusion-sets": draw_inclusion_sets,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the gallery."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the pictures; it must exist."""


def draw_gallery(options: Options) -> None:
    """Draw every picture into the folder and say where each one is."""
    if not options.out.is_dir():
        raise OutputError(f"cannot write to {options.out}: it is not a folder; create it first")
    with matplotlib.rc_context(STYLE):
        for name, draw in GALLERY.items():
            path = options.out / f"{name}.png"
            with atomic_path(path) as temporary:
                draw().savefig(temporary, dpi=110)
            print(path)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    description = "Draw the paper's statements.\n\nexample:\n  python -m gersgorin.gallery --out docs/figures"
    return run_command(lambda: draw_gallery(parse(Options, args, prog="gersgorin.gallery", description=description)))


if __name__ == "__main__":
    sys.exit(main())

"""Lyapunov spectra drawn from their records: the exponents with their errors, and how the estimates settled."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.lyapunov.record import LyapunovSpectrum
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY

COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, GREY)
MARKERS = "osD^vP*"
CURVES = 8  # of one run: more cannot be told apart
RATE = "exponent (1/step)"


def plot_lyapunov(spectra: Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """The exponents of each run against their number, with bars of two standard errors; lost directions are left out."""
    ax = ax or Figure(figsize=(5, 3.6)).subplots()
    for i, spectrum in enumerate(spectra):
        number = 1 + np.arange(len(spectrum.exponents))
        finite = np.isfinite(spectrum.exponents)
        style = {"color": COLOURS[i % len(COLOURS)], "fmt": MARKERS[i % len(MARKERS)]}
        bars = np.nan_to_num(2 * spectrum.standard_errors[finite])
        values = spectrum.exponents[finite]
        ax.errorbar(number[finite], values, bars, markersize=3, capsize=2, label=_name(spectrum), **style)
    ax.axhline(0, color="black", linestyle=(0, (4, 3)), linewidth=0.8)
    ax.set(xlabel="number of the exponent", ylabel=RATE)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def plot_convergence(spectra: Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """Running estimates against the steps counted: of one run its first eight exponents, of several the largest of each."""
    ax = ax or Figure(figsize=(5, 3.6)).subplots()
    if len(spectra) == 1:
        (spectrum,) = spectra
        shown = min(CURVES, len(spectrum.exponents))
        for i in range(shown):
            color = colormaps["viridis"](0.9 * i / max(1, shown - 1))
            ax.plot(spectrum.curve_steps, _finite(spectrum.curve[:, i]), color=color, linewidth=1.2, label=f"{i + 1}")
    else:
        for i, spectrum in enumerate(spectra):
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markevery": 0.2}
            ax.plot(spectrum.curve_steps, _finite(spectrum.curve[:, 0]), markersize=3, label=_name(spectrum), **style)
    ax.axhline(0, color="black", linestyle=(0, (4, 3)), linewidth=0.8)
    unit = spectra[0].unit
    ax.set(xlabel="steps counted" if unit == "steps" else f"steps counted ({unit})", ylabel=RATE)
    ax.set_xlim(0, max(spectrum.steps for spectrum in spectra))
    return ax


def draw_lyapunov(spectra: Sequence[LyapunovSpectrum], along: str = "") -> Figure:
    """Both side by side."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    plot_lyapunov(spectra, left).set_title("mean growth rates, with two standard errors", loc="left")
    several = len(spectra) > 1
    what = "the largest one" if several else "the leading ones"
    plot_convergence(spectra, right).set_title(f"{what}, from the first steps alone", loc="left")
    if several or len(spectra[0].exponents) > 1:
        title = None if several else "exponent"
        right.legend(title=title, loc="center left", bbox_to_anchor=(1.01, 0.5))
    head = "Lyapunov exponents" if several else f"Lyapunov exponents of {spectra[0].title or 'one run'}"
    figure.suptitle(f"{head} on {along}" if along else head, fontsize=11)
    return figure


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _name(spectrum: LyapunovSpectrum) -> str:
    dimension = spectrum.kaplan_yorke
    more = "" if np.isnan(dimension) or dimension == 0 else f", dimension {dimension:.2f}"
    return f"{spectrum.title}{more}"

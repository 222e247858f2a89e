"""Lyapunov spectra drawn from their records: the exponents with their errors, and how the estimates settled."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.looks import (
    COLOURS,
    MARKERS,
    as_list,
    complete,
    legend_beside,
    line_style,
    shade_style,
    titled_all,
    told_apart,
)
from gersgorin.lyapunov.record import LyapunovSpectrum
from gersgorin.plots import DASHED
from gersgorin.shown import Shown, laid_out, own_axes, plain_numbers
from rhn.figures import drawable, our_style

CURVES = 8  # of one run: more cannot be told apart
RATE = "exponent (1/step)"


@our_style()
def plot_lyapunov(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """The exponents of one run, or of each of several, against their number, with bars of two standard errors; lost directions are
    left out."""
    spectra = as_list(spectra)
    alone, ax = ax is None, own_axes(5.5, 4.2) if ax is None else ax
    for i, spectrum in enumerate(spectra):
        number = 1 + np.arange(len(spectrum.exponents))
        finite = np.isfinite(spectrum.exponents)
        style = {"color": COLOURS[i % len(COLOURS)], "fmt": MARKERS[i % len(MARKERS)]}
        bars = np.nan_to_num(2 * spectrum.standard_errors[finite])
        values = spectrum.exponents[finite]
        ax.errorbar(number[finite], values, bars, markersize=3.5, capsize=2, label=_name(spectrum), **style)
    ax.axhline(0, **DASHED, linewidth=0.8)
    told = ", bars of two standard errors" if any(spectrum.tells_errors for spectrum in spectra) else ""
    ax.set(xlabel="number of the exponent", ylabel=RATE, title=f"mean growth rates{told}")
    ax.set_xlim(0.5, 0.5 + max(len(spectrum.exponents) for spectrum in spectra))
    return _finished(spectra, ax, alone)


@our_style()
def plot_convergence(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """Running estimates against the steps counted: of one run its first eight exponents, of several the largest of each."""
    spectra = as_list(spectra)
    alone, ax = ax is None, own_axes(5.5, 4.2) if ax is None else ax
    if len(spectra) == 1:
        (spectrum,) = spectra
        shown = min(CURVES, len(spectrum.exponents))
        for i in range(shown):
            style, label = shade_style(i, shown), f"exponent {i + 1}"
            ax.plot(spectrum.curve_steps, _finite(spectrum.curve[:, i]), linewidth=1.3, label=label, **style)
    else:
        for i, spectrum in enumerate(spectra):
            known = np.isfinite(spectrum.curve[:, 0])
            style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)], "markersize": 3.5}
            style |= {"markevery": 0.2} if known.sum() > 1 else {}
            ax.plot(spectrum.curve_steps[known], spectrum.curve[known, 0], label=_name(spectrum), **style)
    ax.axhline(0, **DASHED, linewidth=0.8)
    unit, what = spectra[0].unit, "the largest one" if len(spectra) > 1 else "the leading ones"
    ax.set(xlabel="steps counted" if unit == "steps" else f"steps counted ({unit})", ylabel=RATE)
    ax.set_title(f"{what}, from the first steps alone")
    ax.set_xlim(0, max(spectrum.steps for spectrum in spectra))
    return _finished(spectra, ax, alone)


@our_style()
def draw_lyapunov(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], along: str = "") -> Shown:
    """Of one run or several, the exponents and how they settled side by side; along: what the title says was read."""
    spectra = as_list(spectra)
    figure = Shown(figsize=(11, 4.2 + 0.25 * max(0, len(spectra) - 4)), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_lyapunov(spectra, left)
    plot_convergence(spectra, right)
    legend_beside(right)
    named = told_apart([spectrum.title for spectrum in spectra], [spectrum.about for spectrum in spectra])
    titled_all(figure, named, f"Lyapunov exponents on {along}" if along else "Lyapunov exponents")
    return laid_out(figure)


def _finished(spectra: Sequence[LyapunovSpectrum], ax: Axes, alone: bool) -> Axes:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    named = told_apart([spectrum.title for spectrum in spectra], [spectrum.about for spectrum in spectra])
    return complete(ax, f"{named.common or 'networks'}: Lyapunov exponents", named.about) if alone else ax


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _name(spectrum: LyapunovSpectrum) -> str:
    dimension = spectrum.kaplan_yorke
    more = "" if np.isnan(dimension) or dimension == 0 else f", dimension {dimension:.2f}"
    return drawable(f"{spectrum.title}{more}") or "one run"

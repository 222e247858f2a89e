"""Fixed points drawn from their record: where they lie among the states they were searched from, and their spectra."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.equilibria.record import FixedPoints
from gersgorin.equilibria.words import LISTED
from gersgorin.looks import as_list, complete, legend_below, titled_all, told_apart, wrapped
from gersgorin.plots import CIRCLE, DASHED
from gersgorin.shown import Shown, laid_out, own_axes, plain_numbers
from rhn.figures import BLUE, GREEN, GREY, ORANGE, RED, our_style

KINDS = {"stable": (GREEN, "o"), "neutral": (BLUE, "s"), "saddle": (ORANGE, "D"), "unstable": (RED, "^")}


@our_style()
def plot_fixed_points(points: FixedPoints, ax: Axes | None = None) -> Axes:
    """The points over the states the search began from, on the two directions in which those states vary most.

    Slow points are hollow. An axis says what share of the starts' variance lies along it.
    """
    alone, ax = ax is None, own_axes(5, 5) if ax is None else ax
    axes, share = principal_axes(points.starts)
    middle = points.starts.mean(0)
    x, y = ((points.starts - middle) @ axes.T).T
    ax.plot(x, y, ".", color=GREY, markersize=3, alpha=0.6, label="states it was searched from")
    for kind, (color, marker) in KINDS.items():
        for slow in (False, True):
            of_kind = [p for p, name in enumerate(points.kinds) if name == f"{'slow, ' * slow}{kind}"]
            if of_kind:
                x, y = ((points.states[of_kind] - middle) @ axes.T).T
                face = "none" if slow else color
                style = {"color": color, "markerfacecolor": face, "markersize": 7, "zorder": 3}
                ax.plot(x, y, marker, label=f"{kind}{' (slow)' * slow}: {len(of_kind)}", **style)
    if not len(points.states):
        ax.plot([], [], " ", label=f"none was found in their box, wider by {points.wider:.3g}")
    first, second = (
        f"{which} principal axis ({part:.0%} of their variance)"
        for which, part in zip(("first", "second"), share, strict=True)
    )
    ax.set(xlabel=first, ylabel=second, title="among the states they were searched from")
    ax.margins(0.08)
    plain_numbers(ax)
    return (
        complete(ax, f"{points.title}: fixed points" if points.title else "Fixed points", points.about) if alone else ax
    )


@our_style()
def plot_point_spectra(points: FixedPoints, ax: Axes | None = None) -> Axes:
    """The eigenvalues at the first eight points in the complex plane, with the unit circle, coloured by the kind of point."""
    alone, ax = ax is None, own_axes(4.6, 5.2) if ax is None else ax
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
    shown = points.eigenvalues[:LISTED]
    for values, kind, slow in zip(shown, points.kinds, points.is_slow, strict=False):
        color, marker = KINDS[kind.removeprefix("slow, ")]
        style = {"color": color, "markerfacecolor": "none" if slow else color, "markersize": 3.5, "alpha": 0.7}
        label = f"eigenvalues at a {'slow, ' * bool(slow)}{kind.removeprefix('slow, ')} point"
        ax.plot(values.real, values.imag, marker, label=label, **style)
    limit = 1.08 * max(1.0, float(np.abs(shown).max(initial=0)))
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="real part", ylabel="imaginary part")
    few = f", first {LISTED} of {len(points.states)}" if len(points.states) > LISTED else ""
    ax.set_title(f"eigenvalues at the points{few}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    plain_numbers(ax)
    return (
        complete(ax, f"{points.title}: fixed points" if points.title else "Fixed points", points.about) if alone else ax
    )


@our_style()
def draw_fixed_points(cells: FixedPoints | Sequence[FixedPoints]) -> Shown:
    """The points of one cell or several and the spectra there side by side, a row a cell."""
    cells = as_list(cells)
    named = told_apart([points.title for points in cells], [points.about for points in cells])
    figure = Shown(figsize=(10, 0.6 + 4.6 * len(cells)), layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(cells), 1))
    for row, points, name in zip(rows, cells, named.names, strict=True):
        panels = row.subplots(1, 2, width_ratios=(1.3, 1))
        plot_fixed_points(points, panels[0])
        plot_point_spectra(points, panels[1])
        legend_below(row, panels, columns=3)
        if name:
            row.suptitle(wrapped(name, 110), fontsize=10)
    titled_all(figure, named, "fixed points and the spectra there")
    return laid_out(figure)


def principal_axes(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the two directions (2, N) along which states (B, N) vary most, their shares of the variance (2,)).

    The larger entries of each direction are positive in sum, so that a picture does not flip from run to run.

    >>> principal_axes(np.array([[0.0, 2.0], [0.0, -2.0], [1.0, 0.0], [-1.0, 0.0]]))
    (array([[0., 1.],
           [1., 0.]]), array([0.8, 0.2]))
    """
    _, sizes, axes = np.linalg.svd(states - states.mean(0), full_matrices=False)
    axes, power = np.vstack((axes, np.zeros((2, states.shape[1]))))[:2], np.append(sizes**2, [0.0, 0.0])
    largest = axes[np.arange(2), np.abs(axes).argmax(1)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)[:, None]
    return axes + 0.0, power[:2] / (power.sum() or 1.0)

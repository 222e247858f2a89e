"""The charts of a network, as plotly takes them, from records alone: no torch.

Legend: T steps; N eigenvalues of a step; L layers.
"""

from collections.abc import Sequence

import numpy as np

from analysis.activity import GateActivity
from analysis.damage import LesionTable
from analysis.report.page import Chart, log_axis, plain
from gersgorin.analyses.lyapunov import LyapunovSpectrum
from gersgorin.analyses.spectra import Spectra
from rhn.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from rhn.report import Curves
from rhn.wording import counted

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
MOST_DISCS = 150  # circles of one panel
GATE_SCALE = [[0, "#ffffff"], [0.5, "#ef8a62"], [1, "#b2182b"]]


def spectrum_chart(record: Spectra, step: int) -> Chart:
    """Eigenvalues, discs and the unit circle of one step."""
    (axis, (centers, radii)), *_ = record.disc_sets.items()
    values, centers, radii = record.eigenvalues[step], centers[step], radii[step]
    drawn = np.argsort(-(np.abs(centers) + radii), kind="stable")[:MOST_DISCS]
    circles = [_circle(float(centers[k]), float(radii[k]), BLUE, 0.6, filled=True) for k in drawn]
    reach = max(1.1, float(record.reach[step]) * 1.05, float(record.spectral_radius[step]) * 1.05)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": values.real.tolist(),
        "y": values.imag.tolist(),
        "marker": {"color": RED, "size": 5},
        "customdata": np.abs(values).tolist(),
        "hovertemplate": "%{x:.4g} %{y:+.4g}i<br>modulus %{customdata:.4g}<extra></extra>",
    }
    few = "" if len(drawn) == len(radii) else f" (of {len(radii)} the {len(drawn)} that reach furthest)"
    caption = (
        f"Step {step}: {len(values)} eigenvalues (red), {axis} discs (blue){few} and the unit circle. Spectral radius "
        f"{record.spectral_radius[step]:.3g}, reach of the discs {record.reach[step]:.3g}."
    )
    layout = {
        "xaxis": {"title": {"text": "real"}, "range": [-reach, reach], "constrain": "domain"},
        "yaxis": {"title": {"text": "imaginary"}, "range": [-reach, reach], "scaleanchor": "x", "constrain": "domain"},
        "shapes": [*circles, _circle(0, 1, "ink", 1.5)],
    }
    return Chart(caption=caption, traces=[dots], layout=layout)


def products_chart(record: Spectra) -> Chart:
    """How the gradient's norm and the one-step measures move along the run."""
    T = len(record.norm)
    steps = list(range(T))
    decades = (record.log_norm_product / np.log(10)).tolist()
    traces = [_line(steps, decades, "log10 of the product's norm", BLUE, "%{y:.3g}")]
    layout = {
        "xaxis": {"title": {"text": plain(record.time_label)}},
        "yaxis": {"title": {"text": "log10 of the norm"}},
        "shapes": [_level(0)],
    }
    caption = (
        "Norm of the product of the Jacobians from the first step to each step, as a power of ten: below 0 gradients shrink, "
        "above they grow."
    )
    return Chart(caption=caption, traces=traces, layout=layout)


def steps_chart(record: Spectra) -> Chart:
    """Spectral radius, norm and reach of the discs at every step."""
    steps = list(range(len(record.norm)))
    shown = {"spectral radius": (record.spectral_radius, RED), "2-norm": (record.norm, ORANGE)}
    shown["reach of the discs"] = (record.reach, BLUE)
    traces = [_line(steps, values.tolist(), name, colour, "%{y:.4g}") for name, (values, colour) in shown.items()]
    layout = {
        "xaxis": {"title": {"text": plain(record.time_label)}},
        "yaxis": {"title": {"text": "of one step"}, "rangemode": "tozero"},
        "shapes": [_level(1)],
        "showlegend": True,
    }
    return Chart(caption="One step at a time; the line across is at 1.", traces=traces, layout=layout)


def gains_chart(input_gain: np.ndarray, state_gain: np.ndarray) -> Chart:
    """Mean over the run, with least and largest, of the input's gain (T,) and of each layer's (T, L)."""
    columns = [input_gain, *state_gain.T]
    names = ["input", *(f"layer {k + 1}" for k in range(state_gain.shape[1]))]
    means = np.array([c.mean() for c in columns])
    up, down = (np.array([f(c) for c in columns]) for f in (np.max, np.min))
    bars = {
        "type": "bar",
        "x": names,
        "y": means.tolist(),
        "marker": {"color": [ORANGE, *[BLUE] * (len(names) - 1)]},
        "error_y": {"array": (up - means).tolist(), "arrayminus": (means - down).tolist(), "color": GREY},
        "hovertemplate": "%{x}: mean %{y:.4g}<extra></extra>",
    }
    layout = {"xaxis": {"title": {"text": ""}}, "yaxis": {"title": {"text": "gain (2-norm)"}, "rangemode": "tozero"}}
    layout["shapes"] = [_level(1)]
    caption = "Gain of the input and of each layer within a step: mean over the run, and from least to largest (grey)."
    return Chart(caption=caption, traces=[bars], layout=layout)


def exponents_chart(found: LyapunovSpectrum) -> Chart:
    """The leading Lyapunov exponents with their standard errors."""
    numbers = list(range(1, len(found.exponents) + 1))
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers,
        "y": found.exponents.tolist(),
        "error_y": {"array": (2 * found.standard_errors).tolist(), "color": GREY},
        "marker": {"color": BLUE, "size": 8},
        "hovertemplate": "exponent %{x}: %{y:.4g}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "exponent, the largest first"}, "dtick": 1},
        "yaxis": {"title": {"text": "growth a step (natural log)"}},
        "shapes": [_level(0)],
    }
    errors = ", with two standard errors" if found.has_standard_errors else ""
    caption = f"Leading Lyapunov exponents over {counted(found.steps, 'step')}{errors}; below 0 changes die out."
    return Chart(caption=caption, traces=[trace], layout=layout)


def gates_chart(found: GateActivity, time: str) -> Chart:
    """Mean transform gate of each layer at every step of a sequence (figure 5b of the paper), from white to red."""
    (sequence,), (low, high) = found.sequences, found.limits
    steps = [f"{t}: {s}" for t, s in enumerate(sequence.symbols)] or [str(t) for t in range(sequence.steps)]
    row = [plain(s) for s in steps]
    trace = {
        "type": "heatmap",
        "z": sequence.activity.tolist(),
        "y": [f"layer {plain(label)}" for label in found.labels],
        "text": [row] * found.layers,
        "zmin": low,
        "zmax": high,
        "colorscale": GATE_SCALE,
        "colorbar": {"title": {"text": "gate"}, "thickness": 12},
        "hovertemplate": "%{y}, " + found.step + " %{text}<br>mean gate %{z:.3f}<extra></extra>",
    }
    layout = {"xaxis": {"title": {"text": plain(time)}}, "yaxis": {"title": {"text": ""}}}
    caption = (
        f"{found.gate_name[:1].upper()}{found.gate_name[1:]}s along {plain_caption(sequence.name)}: "
        f"mean over the units, white is {low:.3g}, red {high:.3g}; 0 is "
        "shut, 1 open."
    )
    return Chart(caption=caption, traces=[trace], layout=layout, tall=True)


def lesions_chart(found: LesionTable) -> Chart:
    """What each layer's lesion costs, with its interval; on a logarithmic axis where all of it is above 0."""
    rows = [*found.layers, *found.together, *found.controls]
    names = [f"layer {r.label}" for r in (*found.layers, *found.together)]
    names += [f"layer {r.label}: blind" for r in found.controls]
    damaged = len(rows) - len(found.controls)
    ends = np.array([(r.delta, r.low, r.high) for r in rows])
    log = bool(np.nanmin(ends) > 0) if np.isfinite(ends).any() else False
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [plain(name) for name in names],
        "y": [r.delta for r in rows],
        "error_y": {
            "array": [r.high - r.delta for r in rows],
            "arrayminus": [r.delta - r.low for r in rows],
            "color": GREY,
        },
        "marker": {
            "color": [BLUE] * damaged + [ORANGE] * len(found.controls),
            "symbol": ["circle"] * damaged + ["diamond-open"] * len(found.controls),
            "size": 9,
        },
        "hovertemplate": "%{x}: %{y:+.4g}<extra></extra>",
    }
    scale = log_axis(np.nanmin(ends), np.nanmax(ends)) if log else {"type": "linear"}
    layout = {
        "xaxis": {"title": {"text": ""}},
        "yaxis": {"title": {"text": f"damage (nats a {found.step})"}, **scale},
    }
    layout |= {} if log else {"shapes": [_level(0)]}
    several = f"with 95 % intervals over {found.sequences} sequences"
    intervals = several if found.sequences > 1 else "of one sequence, so without intervals"
    caption = (
        f"Damage: the loss without a layer less that of the whole network ({found.baseline:.4g} nats a {found.step}), {intervals}; "
        "orange diamonds: the layer is kept, its input removed."
    )
    return Chart(caption=caption, traces=[trace], layout=layout)


def curves_chart(curves: Sequence[Curves], measure: str) -> Chart:
    """Training (dotted) and validation over epochs, a colour a seed, a symbol at the best epoch."""
    traces = []
    for k, c in enumerate(curves):
        colour, epochs = COLOURS[k % len(COLOURS)], c.epochs.tolist()
        name, dropped = plain(c.name), " (with dropout)" if c.told.dropout else ""
        traces.append(_line(epochs, c.valid.tolist(), f"{name}, validation", colour, "%{y:.5g}"))
        traces.append(_line(epochs, c.train.tolist(), f"{name}, training{dropped}", colour, "%{y:.5g}", dash="dot"))
        epoch, best = c.best
        mark = {"type": "scatter", "mode": "markers", "x": [epoch], "y": [best], "marker": {"color": colour, "size": 9}}
        traces.append(
            mark | {"hovertemplate": f"{name}: best, epoch {epoch}: {best:.5g}<extra></extra>", "showlegend": False}
        )
    values = np.concatenate([(c.train, c.valid) for c in curves], axis=None)
    scale = log_axis(np.nanmin(values), np.nanmax(values)) if np.nanmin(values) > 0 else {"type": "linear"}
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": measure}, **scale},
        "showlegend": True,
    }
    caption = "Validation (solid; a dot at its best epoch) and training (dotted) over epochs."
    return Chart(caption=caption, traces=traces, layout=layout, tall=True)


def plain_caption(name: str) -> str:
    """A name of a sequence in a sentence, on one line."""
    return " ".join(str(name).split())


def _line(x: list, y: list, name: str, colour: str, form: str, dash: str = "solid") -> dict:
    hover = f"{name}, %{{x}}: {form}<extra></extra>"
    line = {"color": colour, "width": 2, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": line, "hovertemplate": hover}


def _circle(center: float, radius: float, colour: str, width: float, filled: bool = False) -> dict:
    shape = {"type": "circle", "x0": center - radius, "x1": center + radius, "y0": -radius, "y1": radius}
    shape |= {"line": {"color": colour, "width": width}, "layer": "between"}
    return shape | ({"fillcolor": "rgba(0, 114, 178, 0.04)"} if filled else {})


def _level(y: float) -> dict:
    """A line across the chart."""
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": {"color": "ink", "width": 1}}

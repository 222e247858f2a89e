"""`gersgorin.analyze`: everything this package measures of one network on one sequence, as one object.

    found = analyze(model, x)
    found                       in a notebook: a table, sentences and the figure
    found.spectrum              eigenvalues, discs, products and exponents of every step (a Spectra)
    found.input_gain            2-norm of d s'/d x at every step
    found.state_gain            2-norm of each layer's Jacobian
    found.plateau               rates and order at the constant output, for a model with a loss (see gersgorin.plateau)
    found.credit                which losses reach which states (see gersgorin.credit)

Legend: T steps, L layers of a step.

The figure of an `Analysis`, without torch: what single steps and their products do, gains, gates; for a model with a loss its credit
and its rates of learning too.

Every `plot_*` draws into the axes it is given and returns them.
"""

import base64
import html
import io
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from gersgorin.analyses.credit import SCALE, Credit, credit, plot_credit
from gersgorin.analyses.plateau import Plateau, plateau
from gersgorin.analyses.spectra import MEASURES, Spectra, check_memory, measure_spectra, reading
from gersgorin.cell_run import run_of
from gersgorin.data import chorale_source
from gersgorin.extract import Watched
from gersgorin.linalg.spectrum import one_thread
from gersgorin.objective import Loss
from gersgorin.own_loop import OwnLoop
from gersgorin.plotting.figure import Shown, laid_out, own_axes, plain_numbers
from gersgorin.plotting.spectra import (
    complete,
    crowd,
    distinct_steps,
    legend_beside,
    plot_products,
    plot_steps,
    plot_suggested,
    shade_style,
    spectrum_limit,
    wrapped,
)
from rhn import result
from rhn.data import Piece
from rhn.figures import BLUE, GREEN, drawable, our_style, titled
from rhn.models import LanguageModel, PolyphonicModel
from rhn.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gersgorin.analyses.plateau import Plateau

BLOCK = 1 << 22  # numbers of Jacobians worked on at once
MOST_ROWS = 15  # of the table, where it is printed
COLUMNS = ("first", "middle", "last", "mean", "least", "largest")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What `analyze` found; every part is a record of numbers of its own."""

    spectrum: Spectra
    """Spectra, discs, norms, products, exponents and gates along the first sequence."""
    input_gain: np.ndarray
    """2-norm of d s'/d x, (T,)."""
    state_gain: np.ndarray
    """2-norm of d s_l/d s_{l-1} of each layer, (T, L)."""
    plateau: Plateau | None = None
    """None for a cell alone, or a model without a loss."""
    credit: Credit | None = None
    """None likewise."""

    @property
    def title(self) -> str:
        """What was analysed: "rhn, depth 3, 64 units, 60 steps"."""
        return f"{self.spectrum.title}, {counted(len(self.input_gain), 'step')}"

    def table(self) -> list[dict]:
        """A row a quantity: {"quantity", "first", "middle", "last", "mean", "least", "largest"} over the steps."""
        series = {label: getattr(self.spectrum, name) for name, label in MEASURES.items()}
        series["input gain"] = self.input_gain
        layers = {"state gain": self.state_gain, self.spectrum.gate_name: self.spectrum.transform_gate}
        for label, values in layers.items():
            several = values.shape[1] > 1
            series |= {f"{label}, layer {k + 1}" if several else label: row for k, row in enumerate(values.T)}
        return [{"quantity": label} | _row(values) for label, values in series.items()]

    def summary(self) -> str:
        """The numbers in a few plain sentences."""
        return " ".join(sentence for sentence in _sentences(self) if sentence)

    def plot(self) -> "Figure":
        """One figure of all of it."""

        from rhn.figures import our_style

        with our_style():
            return draw_overview(self)

    def __repr__(self) -> str:
        rows = self.table()
        wide = max(len(row["quantity"]) for row in rows)
        shown = rows if len(rows) <= MOST_ROWS else rows[: MOST_ROWS - 1]
        lines = [self.title[: result.COLUMNS], " " * wide + "".join(f"{name:>11}" for name in COLUMNS)]
        for row in shown:
            lines.append(f"{row['quantity']:<{wide}}" + "".join(f"{row[name]:>11.4g}" for name in COLUMNS))
        lines += [f"and {counted(len(rows) - len(shown), 'row')} more, see table()"] * (len(rows) > len(shown))
        left = result.LINES - len(lines)
        return "\n".join([*lines, *wrap(self.summary(), result.COLUMNS, max_lines=left, placeholder=" ...")])

    def _repr_html_(self) -> str:
        """The table, the sentences and the figure, for a notebook; nothing outside it is referred to."""
        head = "".join(f"<th>{name}</th>" for name in ("", *COLUMNS))
        rows = "".join(
            f"<tr><th>{html.escape(row['quantity'])}</th>{''.join(f'<td>{row[name]:.4g}</td>' for name in COLUMNS)}</tr>"
            for row in self.table()
        )
        image = io.BytesIO()
        self.plot().savefig(image, format="png", dpi=90)
        return (
            f"<p><b>{html.escape(self.title)}</b></p><table><tr>{head}</tr>{rows}</table><p>{html.escape(self.summary())}</p>"
            f'<img alt="figure" src="data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}">'
        )


def analyze(
    module: nn.Module,
    x: Tensor | np.ndarray,
    *,
    targets: Tensor | np.ndarray | None = None,
    loss: str | Loss | None = None,
    layer: int | None = None,
    submodule: str | None = None,
    unit: str = "steps",
) -> Analysis:
    """Measure a network on sequences, in float64; it is left as it was.

    Args:
        module: a cell of ours, torch.nn's RNN, LSTM, GRU or their *Cell forms, a user's cell (see `rhn.cells.Cell`), or a model with
            one of them inside. A `PolyphonicModel`, a `LanguageModel`, and any model given a `loss`, get plateau and credit too.
        x: what the module takes: (T, m) or (T, B, m) frames ((B, T, m) where it is batch_first), or ids of tokens (T, B) or (T,).
            Spectra, gains and gates are those of the first sequence, from the zero state; 30 to 100 steps are enough.
        targets: what a model with a loss is to predict at each frame; None: the next frame.
        loss: see `gersgorin.Objective`.
        layer: which recurrent cell, counted from 1, where the module has several; each layer of torch.nn's counts. None: the first,
            of torch.nn's with the joint state of all its layers.
        submodule: the part of the module in which to look, by its name in `named_modules`: "encoder.rnn".
        unit: of one step, for the axes of time: "quarter notes", "tokens", "0.1 s".

    Raises:
        InvalidInputError: no recurrent cell (a bare function tells neither its state's size nor its weights), x or the weights are NaN
            or infinite, x does not fit, or, for a model with a loss, what `gersgorin.Objective` refuses.

    >>> from rhn.cells import RHN
    >>> found = analyze(RHN(3, 8, 2), torch.rand(20, 3))
    >>> found.input_gain.shape, found.state_gain.shape
    ((20,), (20, 2))
    """
    watched = Watched(module, layer, submodule)
    cell, inputs = watched.along(x, 0)
    check_memory(watched.cell, len(inputs), inputs.dtype, str(inputs.device))
    told = {
        "name": type(watched.cell).__name__,
        "title": watched.title,
        "chorale": "1",
        "reads": "sequence",
        "unit": unit,
    }
    data = chorale_source(x).about if isinstance(x, Piece) else ""
    own = cell.about if isinstance(cell, OwnLoop) else ""
    about = "; ".join(filter(None, (own, watched.made, data)))
    spectrum = measure_spectra(cell, inputs, **told, about=about)
    input_gain, state_gain = _gains(cell, inputs)
    if not isinstance(module, PolyphonicModel | LanguageModel) and loss is None:
        return Analysis(spectrum=spectrum, input_gain=input_gain, state_gain=state_gain)
    pair = (x[:-1], x[1:]) if targets is None else (x, targets)
    return Analysis(
        spectrum=spectrum,
        input_gain=input_gain,
        state_gain=state_gain,
        plateau=plateau(module, pair, loss),
        credit=replace(credit(module, *pair, loss=loss, unit=unit), about=about),
    )


@torch.no_grad()
@one_thread()
def _gains(cell: nn.Module | OwnLoop, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """2-norms (T,) of the input's Jacobians and (T, L) of the layers', along a run over x (T, m)."""
    run = run_of(cell, x)
    block = max(1, BLOCK // run.state_size**2)
    inputs, layers = [], []
    for start in range(0, len(run), block):
        now = slice(start, start + block)
        inputs.append(torch.linalg.matrix_norm(run.input_jacobians(now), 2))
        layers.append(run.state_gains(now))
    return torch.cat(inputs).cpu().numpy(), torch.cat(layers).cpu().numpy()


def _row(values: np.ndarray) -> dict[str, float]:
    picked = values[0], values[len(values) // 2], values[-1], values.mean(), values.min(), values.max()
    return dict(zip(COLUMNS, map(float, picked), strict=True))


def _sentences(found: Analysis) -> list[str]:
    spectrum = found.spectrum
    layers = _listed(found.state_gain.mean(0))
    sentences = [
        reading(spectrum),
        f"Within a step the input reaches the state with a gain of {found.input_gain.mean():.3g}, and a layer passes the state on "
        f"with a gain of {layers} (2-norms, means over the steps).",
    ]
    if spectrum.transform_gate.size:
        sentences.append(
            f"Its {spectrum.gate_name}s are open by {_listed(spectrum.transform_gate.mean(0))} on average."
        )
    if (flat := found.plateau) is not None:
        order = flat.order if flat.integer_order is None else flat.integer_order
        order = "unknown" if np.isnan(order) else f"{order:.3g}"
        sentences.append(
            f"At the best constant output for {_these(flat)} alone, {flat.loss:.4g} {flat.objective.loss.unit}, {flat.fastest} "
            f"learns fastest, at a relative rate of {flat.rates[flat.fastest]:.3g}; the order of that plateau is {order}."
        )
    if (given := found.credit) is not None:
        half = min(len(given.lost) - 1, int(np.searchsorted(np.cumsum(given.lag_share), 0.5)))
        lost = given.lost_beyond(10)
        sentences.append(
            f"Half of the recurrence's gradient comes from states at most {counted(half, 'step')} back; errors that go back "
            f"at most 10 steps lose {100 * lost:.3g} % of it."
        )
    return sentences


def _these(flat: Plateau) -> str:
    """What the constant is the best for; on other sequences another one is, at another loss."""
    several = flat.objective.mask.shape[1]
    return "this sequence" if several == 1 else f"these {several} sequences"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@our_style()
def plot_gains(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Gains of the input and of each layer over time."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    dot = {"marker": "."} if len(found.input_gain) == 1 else {}
    ax.plot(found.input_gain, color=GREEN, linestyle="--", label="input", **dot)
    _plot_layers(found.state_gain, ax)
    ax.set(xlim=(0, len(found.input_gain) - 1 or 1), xlabel=found.spectrum.time_label, ylabel="2-norm")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(found, ax, alone)


@our_style()
def plot_gates(found: "Analysis", ax: Axes | None = None) -> Axes:
    """Each layer's transform gate over time, mean over its units."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    gates = found.spectrum.transform_gate
    _plot_layers(gates, ax)
    ax.set(xlim=(0, len(gates) - 1 or 1), ylim=(0, 1), xlabel=found.spectrum.time_label, ylabel="open (0 to 1)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(found, ax, alone)


@our_style()
def plot_rates(plateau: "Plateau", ax: Axes | None = None) -> Axes:
    """Relative rates of learning at the constant output, a bar a matrix, on a log scale."""
    alone, ax = ax is None, own_axes(6, 4) if ax is None else ax
    rates = {name: rate for name, rate in plateau.rates.items() if rate > 0}
    ax.barh([wrapped(name, 30, 2) for name in rates], list(rates.values()), color=BLUE)
    if rates:
        ends = np.floor(np.log10(min(rates.values()))), np.ceil(np.log10(max(rates.values())) + 1e-9)
        ax.set(xscale="log", xlim=(10 ** ends[0], 10 ** ends[1]))
    ax.invert_yaxis()
    ax.set(xlabel="relative rate ||dL/dW|| / ||W||")
    return complete(ax, "Rates of learning at the constant output") if alone else ax


@our_style()
def draw_overview(found: "Analysis") -> Shown:
    """Spectra of a few steps, and under them a panel a part of the analysis."""
    record = found.spectrum
    panels = {
        "What single steps suggest": lambda ax: plot_suggested(record, ax),
        "What the products of the steps do": lambda ax: plot_products(record, ax, exponent_axis=False),
        "Gains within a step": lambda ax: plot_gains(found, ax),
    }
    if record.transform_gate.size:
        panels[f"{record.gate_name[:1].upper()}{record.gate_name[1:]}s"] = lambda ax: plot_gates(found, ax)
    if found.credit is not None:
        panels["Credit: which losses reach which states"] = lambda ax: _credit(found, ax)
    if found.plateau is not None:
        panels["Rates of learning at the constant output"] = lambda ax: plot_rates(found.plateau, ax)
    rows = -(-len(panels) // 2)
    limit = spectrum_limit([record])
    steps = distinct_steps(record, limit)
    crowded = any(crowd(record.eigenvalues[step], limit) for step in steps)
    heights = (3.8 + 2.6 * (crowded and len(steps) > 2), 2.7 * rows)
    figure = Shown(figsize=(13, sum(heights)), layout="constrained")
    titled(figure, drawable(found.title), drawable(record.about))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    plot_steps(record, steps, limit, crowded, False, top)
    grid = bottom.subplots(rows, 2, squeeze=False)
    for ax, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(ax)
        ax.set_title("")
        ax.set_title(title, loc="left")
        legend_beside(ax, fontsize=7)
    for ax in grid.flat[len(panels) :]:
        ax.set_axis_off()
    return laid_out(figure)


def _credit(found: "Analysis", ax: Axes) -> Axes:
    """The heat map with its scale."""
    plot_credit(found.credit, ax).set_aspect("auto")
    ax.figure.colorbar(ax.images[0], ax=ax, label=SCALE, extend="min")
    return ax


def _plot_layers(values: np.ndarray, ax: Axes) -> None:
    """(T, L): a line a layer."""
    dot = {"marker": "."} if len(values) == 1 else {}
    for k, layer in enumerate(values.T):
        ax.plot(layer, linewidth=1.3, label=f"layer {k + 1}", **shade_style(k, values.shape[1]), **dot)


def _finished(found: "Analysis", ax: Axes, alone: bool) -> Axes:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    return complete(ax, found.title, found.spectrum.about, columns=4) if alone else ax

"""`gersgorin.analyze`: several analyses of one network on one sequence, in one object with one
table and one figure.

    found = analyze(model, x)
    found                       in a notebook: the table, sentences and the figure
    found.spectra               eigenvalues, discs, products and exponents of every step
    found.gains, found.gates    of the input, of each layer
    found.influence             how far back the loss depends on inputs, for a model with a loss

The analyses are rows of `gersgorin.analyses.ANALYSES`: the default rows, and those that the
argument `analyses` names, such as `analyses=("lyapunov",)`. All use the same `Run`, which computes
its Jacobians once.

Legend: T steps, L layers of a step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.several import Several
from gersgorin.analyses.spectra import MEASURES
from gersgorin.data.files import is_array, read_data
from gersgorin.data.inputs import reads_ids
from gersgorin.data.layout import Layout, as_module_takes, has_batch
from gersgorin.figures import OVER_TIME, step_block
from gersgorin.losses import Loss
from gersgorin.network.find import model_label
from gersgorin.network.open import DataLike, NetworkLike, open_run
from gersgorin.network.sequence_map import OUTPUTS, ModelWithData, on_next_frames, own_loss
from gersgorin.run.run import Run
from gersgorin.run.state import State
from gersgorin.validate import real_tensor
from rhn.errors import InvalidInputError
from rhn.plotting.figure import Block, Shown, compose
from rhn.utils.keywords import keywords_of
from rhn.utils.result import Result, table_rows
from rhn.utils.wording import counted


@dataclass(frozen=True, kw_only=True, repr=False)
class Overview(Several, kind="overview"):
    """The results of several analyses. Each result is an attribute with the name of its analysis;
    None if the analysis was not computed.

    >>> import torch
    >>> found = analyze(torch.nn.RNN(3, 4), torch.rand(12, 3))
    >>> list(found.results)
    ['spectra', 'products', 'gains', 'gates']
    """

    def __getattr__(self, name: str) -> Any:
        if name not in ANALYSES:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self.results.get(name)

    def sentences(self) -> Iterator[str]:
        """The sentences of each analysis. A doubt about the run is stated only once. The sentences
        of the spectra include those of the products.
        """
        others = [result for name, result in self.results.items() if name != "products"]
        each = (words for result in others for words in result.sentences())
        yield from (words for words in each if words != self.doubt)
        yield from filter(None, [self.doubt])

    def table(self) -> list[dict]:
        """One row per quantity, with its values over the steps: "quantity", "first", "middle",
        "last", "mean", "least", "largest".
        """
        series = {label: getattr(self.spectra, name) for name, label in MEASURES.items()}
        series["input gain"] = self.gains.input
        if self.gains.layers.shape[1] > 1:  # the gain of one layer is the 2-norm
            series |= _columns("state gain", self.gains.layers)
        if self.gates.names:
            series |= dict(zip(self.gates.names, self.gates.mean.T, strict=True))
        else:
            series |= _columns(self.gates.gate_name, self.gates.mean)
        values = np.array([*series.values()])
        ends = {
            "first": values[:, 0],
            "middle": values[:, values.shape[1] // 2],
            "last": values[:, -1],
        }
        return table_rows(
            quantity=[*series],
            **ends,
            mean=values.mean(1),
            least=values.min(1),
            largest=values.max(1),
        )

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return self.spectra.step_count

    def drawn_step(self, step: int | None = None) -> int:
        """The step whose spectrum is drawn."""
        return self.spectra.drawn_step(step)

    marks_step = False

    def _draw(self, ax: Axes, *, step: int | None, limit: float | None) -> None:
        """Draw the spectrum of one step."""
        self.spectra._draw(ax, step=step, limit=limit)

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw the spectrum of one step, and a panel for each analysis."""
        return draw_overview(self, step=step, limit=limit)

    def _to_dict(self) -> dict:
        """The numbers of each result, by the name of its analysis."""
        return {name: result.to_dict() for name, result in self.results.items()}


def _columns(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of values (T, L) by name, with the number of the layer if there are several."""
    if values.shape[1] == 1:
        return {name: values[:, 0]}
    return {f"{name}, layer {k + 1}": column for k, column in enumerate(values.T)}


@keywords_of(open_run)
def analyze(
    network: NetworkLike,
    x: DataLike = None,
    *,
    s0: State | None = None,
    targets: Tensor | np.ndarray | None = None,
    loss: str | Loss | None = None,
    analyses: str | Sequence[str] = (),
    **options,
) -> Overview:
    """Compute the default analyses of a network on sequences, in float64. The network is not
    changed.

    Args:
        network, x, s0, options: as for `gersgorin.open_run`. x is one sequence; 30 to 100 steps are
            enough. For a `PolyphonicModel`, a `LanguageModel`, and any module with a `loss`, the
            influence is computed too. x may then have several sequences, in the layout that the
            model takes. The influence uses all sequences; the other analyses use the first one.
        targets: targets for the loss of each frame, in the layout of x; None: the next frames of x.
        loss: the loss whose dependence on the inputs is measured, see `of` in
            `gersgorin.influence`.
        analyses: one or more further analyses by name, such as "lyapunov" or ("lyapunov",
            "fixed_points"). The names are those of `gersgorin.analyses.ANALYSES`.

    Raises:
        InvalidInputError: there is no recurrent cell; x or the weights are NaN or infinite; x does
            not fit; an analysis is unknown; or, for a model with a loss, `gersgorin.influence`
            raises this error.

    >>> import torch
    >>> from rhn.cells import RHN
    >>> found = analyze(RHN(3, 8, 2), torch.rand(20, 3))
    >>> found.gains.input.shape, found.gains.layers.shape
    ((20,), (20, 2))
    """
    if targets is not None and loss is None and own_loss(network) == OUTPUTS:
        raise InvalidInputError("targets are given without a loss: add loss=, such as 'squared'")
    if targets is not None and not isinstance(network, nn.Module):
        raise InvalidInputError("targets are for a module with outputs: give that as the network")
    others = (analyses,) if isinstance(analyses, str) else analyses
    chosen = _rows(others)
    model = network if isinstance(network, nn.Module) else None
    of = loss or own_loss(model)
    first, which = (x, "") if of == OUTPUTS else _first(model, x, options.get("batch_axis"))
    run = open_run(network, first, s0=s0, **options)
    subjects: dict[str, Any] = {"run": run}
    enough = len(run) > (2 if targets is None else 1)  # frames, of which the last is a target
    if "influence" in others or (of != OUTPUTS and enough):
        subjects["model"] = _with_data(model, x, targets, of, run, options.get("batch_axis"))
    results = {
        name: row(subjects[row.needs], **({"of": of} if name == "influence" else {}))
        for name, row in chosen.items()
        if row.needs in subjects
    }
    title = f"{results['spectra'].title}, {counted(len(run), 'step')}{which}"
    return Overview(results=results, title=title, about=run.label.about, **run.itself)


def _rows(others: Sequence[str]) -> dict[str, Analysis]:
    """The default rows of `ANALYSES`, and others by name. Raises InvalidInputError for an unknown
    name.
    """
    names = [str(name).replace("-", "_") for name in others]
    if unknown := [name for name in names if name not in ANALYSES]:
        raise InvalidInputError(
            f"there is no analysis {unknown[0]!r}: expected one of {', '.join(ANALYSES)}"
        )
    return {name: row for name, row in ANALYSES.items() if row.default or name in names}


def _laid_out(model: nn.Module, x: DataLike, batch_axis: int | None) -> tuple[Tensor, Layout]:
    """(The sequences that a model reads, their layout)."""
    x = real_tensor("x", x if is_array(x) else read_data(x).sequence())
    ids = reads_ids(model, x)
    if not has_batch(x, ids=ids):
        return (x if x.dim() > 1 or ids else x[:, None]), Layout(None)
    return x, Layout.of(model, x, batch_axis, ids=ids)


def _first(model: nn.Module | None, x: DataLike, batch_axis: int | None) -> tuple[DataLike, str]:
    """(The first of several sequences, words about it); x and "" for one sequence."""
    if model is None or not is_array(x) or isinstance(x, PackedSequence):
        return x, ""
    x, layout = _laid_out(model, x, batch_axis)
    count = layout.sizes(x)[1]
    return layout.sequence(x), f" of the first of {count} sequences" if count > 1 else ""


def _with_data(
    model: nn.Module | None,
    x: DataLike,
    targets: Tensor | np.ndarray | None,
    of: str | Loss,
    run: Run,
    batch_axis: int | None,
) -> ModelWithData:
    """A model with the data x, or the cell of a run with its inputs. If there is a loss and no
    targets, the targets are the next frames.
    """
    if model is None or x is None:
        return ModelWithData(model=run.cell.module, x=run.inputs, label=run.label)
    label = replace(run.label, title=model_label(model).title)
    x, layout = _laid_out(model, x, batch_axis)
    axis = batch_axis if layout.batch is None else layout.batch
    if targets is None:
        frames = x if layout.batch is None else layout.to_time_first(x)
        return on_next_frames(model, frames, of, batch_axis=axis, label=label)
    y = real_tensor("targets", targets)
    if layout.batch is None:  # targets get the batch that x gets
        x, y = as_module_takes(model, x, axis), as_module_takes(model, y, axis)
    return ModelWithData(model=model, x=x, y=y, batch_axis=axis, label=label)


def draw_overview(found: Overview, *, step: int | None = None, limit: float | None = None) -> Shown:
    """Draw the spectrum of one step, and below it a panel for each analysis."""
    record = found.spectra
    step = record.drawn_step(step)
    left_out = {"spectra", "products"}
    if not found.gates.mean.size:
        left_out.add("gates")
    others = {ANALYSES[name].about: r for name, r in found.results.items() if name not in left_out}

    def into(title: str, result: Result, ax: Axes) -> None:
        result.draw_panel(ax, None, None)
        ax.set_title(title)
        if ax.images:  # a heat map
            bar = ax.inset_axes((0.52, 0.25, 0.44, 0.05))  # where outputs are earlier than inputs
            ax.figure.colorbar(
                ax.images[0], cax=bar, orientation="horizontal", ticks=LogLocator(numticks=2)
            )
            bar.set_title("norm")

    draws = [partial(plot, record) for plot in OVER_TIME] + [
        partial(into, *row) for row in others.items()
    ]
    above = step_block(record, step, limit)
    # labels beside the panels are long: one panel in a row of a column of a journal
    return compose(record.finding, found.origin, above, Block(draws, 2.3, 2, least=2.1))

"""`gersgorin.compare`: compare networks side by side, in one object with one table and one figure;
with `over`, medians and bands over many runs.

found = compare({"rnn": rnn, "lstm": lstm}, x)
found                                       in a notebook: sentences and the figure
found["lstm"]                               the spectra of one network
compare({"lstm": lstms}, x, over="seeds")   medians and bands over several draws of one network
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from gersgorin.analyses import ANALYSES, Analysis
from gersgorin.analyses.bands import (
    Comparison,
    compare_runs,
    draw_bands,
    last_longest,
    of_spectra,
    over_time_blocks,
)
from gersgorin.analyses.growth import extremes_on_the_way
from gersgorin.analyses.several import Several
from gersgorin.analyses.spectra import (
    AXES,
    TELLING,
    Spectra,
    draw_set,
    extent,
    is_small,
    plot_spectrum,
    spectrum_limit,
)
from gersgorin.figures import draw_inset
from gersgorin.labels import Identity, footer_of, labels_of, with_depths
from gersgorin.network.open import open_run
from gersgorin.run.run import Label, Progress, Run, silent
from rhn.errors import InvalidInputError, RhnError
from rhn.plotting.figure import WIDTH, Block, Shown, compose, plain_ticks, title_of
from rhn.utils.old import (
    COLUMNS,
    Result,
    counted,
    drawable,
    fitted,
    keywords_of,
    set_limit,
    sized,
    table,
)
from rhn.utils.validation import in_short, kind_of

OVER = "seeds", "sequences"
IN_A_ROW = 4  # panels, at most
FEW = 5  # networks with a sentence each about the way of the norm


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SideBySide(Several, kind="side by side"):
    """The results of one analysis for several networks, by the names of the networks.

    >>> import torch
    >>> from rhn.cells import GRU, RNN
    >>> found = compare({"rnn": RNN(3, 4), "gru": GRU(3, 4)}, torch.rand(6, 3))
    >>> list(found), found["gru"].spectral_radius.shape
    (['rnn', 'gru'], (6,))
    """

    along: str
    """The sequence that the networks read: "chorale bwv269"."""
    analysis: str = "spectra"
    """Name of the analysis in `gersgorin.analyses.ANALYSES`."""
    labels: np.ndarray
    """A short label for each network, in figures and in printed tables."""

    def __getitem__(self, name: str | int) -> Result:
        """The result of a network, by its name or its number, counted from 0."""
        return self.results[name] if isinstance(name, str) else [*self.results.values()][name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the networks."""
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def summary(self, *, whole: bool = True) -> str:
        """The summary of each network. If `whole` is False and there are several networks: the
        first sentence of each summary, and one table for all networks. For few networks there is
        also a sentence about each norm that is largest or smallest on the way.
        """
        each = self.results.values()
        if whole or len(self) == 1:
            return "\n\n".join(result.summary(whole=whole) for result in each)
        findings = [f"{name}: {next(iter(result.sentences()))}" for name, result in self._labelled]
        turns = [f"{name}: {turn}" for name, result in self._labelled if (turn := _turn(result))]
        turns = turns if len(self) <= FEW else []
        doubts = [f"{name}: {result.doubt}" for name, result in self._labelled if result.doubt]
        return "\n".join([*findings, *turns, *doubts, "", self.numbers()])

    def numbers(self) -> str:
        """A text table with a row for each network. The row has the `brief` numbers of the result,
        the means over its steps, or the first row of its own table.
        """
        rows = pd.DataFrame([_brief(result) for result in self.results.values()])
        over_steps = any(_over_steps(result) for result in self.results.values())
        heading = "mean of steps" if over_steps else "network"
        share = rows.columns == "discs_inside_unit_circle"
        cells = rows.map(_shown)
        cells.loc[:, share] = rows.loc[:, share].map(_percent)
        lines = [[name, *row] for name, row in zip(self.labels, cells.to_numpy(), strict=True)]
        return table([heading, *rows], lines, drop=[*rows][::-1], width=COLUMNS)

    def __repr__(self) -> str:
        """The sentences and the numbers of each network."""
        return fitted(self.summary(whole=len(self) < 2))

    def table(self) -> list[dict[str, Any]]:
        """The rows of each network's table, with the name of the network."""
        return [
            {"network": name} | row
            for name, result in self.results.items()
            for row in result.table()
        ]

    def _to_dict(self) -> dict[str, Any]:
        """The numbers of the first network; the key "compare" has a list of the numbers of the
        others.
        """
        numbers = [r.to_dict() for r in self.results.values()]
        numbers = (
            numbers if self.analysis == "spectra" else [{self.analysis: each} for each in numbers]
        )
        named = zip(self.results.values(), numbers, strict=True)
        first, *others = ({"title": r.title, "about": r.about} | each for r, each in named)
        return first | {"compare": others}

    marks_step = False

    def _draw(self, ax: Axes, *, step: int | None, limit: float | None) -> None:
        """Draw a single network. Raises InvalidInputError for several networks."""
        if len(self) > 1:
            one = f"found[{[*self][-1]!r}].plot(ax)"
            raise InvalidInputError(
                f"ax is given for {len(self)} networks: expected no axes, or one network, such "
                f"as {one}"
            )
        self[0].draw_panel(ax, step, limit)

    @property
    def step_count(self) -> int | None:
        """The number of steps that all networks have; None if a result has no steps."""
        counts = [result.step_count for result in self.results.values()]
        known = [count for count in counts if count is not None]
        return min(known) if len(known) == len(counts) else None

    def _figure(self, step: int | None, limit: float | None) -> Shown:
        """Draw spectra at one scale and measures over time, or bands, or a panel for each network;
        all panels have the same limits.
        """
        self.check_drawable()
        drawn: dict[str, Any] = {
            label: result for label, result in self._labelled if _is_drawable(result)
        }
        without = [label for label, _ in self._labelled if label not in drawn]
        kind = self.analysis.replace("_", " ")
        note = f"without {kind}, not drawn: {', '.join(without)}" if without else ""
        about = "; ".join(filter(None, (self.about, note)))
        results, names = [*drawn.values()], [*drawn]
        if isinstance(results[0], Comparison):
            return draw_bands(results, names, about, step=step, limit=limit)
        draw = draw_comparison if results[0].kind == "spectra" else draw_results
        return draw(results, names, about, step=step, limit=limit)

    def check_drawable(self) -> None:
        """Raise InvalidInputError if there is nothing to draw for any network."""
        if not any(map(_is_drawable, self.results.values())):
            self[0].check_drawable()

    @property
    def _labelled(self) -> list[tuple[str, Result]]:
        """Pairs (label, result) of the networks."""
        return [*zip(self.labels.tolist(), self.results.values(), strict=True)]


def _is_drawable(result: Result) -> bool:
    try:
        result.check_drawable()
    except InvalidInputError:
        return False
    return True


def _turn(result: Result) -> str:
    """A sentence about a norm of the products that is largest or smallest on the way; "" for other
    analyses.
    """
    norms = {"spectra": "log_norm_product", "products": "log_norm"}.get(result.kind)
    return extremes_on_the_way(getattr(result, norms)) if norms else ""


def _over_steps(result: Result) -> bool:
    """True for a result that has no `brief` numbers, and whose table has a row for each step."""
    return not result.brief() and "step" in result.to_frame()


def _brief(result: Result) -> dict[str, float]:
    """Select a few numbers of a result for a table of several networks."""
    if brief := result.brief():
        return brief
    rows = result.to_frame().select_dtypes("float")
    told = [name for name in rows if name.removesuffix("_median") in TELLING[:-1]]
    rows = rows[told or [*rows]]
    found = rows.mean() if _over_steps(result) else rows.iloc[:1].squeeze(axis=0)
    return found.to_dict()


def _percent(share: float) -> str:
    """A share as text for the table; "" if the network lacks it."""
    return "" if np.isnan(share) else f"{100 * share:.3g} %"


def _shown(value: float) -> str:
    """A number as text for the table; "" if the network lacks it."""
    return "" if np.isnan(value) else f"{value:.4g}"


@keywords_of(open_run, without=("network", "s0"))
def compare(
    networks: Mapping[str, Any] | Iterable[Any] | nn.Module | str | Path | Run,
    x: Any = None,
    *,
    over: str | Sequence[str] | None = None,
    analysis: str = "spectra",
    discs: str = "row",
    progress: Progress = silent,
    **options: Any,
) -> SideBySide:
    """Compare networks on the same data, in float64: side by side, or medians and bands over seeds,
    sequences or both.

    Args:
        networks: {name: network}, or a list of networks. A network is one that `gersgorin.open_run`
            takes, or a pair (step f(x, s), its first state). If x is left out, each network is a
            run. With over="seeds" each entry is a list or a generator of copies of the same network
            with different weights. For a single network without a name, `networks` itself is this
            list.
        x: one sequence, see `gersgorin.open_run`; with over="sequences" a list of them, which can
            differ in length, or a packed sequence.
        over: "seeds", "sequences", or both. With `over`, each result is a `Comparison`: medians and
            bands over all runs of a network.
        analysis: the analysis of each network, by its name in `gersgorin.analyses.ANALYSES`, with
            the defaults of its command. With `over`, only "spectra".
        discs: the discs in spectra and bands: "row", "column" or "both".
        progress: called with (networks done, networks in all).
        options: further arguments of `gersgorin.open_run`: layer, submodule, state_size, unit,
            device. An option {name: value} applies only to the networks that it names:
            state_size={"mine": 5}.

    Raises:
        InvalidInputError: there is no network or no sequence, or there are several where one is
            expected; the analysis is unknown; or `open_run` raises this error.

    >>> import torch
    >>> from rhn.cells import GRU, RNN
    >>> found = compare({"rnn": RNN(3, 8), "gru": GRU(3, 8)}, torch.rand(20, 3))
    >>> [*found], found["gru"].spectral_radius.shape
    (['rnn', 'gru'], (20,))
    >>> networks, sequences = [RNN(3, 8), RNN(3, 8)], list(torch.rand(5, 20, 3))
    >>> bands = compare(networks, sequences, over=("seeds", "sequences"))
    >>> bands[0].spectral_radius.shape
    (10, 20)
    """
    axes: tuple = tuple(over) if isinstance(over, list | tuple) else (over,) if over else ()
    row = _checked(axes, analysis, discs)
    sequences = _sequences(x, axes)
    groups = _groups(networks, axes)
    names = [name for name, _ in groups if name]
    measured = list[Measured]()
    for k, (name, draws) in enumerate(groups):
        runs = _runs(draws, sequences, _own(options, name, names))
        along = counted(len(sequences), "sequence") if over else ""
        network = Compared(runs=runs, name=name, given=bool(name), along=along)
        with errors_name(name or f"networks[{k}]" if len(groups) > 1 else ""):
            measured.append(measure_network(network, row, bands=bool(over), discs=discs))
        progress(len(measured), len(groups))
    return side_by_side(measured, row)


@contextmanager
def errors_name(network: str) -> Iterator[None]:
    """Put the name of a network before the message of an error; "" leaves the message unchanged."""
    try:
        yield
    except RhnError as error:
        if network and not str(error).startswith(network):
            error.args = (f"{network}: {error}", *error.args[1:])
        raise


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A network to compare, and its runs along sequences. The runs are opened one by one."""

    runs: Iterable[tuple[int, Run]]
    """Pairs (number of the draw of the weights, the run along a sequence)."""
    name: str = ""
    """Name of the network; "": the class of its module, or else the name of its cell."""
    state: str = ""
    """Training so far, see `gersgorin.labels.Identity`."""
    given: bool = False
    """True for a name that the user gave in Python."""
    along: str = ""
    """All sequences in words, for bands."""
    made: str = ""
    """Origin of the weights; "": that of the runs."""
    data: str = ""
    """Origin of all sequences, for bands."""
    count: int = 1
    """Number of runs."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of a network, and what is known about the network."""

    identity: Identity
    title: str
    """Title of the network in the result."""
    result: Any


def measure_network(
    network: Compared,
    row: Analysis,
    *,
    bands: bool,
    discs: str = "row",
    report: Callable[[str], Progress] = lambda words: silent,
) -> Measured:
    """Measure a network along one sequence, or medians and bands over its runs."""
    opened = list[tuple[Label, int]]()  # with the depth

    def titled() -> Iterator[tuple[int, Run]]:
        for k, run in network.runs:
            opened.append((run.label, run.depth))
            yield k, run.named(replace(run.label, title=network.name or run.label.title))

    if bands:
        found = compare_runs(
            titled(),
            along=network.along,
            about="; ".join(filter(None, (network.made, network.data))),
            discs=discs,
            progress=lambda title, done: report(f"runs of {title}")(done, network.count),
        )
        along, origin = found.along, {"made": network.made, "data": network.data}
    else:
        ((_, run),) = titled()
        own = {"discs": discs} if row.name == "spectra" else {}
        found = row(run, progress=report(f"{row.name} of {run.label.title}"), **own)
        along = run.label.along
        origin = {"made": network.made or run.label.made, "data": run.label.data}
    label, depth = opened[0]
    identity = Identity(
        cell=label.title,
        name=network.name or label.network,
        state=network.state,
        given=network.given,
        depth=depth,
        along=along,
        **origin,
    )
    return Measured(identity=identity, title=network.name or label.title, result=found)


def side_by_side(measured: Sequence[Measured], row: Analysis, *, only: bool = False) -> SideBySide:
    """Join the results of networks in one object. Each title is that of no other network.

    only: True if the networks are known to differ in one property and in nothing else, see
    `gersgorin.labels.labels_of`.

    Raises InvalidInputError if there is no result.
    """
    if not measured:
        raise InvalidInputError("there is nothing to run: expected at least one network")
    networks = with_depths([each.identity for each in measured])
    labels = labels_of(networks, only=only)
    results = dict[str, Any]()
    for each, one, label in zip(measured, networks, labels, strict=True):
        title = each.result.title.replace(each.title, one.title(label), 1)
        results[one.title(label)] = replace(each.result, title=title)
    return SideBySide(
        results=results,
        title=", ".join(results),
        about=footer_of(networks, labels),
        along=", ".join(dict.fromkeys(one.along for one in networks)),
        analysis=row.name,
        labels=np.array(labels),
    )


def _checked(over: tuple[str, ...], analysis: str, discs: str) -> Analysis:
    """The row of an analysis. Raises InvalidInputError if it, `over` or `discs` is unknown."""
    if unknown := [word for word in over if word not in OVER]:
        raise InvalidInputError(
            f"over is {unknown[0]!r}, expected 'seeds', 'sequences', both or None"
        )
    if discs not in AXES:
        raise InvalidInputError(f"discs is {in_short(discs)}, expected one of {', '.join(AXES)}")
    known = [name for name, row in ANALYSES.items() if row.needs == "run"]
    known = ["spectra"] if over else known
    if (name := str(analysis).replace("-", "_")) not in known:
        raise InvalidInputError(f"analysis is {in_short(analysis)}: expected {', '.join(known)}")
    return ANALYSES[name]


def _sequences(x: Any, over: tuple[str, ...]) -> list:
    """The sequences as a list. Raises InvalidInputError if several are expected and x is not a
    list.
    """
    if "sequences" not in over:
        return [x]
    if isinstance(x, PackedSequence):
        return [pack_sequence([each]) for each in unpack_sequence(x)]
    if not isinstance(x, list | tuple):
        raise InvalidInputError(
            f"x is {kind_of(x)}: expected a list of sequences for over='sequences', such "
            "as list(x) of (B, T, m)"
        )
    return [*x]


def _own(options: Mapping[str, Any], name: str, names: Sequence[str]) -> dict[str, Any]:
    """The options of one network: those of all networks, and its own from {name: value}. Raises
    InvalidInputError for a name that no network has.
    """
    own = {}
    for option, value in options.items():
        by_name = isinstance(value, Mapping)
        if by_name and (unknown := [key for key in value if key not in names]):
            known = ", ".join(names) or "networks with names, {name: network}"
            raise InvalidInputError(f"{option} names {in_short(unknown[0])}: expected {known}")
        if not by_name or name in value:
            own[option] = value[name] if by_name else value
    return own


def _runs(draws: Iterable[Any], sequences: list, options: dict) -> Iterator[tuple[int, Run]]:
    """Pairs (number of the draw, its run) for each draw and each sequence."""
    for k, network in enumerate(draws):
        for j, sequence in enumerate(sequences, 1):
            step, s0 = network if isinstance(network, tuple) else (network, None)
            run = open_run(step, sequence, s0=s0, **options)
            numbered = {"sequence": str(j), "made": ""} if len(sequences) > 1 else {}
            yield k, run.named(replace(run.label, **numbered))


def _groups(networks: Any, over: tuple[str, ...]) -> list[tuple[str, Iterable[Any]]]:
    """A pair (name or "", draws of the network) for each network."""
    if isinstance(networks, Mapping):
        named = [(str(name), network) for name, network in networks.items()]
        return [
            (name, _listed(network) if "seeds" in over else [network]) for name, network in named
        ]
    networks = _listed(networks)
    return [("", networks)] if "seeds" in over else [("", [network]) for network in networks]


def _listed(networks: Any) -> Iterable[Any]:
    """Several networks unchanged, a single one in a list. Raises InvalidInputError for anything
    else.
    """
    if isinstance(networks, str | Path | Run) or callable(networks):
        return [networks]
    if not isinstance(networks, Iterable):
        raise InvalidInputError(
            f"networks is {kind_of(networks)}: expected networks by name, a list of them, or one"
        )
    return networks


def draw_comparison(
    records: Sequence[Spectra],
    names: Sequence[str],
    about: str,
    *,
    step: int | None = None,
    limit: float | None = None,
) -> Shown:
    """Draw networks side by side on one sequence: the spectra of one step at one scale, and below
    them measures over time. Spectra that are too small for this scale are enlarged in an inset.

    names, about: a label for each network, and the footer. step: the time step; None: the middle
    one. limit: half the width of the panels.
    """
    T = min(len(record.norm) for record in records)
    step = T // 2 if step is None else step
    half = limit or spectrum_limit(records, step)

    def spectrum(record: Spectra, name: str, ax: Axes) -> None:
        beyond = record.reach[step] > half  # the outline of the discs is outside of the panel
        extend = f" (discs extend to {record.reach[step]:.2g})" if beyond else ""
        plot_spectrum(record, step, limit=half, ax=ax).set_title(drawable(name) + extend)
        if is_small(extent(record, step)[0], half):
            draw_inset(partial(draw_set, record, step), *extent(record, step), ax)

    draws = [partial(spectrum, *row) for row in zip(records, names, strict=True)]
    columns = min(len(records), IN_A_ROW)
    slide = sized(WIDTH) > 1.5 * WIDTH  # which has room beside the panels, not below
    pairs = 1 + any("before training" in name for name in names)
    least = 1.1 if slide else 1.6
    spectra = Block(draws, 2.6, columns, "y", legend=True, least=least, square=True, together=pairs)
    runs = [of_spectra(record) for record in records]
    about = "; ".join(filter(None, (about, f"step {step} of 0 to {T - 1}")))
    below = over_time_blocks(runs, names, step=step, height=1.5 if slide else 2.2)
    return compose(last_longest(runs, names), about, spectra, *below)


def draw_results(
    results: Sequence[Result],
    names: Sequence[str],
    about: str,
    *,
    step: int | None = None,
    limit: float | None = None,
) -> Shown:
    """Draw the plot of each result in its own panel. Panels with the same quantities on their axes
    have the same limits. names, about: a label for each network, and the footer.
    """

    quantities = set[str]()

    def one(result: Result, name: str, ax: Axes) -> None:
        result.draw_panel(ax, result.drawn_step(step), None)
        quantities.add(ax.get_xlabel())
        ax.set_title("\n".join(filter(None, (drawable(name), ax.get_title("left")))))
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label.startswith(drawable(result.title)):  # the panel has a title
                handle.set_label("")

    draws = [partial(one, *row) for row in zip(results, names, strict=True)]
    words = results[0].kind.replace("_", " ").replace("lyapunov", "Lyapunov exponents")
    block = Block(draws, 3.0, min(len(draws), IN_A_ROW), legend=True)
    figure = compose(title_of("", f"{words} of {counted(len(results), 'network')}"), about, block)
    if len(quantities) == 1:
        share_limits(figure.axes[: len(draws)], limit)
    return figure


def share_limits(axes: Sequence[Axes], limit: float | None = None) -> None:
    """Give all axes the same limits, which contain the limits of each. limit: see `Result.plot`."""
    plane = all(ax.get_aspect() == 1 for ax in axes)
    decades = any(ax.get_yscale() == "log" for ax in axes)
    if not plane and decades and all(ax.dataLim.y0 > 0 for ax in axes):
        for ax in axes:
            ax.set_yscale("log")
            plain_ticks(ax)
    x, y = (np.array([getattr(ax, f"get_{axis}lim")() for ax in axes]) for axis in "xy")
    for ax in axes:
        ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
        if limit is not None:
            set_limit(ax, limit)

"""`compare`: several networks on the same data, in one table and one grid.

    found = compare({"rnn": rnn, "lstm": lstm}, x)       # a row of panels
    found["lstm"]                                        # its Spectra
    compare({("rhn", 1): one, ("rhn", 5): five}, x)      # rows rhn, columns 1 and 5
    compare({"lstm": [seed_0, seed_1]}, [x_0, x_1])      # four runs: medians and bands
    compare(lstm, batch)                                 # one network along each of B sequences

Legend: R runs, each of one network along one sequence; T steps of the longest run. Runs can differ
in length: a number at step t is over the runs that have this step.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack

import numpy as np
from torch import Tensor

from gersgorin import checks
from gersgorin.analyses.spectra import (
    NO_NUMBER,
    NORM,
    NORM_NOT_CONVERGED,
    NOT_CONVERGED,
    RADIUS,
    ROW_REACH,
    Spectra,
    spectra,
)
from gersgorin.growth import (
    GROWTH,
    GROWTH_AFTER,
    HALF_LIFE,
    LOG_NORM,
    growth_curve,
    growth_rows,
)
from gersgorin.results import FROM_FIRST, UP_TO
from gersgorin.run import ReadOptions, names_options
from rhn.errors import InvalidInputError
from rhn.utils.progress import Progress, reported
from rhn.utils.results import STEP, Result
from rhn.utils.tables import Block, formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

RUNS, NETWORK, NETWORKS = "runs", "network", "networks"
MEDIAN = "median"
SHARES = {MEDIAN: 0.5, "10 %": 0.1, "90 %": 0.9}
"""Quantiles over the runs, by the heading of their table."""
MEASURES = {RADIUS: "spectral_radius", ROW_REACH: "reach", NORM: "norm", GROWTH: "log_norm_product"}
PANELS = {"discs": "", "radius": RADIUS, "reach": ROW_REACH, "norm": NORM, "product": GROWTH}
"""The panels of a figure: the complex plane of a step, and curves over time."""
COLUMNS = (RUNS, RADIUS, ROW_REACH, NORM, LOG_NORM, HALF_LIFE)
NOTES = (NOT_CONVERGED, NORM_NOT_CONVERGED, NO_NUMBER)
WITHOUT_STEPS = "a comparison from a .json file has no numbers of steps: expected one from .npz"
HEADING = 14  # letters of a line in the heading of a column
ENOUGH = 1  # leading eigenvalues for the measures of further runs

no_numbers = partial(np.empty, (0, 0))
PerRun = Annotated[np.ndarray, "run", "step"]
Place = str | tuple[Any, Any]
"""A name, or (row, column)."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RunSummary:
    """Numbers of R runs of one network, without those of single steps."""

    data: str
    """Name of the sequence of the first run."""
    unit: str
    """Length of its time step."""
    numbers: dict[str, np.ndarray]
    """The numbers of each run by the columns of the table, (R,)."""
    counts: dict[str, int]
    """The notes."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ComparedNetwork:
    """Measures of R runs of one network at each step: arrays (R, T), NaN after the end of a run."""

    row: str
    """Row of the grid; empty for a plain name."""
    column: str
    """Column of the grid, or the plain name; empty: the first column."""
    first: Spectra | None = None
    """Spectra of the first run; None, and no measures, in a result from a .json file."""
    spectral_radius: PerRun = field(default_factory=no_numbers)
    """Largest modulus of an eigenvalue, (R, T)."""
    norm: PerRun = field(default_factory=no_numbers)
    """2-norm of the Jacobian, (R, T)."""
    reach: PerRun = field(default_factory=no_numbers)
    """Largest modulus in the row discs, (R, T)."""
    log_norm_product: PerRun = field(default_factory=no_numbers)
    """log ||ds[t+1]/ds[0]||_2, (R, T)."""
    steps: Annotated[np.ndarray, "run"]
    """Number of steps of each run, (R,)."""
    summary: RunSummary | None = None
    """What is left of the measures in a .json file."""

    @property
    def spectra(self) -> Spectra:
        """Spectra of the first run. Raises InvalidInputError in a result from a .json file."""
        if self.first is None:
            raise InvalidInputError(WITHOUT_STEPS)
        return self.first

    @property
    def summarised(self) -> RunSummary:
        """The numbers of the runs without those of single steps."""
        if self.summary is not None:
            return self.summary
        there = np.arange(self.norm.shape[1]) < self.steps[:, None]
        known = there & ~np.isnan(self.reach)
        counts = {
            NOT_CONVERGED: int((known & np.isnan(self.spectral_radius)).sum()),
            NORM_NOT_CONVERGED: int((known & np.isnan(self.norm)).sum()),
            NO_NUMBER: int((there & np.isnan(self.reach)).sum()),
        }
        return RunSummary(
            data=self.spectra.data, unit=self.spectra.unit, numbers=self.numbers(), counts=counts
        )

    @property
    def name(self) -> str:
        """The name in the table."""
        return ", ".join(filter(None, (self.row, self.column)))

    @property
    def label(self) -> str:
        """The name in its row."""
        return self.column or self.row

    @property
    def runs_at(self) -> np.ndarray:
        """Number of runs that have step t, (T,)."""
        return (self.steps[:, None] > np.arange(self.norm.shape[1])).sum(0)

    @property
    def last_exponent(self) -> np.ndarray:
        """log ||ds[T]/ds[0]||_2 / T of each run at its last step, (R,)."""
        return self.log_norm_product[np.arange(len(self.steps)), self.steps - 1] / self.steps

    def numbers(self) -> dict[str, np.ndarray]:
        """The numbers of each run by the columns of the table, (R,): medians over its steps, and
        those of the whole run.
        """
        if self.summary is not None:
            return self.summary.numbers
        ends = zip(self.log_norm_product, self.steps, strict=True)
        growth = [growth_rows(log_norm[:T]) for log_norm, T in ends]
        return {
            RUNS: np.full(len(self.steps), len(self.steps)),
            RADIUS: quantiles(self.spectral_radius.T, 0.5),
            ROW_REACH: quantiles(self.reach.T, 0.5),
            NORM: quantiles(self.norm.T, 0.5),
            LOG_NORM: np.array([rows[LOG_NORM] for rows in growth]),
            HALF_LIFE: np.array([rows[HALF_LIFE] for rows in growth]),
        }

    def curve(self, measure: str, share: float) -> np.ndarray:
        """A quantile over the runs at each step that at least half of the runs have, (T',), of a
        measure in `MEASURES`. The growth is in decades, from the first state on. Raises
        InvalidInputError in a result from a .json file.
        """
        if self.first is None:
            raise InvalidInputError(WITHOUT_STEPS)
        found = quantiles(getattr(self, MEASURES[measure]), share)
        found = found[2 * self.runs_at >= len(self.steps)]
        return growth_curve(found)[FROM_FIRST] if measure == GROWTH else found


def quantiles(values: np.ndarray, share: float) -> np.ndarray:
    """Return a quantile of each column over the rows (R, T) that have a number, (T,), by linear
    interpolation; NaN without any. Between a finite and an infinite value it is the infinite one.

    >>> quantiles(np.array([[3.0, 0.0], [1.0, -np.inf], [2.0, np.nan]]), 0.5).tolist()
    [2.0, -inf]
    """
    ordered, count = np.sort(values, axis=0), (~np.isnan(values)).sum(0)
    place = share * np.maximum(count - 1, 0)
    below = np.take_along_axis(ordered, np.floor(place).astype(int)[None], 0)[0]
    above = np.take_along_axis(ordered, np.ceil(place).astype(int)[None], 0)[0]
    with np.errstate(invalid="ignore"):
        between = below + (above - below) * (place % 1)
    between = np.where(np.isneginf(below), below, between)
    return np.where(below == above, below, between)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Comparison(Result):
    """Networks along sequences, in the order in which they were given.

    >>> import torch
    >>> found = compare({"rnn": torch.nn.RNN(3, 4), "gru": torch.nn.GRU(3, 4)}, torch.rand(6, 3))
    >>> found["gru"].spectral_radius.shape, found.table()["runs"].tolist()
    ((6,), [1, 1])
    """

    page: ClassVar[str] = "docs/guides/compare.md"
    item: ClassVar[str] = NETWORK
    texts: ClassVar[tuple[str, ...]] = (
        *Spectra.texts, *COLUMNS, *MEASURES, *SHARES, NETWORK, NETWORKS, UP_TO, GROWTH_AFTER,
    )  # fmt: skip

    networks: tuple[ComparedNetwork, ...]
    panels: tuple[str, ...]
    """The panels of the figure, names in `PANELS`."""

    def __getitem__(self, place: Place) -> Spectra:
        """The spectra of a network, along its first run, by its name or (row, column)."""
        return self.network(place).spectra

    def network(self, place: Place) -> ComparedNetwork:
        """All runs of a network, by its name or (row, column). Raises KeyError."""
        return {(one.row, one.column): one for one in self.networks}[_place(place)]

    @property
    def rows(self) -> list[str]:
        """The rows of the grid, from top to bottom."""
        return [*dict.fromkeys(one.row for one in self.networks)]

    @property
    def columns(self) -> list[str]:
        """The columns of the grid, from left to right."""
        return [*dict.fromkeys(one.column for one in self.networks if one.column)] or [""]

    @property
    def groups(self) -> dict[str, dict[str, ComparedNetwork]]:
        """The networks of each row by their names; those of a single row or column as one group."""
        one_column, found = len(self.columns) == 1, dict[str, dict[str, ComparedNetwork]]()
        for one in self.networks:
            row = "" if one_column or len(self.rows) == 1 else one.row
            found.setdefault(row, {})[one.row if one.row and one_column else one.label] = one
        return found

    def figure_title(self) -> str:
        names = [", ".join(filter(None, each)) for each in (self.rows, self.columns)]
        return "; ".join(filter(None, [*names, self._named("data")]))

    def _named(self, name: str) -> str:
        """The data, or the units of steps, of the first runs of all networks."""
        return ", ".join(dict.fromkeys(getattr(one.summarised, name) for one in self.networks))

    def title(self) -> list[str]:
        runs = sum(len(one.steps) for one in self.networks)
        steps = max(one.steps.max() for one in self.networks)
        counts = f"{len(self.networks)} {NETWORKS}, {runs} {RUNS}"
        return [f"{counts}; {self._named('data')}, {UP_TO} {steps} {self._named('unit')}"]

    def table(self, share: float = 0.5) -> Mapping[str, Any]:
        """Return {column: numbers of the networks}, quantiles over the runs of each network."""
        each = [one.numbers() for one in self.networks]
        rows = {name: [quantiles(n[name][:, None], share)[0] for n in each] for name in COLUMNS}
        return {name: np.array(row, int if name == RUNS else float) for name, row in rows.items()}

    def blocks(self) -> list[Block]:
        """Return a table for each quantile over the runs; one table if each network has one run."""
        several = any(len(one.steps) > 1 for one in self.networks)
        return [self._block(heading) for heading in SHARES if several or heading == MEDIAN]

    def _block(self, heading: str) -> Block:
        """The printed table of a quantile; the names of its columns are folded."""
        table = self.table(SHARES[heading])
        folded = [textwrap.wrap(name, HEADING, break_long_words=False) for name in table]
        lines = max(map(len, folded))
        top = [[""] * (lines - len(words)) + words for words in folded]
        heads = [["", *line] for line in zip(*top, strict=True)]
        heads[-1][0] = heading
        cells = zip(*[row.tolist() for row in table.values()], strict=True)
        names = [one.name for one in self.networks]
        rows = [[name, *map(formatted, row)] for name, row in zip(names, cells, strict=True)]
        return Block(rows, heads=heads, is_list=True)

    def notes(self) -> Mapping[str, int]:
        each = [one.summarised.counts for one in self.networks]
        return {note: sum(counts[note] for counts in each) for note in NOTES}

    def items(self) -> Sequence[str]:
        return [one.name for one in self.networks]

    def records(self) -> list[dict[str, Any]]:
        """Return a line {column: number} for each network, with three columns for each number: the
        median, 10 % and 90 % of its runs.
        """
        tables = {heading: self.table(share) for heading, share in SHARES.items()}
        columns: dict[str, Sequence[Any]] = {NETWORK: self.items()}
        columns[RUNS] = tables[MEDIAN][RUNS].tolist()
        for name in COLUMNS[1:]:
            for heading, table in tables.items():
                ending = "" if heading == MEDIAN else f", {heading}"
                columns[f"{name}{ending}"] = table[name].tolist()
        each = zip(*columns.values(), strict=True)
        return [dict(zip(columns, numbers, strict=True)) for numbers in each]

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        """Return the medians over the runs of each network at each step that half of them have."""
        columns: dict[str, list[Any]] = {NETWORK: [], STEP: []}
        for one in self.networks:
            curves = {measure: one.curve(measure, 0.5) for measure in MEASURES}
            curves[GROWTH_AFTER] = curves.pop(GROWTH)[1:]
            length = len(curves[GROWTH_AFTER])
            columns[NETWORK] += [one.name] * length
            columns[STEP] += range(length)
            for name, numbers in curves.items():
                columns.setdefault(name, []).extend(numbers.tolist())
        return columns

    def variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return the measures of all networks, (K, R, T), NaN where a network has no such run or a
        run no such step, and the number of steps of each run, (K, R), then 0.
        """
        if any(one.first is None for one in self.networks):
            raise InvalidInputError(WITHOUT_STEPS)
        runs = max(len(one.steps) for one in self.networks)
        longest = max(one.norm.shape[1] for one in self.networks)
        shape = len(self.networks), runs, longest
        found = {name: np.full(shape, np.nan) for name in MEASURES.values()}
        steps = np.zeros(shape[:2], int)
        for k, one in enumerate(self.networks):
            R, T = one.norm.shape
            steps[k, :R] = one.steps
            for name in MEASURES.values():
                found[name][k, :R, :T] = getattr(one, name)
        axes = (NETWORK, "run", STEP)
        return {name: (axes, array) for name, array in found.items()} | {"steps": (axes[:2], steps)}

    def coordinates(self) -> Mapping[str, Any]:
        return {NETWORK: self.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as `Result.to_dict` does, without those of single steps, which .npz
        files have.
        """
        light = [
            ComparedNetwork(row=one.row, column=one.column, steps=one.steps, summary=one.summarised)
            for one in self.networks
        ]
        found = super(Comparison, replace(self, networks=tuple(light))).to_dict()
        for network in found["networks"]:
            for name in ("first", *MEASURES.values()):
                del network[name]
        return found

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the growth of each network over time, into these axes or new ones: the median of its
        runs, and a band from 10 to 90 % of them.
        """
        from gersgorin.analyses.comparison_figure import draw_measure  # loads matplotlib
        from rhn.utils.composer import new_axes

        names = {one.name: one for one in self.networks}
        return draw_measure(new_axes() if ax is None else ax, names, GROWTH)

    def draw(self, part: "SubFigure", step: int | None = None, limit: float | None = None) -> float:
        """Draw the grid: one step of the first run of each network, and curves for each row.
        Returns the height in inches.

        step: None: the typical step of each network. limit: half the width of the panels around 0;
        None: panels hold all discs, and those in which discs would be small are enlarged.
        """
        from gersgorin.analyses.comparison_figure import draw_grid  # loads matplotlib

        if step is not None:
            step = checks.step_of_run(step, min(one.spectra.steps for one in self.networks))
        measures = [PANELS[name] for name in self.panels if PANELS[name]]
        return draw_grid(part, self, measures, step, checks.limit_of_panel(limit))


@names_options(ReadOptions)
def compare(
    networks: Any,
    x: Any = None,
    *,
    panels: Sequence[str] = ("discs", "product"),
    progress: Progress = None,
    s0: Any = None,
    leading: int | None = None,
    **how: Unpack[ReadOptions],
) -> Comparison:
    """Measure several networks, each as `spectra` does.

    Args:
        networks: {name: network}, or {(row, column): network} for a grid; a network without a
            column stands in the first one. A network is one that `open_run` takes, a `Run`, or a
            list of them: the same network with several seeds. A network without a name has that of
            its spectra.
        x: one sequence as for `open_run`, a list of sequences, or sequences of equal lengths
            (B, T, m); None if all networks are runs. With several seeds or sequences, numbers are
            quantiles over the runs.
        panels: the panels of the figure: discs, radius, reach, norm, product.
        progress: as for `open_run`, of the runs that are done.
        leading, s0, state_size, ..., unit: as for `spectra`.

    Raises InvalidInputError.

    >>> import torch
    >>> steps = {"half": lambda x, s: s / 2, "twice": lambda x, s: 2 * s}
    >>> compare(steps, torch.zeros(9, 1), state_size=1).table()["2-norm"].tolist()
    [0.5, 2.0]
    """
    checks.require(isinstance(panels, Iterable), "panels", checks.kind(panels), "a list of panels")
    unknown = [name for name in panels if name not in PANELS]
    checks.require(
        not unknown and len(panels) > 0, "panels", unknown, f"a list of {', '.join(PANELS)}"
    )
    named = isinstance(networks, Mapping)
    places = _places(networks) if named else []
    draws = [*map(_listed, networks.values())] if named else [_listed(networks)]
    sequences = _sequences(x)
    checks.require(
        all([*draws, sequences]), "list of networks or sequences", "empty", "at least one"
    )
    jobs = [(k, *job) for k, seeds in enumerate(draws) for job in product(seeds, sequences)]
    runs = [list[Spectra]() for _ in draws]
    with reported(progress, "compare", total=len(jobs)) as advance:
        for done, (k, network, sequence) in enumerate(jobs, 1):
            few = ENOUGH if runs[k] else leading
            runs[k].append(spectra(network, sequence, s0, leading=few, **how))
            advance(done, len(jobs))
    if not named:
        places = [_place(runs[0][0].network)]
    return Comparison(networks=tuple(map(_network, places, runs)), panels=tuple(panels))


def _listed(given: Any) -> list[Any]:
    """Several networks or sequences as they are, one in a list."""
    return given if isinstance(given, list) else [given]


def _sequences(x: Any) -> list[Any]:
    """Those of a list, those of a batch (B, T, m), or one. Of (T, 1, m) the network decides."""
    is_nested = isinstance(x, Tensor) and x.is_nested  # which has no shape
    has_axes = isinstance(x, Tensor | np.ndarray) and x.ndim == 3 and not is_nested
    is_batch = has_axes and x.shape[1] != 1
    return [*x] if is_batch else _listed(x)


def _places(networks: Mapping[Place, Any]) -> list[tuple[str, str]]:
    """(Row, column) of each network; refused unless each place of the grid has one network."""
    places = [*map(_place, networks)]
    first = next((column for _, column in places if column), "")
    cells = {(row, column or first) for row, column in places}
    checks.require(0 < len(cells) == len(places), "networks",
                 ", ".join(map(str, networks)) or "empty", "one network at each place")  # fmt: skip
    return places


def _place(place: Place) -> tuple[str, str]:
    """(Row, column) as texts."""
    row, column = place if isinstance(place, tuple) else ("", place)
    return str(row), str(column)


def _network(place: tuple[str, str], runs: list[Spectra]) -> ComparedNetwork:
    """The measures of the runs of a network as arrays (R, T)."""
    row, column = place
    return ComparedNetwork(
        row=row,
        column=column,
        first=runs[0],
        spectral_radius=_padded([run.spectral_radius for run in runs]),
        norm=_padded([run.norm for run in runs]),
        reach=_padded([run.row_reach for run in runs]),
        log_norm_product=_padded([run.log_norm_product for run in runs]),
        steps=np.array([run.steps for run in runs]),
    )


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one array (R, T), with NaN after their ends."""
    found = np.full((len(rows), max(map(len, rows))), np.nan)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found

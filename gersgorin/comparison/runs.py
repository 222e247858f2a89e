"""Many runs of one kind of network as numbers: what each did at every step, and medians and bands over all of them. Without torch.

Legend: R runs, each a network on a sequence; T steps of the longest run. Runs may be of different lengths: a statistic of step t is
over the runs that have a step t, and `runs_at` says how many these are.

One run, of which only a few numbers of each step are kept: Jacobians come in blocks, are measured and multiplied, and let go.

Many runs, one after another, of each of which a few numbers a step are kept; and one of the command's, measured in full.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.analyses.spectra import (
    BLOCK,
    Leading,
    Spectra,
    check_memory,
    finite_run,
    measure_leading,
    measure_spectra,
)
from gersgorin.comparison.variants import Panel
from gersgorin.data import Source
from gersgorin.extract import Watched
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.products import running_log_norms
from gersgorin.linalg.spectrum import eigenvalue_conditions, one_thread
from gersgorin.networks import Subject
from gersgorin.own_loop import OwnLoop
from rhn.command import own_cell
from rhn.errors import InvalidInputError
from rhn.files import write_arrays, write_record
from rhn.reading import arrays_of, values_of
from rhn.result import Result
from rhn.wording import counted

KEPT = ("spectral_radius", "norm", "reach", "log_norm_product")  # one number a step, as `Spectra` has them
TOLD = (*KEPT, "finite_time_exponent")
ABOUT = ("cell", "depth", "hidden_size", "title", "along", "unit", "discs", "about")
BAND = (0.1, 0.9)  # four of five runs are within


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Result):
    """What each of R runs did at every step t = 0..T-1; arrays (R, T) are NaN beyond a run's own end."""

    cell: str
    depth: int
    hidden_size: int
    title: str
    """What figures call these runs."""
    along: str
    """What they were along: "chorale bwv269", "20 chorales"."""
    unit: str
    """Of time, of one step: "quarter notes"."""
    discs: str
    """Which discs `reach` is of, "row", "column" or "both"."""
    sequence: np.ndarray
    """Names of the runs' sequences, (R,)."""
    seed: np.ndarray
    """Which network each run is of, (R,): the seed of its first weights, or its place among the networks."""
    spectral_radius: np.ndarray
    """(R, T)"""
    norm: np.ndarray
    """2-norm of each step's Jacobian, (R, T)."""
    reach: np.ndarray
    """How far the discs reach from 0, (R, T)."""
    log_norm_product: np.ndarray
    """log ||dy[t+1]/dy[0]||_2, (R, T)."""
    about: str = ""
    """How the networks and what they read came to be, under a figure's title: "uniform:0.04, transform bias -2"."""

    @classmethod
    def of(cls, runs: Iterable[tuple[str, int, dict[str, np.ndarray]]], **about) -> "Comparison":
        """From runs, made one by one: (name of the sequence, seed or place of the network, the measures of `KEPT`, (T_i,) each).

        about: all other fields. Raises InvalidInputError where there is no run.
        """
        runs = list(runs)
        if not runs:
            raise InvalidInputError("there is nothing to run: expected at least one network and one sequence")
        names, seeds, measured = zip(*runs, strict=True)
        tables = {name: _padded([measures[name] for measures in measured]) for name in KEPT}
        return cls(sequence=np.array(names), seed=np.array(seeds), **tables, **about)

    @classmethod
    def of_record(cls, record: Spectra) -> "Comparison":
        """The one run that a record is of."""
        run = record.chorale, 0, {name: getattr(record, name) for name in KEPT}
        return cls.of([run], **{name: getattr(record, name) for name in ABOUT})

    @property
    def steps(self) -> np.ndarray:
        """Steps that each run has, (R,)."""
        return (~np.isnan(self.norm)).sum(1)

    @property
    def runs_at(self) -> np.ndarray:
        """Runs that have a step t, (T,)."""
        return (~np.isnan(self.norm)).sum(0)

    @property
    def finite_time_exponent(self) -> np.ndarray:
        """log ||dy[t+1]/dy[0]||_2 / (t + 1), (R, T)."""
        return self.log_norm_product / np.arange(1, self.norm.shape[1] + 1)

    @property
    def last_exponent(self) -> np.ndarray:
        """Each run's exponent at its own last step, (R,)."""
        return self.finite_time_exponent[np.arange(len(self.steps)), self.steps - 1]

    def quantile(self, name: str, share: float) -> np.ndarray:
        """Of a measure of `TOLD`, over the runs at each step, (T,); 0.5 is the median, 0 and 1 are the extremes."""
        return np.array([quantile(column[~np.isnan(column)], share) for column in getattr(self, name).T])

    def rows(self) -> list[dict]:
        """One row a step: how many runs have it, and each measure's median, band and extremes."""
        shares = {"median": 0.5, "p10": BAND[0], "p90": BAND[1], "min": 0.0, "max": 1.0}
        tables = {name: {key: self.quantile(name, q).tolist() for key, q in shares.items()} for name in TOLD}
        return [
            {"step": t, "runs": int(runs)}
            | {name: {key: values[t] for key, values in table.items()} for name, table in tables.items()}
            for t, runs in enumerate(self.runs_at)
        ]

    def summary(self, figure: str | None = None) -> dict:
        """The JSON object of `gersgorin-plot --sequences N --json`."""
        about = {name: getattr(self, name) for name in ABOUT}
        of_each = zip(
            self.sequence.tolist(), self.seed.tolist(), self.steps.tolist(), self.last_exponent.tolist(), strict=True
        )
        runs = [dict(zip(("sequence", "seed", "steps", "exponent"), run, strict=True)) for run in of_each]
        return about | {"figure": figure, "runs": runs, "steps": self.rows()}

    def save(self, path: str | Path) -> Path:
        """Write to .npz (arrays, no pickle) or .json (with the medians and bands); atomic."""
        path, values = Path(path), asdict(self)
        if path.suffix != ".json":
            return write_arrays(path, values)
        values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        write_record(path, values | {"steps": self.rows()})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Comparison":
        """Read what `save` wrote as .npz; raises DataError where the file is something else."""
        with arrays_of(path, "gersgorin-plot --sequences N --save-data FILE.npz") as arrays:
            return cls(**values_of(cls, arrays))


def quantile(values: np.ndarray, share: float) -> float:
    """Linear between the sorted values, as `numpy.quantile`; but half way to minus infinity is minus infinity, not NaN.
    Of nothing it is NaN.

    >>> quantile(np.array([3.0, 1.0, 2.0, 10.0]), 0.5), quantile(np.array([-np.inf, -np.inf, 0.0]), 0.25)
    (2.5, -inf)
    """
    if not len(values):
        return math.nan
    place = share * (len(values) - 1)
    lower, upper = np.sort(values)[[int(np.floor(place)), int(np.ceil(place))]]
    return float(lower if np.isinf(lower) else lower + place % 1 * (upper - lower))


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """(R, T) of rows of R lengths, NaN after their ends."""
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for k, row in enumerate(rows):
        table[k, : len(row)] = row
    return table


AXES = {"row": ("row",), "column": ("column",), "both": ("row", "column")}


@torch.no_grad()
@one_thread()
def measure_steps(cell: nn.Module | OwnLoop, x: Tensor, *, name: str, along: str, discs: str) -> dict[str, np.ndarray]:
    """Run a cell over x (T, m) from a zero state: the measures of `KEPT`, (T,) each, equal to those of `measure_spectra`.

    name, along: of the cell and the sequence, for errors. Raises InvalidInputError as there.
    """
    run = finite_run(cell, x, name=name, along=along)
    block, measured = max(1, BLOCK // run.state_size**2), []

    def steps() -> Iterator[Tensor]:
        for start in range(0, len(run), block):
            A = run.jacobians(slice(start, start + block))
            leading = eigenvalue_conditions(A)[0][:, 0]  # as `measure_spectra` has them, to the last bit
            reaches = [
                disc.centers.abs() + disc.radii for disc in (gersgorin_discs(A, axis=axis) for axis in AXES[discs])
            ]
            reach = torch.stack([reach.amax(-1) for reach in reaches]).amin(0)
            measured.append((leading, torch.linalg.matrix_norm(A, 2), reach))
            yield from A

    log_norms = torch.stack(list(running_log_norms(steps())))
    columns = *(torch.cat(parts) for parts in zip(*measured, strict=True)), log_norms
    leading, *others = (column.cpu().numpy() for column in columns)
    return dict(zip(KEPT, (np.abs(leading), *others), strict=True))


Progress = Callable[[int, int], None]
Run = tuple[str, int, dict[str, np.ndarray]]  # see `Comparison.of`


def compare(
    modules: nn.Module | Iterable[nn.Module],
    sequences: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    *,
    title: str | None = None,
    layer: int | None = None,
    submodule: str | None = None,
    unit: str = "steps",
    discs: str = "row",
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Medians and bands of what networks do over sequences, in float64: every network on every sequence.

    Args:
        modules: a network, or several that differ in their weights: what `gersgorin.analyze` takes. They may be made one by one.
        sequences: (S, T, m), one (T, m), or a list of them, which may be of different lengths; or whatever each module takes.
        title: what figures call these runs; None: what the first network is.
        layer: which recurrent cell, counted from 1, where a module has several. None: the first, with all its layers.
        submodule: the part of a module in which to look, by its name in `named_modules`.
        unit: of one step, for the axes of time: "quarter notes", "0.1 s".
        discs: which discs `reach` is of, "row", "column" or "both".
        progress: called with (runs done, runs in all, or 0 where that is not known).

    Raises:
        InvalidInputError: no module or no sequence, or what `gersgorin.analyze` refuses.

    >>> from rhn.cells import RNN
    >>> found = compare([RNN(3, 8), RNN(3, 8)], torch.rand(5, 20, 3))
    >>> found.spectral_radius.shape, int(found.runs_at[0])
    ((10, 20), 10)
    """
    if not isinstance(modules, Iterable | nn.Module) or not isinstance(sequences, Iterable):
        kinds = f"{type(modules).__name__} and {type(sequences).__name__}"
        raise InvalidInputError(
            f"{kinds} given: expected a torch module or several, and sequences (S, T, m) or a list of them"
        )
    if discs not in AXES:
        raise InvalidInputError(f"discs is {discs!r}, expected one of {', '.join(AXES)}")
    modules = [modules] if isinstance(modules, nn.Module) else modules
    sequences = [sequences] if getattr(sequences, "ndim", 3) == 2 else list(sequences)
    total = len(modules) * len(sequences) if hasattr(modules, "__len__") else 0
    about = {"unit": unit, "discs": discs, "along": counted(len(sequences), "sequence")}

    def runs() -> Iterator[Run]:
        for k, module in enumerate(modules):
            watched = Watched(module, layer, submodule)
            cell, name = watched.cell, type(watched.cell).__name__
            if k == 0:
                about.update(_about(cell, name, title or watched.title))
            for j, sequence in enumerate(sequences):
                along, x = watched.along(sequence, 0)
                check_memory(cell, 0, x.dtype, str(x.device))
                yield str(j + 1), k, measure_steps(along, x, name=name, along=f"sequence {j + 1}", discs=discs)
                progress(k * len(sequences) + j + 1, total)

    found = list(runs())
    return Comparison.of(found, **about)


def panel_ensemble(
    panel: Panel, sources: Sequence[Source], *, first_seed: int, progress: Progress, **how
) -> Comparison:
    """What a panel's networks do over all sequences; `first_seed` is that of its first network; how: see `measure_along`."""
    total, discs = len(panel.subjects) * len(sources), how["discs"]

    def runs() -> Iterator[Run]:
        for k, subject in enumerate(panel.subjects):
            cell = subject.build(how["device"], how["dtype"])
            for j, source in enumerate(sources):
                with own_cell(subject.name if subject.own else None):
                    run, x = _seen(source, subject, cell, how["device"], how["dtype"])
                    along = f"{source.kind} {source.label}"
                    yield (
                        source.label,
                        first_seed + k,
                        measure_steps(run, x, name=subject.name, along=along, discs=discs),
                    )
                progress(k * len(sources) + j + 1, total)

    about = _about(panel.subject.cell, panel.subject.name, panel.title) | {
        "about": _made(panel, sources[0], first_seed)
    }
    return Comparison.of(runs(), unit=sources[0].unit, along=spoken_sources(sources), discs=discs, **about)


def _made(panel: Panel, source: Source, first_seed: int) -> str:
    """How a panel's networks, and what they read, came to be."""
    words, last = panel.subject.made, first_seed + len(panel.subjects) - 1
    if last > first_seed:
        words = words.replace(f"seed {first_seed}", f"seeds {first_seed} to {last}")
    return "; ".join(filter(None, (words, source.about)))


def measure_along(
    source: Source,
    subject: Subject,
    cell: nn.Module,
    *,
    device: str,
    dtype: torch.dtype,
    leading: Leading | None,
    **about,
) -> tuple[nn.Module | OwnLoop, Tensor, Spectra]:
    """(The cell, or the own loop around it; what it sees of a source (T, m); what it does): of a large state the leading part.

    about: see `measure_spectra`."""
    cell, x = _seen(source, subject, cell, device, dtype)
    own = cell.about if isinstance(cell, OwnLoop) else ""
    along = {"chorale": source.first_label, "reads": source.kind, "unit": source.unit}
    along["about"] = "; ".join(filter(None, (own, subject.made, source.about)))
    if leading is None:
        return cell, x, measure_spectra(cell, x, name=subject.name, **along, **about)
    how = {"memory_limit": leading.memory, "seed": leading.seed}
    return cell, x, measure_leading(cell, x, leading.count, name=subject.name, **along, **how, **about)


def _seen(
    source: Source, subject: Subject, cell: nn.Module, device: str, dtype: torch.dtype
) -> tuple[nn.Module | OwnLoop, Tensor]:
    values = source.sequence()
    return subject.along(cell, torch.as_tensor(values, device=device).to(dtype if values.ndim > 1 else torch.int64))


def _about(cell: nn.Module, name: str, title: str) -> dict:
    size = getattr(cell, "hidden_size", cell.state_size)
    return {"cell": name, "title": title, "depth": getattr(cell, "depth", 1), "hidden_size": size}


def spoken_sources(sources: Sequence[Source]) -> str:
    """What is read, in words: "20 chorales", "5 parts of text novel.txt"."""
    first, count = sources[0], len(sources)
    if count == 1:
        return f"{first.kind} {first.label}"
    if first.kind == "chorale":
        return f"the first {count} chorales of the test split"
    return f"{count} {'parts' if first.kind == 'text' else 'sequences'} of {replace(first, part=None).label}"

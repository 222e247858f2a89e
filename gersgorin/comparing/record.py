"""Many runs of one kind of network as numbers: what each did at every step, and medians and bands over all of them. Without torch.

Legend: R runs, each a network on a sequence; T steps of the longest run. Runs may be of different lengths: a statistic of step t is
over the runs that have a step t, and `runs_at` says how many these are.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gersgorin.record import SpectrumRecord
from rhn.errors import InvalidInputError
from rhn.files import write_arrays, write_record
from rhn.reading import arrays_of, values_of
from rhn.result import Result

KEPT = ("spectral_radius", "norm", "reach", "log_norm_product")  # one number a step, as `SpectrumRecord` has them
TOLD = (*KEPT, "finite_time_exponent")
ABOUT = ("cell", "depth", "hidden_size", "title", "along", "unit", "discs", "about")
BAND = (0.1, 0.9)  # four of five runs are within


@dataclass(frozen=True, kw_only=True, repr=False)
class Ensemble(Result):
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
    def of(cls, runs: Iterable[tuple[str, int, dict[str, np.ndarray]]], **about) -> "Ensemble":
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
    def of_record(cls, record: SpectrumRecord) -> "Ensemble":
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
    def load(cls, path: str | Path) -> "Ensemble":
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

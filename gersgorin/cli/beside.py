"""What `gersgorin-plot` measures beside the spectra where it is asked: --lyapunov, --fixed-points, --norm-bounds, --verified,
--pseudospectra.

Each has lines in the table and a key in the JSON; all but --verified have a figure of their own beside the first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gersgorin.analyses.bounds import NormBounds, bounds_table
from gersgorin.analyses.bounds import bounds as bound_run
from gersgorin.analyses.enclosures import VerifiedRun, rounded_outwards, verify_run
from gersgorin.analyses.fixed_points import FixedPoints, fixed_points, fixed_points_table
from gersgorin.analyses.lyapunov import LyapunovSpectrum, lyapunov, lyapunov_table
from gersgorin.analyses.pseudospectra import Pseudospectra, measure_pseudospectra, pseudospectra_table
from gersgorin.analyses.spectra import Spectra
from gersgorin.analyses.spectra import summary_table as summary_table
from gersgorin.jacobian import trajectory
from gersgorin.own_loop import OwnLoop
from rhn.engine.memory import in_words
from rhn.errors import InvalidInputError
from rhn.figures import save_figure
from rhn.files import check_writable

FRAMES = 6  # arrays (N, K) at once: directions, their image, and what QR makes of it
SEARCHED = 8  # arrays (starts, N) at once

Report = Callable[[str], Callable[[int, int], None]]


@dataclass
class Beside:
    """What was asked for, and of each cell in turn what was found."""

    lyapunov: int | None
    """Exponents of each cell."""
    repeat: int
    """How often the sequence is read for them."""
    starts: int | None
    """States from which fixed points are searched."""
    figure: Path
    """The first figure, beside which theirs stand."""
    seed: int = 0
    force: bool = True
    """Whether figures that are there may be written over."""
    norm_bounds: bool = False
    """Whether the gradient's norm is to be bounded."""
    verify: bool = False
    """Whether the eigenvalues are to be enclosed."""
    pseudospectra: bool = False
    """Whether how sensitive the spectra of a few steps are is to be seen."""
    spectra: list[LyapunovSpectrum] = field(default_factory=list)
    points: list[FixedPoints] = field(default_factory=list)
    bounds: list[NormBounds] = field(default_factory=list)
    verified: list[VerifiedRun] = field(default_factory=list)
    portraits: list[Pseudospectra] = field(default_factory=list)

    def __post_init__(self):
        for path in self.figures():
            check_writable(path, force=self.force)

    def figures(self) -> list[Path]:
        """The figures to come, each of all cells."""
        names = ["lyapunov"] * (self.lyapunov is not None) + ["fixed-points"] * (self.starts is not None)
        names += ["bounds"] * self.norm_bounds + ["pseudospectra"] * self.pseudospectra
        return [self.figure.with_stem(f"{self.figure.stem}-{name}") for name in names]

    def check(self, cells: Sequence[tuple[str, nn.Module]], inputs: tuple[int, int], memory: float) -> None:
        """Raise InvalidInputError for a cell (by its name) with fewer state entries than exponents were asked for, and for what does
        not fit the memory (bytes), of inputs (T, m)."""
        for name, cell in cells:
            if self.lyapunov is not None and not 1 <= self.lyapunov <= cell.state_size:
                expected = f"the state of {name} has {cell.state_size} entries, expected 1 to {cell.state_size}"
                raise InvalidInputError(f"--lyapunov {self.lyapunov}: {expected}")
            self._check_memory(cell.state_size, *inputs, memory)

    def _check_memory(self, N: int, T: int, m: int, memory: float) -> None:
        """Counted in float64: of a run its inputs and which are finite, of directions a few frames, of starts what a search keeps."""
        if self.lyapunov is not None:
            need = 10 * self.repeat * T * m + 8 * FRAMES * N * self.lyapunov
            if need > memory:
                raise InvalidInputError(
                    f"--lyapunov {self.lyapunov} --repeat {self.repeat}: {self.repeat * T:,} steps need about {in_words(need)} of "
                    f"memory, {in_words(memory)} are available: give a smaller --repeat or fewer exponents"
                )
        if self.starts is not None and (need := 8 * SEARCHED * N * self.starts) > memory:
            raise InvalidInputError(
                f"--fixed-points {self.starts}: so many states of {N} entries need about {in_words(need)} of memory, "
                f"{in_words(memory)} are available: give fewer"
            )

    def measure(self, cell: nn.Module | OwnLoop, x: Tensor, record: Spectra, report: Report) -> Spectra:
        """Of one cell on its inputs x (T, m), beside its record; returns that, with radii rounded up where it is verified."""
        if self.lyapunov is not None:
            progress = report(f"Lyapunov exponents of {record.title}")
            options = {"warmup": len(x) if self.repeat > 1 else 0, "seed": self.seed, "progress": progress}
            again = cell.repeated(self.repeat) if isinstance(cell, OwnLoop) else cell
            spectrum = lyapunov(again, x.repeat(self.repeat, 1), self.lyapunov, **options)
            self.spectra.append(replace(spectrum, title=record.title, unit=record.unit, about=record.about))
        if self.starts is not None:
            progress = report(f"fixed points of {record.title}")
            options = {"at_least_one": False, "progress": progress}
            found = fixed_points(cell, x.mean(0), self._starts(cell, x), **options)
            title = f"{record.title}, input held at the mean of {record.along}"
            self.points.append(replace(found, title=title, about=record.about))
        if self.norm_bounds:
            progress = report(f"bounds of {record.title}")
            bounds = bound_run(cell, x, title=record.title, unit=record.unit, progress=progress)
            self.bounds.append(replace(bounds, about=record.about))
        if self.verify:
            self.verified.append(verify_run(cell, x, report(f"enclosures of {record.title}")))
        if self.pseudospectra:
            progress = report(f"pseudospectra of {record.title}")
            self.portraits.append(measure_pseudospectra(cell, x, record, progress=progress))
        return rounded_outwards(record) if self.verify else record

    @torch.no_grad()
    def _starts(self, cell: nn.Module, x: Tensor) -> Tensor:
        """States of the run, evenly spread; beyond as many as it has, points between two of them, drawn."""
        states = trajectory(cell, x)
        whole = min(self.starts, len(states))
        some = states[torch.arange(whole, device=x.device) * len(states) // whole]
        generator, more = torch.Generator("cpu").manual_seed(self.seed), self.starts - whole
        first, second = torch.randint(len(states), (2, more), generator=generator, device="cpu").to(x.device)
        share = torch.rand(more, 1, generator=generator, dtype=torch.float64, device="cpu").to(states)
        return torch.cat((some, share * states[first] + (1 - share) * states[second]))

    def draw(self, along: str) -> None:
        """Write the figures."""
        from gersgorin.analyses.bounds import draw_bounds
        from gersgorin.analyses.fixed_points import draw_fixed_points
        from gersgorin.analyses.lyapunov import draw_lyapunov
        from gersgorin.analyses.pseudospectra import draw_pseudospectra

        paths = iter(self.figures())
        if self.spectra:
            times = f", read {self.repeat} times" if self.repeat > 1 else ""
            save_figure(next(paths), lambda: draw_lyapunov(self.spectra, along + times))
        if self.points:
            save_figure(next(paths), lambda: draw_fixed_points(self.points))
        if self.bounds:
            save_figure(next(paths), lambda: draw_bounds(self.bounds, along))
        if self.portraits:
            save_figure(next(paths), lambda: draw_pseudospectra(self.portraits, along))

    def tables(self, cell: int) -> list[str]:
        """What is told of a cell, counted from 0, under its table."""
        told = [lyapunov_table(spectrum) for spectrum in self.spectra[cell : cell + 1]]
        told += [fixed_points_table(points) for points in self.points[cell : cell + 1]]
        told += [bounds_table(bounds) for bounds in self.bounds[cell : cell + 1]]
        told += [str(run) for run in self.verified[cell : cell + 1]]
        return told + [pseudospectra_table(found) for found in self.portraits[cell : cell + 1]]

    def summary(self, cell: int) -> dict:
        """Of a cell, counted from 0, JSON-ready; empty where nothing was asked for."""
        found = {
            "lyapunov": self.spectra,
            "fixed_points": self.points,
            "norm_bounds": self.bounds,
            "verified": self.verified,
            "pseudospectra": self.portraits,
        }
        return {name: records[cell].summary() for name, records in found.items() if records}

"""From a cell and a sequence of inputs to a `SpectrumRecord`: Jacobians, spectra, discs, norms and products along the run."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.discs import gersgorin_discs
from gersgorin.dynamics import running_log_norms
from gersgorin.inclusion.numerical_range import support_function
from gersgorin.normality.kreiss import kreiss_constant
from gersgorin.normality.measures import departure
from gersgorin.own_loop import OwnLoop
from gersgorin.record import SpectrumRecord, shown_steps
from gersgorin.run import Run, run_of
from gersgorin.spectrum import eigenvalue_conditions, one_thread
from rhn.engine.memory import free_memory, in_words
from rhn.errors import InvalidInputError

UNITS = {"chorale": "quarter notes", "text": "tokens"}
SMALL = 256  # entries of a state, up to which what is costly takes but a moment
# support lines of a numerical range, of which a quarter is solved for; half as many where a state is not small
ANGLES = 32
BLOCK = 1 << 22  # numbers of Jacobians worked on at once
KEPT = 8  # numbers of each entry of the state at each step: states, eigenvalues, discs


def check_memory(cell: nn.Module, steps: int, dtype: torch.dtype, device: str, limit: float | None = None) -> None:
    """Raise InvalidInputError where the weights, the spectra of a run and blocks of Jacobians do not fit the limit: bytes, or None for
    the free memory."""
    need, have = memory_needed(cell, steps, dtype), memory_there(device, limit)
    if need > have:
        raise InvalidInputError(
            f"a state of {cell.state_size} over {steps} steps needs about {in_words(need)} of memory, {in_words(have)} are available: "
            "use a smaller --hidden-size or fewer --steps"
        )


def memory_there(device: str, limit: float | None) -> float:
    """Bytes: the limit, or what is free where None."""
    return free_memory(device) if limit is None else limit


def memory_needed(cell: nn.Module, steps: int, dtype: torch.dtype) -> int:
    """Bytes, about: of the weights, what a record keeps of every step, and a block of Jacobians with what is made of it."""
    return memory_kept(cell, steps, dtype) + dtype.itemsize * 12 * max(BLOCK, cell.state_size**2)


def memory_kept(cell: nn.Module, steps: int, dtype: torch.dtype) -> int:
    """Bytes, about: of the weights and of what a record keeps of every step."""
    return dtype.itemsize * (sum(p.numel() for p in cell.parameters()) + KEPT * steps * cell.state_size)


def finite_run(cell: nn.Module | OwnLoop, x: Tensor, *, name: str, along: str) -> Run | OwnLoop:
    """The run of a cell over x (T, m) from a zero state; raises InvalidInputError where a state is not finite."""
    run = run_of(cell, x)
    if not torch.isfinite(run.states).all():
        raise InvalidInputError(
            f"{name}: a state is NaN or infinite along {along}: "
            f"its weights are too large to run, or its step(x, s) computes something that is not finite"
        )
    return run


@torch.no_grad()
@one_thread()  # two threads on small matrices gain little on an idle machine and lose much on a busy one
def measure_spectrum(
    cell: nn.Module | OwnLoop,
    x: Tensor,
    *,
    name: str,
    chorale: str,
    reads: str = "chorale",
    unit: str | None = None,
    title: str | None = None,
    discs: str = "row",
    about: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpectrumRecord:
    """Run a cell over x (T, m) from a zero state and measure every step.

    Args:
        cell: one of ours, a torch.nn cell, a module with `step(x, s)` and `state_size`, or a module's own loop.
        x: inputs (T, m) in the dtype and on the device of the cell's weights.
        name, chorale, title: what the record calls the cell, the sequence and the run.
        reads: what the sequence is, "chorale", "text" or just a "sequence".
        unit: of one step; None: "quarter notes" of a chorale, "tokens" of a text, else "steps".
        discs: which discs the record is to speak of, "row", "column" or "both"; it holds all of them.
        about: how the cell and the sequence came to be, for figures.
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: shapes do not fit, or a state or Jacobian is not finite.
    """
    run = finite_run(cell, x, name=name, along=f"{reads} {chorale}".strip())
    T, N = len(run), run.state_size
    block = max(1, BLOCK // (N * N))
    shown, kreiss, measured = shown_steps(T), {}, []

    def steps() -> Iterator[Tensor]:
        for start in range(0, T, block):
            now = slice(start, start + block)
            A = run.jacobians(now)
            rows, columns = gersgorin_discs(A), gersgorin_discs(A, axis="column")  # which refuse what is not finite
            norms = torch.linalg.matrix_norm(A, 2)
            values, conditions = eigenvalue_conditions(A)
            support = support_function(A.cpu(), ANGLES if N <= SMALL else ANGLES // 2)
            normal = values, conditions.amax(-1), support, departure(A, values, relative=True), norms
            measured.append((*normal, rows.centers, rows.radii, columns.centers, columns.radii))
            if N <= SMALL:  # else it takes more than a moment
                kreiss.update({t: float(kreiss_constant(A[t - start])) for t in shown if start <= t < start + block})
            progress(min(start + block, T), T)
            yield from A

    log_norms = torch.stack(list(running_log_norms(steps())))
    values, worst, support, departures, norms, *circles = (
        torch.cat(parts).cpu().numpy() for parts in zip(*measured, strict=True)
    )
    bound = run.norm_bound()
    told = {"chorale": chorale, "reads": reads, "unit": unit, "title": title, "discs": discs, "about": about}
    return SpectrumRecord(
        **described(run, circles, name=name, **told),
        eigenvalues=values,
        eigenvalue_condition=worst,
        norm=norms,
        support=support,
        departure_from_normality=departures,
        kreiss_constant=np.array([kreiss.get(t, np.nan) for t in range(T)]),
        norm_bound=bound.cpu().numpy(),
        log_norm_product=log_norms.cpu().numpy(),
    )


def described(
    run: Run | OwnLoop,
    circles: Iterable[np.ndarray],
    *,
    name: str,
    chorale: str,
    reads: str,
    unit: str | None,
    title: str | None,
    discs: str,
    about: str,
) -> dict:
    """Fields of a `SpectrumRecord` that do not depend on how its spectra are found; arguments as for `measure_spectrum`.

    circles: centres and radii of the row discs, then of the column discs, (T, N) each.
    """
    cell = run if isinstance(run, OwnLoop) else run.cell
    return {
        "cell": name,
        "depth": getattr(cell, "depth", 1),
        "hidden_size": getattr(cell, "hidden_size", run.state_size),
        "chorale": chorale,
        "reads": reads,
        "unit": UNITS.get(reads, "steps") if unit is None else unit,
        "title": title or name,
        "discs": discs,
        "about": about,
        "gate_name": getattr(cell, "gate_name", "transform gate"),
        "transform_gate": _mean_transform_gates(run),
    } | dict(zip(("row_centers", "row_radii", "column_centers", "column_radii"), circles, strict=True))


def _mean_transform_gates(run: Run | OwnLoop) -> np.ndarray:
    """Of each layer that has one, at each step, (T, L)."""
    means = [t.mean(-1) for t in run.gates().t]
    return (torch.stack(means, 1) if means else run.states.new_empty(len(run), 0)).cpu().numpy()

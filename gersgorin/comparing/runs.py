"""Many runs, one after another, of each of which a few numbers a step are kept; and one of the command's, measured in full."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.comparing.panels import Panel
from gersgorin.comparing.record import Ensemble
from gersgorin.comparing.steps import AXES, measure_steps
from gersgorin.large.asked import Leading
from gersgorin.large.measure import measure_leading
from gersgorin.measuring import check_memory, measure_spectrum
from gersgorin.own_loop import OwnLoop
from gersgorin.record import SpectrumRecord
from gersgorin.sources import Source
from gersgorin.subject import Subject
from gersgorin.watch import Watched
from rhn.command import own_cell
from rhn.errors import InvalidInputError
from rhn.wording import counted

Progress = Callable[[int, int], None]
Run = tuple[str, int, dict[str, np.ndarray]]  # see `Ensemble.of`


def ensemble(
    modules: nn.Module | Iterable[nn.Module],
    sequences: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    *,
    title: str | None = None,
    layer: int | None = None,
    submodule: str | None = None,
    unit: str = "steps",
    discs: str = "row",
    progress: Progress = lambda done, total: None,
) -> Ensemble:
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
    >>> found = ensemble([RNN(3, 8), RNN(3, 8)], torch.rand(5, 20, 3))
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
    return Ensemble.of(found, **about)


def panel_ensemble(panel: Panel, sources: Sequence[Source], *, first_seed: int, progress: Progress, **how) -> Ensemble:
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
    return Ensemble.of(runs(), unit=sources[0].unit, along=spoken_sources(sources), discs=discs, **about)


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
) -> tuple[nn.Module | OwnLoop, Tensor, SpectrumRecord]:
    """(The cell, or the own loop around it; what it sees of a source (T, m); what it does): of a large state the leading part.

    about: see `measure_spectrum`."""
    cell, x = _seen(source, subject, cell, device, dtype)
    own = cell.about if isinstance(cell, OwnLoop) else ""
    along = {"chorale": source.first_label, "reads": source.kind, "unit": source.unit}
    along["about"] = "; ".join(filter(None, (own, subject.made, source.about)))
    if leading is None:
        return cell, x, measure_spectrum(cell, x, name=subject.name, **along, **about)
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

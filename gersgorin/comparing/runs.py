"""Many runs, one after another: each is measured as one alone is, and of it only the numbers of each step are kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.comparing.panels import Panel
from gersgorin.comparing.record import Ensemble
from gersgorin.measure import check_memory, measure_spectrum
from gersgorin.record import SpectrumRecord
from gersgorin.sources import Source
from gersgorin.subject import Subject
from gersgorin.watch import Watched
from rhn.command import own_cell

Progress = Callable[[int, int], None]


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
    >>> found.spectral_radius.shape, found.runs_at[0]
    ((10, 20), 10)
    """
    modules = [modules] if isinstance(modules, nn.Module) else modules
    sequences = [sequences] if getattr(sequences, "ndim", 3) == 2 else list(sequences)
    total, seeds = len(modules) * len(sequences) if hasattr(modules, "__len__") else 0, []

    def runs() -> Iterator[SpectrumRecord]:
        for k, module in enumerate(modules):
            watched = Watched(module, layer, submodule)
            about = {"name": type(watched.cell).__name__, "title": title or watched.title, "reads": "sequence"}
            for j, sequence in enumerate(sequences):
                x = watched.inputs(sequence)[:, 0]
                check_memory(watched.cell, len(x), x.dtype, str(x.device))
                seeds.append(k)
                yield measure_spectrum(watched.cell, x, chorale=str(j + 1), unit=unit, discs=discs, **about)
                progress(len(seeds), total)

    return Ensemble.of(runs(), seeds, along=f"{len(sequences)} sequence{'s' * (len(sequences) > 1)}")


def panel_ensemble(panel: Panel, sources: Sequence[Source], *, first_seed: int, progress: Progress, **how) -> Ensemble:
    """What a panel's networks do over all sequences; `first_seed` is that of its first network; how: see `measure_along`."""
    seeds, total = [], len(panel.subjects) * len(sources)

    def runs() -> Iterator[SpectrumRecord]:
        for k, subject in enumerate(panel.subjects):
            cell = subject.build(how["device"], how["dtype"])
            for source in sources:
                seeds.append(first_seed + k)
                with own_cell(subject.name if subject.own else None):
                    yield measure_along(source, subject, cell, title=panel.title, **how)[1]
                progress(len(seeds), total)

    return Ensemble.of(runs(), seeds, along=spoken_sources(sources))


def measure_along(
    source: Source, subject: Subject, cell: nn.Module, *, device: str, dtype: torch.dtype, **about
) -> tuple[Tensor, SpectrumRecord]:
    """What a network of the command's sees of a source, (T, m), and what it does; about: see `measure_spectrum`."""
    values = source.sequence()
    x = subject.inputs(torch.as_tensor(values, device=device).to(dtype if values.ndim > 1 else torch.int64))
    along = {"chorale": source.first_label, "reads": source.kind, "unit": source.unit}
    return x, measure_spectrum(cell, x, name=subject.name, **along, **about)


def spoken_sources(sources: Sequence[Source]) -> str:
    """What is read, in words: "20 chorales", "5 parts of text novel.txt"."""
    first, count = sources[0], len(sources)
    if count == 1:
        return f"{first.kind} {first.label}"
    if first.kind == "chorale":
        return f"the first {count} chorales of the test split"
    return f"{count} {'parts' if first.kind == 'text' else 'sequences'} of {first.label}"

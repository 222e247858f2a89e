"""`gersgorin.compare`: networks side by side, in one object with one table and one figure; medians
and bands over many runs on request.

found = compare({"rnn": rnn, "lstm": lstm}, x)
found                                       in a notebook: sentences and the figure
found["lstm"]                               the spectra of one network
compare({"lstm": lstms}, x, over="seeds")   medians and bands over several draws of one network
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count as count_from
from itertools import takewhile
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gersgorin.analyses import ANALYSES
from gersgorin.analyses.several import Several
from gersgorin.analyses.spectra import AXES, TELLING
from gersgorin.comparing.bands import (
    Comparison,
    compare_runs,
    draw_bands,
    draw_comparison,
    draw_results,
)
from gersgorin.loading.open import open_run
from gersgorin.run.run import Progress, Run, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import Shown
from rhn.utils.keywords import keywords_of
from rhn.utils.result import COLUMNS, LINES, Result, fitted
from rhn.utils.wording import counted, in_short, table

OVER = "seeds", "sequences"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SideBySide(Several, kind="side by side"):
    """The same analysis of several networks, by their names."""

    along: str
    """The sequence: "chorale bwv269"."""
    analysis: str = "spectra"
    """Name of its row in `gersgorin.analyses.ANALYSES`."""

    def __getitem__(self, name: str | int) -> Result:
        """The result of a network by its name, or by its place."""
        return self.results[name] if isinstance(name, str) else [*self.results.values()][name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def summary(self, *, whole: bool = True) -> str:
        """The summary of each network; if they are several and not whole, their names and
        sentences, and one table.
        """
        brief = len(self) > 1 and not whole
        each = self.results.values()
        parts = [
            "\n".join((r.title, *r.sentences())) if brief else r.summary(whole=whole) for r in each
        ]
        return "\n\n".join([*parts, *[self.numbers()] * brief])

    def numbers(self) -> str:
        """A row of numbers for each network: `brief`, the means over the steps, or the first row of
        its table.
        """
        rows: dict[str, dict[str, str]] = {}
        heading = "network"
        for name, result in self.results.items():
            found = result.table() or [{}]
            names = [key for key, value in found[0].items() if isinstance(value, float)]
            told = [key for key in names if key.removesuffix("_median") in TELLING[:-1]] or names
            brief = result.brief()
            if not brief and "step" in found[0]:
                heading, brief = (
                    "mean of steps",
                    {key: np.nanmean([row[key] for row in found]) for key in told},
                )
            rows[name] = {
                key: f"{value:.4g}"
                for key, value in (brief or {key: found[0][key] for key in told}).items()
            }
        columns, parts = (
            [*dict.fromkeys(key for row in rows.values() for key in row)],
            [re.split(r", (?![^(]*\))", name) for name in rows],
        )
        last = zip(*(each[:0:-1] for each in parts), strict=False)
        # parts with which all names end
        same = len([*takewhile(lambda each: len({*each}) == 1, last)])
        names = [", ".join(each[: len(each) - same]) for each in parts]
        cells = [
            [name, *(row.get(key, "") for key in columns)]
            for name, row in zip(names, rows.values(), strict=True)
        ]
        return table([heading, *columns], cells, drop=columns[::-1], width=COLUMNS)

    def __repr__(self) -> str:
        """The sentences, as many as fit, and the numbers of each network."""
        lines, last = fitted(self.summary(whole=len(self) < 2)).split("\n"), len(self) + 2
        return "\n".join(
            lines
            if len(lines) <= LINES
            else [*lines[: max(0, LINES - last - 1)], "...", *lines[-last:]]
        )

    def table(self) -> list[dict[str, Any]]:
        """The rows of each network, with its name."""
        return [
            {"network": name} | row
            for name, result in self.results.items()
            for row in result.table()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the first network, and as "compare" a list of those of the others."""
        numbers = [r.to_dict() for r in self.results.values()]
        numbers = (
            numbers if self.analysis == "spectra" else [{self.analysis: each} for each in numbers]
        )
        named = zip(self.results.values(), numbers, strict=True)
        first, *others = ({"title": r.title, "about": r.about} | each for r, each in named)
        return first | {"compare": others}

    def plot(self, ax=None):
        """The whole figure, or a single network in given axes; returns axes. Raises
        InvalidInputError for several in given axes.
        """
        if ax is not None and len(self) > 1:
            one = f"found[{[*self][-1]!r}].plot(ax)"
            raise InvalidInputError(
                f"ax is given for {len(self)} networks: expected no axes, or one network, such "
                f"as {one}"
            )
        return self.figure().axes[0] if ax is None else self[0].plot(ax)

    def figure(self) -> Shown:
        """Spectra at one scale and measures over time, bands, or a panel for each network, with the
        same limits.
        """
        results: Sequence[Any] = [*self.results.values()]
        if isinstance(results[0], Comparison):
            return draw_bands(results)
        return (
            draw_comparison(results)
            if results[0].kind == "spectra"
            else draw_results(results, self.along)
        )


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
        networks: {name: network}, or a list. A network is what `gersgorin.open_run` opens, a pair
            (step f(x, s), its first state), or, without x, a run. With over="seeds" it is a list or
            a generator of draws of one network, as is `networks` itself without names.
        x: one sequence, see `gersgorin.open_run`; with over="sequences" a list of them, which can
            differ in length.
        over: "seeds", "sequences", or both: results are `Comparison`s, medians and bands over all
            runs of a network.
        analysis: of each network without `over`, by its name in `gersgorin.analyses.ANALYSES`, with
            the defaults of its command.
        discs: of spectra and bands, "row", "column" or "both".
        progress: called with (runs done, runs in all; 0 if their number is unknown).
        options: of `gersgorin.open_run`: layer, submodule, steps, unit, device.

    Raises:
        InvalidInputError: no network or no sequence, several where one is expected, an unknown
            analysis, or an error of `open_run`.

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
    over = (over,) if isinstance(over, str) else tuple(over or ())
    if unknown := [word for word in over if word not in OVER]:
        raise InvalidInputError(
            f"over is {unknown[0]!r}, expected 'seeds', 'sequences', both or None"
        )
    if discs not in AXES:
        raise InvalidInputError(f"discs is {in_short(discs)}, expected one of {', '.join(AXES)}")
    row = ANALYSES.get(analysis.replace("-", "_"))
    if row is None or row.needs != "run" or (over and analysis != "spectra"):
        known = (
            "spectra"
            if over
            else ", ".join(name for name, row in ANALYSES.items() if row.needs == "run")
        )
        raise InvalidInputError(f"analysis is {in_short(analysis)}: expected {known}")
    if "sequences" in over and not isinstance(x, list | tuple):
        raise InvalidInputError(
            f"x is a {type(x).__name__}: expected a list of sequences for over='sequences', "
            "such as list(x) of (B, T, m)"
        )
    groups, sequences = _groups(networks, over), list(x) if "sequences" in over else [x]
    sizes, done, along = [length_hint(given) for _, given in groups], count_from(1), ""
    total = sum(sizes) * len(sequences) if all(sizes) else 0  # a generator has no length
    results: dict[str, Result] = {}

    def runs(name: str, given: Iterable[Any]) -> Iterator[tuple[int, Run]]:
        for k, network in enumerate(given):
            for j, sequence in enumerate(sequences, 1):
                step, s0 = network if isinstance(network, tuple) else (network, None)
                if isinstance(step, Run) and sequence is not None:
                    raise InvalidInputError(
                        "a network is a run, which has read its own sequence: leave x out, or "
                        "give the network"
                    )
                run = open_run(step, sequence, s0, **options)
                label = replace(run.label, title=_numbered(name or run.label.title, results))
                yield (
                    k,
                    run.named(
                        replace(label, sequence=str(j), made="") if "sequences" in over else label
                    ),
                )

    for name, given in groups:
        if over:
            along = counted(len(sequences), "sequence")
            own, report = runs(name, given), lambda _: progress(next(done), total)
            found: Any = compare_runs(own, along=along, discs=discs, progress=report)
            title = found.title
        else:
            ((_, run),) = runs(name, given)
            found = row(run, **({"discs": discs} if row.name == "spectra" else {}))
            progress(next(done), total)
            title, along = run.label.title, run.label.along
        results[title] = found
    if not results:
        raise InvalidInputError(
            "there is nothing to run: expected at least one network and one sequence"
        )
    return SideBySide(results=results, title=", ".join(results), along=along, analysis=row.name)


def of_results(results: Sequence[Result], analysis: str, along: str) -> Result:
    """Results of several networks, by their titles, side by side; one as it is."""
    if len(results) == 1:
        return results[0]
    named: dict[str, Result] = {}
    for result in results:
        named[_numbered(result.title, named)] = result
    return SideBySide(results=named, title=", ".join(named), along=along, analysis=analysis)


def _numbered(name: str, others: Mapping[str, Result]) -> str:
    """A name that no other has: "rnn, 8 units (2)"."""
    return name + f" ({len(others) + 1})" * (name in others)


def _groups(networks: Any, over: tuple[str, ...]) -> list[tuple[str, Iterable[Any]]]:
    """(A name or "", draws of one network) of each."""
    if isinstance(networks, Mapping):
        named = [(str(name), network) for name, network in networks.items()]
        return [
            (name, _listed(network) if "seeds" in over else [network]) for name, network in named
        ]
    networks = _listed(networks)
    return [("", networks)] if "seeds" in over else [("", [network]) for network in networks]


def _listed(networks: Any) -> Iterable[Any]:
    """Several networks as they are, one in a list."""
    return (
        [networks]
        if isinstance(networks, nn.Module | str | Path | Run) or callable(networks)
        else networks
    )

"""The table of analyses: each row makes a subcommand, a part of `analyze`, a section of the report, a key of the JSON.

A row names a function `of_run(run, *, options...) -> Result`. Its keyword arguments with their defaults are the options of the
subcommand, the "Args:" section of its docstring is their help. A row that needs a loss names a function of an `Objective` instead, one
about the outputs of a whole module a function of a `SequenceMap`.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One row."""

    name: str
    """Key in JSON and attribute of what `analyze` returns; the subcommand has dashes instead of underscores."""
    function: str | Callable
    """`module:function`, imported at first use, or the function itself."""
    about: str
    """One line for `gersgorin --help` and the documentation."""
    default: bool = False
    """Whether `analyze` and the report compute it without being asked."""
    reported: bool = False
    """Whether the report computes it without being asked, although `analyze` does not."""
    repeats: bool = False
    """Whether the subcommand repeats a sequence that is shorter than --steps."""
    needs: str = "run"
    """"run", "objective" for a model with a loss, or "map" for any module from inputs to outputs."""

    @property
    def command(self) -> str:
        return self.name.replace("_", "-")

    def load(self) -> Callable[..., Any]:
        """The function."""
        if callable(self.function):
            return self.function
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, subject, **options):
        """Compute the result of a run or an objective."""
        return self.load()(subject, **options)

    def options(self) -> list[tuple[str, Any, Any, str]]:
        """(name, type, default, help) of each keyword argument but `progress`."""
        function = self.load()
        texts = argument_texts(inspect.getdoc(function) or "")
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "progress"]
        return [(p.name, p.annotation, p.default, texts.get(p.name, "")) for p in own]


def argument_texts(docstring: str) -> dict[str, str]:
    """The texts of the "Args:" section of a docstring, by argument.

    >>> argument_texts('''Do it.
    ...
    ... Args:
    ...     count: how many,
    ...         at most 5.
    ...     seed: of the start.
    ... ''')
    {'count': 'How many, at most 5.', 'seed': 'Of the start.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    texts: dict[str, list[str]] = {}
    for line in section[1].splitlines() if section else ():
        if match := re.match(r"\s{4}(\w+): (.*)", line):
            texts[match[1]] = [match[2]]
        elif texts and line.strip():
            texts[next(reversed(texts))].append(line.strip())
    return {name: (words := " ".join(lines))[:1].upper() + words[1:] for name, lines in texts.items()}


def register_analysis(row: Analysis) -> Analysis:
    """Add a row to `ANALYSES`. Raises ValueError for a name that is taken."""
    if row.name in ANALYSES:
        raise ValueError(f"there is an analysis {row.name!r} already: give another name")
    ANALYSES[row.name] = row
    return row


def listing() -> str:
    """The table as Markdown, for the documentation."""
    head = ["| command | what it computes | part of `analyze` |", "|---|---|---|"]
    return "\n".join(
        head
        + [
            f"| `gersgorin {'plot' if row.name == 'spectra' else row.command}` | {row.about} | {'yes' if row.default else 'by name'} |"
            for row in ANALYSES.values()
        ]
    )


def _rows(*rows: Analysis) -> dict[str, Analysis]:
    return {row.name: row for row in rows}


def _of(name: str) -> str:
    return f"gersgorin.analyses.{name}:of_run"


ANALYSES: dict[str, Analysis] = _rows(
    Analysis(
        name="spectra", function=_of("spectra"), about="Eigenvalues and Geršgorin discs of every step", default=True
    ),
    Analysis(
        name="products", function=_of("products"), about="Norms and growth of the Jacobian products", default=True
    ),
    Analysis(name="gains", function=_of("gains"), about="Gains of the input and of each layer", default=True),
    Analysis(name="gates", function=_of("gates"), about="Mean gate activity of each layer", default=True),
    Analysis(name="lyapunov", function=_of("lyapunov"), about="Leading Lyapunov exponents with their errors"),
    Analysis(
        name="fixed_points", function=_of("fixed_points"), about="Fixed points under constant input, and their spectra"
    ),
    Analysis(name="bounds", function=_of("bounds"), about="Bounds on the norm of the gradient along the run"),
    Analysis(
        name="newton",
        function=_of("newton"),
        about="All states at once by Newton's method",
        reported=True,
        repeats=True,
    ),
    Analysis(name="pseudospectra", function=_of("pseudospectra"), about="Pseudospectra of a few steps"),
    Analysis(
        name="plateau",
        function="gersgorin.analyses.plateau:of_objective",
        needs="objective",
        default=True,
        about="Relative rates of learning and the order of the plateau",
    ),
    Analysis(
        name="credit",
        function="gersgorin.analyses.credit:of_objective",
        needs="objective",
        default=True,
        about="Share of the gradient that reaches each earlier step",
    ),
    Analysis(
        name="memory",
        function="gersgorin.analyses.memory:of_map",
        needs="map",
        about="Influence of each earlier input on the outputs",
    ),
    Analysis(
        name="audit",
        function="gersgorin.analyses.audit:of_map",
        needs="map",
        about="Initialisation of each recurrent layer: time scales, gains, rates of learning",
    ),
)

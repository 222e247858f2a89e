"""The table of analyses: each row makes a subcommand, a part of `analyze`, a section of the report, a key of the JSON.

A row names a function of a `Run`. Its keyword arguments with their defaults are the options of the subcommand, the "Args:" section of
its docstring is their help. A row that needs a loss names a function of an `Objective` instead, one about the outputs of a whole module
a function of a `SequenceMap`.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NO_OPTIONS = ("progress", "submodule", "unit")  # arguments that commands give themselves


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
        """(name, type, default, help) of each keyword argument but tensors and `NO_OPTIONS`."""
        function = self.load()
        texts = argument_texts(inspect.getdoc(function) or "")
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        own = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in NO_OPTIONS]
        own = [p for p in own if "Tensor" not in str(p.annotation)]
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


def _row(name: str, function: str, about: str, **more) -> Analysis:
    return Analysis(name=name, function=f"gersgorin.analyses.{function}", about=about, **more)


_ROWS = (
    _row("spectra", "spectra:spectra", "Eigenvalues and Geršgorin discs of every step", default=True),
    _row("products", "steps:products", "Norms and growth of the Jacobian products", default=True),
    _row("gains", "steps:gains", "Gains of the input and of each layer", default=True),
    _row("gates", "steps:gates", "Mean gate activity of each layer", default=True),
    _row("lyapunov", "lyapunov:of_run", "Leading Lyapunov exponents with their errors"),
    _row("fixed_points", "fixed_points:of_run", "Fixed points under constant input, and their spectra"),
    _row("bounds", "bounds:bounds", "Bounds on the norm of the gradient along the run"),
    _row("newton", "newton:newton", "All states at once by Newton's method", reported=True, repeats=True),
    _row("pseudospectra", "pseudospectra:pseudospectra", "Pseudospectra of a few steps"),
    _row(
        "plateau",
        "plateau:of_objective",
        "Relative rates of learning and the order of the plateau",
        needs="objective",
        default=True,
    ),
    _row(
        "credit",
        "credit:of_objective",
        "Share of the gradient that reaches each earlier step",
        needs="objective",
        default=True,
    ),
    _row("memory", "memory:memory", "Influence of each earlier input on the outputs", needs="map"),
    _row(
        "audit",
        "audit:audit",
        "Initialisation of each recurrent layer: time scales, gains, rates of learning",
        needs="map",
    ),
)
ANALYSES: dict[str, Analysis] = {row.name: row for row in _ROWS}

"""The table of analyses. Each row defines a subcommand and a key of the JSON.

A row names a function of a `Run`, and declares the keyword arguments of this function that are
options of the subcommand; `--help` therefore need not import the function. A row about a whole
model names a function of a `ModelWithData` instead.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from rhn.utils.old import Count, Finite, NonNegative


@dataclass(frozen=True)
class Option:
    """A keyword argument of an analysis that is an option of its subcommand."""

    help: str
    kind: Any = int | None
    """Type of the argument, as in the signature of the function."""
    default: Any = None
    """Default of the argument, as in the signature."""


@dataclass(frozen=True)
class Analysis:
    """One analysis: its name, function, description and options."""

    name: str
    """Key in JSON. The subcommand has dashes instead of underscores."""
    function: str
    """Name `module:function` of the function, which is imported at first use; `.module` is a module
    of this package.
    """
    about: str
    """Description in one line, for `gersgorin --help` and the documentation."""
    options: dict[str, Option] = field(default_factory=dict)
    """Keyword arguments of the function that the subcommand has as options, by name."""
    examples: tuple[str, ...] = ("--cell rhn --depth 5", "--checkpoint runs/mine --json")
    """Examples of options, for the help of the subcommand."""
    figure: str = ""
    """Name `module:function` of a function that draws the figure of a result; "": the method of the
    result draws it.
    """
    needs: str = "run"
    """Argument of the function: "run" for a `Run`, "model" for a `ModelWithData`."""

    @property
    def command(self) -> str:
        """Name of the subcommand. For the analysis `spectra` the name is `plot`."""
        return "plot" if self.name == "spectra" else self.name.replace("_", "-")

    def load(self) -> Callable[..., Any]:
        """Import and return the function of the analysis."""
        return named(self.function)

    def __call__(self, subject, **options):
        """Compute the result for a run or a model with data, see `needs`."""
        return self.load()(subject, **options)


def named(function: str) -> Callable[..., Any]:
    """Import and return the function with the name `module:function`; `.module` is a module of this
    package.
    """
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module, __name__), name)


def figure_of(result, **drawing: Any):
    """Draw the figure of a result, by the function that the row of the analysis names, or else by
    the method of the result. drawing: see `Result.figure`.
    """
    row = ANALYSES.get(result.kind)
    return named(row.figure)(result, **drawing) if row and row.figure else result.figure(**drawing)


def listing() -> str:
    """The table of analyses as Markdown, for the documentation."""
    head = ["| command | what it computes |", "|---|---|"]
    rows = [f"| `gersgorin {row.command}` | {row.about} |" for row in ANALYSES.values()]
    return "\n".join(head + rows)


_ROWS = (
    Analysis(
        "spectra",
        ".spectra:spectra",
        "Eigenvalues and Geršgorin discs of each step's Jacobian, and norms of the products",
        {
            "discs": Option(
                "Geršgorin discs in the figure and the numbers: the discs of the rows of the "
                "Jacobian, the discs of its columns, or the overlap of both unions.",
                Literal["row", "column", "both"],
                "row",
            ),
            "leading": Option(
                "Compute only this number of eigenvalues, those of largest modulus. This saves "
                "time for large states (default: all; 32 for a state of more than 4,096 entries)."
            ),
        },
        (
            "--cell rhn --depth 5",
            "--checkpoint runs/mine --output trained.pdf trained.npz",
            "--module my_models:make --checkpoint my.pt --input x.npy",
            "--cell lstm --hidden-size 830 --leading 32 --steps 20",
        ),
        figure="gersgorin.figures:draw_run",
    ),
    Analysis("products", ".steps:products", "Norms and growth of the Jacobian products"),
    Analysis("gains", ".steps:gains", "Gains of the input and of each layer"),
    Analysis("gates", ".steps:gates", "Mean gate activity of each layer"),
    Analysis(
        "lyapunov",
        ".lyapunov:of_run",
        "Leading Lyapunov exponents",
        {
            "count": Option(
                "Number of exponents (default: 10, or all if the state has fewer than 10 entries)."
            ),
            "repeat": Option(
                "Number of times that the sequence is read in a row. If it is read more than "
                "once, the first reading does not count for the exponents.",
                int,
                10,
            ),
            "start_noise": Option(
                "Standard deviation of the random numbers that are added to the first state; 0: "
                "none.",
                NonNegative,
                0.0,
            ),
            "seed": Option(
                "Seed of the initial weights and of the initial tangent vectors.", int, 0
            ),
        },
    ),
    Analysis(
        "fixed_points",
        ".fixed_points:of_run",
        "Fixed points under constant input, or cycles, and their spectra",
        {
            "starts": Option(
                "Number of states of the run from which the search starts. They are evenly spread.",
                int,
                50,
            ),
            "hold": Option(
                "Hold every entry of the input at this value, such as 0 (default: the mean of the "
                "sequence).",
                Finite | None,
                None,
            ),
            "margin": Option(
                "The search stays in a box around the starting states. The box is widened in every "
                "direction by this share of its longest edge, or of 1 if this edge is shorter.",
                float,
                0.5,
            ),
            "period": Option(
                "Search for cycles of this number of time steps; 1: search for fixed points.",
                Count,
                1,
            ),
            "seed": Option(
                "Seed of the initial weights. Also seeds the additional starting states if "
                "--starts exceeds the number of time steps.",
                int,
                0,
            ),
        },
    ),
    Analysis(
        "pseudospectra",
        ".pseudospectra:pseudospectra",
        "Pseudospectra of a few steps",
        {
            "side": Option(
                "Number of points along a side of the square grid in the complex plane, an odd "
                "number (default: 101, or 51 for a state of more than 64 entries)."
            ),
        },
    ),
    Analysis(
        "influence",
        ".influence:of_model",
        "How far back the outputs, or a loss, depend on the inputs",
        {
            "of": Option(
                "What depends on the inputs: outputs for the outputs of the network, or the name "
                "of a loss for the loss of predicting the next frames. The losses are bernoulli, "
                "squared (mse), which is half the sum of squares of a frame, and categorical "
                "(cross_entropy).",
                str,
                "outputs",
            ),
            "batch_axis": Option(
                "Batch axis of the input of the model, 0 or 1 (default: taken from batch_first of "
                "a layer of the model, or else the axis of length 1)."
            ),
            "feature": Option(
                "Index of one input feature, from 0: measure only the influence of this feature "
                "(default: all features together, by their norm)."
            ),
            "probes": Option(
                "Number of random vectors for an estimate, at least 2; 0: exact derivatives. "
                "Default: exact derivatives if all outputs together have at most 16384 numbers, or "
                "if each output has at most 16; otherwise 16 vectors."
            ),
            "seed": Option("Seed of the random vectors.", int, 0),
        },
        (
            "--cell lstm --hidden-size 32",
            "--checkpoint runs/mine --of bernoulli",
            "--module my_models:make --input x.npy --batch-axis 0",
        ),
        needs="model",
    ),
)
ANALYSES: dict[str, Analysis] = {row.name: row for row in _ROWS}

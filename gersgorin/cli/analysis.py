"""`gersgorin plot`, `gersgorin lyapunov`, ...: one subcommand for each row of `ANALYSES`.
`gersgorin-plot` is the same as `gersgorin plot`.
"""

from dataclasses import field, make_dataclass
from functools import partial
from typing import Annotated, Any

from cyclopts import Group, Parameter

from gersgorin.analyses import ANALYSES, Analysis, figure_of
from gersgorin.cli.options import DataOptions, ModelOptions, NetworkOptions, OutputOptions
from gersgorin.cli.outputs import check_step, default_figure, show_result
from rhn.cli.entry import own_cell, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.utils.old import Outputs, given_flags, run_read, single
from rhn.utils.progress import progress_bars


def main(args: list[str] | None = None, prog: str = "gersgorin-plot") -> int:
    """Run `gersgorin-plot`; returns its exit code."""
    return run_command(lambda: main_of(ANALYSES["spectra"], args, prog))


def options_of(row: Analysis, prog: str = "") -> type:
    """The dataclass of a subcommand's options: the options that all subcommands share, and the
    options of its row, with types and defaults.
    """
    group = Group(row.command, sort_key=0)
    own = [
        (
            name,
            Annotated[option.kind, Parameter(group=group, help=option.help)],
            field(default=option.default),
        )
        for name, option in row.options.items()
    ]
    examples = "\n  ".join(("examples:", *(f"{prog} {words}" for words in row.examples)))
    network = NetworkOptions if row.needs == "run" else ModelOptions
    bases = (OutputOptions, DataOptions, network)
    space = {"__doc__": f"{row.about}.\n\n{examples}", "__module__": __name__}
    return make_dataclass(
        f"{row.name.title()}Options", own, bases=bases, namespace=space, frozen=True, kw_only=True
    )


def main_of(row: Analysis, words: list[str] | None, prog: str) -> None:
    """Read the arguments of a subcommand and run it. prog: the command as the user typed it."""
    run_read(single(prog, options_of(row, prog)), words, partial(run, row))


def run(row: Analysis, options: Any) -> None:
    """Load network and data, compute the analysis, then print, draw and write its result."""
    from gersgorin.cli.load import chorale_named
    from gersgorin.cli.new import layer_as_module

    options = layer_as_module(options)
    if (
        options.checkpoint
        and not options.module
        and "seed" not in row.options
        and given_flags(options, ("seed",))
    ):
        raise InvalidInputError(
            f"--seed is for new weights, but {options.checkpoint} has trained ones: leave it out"
        )
    # of the question, in the figure's name and in the JSON
    name = "" if row.name == "spectra" else row.command
    outputs = Outputs.of(options, default_figure(name, options))
    device = resolve_device(options.device)
    with progress_bars() as report, own_cell(options.module or options.cell):
        subject = _subject_of(row, options, device)
        own = {name: vars(options)[name] for name in row.options}
        check_step(options.step, _steps(row, subject), row)
        bars = report(f"{row.command} of {subject.label.title}")
        with chorale_named(subject.label.reads, subject.label.sequence):
            result = row(subject, **own, progress=bars)
    draw = partial(figure_of, result, **options.drawing)
    show_result(outputs, options, result, draw, name and row.name)


def _steps(row: Analysis, subject: Any) -> int:
    """The number of steps of a run. For a model with data: the longer one of the two axes that may
    be time.
    """
    return len(subject) if row.needs == "run" else max(subject.x.shape[:2])


def _subject_of(row: Analysis, options, device: str):
    """The run, or the model with its data, that a command's options name; whichever the analysis
    needs.
    """
    if row.needs == "run":
        from gersgorin.cli.load import run_of_options

        return run_of_options(options, device=device)
    from gersgorin.cli.with_output import model_with_data

    return model_with_data(options, device=device)

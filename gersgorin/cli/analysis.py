"""`gersgorin lyapunov`, `gersgorin bounds`, ...: the subcommand that every row of `ANALYSES` has."""

import inspect
from dataclasses import make_dataclass
from typing import Any

from gersgorin.analyses import Analysis
from gersgorin.cli.outputs import default_figure, show
from gersgorin.loading.options import DataOptions, NetworkOptions, OutputOptions
from rhn.cli.entry import own_cell, resolve_device
from rhn.utils.figures import Outputs
from rhn.utils.options import option, parse
from rhn.utils.progress import progress_bars


def options_of(row: Analysis) -> type:
    """The dataclass of a subcommand's options: those that all share, and those of its row, with their types and defaults."""
    parameters = inspect.signature(row.load(), eval_str=True).parameters
    given = ((parameters[name], text) for name, text in row.options.items())
    own = [(p.name, p.annotation, option(p.default, text)) for p, text in given]
    example = f"examples:\n  gersgorin {row.command} --cell rhn --depth 5\n  gersgorin {row.command} --checkpoint runs/mine --json"
    bases = (OutputOptions, DataOptions, NetworkOptions)
    space = {"__doc__": f"{row.about}.\n\n{example}", "group": row.command}
    return make_dataclass(f"{row.name.title()}Options", own, bases=bases, namespace=space, frozen=True, kw_only=True)


def main_of(row: Analysis, words: list[str]) -> None:
    """Parse the words of a subcommand, resolve network and data, compute, draw, write and print."""
    options: Any = parse(options_of(row), words, prog=f"gersgorin {row.command}")
    outputs = Outputs.of(options, default_figure(row.command, options))
    device = resolve_device(options.device)
    with progress_bars() as report, own_cell(options.module or options.cell):
        subject = _subject_of(row, options, device)
        own = {name: vars(options)[name] for name in row.options}
        result = row(subject, **own, progress=report(f"{row.command} of {subject.label.title}"))
        outputs.write(result.figure, result.save)
    show(outputs, options, result, row.name)


def _subject_of(row: Analysis, options, device: str):
    """The run, the training or the map of a command, as an analysis needs it."""
    from gersgorin.loading.open import map_of_options, run_of_options, training_of_options

    needed: dict[str, Any] = {"run": run_of_options, "training": training_of_options, "map": map_of_options}
    return needed[row.needs](options, device=device)

"""Run a command: call its function with the network and the sequence that its options name, and
show the result.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from gersgorin import checks
from gersgorin.catalog import Analysis
from gersgorin.cli.networks import (
    check_kind_options,
    described,
    how_of,
    kind_of_network,
    network_of,
    opened_network,
    source_of,
)
from gersgorin.cli.options import AnalysisOptions, given_options
from gersgorin.cli.outputs import OutputOptions, checked_outputs, show
from gersgorin.cli.sequences import data_of
from gersgorin.cli.subcommands import KnownValuesCommand, RecordingCommand, RunCommand
from gersgorin.recording import Recording
from rhn.utils.io import check_result
from rhn.utils.seed_folders import each_seed, print_seed, require_seeds
from rhn.utils.tables import printable
from rhn.utils.validation import signature_of

RECORDING = "record.npz"  # in the folder of a training run


def run_analysis(command: AnalysisOptions) -> None:
    """Call the function of a command with its network, or with that of each seed."""
    for one in each_network(command):
        if not command.json:
            print_seed(one.checkpoint, command.checkpoint)
        run_on_network(one)


def each_network(command: Any) -> Iterator[Any]:
    """Yield the command for each network that it names: several seeds of a training run."""
    if command.module or not command.checkpoint:
        yield command
    else:
        yield from each_seed(command, command.checkpoint)


def run_on_network(command: AnalysisOptions) -> None:
    """Call the function of a command with one network."""
    outputs, function = checked_outputs(command), function_of(command.analysis)
    keywords = command.keywords()
    if "seed" in signature_of(function).parameters:
        keywords |= given_options(command, ["seed"])
    check_kind_options(command, [kind_of_network(command)], keywords)
    data = data_of(described(command), command)
    model = network_of(command, data.x, command.device)
    if command.reads == "model":
        x = data.all
        needs_loss = "loss_fn" in signature_of(function).parameters
        is_of_loss = needs_loss or keywords.get("of", "outputs") != "outputs"
        if is_of_loss:  # of predicting the next step
            x = [each[:-1] for each in data.all]
            keywords["y"] = [each[1:] for each in data.all]
        found = function(model, x, **keywords, **how_of(command, model, data))
    else:
        run = opened_network(command, model, data)
        check_figure(command, len(run))
        found = function(run, **keywords)
    show(command, found, outputs, source_of(command))


def save_run(command: RunCommand) -> None:
    """Run a network, and write its arrays to a file."""
    for one in each_network(command):
        print_seed(one.checkpoint, command.checkpoint)
        save_run_of_network(one)


def save_run_of_network(command: RunCommand) -> None:
    """Run one network, and write its arrays to a file."""
    check_result(command.output, (".npz",))
    check_kind_options(command, [kind_of_network(command)])
    data = data_of(described(command), command)
    run = opened_network(command, network_of(command, data.x, command.device), data)
    print(printable(repr(run)))
    print(f"file: {run.save(command.output, jacobians=command.jacobians)}")


def show_recording(command: RecordingCommand) -> None:
    """Show a recording of a training run."""
    require_seeds(command.checkpoint, command.seed)
    for one in each_seed(command, command.checkpoint):
        if not command.json:
            print_seed(one.checkpoint, command.checkpoint)
        is_folder = one.checkpoint.is_dir()
        path = one.checkpoint / RECORDING if is_folder else one.checkpoint
        outputs = checked_outputs(one)
        show(one, Recording.load(path), outputs, str(path))


def show_known_values(command: KnownValuesCommand) -> int:
    """Print the table of known values; returns 1 if one is beyond its allowance."""
    from gersgorin.known_values import measured_values, table  # loads all analyses

    found = measured_values()
    print(table(found))
    return 0 if all(each.is_within for each in found) else 1


def function_of(analysis: Analysis) -> Callable[..., Any]:
    """The function of an analysis."""
    return getattr(import_module(f"gersgorin.{analysis.module}"), analysis.function)


def check_figure(command: OutputOptions, steps: int) -> None:
    """Refuse a limit of the figure that is no number above 0, and a step that a run has not."""
    drawn = given_options(command, command.drawn)
    if "step" in drawn:
        checks.step_of_run(drawn["step"], steps)
    checks.limit_of_panel(drawn.get("limit"))

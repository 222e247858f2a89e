"""`gersgorin run`: write the inputs, states, weights and Jacobians of a run to a file for NumPy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gersgorin.cli.options import DataOptions, NetworkOptions
from rhn.cli.entry import own_cell, resolve_device, run_command
from rhn.utils.io import check_output
from rhn.utils.old import OUTPUT_GROUP, Device, run_read, single
from rhn.utils.tables import printable


@dataclass(frozen=True, kw_only=True)
class RunOptions(DataOptions, NetworkOptions):
    """Run a network along a sequence of T time steps, and write inputs (T, m), states (T + 1, N)
    and weights to a file for NumPy. The first state is the one before the first step.

    examples:
      gersgorin run --cell rhn --depth 5 --output run.npz
      gersgorin run --checkpoint runs/mine --output run.npz --jacobians
    """

    output: Annotated[Path, OUTPUT_GROUP] = Path("run.npz")
    """The .npz file to write."""
    jacobians: Annotated[bool, OUTPUT_GROUP] = False
    """Also write the Jacobians of all time steps, (T, N, N)."""
    device: Annotated[Device, OUTPUT_GROUP] = "auto"
    """Device on which the network runs; auto: a GPU if there is one, else the CPU."""


def main(args: list[str] | None = None, prog: str = "gersgorin run") -> int:
    """Run the command; returns its exit code. prog: the command as the user typed it."""
    return run_command(lambda: run_read(single(prog, RunOptions), args, run))


def run(options: RunOptions) -> None:
    """Check the name of the file, then run the network, print a summary and write the file."""
    check_output(options.output, (".npz",))

    from gersgorin.cli.load import run_of_options
    from gersgorin.cli.new import layer_as_module

    options = layer_as_module(options)
    with own_cell(options.module or options.cell):
        found = run_of_options(options, device=resolve_device(options.device))
        print(printable(str(found)))
        print(f"file: {found.save(options.output, jacobians=options.jacobians)}")

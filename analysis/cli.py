"""`rhn-analyze`: gates, lesions and refinement of a trained network, and a page of figures and
tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from cyclopts import Parameter

from analysis.lesion_modes import MODES
from gersgorin.cli.outputs import (
    CurvesOption,
    DeviceOption,
    OutputOptions,
    checked_outputs,
    show,
)
from rhn.cli.entry import run_command
from rhn.utils.command_line import Device, command_class, command_line, run_read
from rhn.utils.io import atomic_path, check_output
from rhn.utils.resources import resolve_device
from rhn.utils.seed_folders import SEED_HELP, each_seed, print_seed, require_seeds
from rhn.utils.validation import Count

DESCRIPTION = """\
Measure trained networks: the activity of their transform gates, the damage of lesions, and the loss
after each layer.

examples:
  rhn-analyze gates runs/depth6 --chorale 0 5 bwv269
  rhn-analyze lesion runs/depth6 --mode carry --pairs --output lesions.png
  rhn-analyze refine runs/depth6 --split train --output refine.png
  rhn-analyze gates runs/ptb --data novel.txt --length 40
  rhn-analyze report runs/depth6"""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """The options of all commands: a trained network and its data."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""
    data: Path | None = None
    """File of chorales (.json, .pickle), or for a language model a text or a folder with its splits
    (default: the data of the training run).
    """
    split: Literal["train", "valid", "test"] | None = None
    """Split of the data (default: test; of a text valid)."""
    seed: Annotated[int | None, Parameter(help=SEED_HELP)] = None


@dataclass(frozen=True, kw_only=True)
class LayerCommand(DeviceOption, OutputOptions, TrainedNetwork):
    """A command with a table of layers."""

    function: ClassVar[str]
    """The function of the command, as module:name."""
    keywords: ClassVar[tuple[str, ...]] = ("cell", "length")
    """Own options that are arguments of the function."""

    chorale: tuple[str, ...] = ()
    """Measure only these chorales, by index in the original split (0 5) or name (default: all)."""
    length: Count | None = None
    """For a text: tokens in a sequence (default: gates 60, others 200)."""

    def run(self) -> None:
        """Measure the network, or that of each seed, print the table, and write the files."""
        from rhn.utils.resources import tune_malloc

        require_seeds(self.checkpoint, self.seed)
        tune_malloc()
        for one in each_seed(self, self.checkpoint):
            if not self.json:
                print_seed(one.checkpoint, self.checkpoint)
            one.run_on_network()

    def run_on_network(self) -> None:
        """Measure one network, print the table, and write the files."""
        outputs = checked_outputs(self)
        given = {name: getattr(self, name) for name in self.keywords}
        given |= {"split": self.split or "", "device": resolve_device(self.device)}
        given["chorales"] = self.chorale
        module, _, name = self.function.partition(":")
        found = getattr(import_module(module), name)(self.checkpoint, self.data, **given)
        show(self, found, outputs, str(self.checkpoint))


@command_class
class GatesCommand(CurvesOption, LayerCommand):
    """Mean transform gate of each layer over time (figure 5(b) of the paper), and the shares of
    gates that are closed and open.
    """

    function: ClassVar[str] = "analysis.gates:gate_activity"
    drawn: ClassVar[tuple[str, ...]] = ("kind",)

    kind: Literal["curves", "map"] = "curves"
    """Figure: a curve for each layer over time, or a map of layers over time in colour, of four
    sequences unless some are chosen.
    """

    output: tuple[Path, ...] = (Path("gates.png"),)
    """Files for the figure (.png, .svg, .pdf) and for all numbers (.json, .npz)."""


if TYPE_CHECKING:
    Mode = str
else:
    Mode = Literal[*MODES]
MEANINGS = "; ".join(f"{name}: {mode.meaning}" for name, mode in MODES.items())
MODE_HELP = (
    f"What a lesion does to a layer. {MEANINGS} (default: the first that some layer can have)."
)


@command_class
class LesionCommand(LayerCommand):
    """Loss with each layer switched off in turn (figure 6 of the paper).

    The control `blind` keeps a layer that reads an input, and removes only its input.
    """

    function: ClassVar[str] = "analysis.lesions:lesion"
    keywords: ClassVar[tuple[str, ...]] = (
        *LayerCommand.keywords, "mode", "pairs", "max_tokens",
    )  # fmt: skip

    mode: Annotated[Mode | None, Parameter(help=MODE_HELP)] = None
    pairs: bool = False
    """Also switch off every pair of layers."""
    max_tokens: Count | None = None
    """For a text: number of tokens to predict in all, from its beginning (default: 20000)."""
    output: tuple[Path, ...] = (Path("lesion.png"),)
    """Files for the figure (.png, .svg, .pdf) and for all numbers (.json, .npz)."""


@command_class
class RefineCommand(LayerCommand):
    """Loss if the readout is applied after each layer, and the distance of each layer's output from
    that of the last one.
    """

    function: ClassVar[str] = "analysis.refine:refinement"
    keywords: ClassVar[tuple[str, ...]] = (*LayerCommand.keywords, "max_tokens")

    max_tokens: Count | None = None
    """For a text: number of tokens to predict in all, from its beginning (default: 20000)."""
    output: tuple[Path, ...] = (Path("refine.png"),)
    """Files for the figure (.png, .svg, .pdf) and for all numbers (.json, .npz)."""


@command_class
class ReportCommand(TrainedNetwork):
    """Write one HTML page with the figures and tables of a training run, of the spectra of its
    network, of gates and of lesions.
    """

    output: Path = Path("report.html")
    """The file to write (.html)."""
    device: Device = "auto"
    """Device of the computation; auto: a GPU if there is one, else the CPU."""

    def run(self) -> None:
        """Measure, and write the page."""
        from analysis.report import report_page  # loads torch
        from rhn.utils.resources import tune_malloc

        check_output(self.output, (".html",))
        tune_malloc()
        given = {name: getattr(self, name) for name in ("data", "cell", "seed")}
        given |= {"split": self.split or "", "device": resolve_device(self.device)}
        page = report_page(self.checkpoint, **given)
        with atomic_path(self.output) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(f"file: {self.output}")


COMMANDS = command_line("rhn-analyze", DESCRIPTION)
COMMANDS.command(GatesCommand, name="gates")
COMMANDS.command(LesionCommand, name="lesion")
COMMANDS.command(RefineCommand, name="refine")
COMMANDS.command(ReportCommand, name="report")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))

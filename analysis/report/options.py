"""The options of `gersgorin report`: the subject, its data, the parts of the page."""

from dataclasses import dataclass
from pathlib import Path

from gersgorin.loading.options import DataOptions
from rhn.utils.options import Sized, Writing, option


@dataclass(frozen=True, kw_only=True)
class ReportedNetwork:
    """The subject of the report."""

    group = "report"

    about: Path = option(
        help="A file of weights, or the folder of a training or of a study.",
        metavar="CHECKPOINT|RUN|STUDY",
        positional=True,
    )
    cell: str | None = option(
        None, "The cell of a checkpoint with a cell of your own, package.module:factory."
    )
    module: str | None = option(
        None, "Your torch module, package.module:factory; the file holds its state_dict."
    )
    submodule: str | None = option(
        None, "Part of --module that holds the cell, such as encoder.rnn."
    )
    storage: str | None = option(
        None, "Database of a study (default: the journal file in its folder).", metavar="URL"
    )

    lesions: bool = option(
        False,
        "Lesions also of a large network, which take longer than half a minute (of a text: on "
        "20,000 tokens).",
    )
    also: tuple[str, ...] = option((), "Further analyses, such as lyapunov.")


@dataclass(frozen=True, kw_only=True)
class Options(Sized, Writing, DataOptions, ReportedNetwork):
    """One HTML page about a network, its training or a study: a verdict, spectra, gradients, gates,
    lesions, curves, swarm and map. The page refers to nothing outside: send it, open it anywhere,
    print it.

    examples:
      gersgorin report runs/depth6 -o depth6.html
      gersgorin report runs/depth6/best.safetensors --chorale bwv66.6 --lesions
      gersgorin report runs/ptb --input novel.txt --steps 50
      gersgorin report runs/all --output study.html
      gersgorin report weights.pt --module my_package.models:make --input x.npy
    """

    group = "output"

    output: Path | None = option(
        None,
        "The page, .html (default: report-NAME.html in the current folder).",
        metavar="FILE",
        short="-o",
    )
    steps: int | None = option(None, least=2)

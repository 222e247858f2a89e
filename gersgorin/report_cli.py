"""`gersgorin-report`: one page about a network, its training or a study."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("gersgorin.report_cli"))

import datetime
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rhn.command import own_cell, progress_bars, run_command
from rhn.files import check_output
from rhn.made import command, made_with
from rhn.options import Arg, File, Writing, check_least
from rhn.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Options(Writing):
    """One page (HTML) about a network, its training or a study: how it was made, what its numbers say in words, spectra, gradients,
    gates and lesions, curves, swarm and map. It needs nothing but itself: send it, open it anywhere, print it.

    examples:
      gersgorin-report runs/depth6 -o depth6.html
      gersgorin-report runs/depth6/best.safetensors --chorale bwv66.6 --lesions
      gersgorin-report runs/ptb --text novel.txt --steps 50
      gersgorin-report runs/all --output study.html
      gersgorin-report runs/mine --cell my_package.cells:MyCell
    """

    about: Annotated[Path, Arg("CHECKPOINT|RUN|STUDY", positional=True)]
    """A file of weights, the folder of a training, or the folder of a study."""
    output: Annotated[Path, Arg("FILE", short="-o")] = Path("report.html")
    """The page to write, .html."""
    cell: str | None = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""
    chorale: str = "bwv269"
    """The chorale along which everything is measured, by name (bwv66.6) or by its place in the split (test-0)."""
    data: File = None
    """The original chorales (.json or .pickle), or the text of a language model's training, where the folder does not say."""
    text: File = None
    """Of a language model: a text file, from whose beginning it reads (default: the validation part of its training text)."""
    input: File = None
    """Numbers of your own to read instead of a chorale: .npy, .npz or .csv, a row a step."""
    steps: int | None = None
    """Only the first N frames or steps (default: all) or tokens (default: 100), at least 2."""
    lesions: bool = False
    """Also lesions that take minutes: on all chorales of training, or on 20,000 tokens (default: 20 chorales, small networks only)."""
    storage: Annotated[str | None, Arg("URL")] = None
    """Of a study: its database (default: the journal file in its folder)."""


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: report(parse(Options, args, prog="gersgorin-report")))


def report(options: Options) -> None:
    """Check what can be checked, measure, write."""
    from gersgorin.report.page import require_libraries, write_page

    require_libraries()
    check_output(options.output, (".html", ".htm"), force=options.force)
    check_least(options, steps=2)

    from gersgorin.report.making import page_about
    from gersgorin.report.reading import Asked

    given = {name: getattr(options, name) for name in ("cell", "chorale", "data", "text", "input", "steps")}
    today = datetime.datetime.now(datetime.UTC).date()
    made = f"Made by {command()} ({made_with()}) on {today}."
    with progress_bars() as progress, own_cell(options.cell):
        asked = Asked(checkpoint=options.about, **given)
        page = page_about(asked, storage=options.storage, lesions=options.lesions, made=made, progress=progress)
    write_page(page, options.output)
    print(
        f"report: {options.output} ({options.output.stat().st_size / 1e6:.1f} MB, of which 4.8 are the charting library)"
    )

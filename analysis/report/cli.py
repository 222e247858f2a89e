"""`gersgorin-report`: one page about a network, its training or a study."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("analysis.report.cli"))
import datetime
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rhn.command import own_cell, progress_bars, run_command
from rhn.errors import InvalidInputError
from rhn.figures import figure_name, place
from rhn.files import check_output
from rhn.made import command, made_with
from rhn.options import Arg, File, Writing, check_least, given_flags
from rhn.parsing import parse

GIVEN = ("cell", "module", "submodule", "chorale", "data", "text", "input", "steps")


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
      gersgorin-report weights.pt --module my_package.models:make --input x.npy
    """

    about: Annotated[Path, Arg("CHECKPOINT|RUN|STUDY", positional=True)]
    """A file of weights, the folder of a training, or the folder of a study."""
    output: Annotated[Path | None, Arg("FILE", short="-o")] = None
    """The page to write, .html (default: a telling name in the current folder, such as report-depth6.html)."""
    cell: str | None = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""
    module: str | None = None
    """A torch module of your own, package.module:factory, whose weights the file holds: .safetensors, or a state_dict that torch.save
    wrote. As for gersgorin-plot."""
    submodule: str | None = None
    """With --module: the part of it in which to look, by name, such as encoder.rnn."""
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
    from analysis.report.page import require_libraries, write_page

    require_libraries()
    output = check_output(options.output or _named(options), (".html", ".htm"), force=options.force)
    check_least(options, steps=2)
    if options.submodule and not options.module:
        raise InvalidInputError("--submodule names a part of --module package.module:factory: add that")
    if options.module and (given := given_flags(options, ("cell", "text", "storage"))):
        raise InvalidInputError(f"{given[0]} does not go with --module, whose code says what it is: leave one out")

    from analysis.report.making import page_about
    from analysis.report.network import Asked

    given = {name: getattr(options, name) for name in GIVEN}
    today = datetime.datetime.now(datetime.UTC).date()
    made = f"Made by {command()} ({made_with()}) on {today}."
    with progress_bars() as progress, own_cell(options.module or options.cell):
        asked = Asked(checkpoint=options.about, **given)
        page = page_about(asked, storage=options.storage, lesions=options.lesions, made=made, progress=progress)
    write_page(page, output)
    print(f"report: {output} ({output.stat().st_size / 1e6:.1f} MB, of which 4.8 are the charting library)")


def _named(options: Options) -> Path:
    """A name that differs where the page does."""
    about = options.about.parent if options.about.stem == "best" else options.about
    chorale = options.chorale if options.chorale != Options.chorale else None
    files = [path for path in (options.text, options.input, options.data) if path]
    words = [word for path in (about, *files) for word in (path.resolve().name.removesuffix(path.suffix), place(path))]
    steps, lesions = options.steps and f"steps-{options.steps}", "lesions" if options.lesions else None
    own = options.cell or options.module, options.submodule
    return figure_name("report", *words, *own, chorale, steps, lesions).with_suffix(".html")

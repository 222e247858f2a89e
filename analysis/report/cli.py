"""`gersgorin report` and `gersgorin-report`: write one page about a network, its training or a study."""

import datetime
import sys
from dataclasses import dataclass
from pathlib import Path

from gersgorin.options import DataOptions
from rhn.cli.entry import run_command
from rhn.errors import InvalidInputError
from rhn.utils.figures import figure_name, place
from rhn.utils.file_marks import command, made_with
from rhn.utils.io import check_output
from rhn.utils.options import Writing, check_least, given_flags, option, parse
from rhn.utils.progress import progress_bars
from rhn.utils.user_code import own_cell


@dataclass(frozen=True, kw_only=True)
class ReportedNetwork:
    """The subject of the report."""

    group = "network"

    about: Path = option(
        help="A file of weights, or the folder of a training or of a study.",
        metavar="CHECKPOINT|RUN|STUDY",
        positional=True,
    )
    cell: str | None = option(None, "The cell of a checkpoint with a cell of your own, package.module:factory.")
    module: str | None = option(None, "Your torch module, package.module:factory; the file holds its state_dict.")
    submodule: str | None = option(None, "Part of --module that holds the cell, such as encoder.rnn.")
    storage: str | None = option(None, "Database of a study (default: the journal file in its folder).", metavar="URL")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Parts of the report beyond the default ones."""

    group = "contents"

    lesions: bool = option(
        False,
        "Lesions on all chorales of training or on 20,000 tokens, which take minutes (default: on 20 chorales, small networks only).",
    )
    also: tuple[str, ...] = option((), "Further analyses, such as lyapunov or bounds.")


@dataclass(frozen=True, kw_only=True)
class Options(Writing, Contents, DataOptions, ReportedNetwork):
    """One HTML page about a network, its training or a study: a verdict, spectra, gradients, gates, lesions, curves, swarm and map. The
    page refers to nothing outside: send it, open it anywhere, print it.

    examples:
      gersgorin report runs/depth6 -o depth6.html
      gersgorin report runs/depth6/best.safetensors --chorale bwv66.6 --lesions
      gersgorin report runs/ptb --input novel.txt --steps 50
      gersgorin report runs/all --output study.html
      gersgorin report weights.pt --module my_package.models:make --input x.npy
    """

    group = "output"

    output: Path | None = option(
        None, "The page, .html (default: report-NAME.html in the current folder).", metavar="FILE", short="-o"
    )


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = sys.argv[1:] if args is None else args
    return run_command(lambda: report(parse(Options, words, prog="gersgorin report")))


def report(options: Options) -> None:
    """Validate the options, measure, write the page."""
    output = check_output(options.output or _default_name(options), (".html", ".htm"), force=options.force)
    check_least(options, steps=2)
    if options.submodule and not options.module:
        raise InvalidInputError("--submodule names a part of --module package.module:factory: add that")
    if options.module and (given := given_flags(options, ("cell", "storage"))):
        raise InvalidInputError(f"{given[0]} does not go with --module, whose code says what it is: leave one out")

    from gersgorin.analyses import ANALYSES

    if unknown := [name for name in options.also if name not in ANALYSES]:
        raise InvalidInputError(
            f"--also {unknown[0]}: there is no such analysis, expected some of {', '.join(ANALYSES)}"
        )

    from analysis.report.folders import page_about
    from analysis.report.page import write_page

    made = f"Made by {command()} ({made_with()}) on {datetime.datetime.now(datetime.UTC).date()}."
    with progress_bars() as progress, own_cell(options.module or options.cell):
        page = page_about(options, made=made, progress=progress)
    write_page(page, output)
    print(f"report: {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _default_name(options: Options) -> Path:
    """A name that is unique for each set of options."""
    about = options.about.parent if options.about.stem == "best" else options.about
    files = [path for path in (options.input, options.data) if path]
    words = [word for path in (about, *files) for word in (path.resolve().name.removesuffix(path.suffix), place(path))]
    words += [options.cell or options.module, options.submodule]
    words += [options.chorale if options.chorale != Options.chorale else None]
    words += [options.steps and f"steps-{options.steps}", "lesions" if options.lesions else None, *options.also]
    return figure_name("report", *words).with_suffix(".html")

"""`gersgorin report`: write one page about a network, a training run or a study."""

import datetime
from dataclasses import replace
from pathlib import Path

from analysis.report.options import ReportOptions
from gersgorin.cli.outputs import given_words
from rhn.cli.entry import own_cell, run_command
from rhn.errors import InvalidInputError
from rhn.utils.command_line import run_read, single
from rhn.utils.figures import figure_name, our_style
from rhn.utils.io import check_output, made_with, real_path
from rhn.utils.progress import progress_bars
from rhn.utils.shared_options import given_flags


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(single("gersgorin report", ReportOptions), args, report))


def report(options: ReportOptions) -> None:
    """Check the options, measure the network or read the study, and write the page."""
    output = check_output(options.output or default_page(options), (".html", ".htm"))
    if not options.module and (given := given_flags(options, ("submodule", "batch_axis"))):
        raise InvalidInputError(
            f"{given[0]} is for --module package.module:factory: add that, or leave it out"
        )
    if options.module and (given := given_flags(options, ("cell", "storage"))):
        raise InvalidInputError(f"{given[0]} does not go with --module: leave one of them out")

    from gersgorin.analyses import ANALYSES

    options = replace(options, also=tuple(name.replace("-", "_") for name in options.also))
    if unknown := [name for name in options.also if name not in ANALYSES]:
        expected = ", ".join(ANALYSES).replace("_", "-")
        raise InvalidInputError(
            f"--also {unknown[0]}: there is no such analysis, expected some of {expected}"
        )

    from analysis.report.folders import sections_about
    from analysis.report.page import write_page

    made = f"Made with {made_with()} on {datetime.datetime.now(datetime.UTC).date()}."
    with progress_bars() as progress, own_cell(options.module or options.cell):
        sections, title = sections_about(options, progress), real_path(options.about).name
        with our_style(options.figure):
            write_page(output, f"Report: {title}", sections, made, progress("Figures of the page"))
    print(f"report: {output} ({output.stat().st_size / 1e6:.1f} MB)")


def default_page(options: ReportOptions) -> Path:
    """Return the default file name, unique for each set of options."""
    words = given_words(options, without=("output",))
    return figure_name("report", words.pop("about"), *words.values()).with_suffix(".html")

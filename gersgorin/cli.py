"""`gersgorin-plot`: the spectrum and the discs of a recurrent cell running on a real chorale, on a text or on a user's numbers."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("gersgorin.cli"))

import shutil
import sys
from dataclasses import fields
from pathlib import Path

from gersgorin.plot_options import Options
from rhn.command import own_cell, print_json, progress_bars, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.fields import check_seed
from rhn.figures import SUFFIXES, save_figure
from rhn.files import check_output, check_writable
from rhn.options import check_least, check_most, given_flags
from rhn.parsing import parse

MOST_STARTS = 100_000  # of --fixed-points: each is a search of its own


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: plot(parse(Options, args, prog="gersgorin-plot", once=True)))


def plot(options: Options) -> None:
    """Check everything that can be checked, then measure, draw, write and print."""
    if options.record:
        _plot_recording(options)
        return

    import torch

    from gersgorin.comparing.asked import many_runs, settled
    from gersgorin.comparing.naming import figure_name
    from gersgorin.comparing.panels import panels
    from gersgorin.comparing.runs import measure_along, panel_ensemble
    from gersgorin.large.asked import leading_part
    from gersgorin.sources import read_source, read_sources

    options, variants = settled(options)
    _check_options(options)
    figure = options.output or Path(figure_name(options, variants))
    animation = _checked_figure(options, figure)
    sources = [read_source(options)] if options.sequences is None else read_sources(options, options.sequences)
    shown = panels(options, variants, sources[0].input_size, options.seeds or 1)
    outputs = figure, animation, _data_files(options, len(shown))
    device, dtype = resolve_device(options.device), getattr(torch, options.dtype)
    beside = _beside(options, figure, shown, sources[0], device)
    steps = 0 if many_runs(options) else sources[0].steps
    leading = [leading_part(options, panel.subject, steps, dtype, device) for panel in shown]
    how = {"device": device, "dtype": dtype, "discs": options.discs}
    with progress_bars() as report:
        records = []
        for panel, part in zip(shown, leading, strict=True):
            subject, progress = panel.subject, report(f"{'runs' if many_runs(options) else 'spectra'} of {panel.title}")
            if many_runs(options):
                records.append(panel_ensemble(panel, sources, first_seed=options.seed, progress=progress, **how))
                continue
            cell = subject.build(device, dtype)
            with own_cell(subject.name if subject.own else None):
                run, x, record = measure_along(
                    sources[0], subject, cell, title=panel.title, leading=part, progress=progress, **how
                )
                record = beside.measure(run, x, record, report)
            records.append(record)
        _draw(options, records, outputs, report)
        beside.draw(records[0].along)
    _print(options, records, figure, beside)


def _plot_recording(options: Options) -> None:
    """Draw and print what was recorded through a training."""
    from gersgorin.comparing.naming import recording_name
    from gersgorin.recording import Recording, recording_table

    others = {f.name for f in fields(options)} - {"record", "animate", "output", "force", "json"}
    if given := given_flags(options, others):
        raise InvalidInputError(
            f"{given[0]} does not go with --record, whose file says what was measured: leave it out"
        )
    path = options.record / "record.npz" if options.record.is_dir() else options.record
    if path != options.record and not path.exists():
        raise InvalidInputError(
            f"the folder {options.record} holds no {path.name}: expected that of a training with rhn train --record N"
        )
    figure = options.output or Path(recording_name(options.record))
    animation = _checked_figure(options, figure)
    recording = Recording.load(path)

    from gersgorin.recording_plots import draw_recording, save_recording_animation

    save_figure(figure, lambda: draw_recording(recording))
    if animation:
        with progress_bars() as report:
            save_recording_animation(recording, animation, progress=report("animation"))
        print(f"animation: {animation}", file=sys.stderr)
    if options.json:
        about = {"title": recording.title, "every": recording.every, "figure": str(figure)}
        print_json(about | {"share": recording.share, "steps": recording.rows()})
    else:
        print(recording_table(recording), f"figure: {figure}", sep="\n")


def _check_options(options: Options) -> None:
    for_new_cells = given_flags(options, ("depth", "hidden_size", "init", "transform_bias"))
    if options.module:
        if given := given_flags(options, ("cell", "text")) or [f for f in for_new_cells if f != "--hidden-size"]:
            raise InvalidInputError(f"{given[0]} does not go with --module, whose code says what it is: leave one out")
    elif options.submodule:
        raise InvalidInputError("--submodule names a part of --module package.module:factory: add that")
    elif options.checkpoint and for_new_cells:
        words = ", ".join(for_new_cells)
        raise InvalidInputError(f"{words} cannot be given with --checkpoint: the file says what the cell is")
    if not options.checkpoint and (
        given := given_flags(options, ("compare_init", *["layer"] * (options.module is None)))
    ):
        raise InvalidInputError(f"{given[0]} is for --checkpoint FILE, not for a new cell")
    _check_read(options)
    check_seed(options.seed)
    check_least(options, steps=1, lyapunov=1, repeat=1, fixed_points=1)
    check_most(options, fixed_points=MOST_STARTS)
    if options.lyapunov is None and (given := given_flags(options, ("repeat",))):
        raise InvalidInputError(f"{given[0]} says how long the run of --lyapunov K is: add that, or leave it out")


def _check_read(options: Options) -> None:
    """One thing is read; a language model needs a text, and nothing else can read one."""
    from gersgorin.comparing.asked import what_it_reads
    from gersgorin.comparing.variants import parse_variants

    if options.input and (given := given_flags(options, ("text", "chorale", "data"))):
        raise InvalidInputError(f"--input and {given[0]} are two things to read: give one")
    if options.unit is not None and options.input is None:
        raise InvalidInputError("--unit says what a step of --input FILE is: add that, or leave --unit out")
    if options.module:
        return
    reads = options.checkpoint is not None and what_it_reads(options.checkpoint)[0] == "text"
    if reads and options.text is None:
        raise InvalidInputError(f"{options.checkpoint} holds a language model, which reads a text: add --text FILE")
    if not reads and options.text is not None:
        what = f"{options.checkpoint} holds none" if options.checkpoint else "a new cell is none: add --checkpoint FILE"
        raise InvalidInputError(f"--text is for a language model, and {what}")
    cells = ["compare"] * (options.compare is not None and parse_variants(options.compare).kind == "cell")
    if reads and (given := given_flags(options, ("chorale", "data", *cells))):
        raise InvalidInputError(
            f"{given[0]} is for chorales, but {options.checkpoint} holds a language model: leave it out"
        )


def _data_files(options: Options, count: int) -> list[Path]:
    """Where the numbers of each network go, seen to be writable; none without --save-data."""
    if options.save_data is None:
        return []
    first = options.save_data
    check_output(first, (".npz", ".json"), force=options.force)
    others = [first.with_stem(f"{first.stem}-{k}") for k in range(2, count + 1)]
    return [first, *(check_writable(path, force=options.force) for path in others)]


def _checked_figure(options: Options, figure: Path) -> Path | None:
    """The animation beside a figure, or None; raises OutputError where one of them cannot be written."""
    check_output(figure, SUFFIXES, force=options.force)
    if not options.animate:
        return None
    return check_writable(figure.with_suffix(".mp4" if shutil.which("ffmpeg") else ".gif"), force=options.force)


def _beside(options: Options, figure: Path, shown, source, device: str):
    """What is measured beside the spectra, checked."""
    from gersgorin.beside import Beside
    from gersgorin.measuring import memory_there

    asked = {"norm_bounds": options.norm_bounds, "verify": options.verified, "pseudospectra": options.pseudospectra}
    beside = Beside(
        options.lyapunov, options.repeat, options.fixed_points, figure, options.seed, options.force, **asked
    )
    free = memory_there(device, None if options.memory_limit is None else options.memory_limit * 2**30)
    inputs = source.steps, source.input_size or 0
    beside.check([(panel.title, panel.subject.cell) for panel in shown], inputs, free)
    return beside


def _draw(options: Options, records, outputs, report) -> None:
    from gersgorin.animation import save_animation
    from gersgorin.comparing.asked import many_runs
    from gersgorin.comparing.plots import draw_comparison, draw_ensembles
    from gersgorin.run_plots import draw_run

    figure, animation, data = outputs
    shown = [*records[1::-1], *records[2:]] if options.compare_init else records  # before training, then after
    discs = {"show_discs": options.show_discs}
    if many_runs(options):
        save_figure(figure, lambda: draw_ensembles(shown))
    else:
        save_figure(figure, lambda: draw_run(*shown, **discs) if len(shown) == 1 else draw_comparison(shown, **discs))
    if animation:
        save_animation(records[0], animation, **discs, progress=report("animation"))
        print(f"animation: {animation}", file=sys.stderr)
    for record, path in zip(records, data, strict=False):
        record.save(path)


def _print(options: Options, records, figure_path: Path, beside) -> None:
    from gersgorin.comparing.asked import many_runs
    from gersgorin.comparing.words import ensemble_reading, ensemble_table
    from gersgorin.record import reading
    from gersgorin.tables import summary_table

    if options.json:
        first, *others = (record.summary(str(figure_path)) | beside.summary(i) for i, record in enumerate(records))
        print_json(first | ({"compare": others} if others else {}))
        return
    table, words = (ensemble_table, ensemble_reading) if many_runs(options) else (summary_table, reading)
    for i, record in enumerate(records):
        print(table(record), words(record), *beside.tables(i), sep="\n", end="\n\n")
    print(*(f"figure: {path}" for path in (figure_path, *beside.figures())), sep="\n")

"""What `gersgorin-plot` can be asked.

`gersgorin-plot`: the spectrum and the discs of a recurrent cell running on a real chorale, on a text or on a user's numbers.
"""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.entry import enter

    sys.exit(enter("gersgorin.cli.plot"))
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rhn.command import own_cell, print_json, progress_bars, resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.fields import check_seed
from rhn.figures import SUFFIXES, save_figure
from rhn.files import check_output, check_writable
from rhn.options import Device, File, Writing, check_least, check_most, given_flags
from rhn.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Options(Writing):
    """Spectrum and Geršgorin discs of a recurrent cell running on a real chorale, a text or numbers of your own, with what their
    products do.

    examples:
      gersgorin-plot --cell rhn --depth 5
      gersgorin-plot --cell rnn --compare irnn,rhn --chorale bwv66.6
      gersgorin-plot --cell rhn --compare depth=1,2,5,10
      gersgorin-plot --compare runs/depth2,runs/depth6
      gersgorin-plot --cell rhn --compare bias=-1,-2,-4 --sequences 20 --seeds 5
      gersgorin-plot --checkpoint runs/depth6/best.safetensors --compare-init --output trained.pdf
      gersgorin-plot --checkpoint runs/ptb/best.safetensors --text novel.txt --steps 50
      gersgorin-plot --cell lstm --input weather.csv --steps 200
      gersgorin-plot --module my_package.models:make --submodule encoder.rnn --checkpoint weights.pt --input x.npy
      gersgorin-plot --cell my_package.cells:MyCell --hidden-size 32 --json
      gersgorin-plot --cell my_package.cells:MyCell --checkpoint runs/mine/best.safetensors
      gersgorin-plot --cell rhn --compare lstm --lyapunov 20 --fixed-points 50
      gersgorin-plot --cell gru --init uniform:0.3 --norm-bounds
      gersgorin-plot --cell rhn --compare rnn --pseudospectra
      gersgorin-plot --cell lstm --hidden-size 830 --leading 32 --steps 20
      gersgorin-plot --record runs/depth6 --animate
    """

    cell: str | None = None
    """{cells}, torch.nn:LSTM and the like, or your own as package.module:factory (default rhn).
    With --checkpoint: the cell of your own that it holds."""
    depth: int | None = None
    """Recurrence depth, layers within a step (default 1)."""
    hidden_size: int | None = None
    """Hidden units (default 64)."""
    checkpoint: File = None
    """Trained weights instead of a new cell. With --module: its weights, .safetensors or a state_dict that torch.save wrote."""
    module: str | None = None
    """A torch module of your own instead of a cell, package.module:factory; the factory is called without arguments, or with those of
    input_size and hidden_size that it takes. torch.nn:LSTM and the like are as large as the weights of --checkpoint. Looked at is its
    first recurrent cell: one of torch.nn's (of several layers the joint state), one of ours, or a part with step(x, s) and
    state_size."""
    submodule: str | None = None
    """With --module: the part of it in which to look, by name, such as encoder.rnn."""
    layer: int | None = None
    """With --checkpoint or --module: which of several recurrent cells or layers, counted from 1 (default: the first cell, of a
    module's with all its layers)."""
    init: str | None = None
    """How new weights start: gaussian:STD, uniform:A, identity[:STD], scaled[:GAIN] or orthogonal[:GAIN] (default: as each cell starts
    by itself: uniform:0.04; irnn: identity; torch.nn's cells as in torch, uniform within 1/sqrt(units))."""
    transform_bias: float | None = None
    """Start of an RHN's transform-gate bias (default -2)."""
    chorale: str = "bwv269"
    """A chorale by name (bwv66.6) or by its place in the split (test-0)."""
    record: File = None
    """What `rhn train --record` (its folder will do) or a gersgorin.Recorder wrote: everything over the steps of the training. Only
    --animate, --output and --json go with it."""
    text: File = None
    """With --checkpoint of a language model: a text file, from whose beginning it reads."""
    input: File = None
    """Numbers of your own to read instead of a chorale: .npy, .npz (array x, and as text unit, names, name) or .csv (a row a step, a
    column an input), (T,), (T, m) or several sequences (S, T, m). A new cell has as many inputs as they."""
    unit: str | None = None
    """With --input: what one step is, for the axes, such as "0.1 s" (default: what the file says)."""
    steps: int | None = None
    """Only the first N frames or steps (default: all) or tokens of a text (default: 100)."""
    data: File = None
    """The original chorales (.json or .pickle) instead of those rebuilt from music21's scores."""
    discs: Literal["row", "column", "both"] = "row"
    """Which discs to draw and to speak of; both: the spectrum lies where the two unions overlap. The paper's row discs are the
    column discs here: it prints the transpose."""
    show_discs: bool = False
    """Draw every single disc too, as a thin circle."""
    compare: str | None = None
    """More networks, comma-separated, in panels at one scale: cells (rnn,lstm,package.module:factory); or what varies of the one
    cell, as depth=1,2,5 or hidden-size=, init=, seed=, bias= (of an RHN's transform gate, an LSTM's forget gate); or files of
    trained weights (a.safetensors,b.safetensors or folders of runs)."""
    sequences: int | None = None
    """Instead of one chorale the first N of the test split, or the first N sequences of --input FILE or parts of --text FILE: over
    time the median of all runs, and the band that four of five of them keep to."""
    seeds: int | None = None
    """Likewise over K draws of the initial weights, from --seed on."""
    compare_init: bool = False
    """With --checkpoint: the network before its training beside it."""
    lyapunov: int | None = None
    """Also the K leading Lyapunov exponents of a longer run, in a figure of its own (NAME-lyapunov). Their errors come from the scatter
    between blocks of the run and its memory; of fewer than 20 steps none are told."""
    repeat: int = 10
    """With --lyapunov: how often the sequence is read, over and over. Where more than once, the first reading is not counted."""
    fixed_points: int | None = None
    """Also the fixed points under constant input, the mean of the sequence, searched from N states of the run, in a figure of its own
    (NAME-fixed-points)."""
    norm_bounds: bool = False
    """Also bound the gradient's norm along the run, from above and below, by products of 1, 2, 4, ... layers and steps of the Jacobians
    as computed: a bound on the half-life beside the measured one, in a figure of its own (NAME-bounds)."""
    verified: bool = False
    """Also enclose every eigenvalue in a disc that holds it whatever rounding did, say what is certain of the unit circle, and round
    Gersgorin's radii up. Where float64 leaves it open, python-flint is asked if it is installed."""
    pseudospectra: bool = False
    """Also where the eigenvalues of a few steps could be after small changes of the step, in a figure of its own
    (NAME-pseudospectra)."""
    leading: int | None = None
    """Only the K eigenvalues of largest modulus, by products with vectors: for large states, in seconds a step instead of minutes.
    Discs and products are of the whole step. Where whole spectra do not fit the memory, 32 of themselves."""
    memory_limit: float | None = None
    """GiB, about, that weights, Jacobians and the work space of the measurement may take (default: what is free); Python, torch and the
    figure come on top, some 0.4 GiB."""
    animate: bool = False
    """Also write the (first) cell's spectrum moving along the chorale, or through the training, as MP4 where ffmpeg is, else GIF."""
    output: File = None
    """Figure to write, .png, .svg or .pdf (default: a telling name in the current folder)."""
    save_data: File = None
    """Also write the numbers, .npz or .json; those of compared cells get -2, -3, ... at the end of the name."""
    json: bool = False
    """Print one JSON object instead of the table."""
    seed: int = 0
    """Seed of the initial weights."""
    device: Device = "auto"
    """Where Jacobians are computed (eigenvalues always on the CPU)."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of everything measured."""


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

    from gersgorin.analyses.spectra import leading_part
    from gersgorin.cli.naming import figure_name
    from gersgorin.comparison.runs import measure_along, panel_ensemble
    from gersgorin.comparison.variants import many_runs, panels, settled
    from gersgorin.data import read_source, read_sources

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
    from gersgorin.cli.naming import recording_name
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

    from gersgorin.recording import draw_recording, save_recording_animation

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
    from gersgorin.comparison.variants import parse_variants, what_it_reads

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
    from gersgorin.analyses.spectra import memory_there
    from gersgorin.cli.beside import Beside

    asked = {"norm_bounds": options.norm_bounds, "verify": options.verified, "pseudospectra": options.pseudospectra}
    beside = Beside(
        options.lyapunov, options.repeat, options.fixed_points, figure, options.seed, options.force, **asked
    )
    free = memory_there(device, None if options.memory_limit is None else options.memory_limit * 2**30)
    inputs = source.steps, source.input_size or 0
    beside.check([(panel.title, panel.subject.cell) for panel in shown], inputs, free)
    return beside


def _draw(options: Options, records, outputs, report) -> None:
    from gersgorin.comparison.plots import draw_comparison, draw_ensembles
    from gersgorin.comparison.variants import many_runs
    from gersgorin.plotting.animation import save_animation
    from gersgorin.plotting.spectra import draw_run

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
    from gersgorin.analyses.spectra import reading
    from gersgorin.cli.beside import summary_table
    from gersgorin.comparison.plots import ensemble_reading, ensemble_table
    from gersgorin.comparison.variants import many_runs

    if options.json:
        first, *others = (record.summary(str(figure_path)) | beside.summary(i) for i, record in enumerate(records))
        print_json(first | ({"compare": others} if others else {}))
        return
    table, words = (ensemble_table, ensemble_reading) if many_runs(options) else (summary_table, reading)
    for i, record in enumerate(records):
        print(table(record), words(record), *beside.tables(i), sep="\n", end="\n\n")
    print(*(f"figure: {path}" for path in (figure_path, *beside.figures())), sep="\n")

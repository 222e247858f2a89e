"""Animate the spectra along a run, as .gif or .mp4."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL.Image import Image, Quantize, fromarray

from gersgorin.plotting.figure import Shown, laid_out, legend_below
from gersgorin.plotting.spectra import (
    crowd,
    plot_crowd,
    plot_products,
    plot_spectrum,
    plot_suggested,
    spectrum_limit,
    title_at_left,
)
from rhn.errors import OutputError
from rhn.utils.figures import drawable, our_style, titled
from rhn.utils.file_marks import made_with
from rhn.utils.io import atomic_path, check_output
from rhn.utils.result import Result

FRAMES_PER_SECOND = 6
MOST_FRAMES = 240
DPI = 90


@our_style()
def save_animation(
    record: Result, path: str | Path, *, show_discs: bool = False, progress=lambda done, total: None
) -> Path:
    """Draw every step of the result, at most 240 evenly spaced ones, into a .gif or .mp4; atomic.

    progress: called with (frames done, frames in all). Raises OutputError if it cannot be written, or for .mp4 without ffmpeg.
    """
    path = check_output(path, (".gif", ".mp4"), force=True)
    if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise OutputError(f"cannot write {path}: ffmpeg, which makes .mp4, is not installed; name a .gif")
    figure, draw, frames = moving_run(record, show_discs=show_discs)
    return write_animation(figure, draw, frames, path, progress=progress)


def moving_run(record: Result, *, show_discs: bool = False) -> tuple[Figure, Callable[[int], None], int]:
    """Return (a figure, draw(frame), which changes it, the number of frames): a spectrum beside the curves over time.

    If the eigenvalues of every step are crowded, a second panel enlarges them, with one window for all steps.
    """
    limit, T = spectrum_limit([record]), len(record.norm)
    around = crowd(record.eigenvalues, limit)
    figure = Shown(figsize=(10.5, 5.4 + 2 * (around is not None)), layout="constrained")
    titled(figure, drawable(record.heading), drawable(record.about))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.3))
    ax, *larger = left.subplots(1 + (around is not None), 1, squeeze=False)[:, 0]
    upper, lower = right.subplots(2, 1, sharex=True)
    for panel, plot in ((upper, plot_suggested), (lower, plot_products)):
        title_at_left(plot(record, panel))
    now = [panel.axvline(0, color="black", linewidth=1) for panel in (upper, lower)]
    moments = np.unique(np.linspace(0, T - 1, min(T, MOST_FRAMES)).round().astype(int))

    def draw(frame: int) -> None:
        step = int(moments[frame])
        ax.clear()
        plot_spectrum(record, step, limit=limit, show_discs=show_discs, ax=ax).set_title(f"step {step} of 0 to {T - 1}")
        for panel in larger:
            panel.clear()
            plot_crowd(record, step, ax, panel, around)
        for line in now:
            line.set_xdata([step + 0.5, step + 0.5])

    draw(0)
    legend_below(left, [ax], columns=2)
    legend_below(right, [upper, lower], columns=2)
    return laid_out(figure), draw, len(moments)


def write_animation(figure: Figure, draw: Callable[[int], None], frames: int, path: Path, *, progress) -> Path:
    """Write draw(0), ..., draw(frames - 1), which change the figure, into a .gif or .mp4; atomic. Raises OutputError."""
    from matplotlib.animation import FFMpegWriter  # a slow import

    draw(0)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: nothing jumps, and a frame takes a third of the time
    with atomic_path(path) as temporary:
        if path.suffix == ".gif":
            pictures = _pictures(figure, draw, frames, progress)
            next(pictures).save(
                temporary,
                "GIF",
                save_all=True,
                append_images=pictures,
                duration=1000 // FRAMES_PER_SECOND,
                loop=0,
                comment=made_with(),
            )
            return path
        writer = FFMpegWriter(fps=FRAMES_PER_SECOND, metadata={"comment": made_with()})
        with writer.saving(figure, str(temporary), dpi=DPI):
            for frame in range(frames):
                draw(frame)
                writer.grab_frame()
                progress(frame + 1, frames)
    return path


def _pictures(figure: Figure, draw: Callable[[int], None], frames: int, progress) -> Iterator[Image]:
    """The frames one by one, each in the 255 colours that cover its own best: white stays white."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    for frame in range(frames):
        draw(frame)
        canvas.draw()
        yield fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(255, Quantize.MAXCOVERAGE)
        progress(frame + 1, frames)

"""The spectrum moving along a run, as an animation: MP4 where ffmpeg is, GIF otherwise."""

import shutil
from pathlib import Path

from matplotlib import rc_context
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from gersgorin.plots import plot_products, plot_spectrum, plot_suggested, spectrum_limit
from gersgorin.record import SpectrumRecord
from rhn.figures import STYLE
from rhn.files import atomic_path

FRAMES_PER_SECOND = 6


def animation_path(figure: Path) -> Path:
    """Where the animation beside a figure goes: its name with .mp4, or .gif where there is no ffmpeg."""
    return figure.with_suffix(".mp4" if shutil.which("ffmpeg") else ".gif")


@rc_context(STYLE)
def save_animation(record: SpectrumRecord, path: Path, *, progress=lambda done, total: None) -> Path:
    """Draw every step of the record into a .gif or .mp4; atomic. Raises OutputError where it cannot be written."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    ax, (upper, lower) = left.subplots(), right.subplots(2, 1, sharex=True)
    limit, T = spectrum_limit([record]), len(record.norm)
    plot_suggested(record, upper)
    plot_products(record, lower, exponent_axis=False)
    now = [a.axvline(0, color="black", linewidth=1) for a in (upper, lower)]

    def draw(step: int):
        ax.clear()
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"{record.title}, {record.chorale}, step {step}")
        for line in now:
            line.set_xdata([step, step])

    moving = FuncAnimation(figure, draw, frames=T)
    writer = (FFMpegWriter if path.suffix == ".mp4" else PillowWriter)(fps=FRAMES_PER_SECOND)
    with atomic_path(path) as temporary:
        moving.save(str(temporary), writer=writer, dpi=90, progress_callback=progress)
    return path

"""Animate the spectra along a run, as .gif."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL.Image import Image, Quantize, fromarray

from gersgorin.analyses.spectra import Spectra
from gersgorin.plotting.figure import Shown, laid_out, legend_below
from gersgorin.plotting.run_figure import plot_products, plot_spectrum, plot_suggested, spectrum_limit, title_at_left
from rhn.utils.figures import our_style, titled
from rhn.utils.io import atomic_path, check_output, made_with

FRAMES_PER_SECOND = 6
MOST_FRAMES = 240
DPI = 90


@dataclass(frozen=True)
class Film:
    """A figure that draw(moment) changes, for moments 0, ..., count - 1."""

    figure: Shown
    draw: Callable[[int], None]
    count: int

    @property
    def moments(self) -> list[int]:
        """The moments of the frames, at most 240 evenly spaced ones."""
        return np.unique(np.linspace(0, self.count - 1, min(self.count, MOST_FRAMES)).round().astype(int)).tolist()

    @our_style()
    def save(self, path: str | Path, *, progress=lambda done, total: None) -> Path:
        """Write a .gif; atomic. progress: called with (frames done, frames in all). Raises OutputError if it cannot be written."""
        path = check_output(path, (".gif",), force=True)
        self.draw(0)
        laid_out(self.figure).draw_without_rendering()
        self.figure.set_layout_engine("none")  # laid out once: nothing jumps, and a frame takes a third of the time
        pictures = self._pictures(progress)
        about = {"duration": 1000 // FRAMES_PER_SECOND, "loop": 0, "comment": made_with()}
        with atomic_path(path) as temporary:
            next(pictures).save(temporary, "GIF", save_all=True, append_images=pictures, **about)
        return path

    def _pictures(self, progress: Callable[[int, int], None]) -> Iterator[Image]:
        """The frames one by one, each in the 255 colours that cover its own best: white stays white."""
        self.figure.set_dpi(DPI)
        canvas, moments = FigureCanvasAgg(self.figure), self.moments
        for k, moment in enumerate(moments):
            self.draw(moment)
            canvas.draw()
            yield fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(255, Quantize.MAXCOVERAGE)
            progress(k + 1, len(moments))


@our_style()
def save_animation(record: Spectra, path: str | Path, *, progress=lambda done, total: None) -> Path:
    """Draw every step of the result, at most 240 evenly spaced ones, into a .gif; see `Film.save`."""
    return moving_run(record).save(path, progress=progress)


def moving_run(record: Spectra) -> Film:
    """A spectrum beside the curves over time."""
    limit, T = spectrum_limit([record]), len(record.norm)
    figure = Shown(10.5, 5.7)
    titled(figure, record.heading, record.about)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.3)).flat
    ax, (upper, lower) = left.subplots(), right.subplots(2, 1, sharex=True)
    for panel, plot in ((upper, plot_suggested), (lower, plot_products)):
        title_at_left(plot(record, panel))
    now = [panel.axvline(0, color="black", linewidth=1) for panel in (upper, lower)]

    def draw(step: int) -> None:
        ax.clear()
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"step {step} of 0 to {T - 1}")
        for line in now:
            line.set_xdata([step + 0.5, step + 0.5])

    draw(0)
    legend_below(left, [ax], columns=2)
    legend_below(right, [upper, lower], columns=2)
    return Film(laid_out(figure), draw, T)

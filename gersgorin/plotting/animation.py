"""Animate the spectra along a run, as .gif."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL.Image import Image, Quantize, fromarray

from gersgorin.analyses.spectra import Spectra
from gersgorin.analyses.steps import gradient_words
from gersgorin.plotting.run_figure import OVER_TIME, plot_spectrum, spectrum_limit
from rhn.plotting.figure import Block, Shown, compose, fill_place, laid_out
from rhn.utils.figures import drawn, our_style
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
        moments = np.linspace(0, self.count - 1, min(self.count, MOST_FRAMES))
        return np.unique(moments.round().astype(int)).tolist()

    @our_style()
    def save(self, path: str | Path, *, progress=lambda done, total: None) -> Path:
        """Write a .gif; atomic. progress: called with (frames done, frames in all). Raises
        OutputError if it cannot be written.
        """
        path = check_output(path, (".gif",), force=True)
        self.draw(0)
        laid_out(self.figure).draw_without_rendering()
        # laid out once: nothing jumps, and a frame takes a third of the time
        self.figure.set_layout_engine("none")
        pictures = self._pictures(progress)
        about = {"duration": 1000 // FRAMES_PER_SECOND, "loop": 0, "comment": made_with()}
        with atomic_path(path) as temporary:
            next(pictures).save(temporary, "GIF", save_all=True, append_images=pictures, **about)
        return path

    def _pictures(self, progress: Callable[[int, int], None]) -> Iterator[Image]:
        """The frames one by one, each in the 255 colours that cover its own best: white stays
        white.
        """
        self.figure.set_dpi(DPI)
        canvas, moments = FigureCanvasAgg(self.figure), self.moments
        for k, moment in enumerate(moments):
            self.draw(moment)
            canvas.draw()
            yield (
                fromarray(np.asarray(canvas.buffer_rgba()))
                .convert("RGB")
                .quantize(255, Quantize.MAXCOVERAGE)
            )
            progress(k + 1, len(moments))


@drawn
def moving_run(record: Spectra) -> Film:
    """Every step of the result, a spectrum above the curves over time;
    `moving_run(found).save("run.gif")` writes it.
    """
    limit, T = spectrum_limit([record]), len(record.norm)
    step = Block([lambda ax: plot_spectrum(record, 0, limit=limit, ax=ax)], 3.6, legend=True)
    curves = Block([partial(plot, record) for plot in OVER_TIME], 1.5, shared="x")
    figure = compose(
        f"{record.heading}: {gradient_words(record.log_norm_product)}", record.about, step, curves
    )
    ax, *panels = figure.axes
    now = [panel.axvline(0, color="black", linewidth=1) for panel in panels[:2]]

    def draw(step: int) -> None:
        ax.clear()
        plot_spectrum(record, step, limit=limit, ax=ax).set_title(f"step {step} of 0 to {T - 1}")
        fill_place(ax)
        for line in now:
            line.set_xdata([step + 0.5, step + 0.5])

    draw(0)
    return Film(figure, draw, T)

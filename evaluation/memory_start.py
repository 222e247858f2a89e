"""Draw the initial weights `memory`, which `cure` tries, and how far back the gradient of a plain
RNN reaches with them.

    python -m evaluation.memory_start FIGURE.png
"""

import sys
from pathlib import Path

import torch

from evaluation import plateau_table
from rhn.plotting.figure import Block, complex_plane, compose, line_style
from rhn.utils.figures import COLOURS, save_figure
from trainability.candidates import MEMORY, OUTPUT_BIAS, Change, starts_of
from trainability.signal import measure_reach
from trainability.training import Training

HEIGHT = 4.2  # inches of the panels
LEAST = 1e-20  # share of a gradient in the figure


def figure(file: Path) -> None:
    """Draw the eigenvalues of the initial weights, and the share of the gradient by lag from each
    choice of initial weights, on the adding problem of 200 steps.
    """
    model, x, y, loss, optimizer_of, _ = plateau_table.training_of("adding-200", "RNN", 0, 17_300)
    whole = Training(model, x, y, loss, optimizer_of(model.parameters()), batch_axis=0)
    remembering = next(s for s in starts_of(whole) if s.words == MEMORY)
    remembering.apply(model)
    half = x.shape[1] // 2
    z = torch.linalg.eigvals(model.rnn.weight_hh_l0.detach())

    def plane(ax) -> None:
        complex_plane(ax, 1.15)
        ax.scatter(z.real, z.imag, s=12, color=COLOURS[0])
        ax.annotate(
            f"{len(z) - len(z) // 4 * 2} units without memory:\neigenvalue 0", (0, 0.1), ha="center"
        )
        ax.annotate(
            f"{len(z) // 4 * 2} units with memory:\nrotations by pi / T to pi",
            (0, -0.5),
            ha="center",
        )
        ax.set_title("Eigenvalues of the recurrent matrix")

    def lags(ax) -> None:
        starts = [s for s in starts_of(whole) if s.words != OUTPUT_BIAS]  # the bias changes none
        shares = {s.words: measure_reach(Change(s).applied(whole)).share for s in starts}
        names = {MEMORY: "units with memory", "your weights": "benchmark's weights"}
        ax.set(ylim=(LEAST, 3), xlim=(0, x.shape[1]), xlabel="lag in steps", yscale="log")
        ax.set_title("Share of the gradient from this lag on")
        for k, (words, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1][-1])):
            ax.plot(share, label=names.get(words, words), **line_style(k))
        ax.legend(loc="lower right", bbox_to_anchor=(1.02, 0.12))

    far = measure_reach(Change(remembering).applied(whole)).share[half]
    title = (
        f"Units with memory get {100 * far:.0f} % of the gradient from the first half of the steps"
    )
    save_figure(
        file,
        lambda: compose(
            title, "plain RNN, adding problem of 200 steps", Block([plane, lags], HEIGHT, 2)
        ),
    )


if __name__ == "__main__":
    figure(Path(sys.argv[1]))

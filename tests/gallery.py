"""The pictures of docs/gallery.md: those of the paper's statements as they are, the others from
small networks.

python -m tests.gallery [NAME ...]      a table of their sizes, letters, areas and overlaps
"""

import copy
import sys
from collections.abc import Callable
from functools import cache, partial

import torch
from matplotlib.figure import Figure
from torch import nn

import gersgorin
from analysis import gate_activity, lesion
from examples import figures as statements
from gersgorin.analyses.compare import Comparison
from gersgorin.analyses.influence import Influence
from gersgorin.analyses.truncation import Truncation
from gersgorin.recorder import Recorder
from gersgorin.recording import Recording
from optim_study import read_csv
from optim_study.figures import plot_map, plot_swarm
from rhn.cells import make_cell
from rhn.data import chorale
from rhn.models import PolyphonicModel
from rhn.utils.figures import SIZES, our_style
from tests.readable import measured

CHORALE, KEYS, UNITS, STEPS = "bwv269", 88, 16, 40
ABOUT = {"data": CHORALE, "unit": "quarter notes"}
STUDY = "docs/results/small-study.csv"
COLUMNS = ("picture", "size", "inches", "least letters", "least area", "overlaps", "cut off")


def frames() -> torch.Tensor:
    return torch.as_tensor(chorale(CHORALE))[:STEPS].double()


def cell(kind: str, depth: int = 1, **how) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return make_cell(
        kind, KEYS, UNITS, depth=depth, dtype=torch.float64, generator=generator, **how
    )


@cache
def model() -> PolyphonicModel:
    torch.manual_seed(0)
    return PolyphonicModel("rhn", hidden_size=UNITS, depth=4)


@cache
def trained() -> tuple[PolyphonicModel, Recording]:
    """A model after some steps of SGD, and what was recorded."""
    after, x = copy.deepcopy(model()), frames().float()
    optimizer, predicts = torch.optim.SGD(after.parameters(), 0.2), nn.BCEWithLogitsLoss()
    recorder = Recorder(after, x[:20, None], positions=4, every=2)
    for _ in range(12):
        optimizer.zero_grad()
        logits = after(x[:-1, None])[:, 0]
        loss = 88 * predicts(logits, x[1:])
        loss.backward()
        optimizer.step()
        recorder.step(loss)
    return after, recorder.recording


def before_and_after() -> Comparison:
    both = {"before": model(), "after": trained()[0]}
    cells = {name: each.double().cells[0] for name, each in copy.deepcopy(both).items()}
    return gersgorin.compare(cells, frames(), **ABOUT)


def truncation_of_chorale() -> Truncation:
    x = frames()
    return gersgorin.truncation(model(), x[:-1, None], x[1:, None], **ABOUT)


def influence_of_loss() -> Influence:
    x = frames()
    return gersgorin.influence(model(), x[:-1, None], of="bernoulli", y=x[1:, None], **ABOUT)


RESULTS: dict[str, Callable] = {
    "rhn-depth5": lambda: gersgorin.spectra(cell("rhn", 5), frames(), **ABOUT),
    "influence": lambda: gersgorin.influence(
        cell("lstm"), frames(), torch.zeros(2 * UNITS).double(), **ABOUT
    ),
    "truncation": truncation_of_chorale,
    "lyapunov": lambda: gersgorin.lyapunov(cell("rnn", init="gaussian:0.3"), frames(), **ABOUT),
    "fixed-points": lambda: gersgorin.fixed_points(
        cell("gru", init="uniform:0.3"), frames(), starts=20, **ABOUT
    ),
    "before-after": before_and_after,
    "recording": lambda: trained()[1],
    "influence-loss": influence_of_loss,
    "gates": lambda: gate_activity(model(), [frames().numpy(), frames()[:30].numpy()]),
    "lesions": lambda: lesion(model(), [frames().numpy(), frames()[:30].numpy()]),
    "initialisations": statements.initialisations,
    "gate-limits": statements.gate_limits,
    "moving-spectra": statements.moving_spectra,
    "counterexamples": statements.counterexamples,
}
OPTIONS = {"initialisations": {"limit": 1.6}}


@cache
def result(name: str):
    """The result that a picture shows."""
    return RESULTS[name]()


def draw_result(name: str, size: str) -> Figure:
    return result(name).figure(size=size, **OPTIONS.get(name, {}))


def study() -> list:
    return [row for row in read_csv(STUDY) if row.depth in (4, 6)]


PICTURES: dict[str, Callable[[str], Figure]] = {
    **{name: partial(draw_result, name) for name in RESULTS},
    "radii-grow": statements.draw_radii,
    "equation-14": statements.draw_equation_14,
    "swarm": lambda size: plot_swarm(study(), size=size),
    "fair-figure4": lambda size: plot_map(study(), size=size),
}
"""Functions of a size that draw a picture, by the names of their files."""
OF_MANY = {"swarm", "fair-figure4", "moving-spectra", "before-after", "initialisations"}
"""Pictures of several networks, which may be higher than 4 inches in a column."""


def main() -> None:
    """Print a row for each picture and size."""
    print(*COLUMNS, sep="\t")
    for name in sys.argv[1:] or PICTURES:
        for size in SIZES:
            with our_style(size):
                row = measured(PICTURES[name](size))
            inches = f"{row.width:.2f} x {row.height:.2f}"
            print(name, size, inches, f"{row.letters:g}", f"{row.area:.2f}", row.overlaps, row.cut,
                  sep="\t", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

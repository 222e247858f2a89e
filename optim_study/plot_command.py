"""`optim-study plot`: the swarm, the map, or the learnable area with the border that `gersgorin.plateau` predicts."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from optim_study.area import area_table, learnable_area
from optim_study.protocol import StudyConfig
from optim_study.results import Row, read_csv
from optim_study.shares import BELOW, share_table, summary, training_shares
from optim_study.stored import Stored
from rhn.command import print_json, progress_bars
from rhn.engine.curves import Objective
from rhn.errors import InvalidInputError
from rhn.figures import SUFFIXES, save_figure
from rhn.files import check_output
from rhn.options import Arg, File, Writing

PROBES, FRAMES = 64, 16  # of pieces that a plateau is measured on: many and short, as few are too easily told apart


@dataclass(frozen=True, kw_only=True)
class Plot(Stored, Writing):
    """Draw the swarm plot, the map of settings or the learnable area, from a run or its CSV alone, and print how many trials train.

    examples:
      optim-study plot --out runs/fair --kind area --border runs/fair/border.csv --output area.png
      optim-study plot --csv trials.csv --kind area --json
    """

    csv: File = None
    """A table of trials (trials.csv, or what export printed) instead of a run's folder."""
    kind: Literal["swarm", "map", "area"] = "swarm"
    """swarm: a column a network; map: learning rate against initial standard deviation, a panel a network, the colour the loss; area:
    the same, the shape the scheme, full where a trial trained, with the paper's box; it counts by box and by scheme."""
    border: Annotated[Path | None, Arg("FILE")] = None
    """Draw over the area where networks are predicted to leave the plateau in their last epoch, from this CSV. Networks
    of a run that it lacks are computed first, in minutes each, and written there."""
    loss: Objective = "train"
    """Which loss, the least of all epochs: train or valid."""
    log: bool = False
    """Log axis for the losses of the swarm plot."""
    below: float = BELOW
    """A trial counts as trained below so many nats a frame."""
    constant: Annotated[float | None, Arg("NLL")] = None
    """Training loss of the best constant output, a line in the swarm plot; where not given the table says it, if it is not an old one
    (11.163 for the rebuilt chorales)."""
    output: Annotated[Path, Arg("FILE")] = Path("swarm.png")
    """Figure to write, .png, .svg or .pdf."""
    json: bool = False
    """Print the counts as one JSON list."""

    def run(self) -> None:
        check_output(self.output, SUFFIXES, force=self.force)
        self._check()
        rows = self.rows() if self.csv is None else read_csv(self.csv)
        self._draw(rows)
        self._print(rows)

    def _check(self) -> None:
        if self.kind == "map" and (self.log or self.constant is not None):
            raise InvalidInputError(
                "--log and --constant are for the swarm plot: the axes of the map and its colours are logarithmic already"
            )
        if self.border and self.kind != "area":
            raise InvalidInputError("--border is drawn over the learnable area: give --kind area")
        if self.border and not self.border.exists():
            check_output(self.border, (".csv",))
            if self.csv:
                raise InvalidInputError(
                    f"--border {self.border} is missing, and a table of trials does not tell how to compute it: give --out DIR"
                )

    def _draw(self, rows: list[Row]) -> None:
        if self.kind == "swarm":
            from optim_study.plots import save_swarm

            save_swarm(rows, self.output, loss=self.loss, log=self.log, constant=self.constant)
        elif self.kind == "map":
            from optim_study.plots import plot_map

            save_figure(self.output, lambda: plot_map(rows, loss=self.loss))
        else:
            from optim_study.area_plot import plot_area

            border = self._border() if self.border else []
            save_figure(self.output, lambda: plot_area(rows, border=border, loss=self.loss, below=self.below))

    def _border(self) -> list:
        from optim_study.border import border_points, read_border, write_border

        points = read_border(self.border) if self.border.exists() else []
        known = {(point.arch, point.depth) for point in points}
        with progress_bars() as report:
            for config, _ in self.studies() if self.csv is None else ():
                if (config.label, config.depth) not in known:
                    points += border_points(config, _escape, report(f"border of {config.name}"))
                    write_border(points, self.border)
        return points

    def _print(self, rows: list[Row]) -> None:
        count = learnable_area if self.kind == "area" else training_shares
        if self.json:
            print_json([asdict(found) | {"share": found.share} for found in count(rows, self.loss, self.below)])
        elif self.kind == "area":
            print(area_table(learnable_area(rows, self.loss, self.below), self.below), end="\n\n")
        else:
            print_shares(rows, self.loss, self.below)
        print(f"figure: {self.output}", file=sys.stderr if self.json else sys.stdout)


def _escape(model, config: StudyConfig) -> Callable[[float], float]:
    """Epochs that a study's model is predicted to stay on its plateau, by learning rate."""
    import torch

    import gersgorin
    from optim_study.trainer import load_corpus

    torch.set_num_threads(1)  # the products are so small that several threads wait for each other
    corpus = load_corpus(None)
    if corpus.checksum != config.data:
        raise InvalidInputError(
            f"--border is computed on the rebuilt chorales, and study {config.name} is about other data"
        )
    pieces = [piece[:FRAMES].astype(float) for piece in corpus.train[:: len(corpus.train) // PROBES]]
    measured = gersgorin.plateau(model, pieces, "bernoulli")
    batches = -(-len(corpus.train) // config.batch_size)
    return lambda rate: measured.escape_epochs(rate, config.momentum, batches)


def print_shares(rows: Sequence[Row], loss: Objective, below: float = BELOW) -> None:
    """A table and a sentence an architecture."""
    found = training_shares(rows, loss, below)
    print(share_table(found, below), summary(found, below), sep="\n\n", end="\n\n")

"""`optim-study plot`: the swarm, the map, or the learnable area with the border that `gersgorin.plateau` predicts."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from optim_study.area import area_table, learnable_area
from optim_study.captions import protocol_words
from optim_study.columns import By, swarm
from optim_study.protocol import StudyConfig
from optim_study.results import Row, check_settings, read_csv
from optim_study.shares import BELOW, check_threshold, share_table, summary, training_shares
from optim_study.stored import Stored
from rhn.cli.common import print_json, progress_bars
from rhn.errors import InvalidInputError
from rhn.plotting.figures import SUFFIXES, figure_name, place, save_figure
from rhn.training.curves import Objective
from rhn.utils.io import check_output
from rhn.utils.options import Arg, File, Writing, given_flags

PROBES, FRAMES = 64, 16  # of pieces that a plateau is measured on: many and short, as few are too easily told apart


@dataclass(frozen=True, kw_only=True)
class Plot(Stored, Writing):
    """Draw the swarm plot, the map of settings or the learnable area, from a run or its CSV alone, and print how many trials train.

    examples:
      optim-study plot --out runs/small --by depth
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
    by: By = "arch"
    """What the columns of the swarm plot are grouped by: arch (architecture) or depth."""
    log: bool = False
    """Log axis for the losses of the swarm plot."""
    up_to: Annotated[float | None, Arg("NLL")] = None
    """Where the axis of the swarm plot ends; what is above is counted there (default: a little above the best constant output; inf:
    nothing is)."""
    below: float = BELOW
    """A trial counts as trained below so many nats a frame."""
    constant: Annotated[float | None, Arg("NLL")] = None
    """Loss of the best constant output, a line in the swarm plot, and one 10 % below it. Where not given, the trials tell that of
    training (11.163 for the rebuilt chorales), but not of validation, nor do tables of early versions."""
    output: File = None
    """Figure to write, .png, .svg or .pdf (default: a telling name in the current folder, such as swarm-small-by-depth.png)."""
    json: bool = False
    """Print the counts as one JSON list."""

    def run(self) -> None:
        self._check()
        output = check_output(self.output or self._name(), SUFFIXES, force=self.force)
        rows = self.rows() if self.csv is None else read_csv(self.csv)
        if self.kind != "swarm":
            check_settings(rows)
        self._draw(rows, output)
        self._print(rows, output)

    def _check(self) -> None:
        if self.kind != "swarm" and (told := given_flags(self, ("by", "log", "up_to", "constant"))):
            raise InvalidInputError(f"{told[0]} is for the swarm plot: leave it out, or give --kind swarm")
        check_threshold(self.below)
        if self.border and self.kind != "area":
            raise InvalidInputError("--border is drawn over the learnable area: give --kind area")
        if self.border and not self.border.exists():
            check_output(self.border, (".csv",))
            if self.csv:
                raise InvalidInputError(
                    f"--border {self.border} is missing, and a table of trials does not tell how to compute it: give --out DIR"
                )

    def _name(self) -> Path:
        """A name that differs where the figure does."""
        table = self.csv and self.csv.stem != "trials"
        where = self.csv if table else (self.csv.parent if self.csv else self.out).resolve()
        study = where.stem if table else where.name
        values = {name: getattr(self, name) for name in ("by", "up_to", "constant", "below", "border")}
        told = [f"{name.replace('_', '-')}-{_word(v)}" for name, v in values.items() if v != getattr(Plot, name)]
        loss = self.loss if self.loss != Plot.loss else None
        return figure_name(self.kind, study, place(where), *told, loss, "log" if self.log else None)

    def _draw(self, rows: list[Row], output: Path) -> None:
        source = f"from {self.csv.name}" if self.csv else protocol_words([config for config, _ in self.studies()])
        about = {"loss": self.loss, "about": source}
        if self.kind == "swarm":
            from optim_study.plots import save_swarm

            asked = {name: getattr(self, name) for name in ("by", "log", "constant", "below", "up_to")}
            save_swarm(rows, output, **about, **asked)
        elif self.kind == "map":
            from optim_study.map_plot import plot_map

            save_figure(output, lambda: plot_map(rows, **about))
        else:
            from optim_study.area_plot import plot_area

            border = self._border() if self.border else []
            save_figure(output, lambda: plot_area(rows, border=border, below=self.below, **about))

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

    def _print(self, rows: list[Row], output: Path) -> None:
        count = learnable_area if self.kind == "area" else training_shares
        if self.json:
            print_json([asdict(found) | {"share": found.share} for found in count(rows, self.loss, self.below)])
        elif self.kind == "area":
            print(area_table(learnable_area(rows, self.loss, self.below), self.below), end="\n\n")
        else:
            print_shares(rows, self.loss, self.below)
        if self.kind == "swarm" and (why := swarm(rows, loss=self.loss, constant=self.constant).without_constant):
            print(f"{why} (--constant NLL draws it)", file=sys.stderr)
        print(f"figure: {output}", file=sys.stderr if self.json else sys.stdout)


def _word(value) -> str:
    """A value in a name: 12.0 as 12, but no two numbers alike."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


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

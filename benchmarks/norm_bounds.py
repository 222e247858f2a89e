"""The table and the figure of docs/results/2026-11-20-norm-bounds.md: `python -m benchmarks.norm_bounds RUNS`, see norm_bounds.sh."""

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path

import torch

import gersgorin
from benchmarks.__main__ import environment
from gersgorin.analyses import enclosures
from gersgorin.analyses.bounds import NormBounds, draw_bounds
from gersgorin.cell_run import CellRun
from gersgorin.data import chorale_source
from gersgorin.extract import cell_title
from rhn.checkpoints import load_model
from rhn.data import chorale
from rhn.plotting.figures import save_figure
from rhn.plotting.provenance import words_of_checkpoint
from rhn.training.trained import initial_model
from rhn.utils.file_marks import remember_command

NAME, CHORALE = "2026-11-20-norm-bounds", "bwv269"
LENGTHS = ("1 layer", "1 step", "4 steps", "16 steps", "64 steps")
HEAD = ("network", "measured", *LENGTHS, "windows it takes", "steps with all eigenvalues inside", "with some outside")


def main() -> None:
    """Measure every run of the folder before and after its training; write and print the table, draw two runs."""
    parser = argparse.ArgumentParser(description="Bounds on the half-lives of trained cells along a chorale.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    remember_command("python -m benchmarks.norm_bounds", sys.argv[1:])
    piece, rows, shown = chorale(CHORALE), [HEAD], []
    x = torch.as_tensor(piece).double()
    for path in sorted(options.runs.glob("*/best.safetensors")):
        for when, model in (("new", initial_model(path, 0)[0]), ("trained", load_model(path))):
            cell, title = model.double().cells[0], f"{path.parent.name}, {when}"
            bounds = replace(gersgorin.bounds(cell, x), title=title, unit="quarter notes")
            run = enclosures.of_run(CellRun(cell, x))
            rows.append([*row(bounds), int(run.none_outside.sum()), int((run.outside > 0).sum())])
            if when == "trained" and path.parent.name in ("gru-1", "rhn-5"):
                about = f"{words_of_checkpoint(path)}; {chorale_source(piece).about}"
                shown.append(replace(bounds, title=cell_title(cell), about=about))
    with (options.out / f"{NAME}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(*(", ".join(map(str, row)) for row in rows), environment("cpu"), sep="\n")
    save_figure(options.out / f"{NAME}.png", lambda: draw_bounds(shown))


def row(bounds: NormBounds) -> list[str]:
    """Half-lives in steps, measured and bounded by windows of some lengths, and the first windows whose bound shrinks."""
    life = dict(zip(bounds.lengths, bounds.half_life, strict=True))
    lives = [f"{life[words]:.3g}" if words in life else "" for words in LENGTHS]
    measured = bounds.to_dict()["measured_half_life"]
    takes = "none" if bounds.sufficient is None else bounds.lengths[bounds.sufficient]
    return [bounds.title, f"{measured:.3g}", *lives, takes]


if __name__ == "__main__":
    main()

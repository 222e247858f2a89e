"""`python -m benchmarks.cells`: the numbers, tables and figure of docs/results/2026-11-20-cells.md."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.cli.entry import enter

    sys.exit(enter("benchmarks.cells.__main__"))

import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from benchmarks.__main__ import environment
from rhn.cli.common import progress_bars, run_command
from rhn.cli.parsing import parse
from rhn.errors import OutputError
from rhn.utils.options import Arg

NAME, CHORALE = "2026-11-20-cells", "bwv269"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare all cells: studies of the small preset, five more seeds of each one's best setting, and their spectra along a chorale.

    example:
      bash benchmarks/cells.sh runs/cells 2
      python -m benchmarks.cells --studies runs/cells runs/small --networks runs/cells/networks --out docs/results
    """

    studies: Annotated[tuple[Path, ...], Arg("DIR")]
    """Folders of optim-study run --preset small; a cell's study is taken from the first that holds it."""
    networks: Annotated[Path, Arg("DIR")]
    """Where the measured networks are kept, a file a cell; what is there is not trained again."""
    out: Annotated[Path, Arg("DIR")]
    """Folder of the tables and the figure; it must exist."""


def compare(options: Options) -> None:
    """Train and measure what is missing, then write everything."""
    import torch

    from benchmarks.cells.figure import draw
    from benchmarks.cells.networks import Network, networks, usual_starts
    from benchmarks.cells.studies import find_studies
    from benchmarks.cells.summary import losses_table, spectra_table
    from optim_study.results import write_csv as write_trials
    from rhn.data import chorale, chorales
    from rhn.plotting.figures import save_figure
    from rhn.training.numerics import tune_malloc
    from rhn.utils.io import write_csv

    if not options.out.is_dir():
        raise OutputError(f"cannot write to {options.out}: it is not a folder; create it first")
    options.networks.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tune_malloc()
    corpus, x = chorales(progress=False), torch.as_tensor(chorale(CHORALE).copy()).float()
    studies = find_studies(options.studies, corpus.checksum)
    with progress_bars() as report:
        found = {
            cell: networks(study, corpus, x, options.networks / f"{cell}.json", report(f"{cell}, five seeds"))
            + usual_starts(study, x)
            for cell, study in studies.items()
        }
    rows = [asdict(network).values() for each in found.values() for network in each]
    write_csv(options.out / f"{NAME}.csv", [field.name for field in fields(Network)], [list(row) for row in rows])
    write_trials([row for study in studies.values() for row in study.rows], options.out / f"{NAME}-trials.csv")
    title = f"{len(studies)} cells of at most 2,250 parameters, depth 1; spectra along chorale {CHORALE} ({len(x)} quarter notes)"
    save_figure(options.out / f"{NAME}.png", lambda: draw(studies, found, title))
    print(environment("cpu"), f"chorales {corpus.checksum[:12]}", sep=", ", end="\n\n")
    print(losses_table(studies, found), spectra_table(studies, found), sep="\n\n")


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: compare(parse(Options, args, prog="python -m benchmarks.cells")))

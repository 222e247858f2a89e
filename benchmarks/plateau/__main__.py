"""`python -m benchmarks.plateau`: all numbers, tables and figures of docs/results/2026-11-20-plateau.md."""

if __name__ == "__main__":  # first of all: Ctrl-C is a word during the imports too
    import sys

    from rhn.cli.entry import enter

    sys.exit(enter("benchmarks.plateau.__main__"))

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch

from benchmarks.__main__ import environment
from rhn.cli.common import run_command
from rhn.cli.parsing import parse
from rhn.errors import DataError, OutputError
from rhn.utils.io import atomic_path
from rhn.utils.options import Arg

NAME = "2026-11-20-plateau"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Test what is said of the plateau: orders, gates' factors, the epoch of leaving, and where it comes out otherwise.

    example:
      python -m benchmarks.plateau --study runs/small --out docs/results --jobs 2
      python -m benchmarks.plateau --out docs/results
    """

    study: Annotated[Path | None, Arg("DIR")] = None
    """Folder of a run of the small preset: optim-study run --arch all --preset small --out DIR. Without it only the
    figure is drawn, from the table of predictions in --out."""
    out: Annotated[Path, Arg("DIR")]
    """Folder of the tables and the figure; it must exist. A table of predictions that is there is gone on with."""
    jobs: int = 1
    """Processes that predict."""


def measure(options: Options) -> None:
    """Everything, the quick parts first."""
    from benchmarks.plateau import causes, orders, trials
    from benchmarks.plateau.summary import draw_predictions, overall, summary
    from rhn.plotting.figures import save_figure

    if not options.out.is_dir():
        raise OutputError(f"cannot write to {options.out}: it is not a folder; create it first")
    table = options.out / f"{NAME}-trials.csv"
    if options.study is None:
        return save_figure(table.with_suffix(".png"), lambda: draw_predictions(trials.read(table)))
    if not any((options.study / config.name / "trials").is_dir() for config in trials.studies()):
        raise DataError(f"{options.study} holds no study of the small preset: expected folders like rhn-depth1/trials")
    torch.set_num_threads(1)
    print(environment("cpu"), flush=True)
    measured = orders.orders()
    orders.require_orders(measured)
    _write(options.out / f"{NAME}-orders.csv", measured)
    print_table(orders.factors())
    starts = causes.starts()
    _write(options.out / f"{NAME}-starts.csv", starts)
    print_table(starts)
    trials.predict_all(options.study, table, options.jobs)
    rows = trials.read(table)
    trials.write(table, rows)
    print_table(summary(rows))
    print_table([overall(rows)])
    save_figure(table.with_suffix(".png"), lambda: draw_predictions(rows))
    identity = causes.integrators()
    _write(options.out / f"{NAME}-identity.csv", identity)
    print_table(identity)


def print_table(rows: Sequence) -> None:
    """Rows as a Markdown table."""
    names = list(asdict(rows[0]))
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_text(value) for value in asdict(row).values()) + " |")
    print(flush=True)


def _write(path: Path, rows: Sequence) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(asdict(rows[0]))
        writer.writerows([_text(value) for value in asdict(row).values()] for row in rows)


def _text(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: measure(parse(Options, args, prog="python -m benchmarks.plateau")))

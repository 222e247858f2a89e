"""What predicts that a network learns? Makes the calibration of `gersgorin-check` from the small study, and judges it.

    bash benchmarks/calibration.sh runs/calibration
    python -m benchmarks.calibration --study runs/small --new runs/calibration --out docs/results

Writes gersgorin/checking/calibration.json, and in --out the measurements of all networks (also their cache) and the figure; prints the
tables. Only networks of the study make the calibration.
"""

import argparse
import os
import platform
import sys
from pathlib import Path

NAME = "2026-11-20-calibration"
SOURCES = ("gated", "transitions", "open-gates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study",
        type=Path,
        metavar="DIR",
        help="folder of the small study (else what the table holds)",
    )
    parser.add_argument(
        "--new", type=Path, metavar="DIR", help="folder that calibration.sh filled; what is there already counts"
    )
    parser.add_argument(
        "--full", type=Path, metavar="CSV", help="table of a run at the paper's size (docs/results/h200-depth6)"
    )
    parser.add_argument(
        "--least-rate", type=float, default=0.003, metavar="X", help="leave out lower learning rates (0.003)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of measurements and figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the calibration (default: that of gersgorin)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that measure")
    options = parser.parse_args()

    from benchmarks.calibration.report import calibrate, draw, tables
    from benchmarks.calibration.trials import read_networks
    from gersgorin.checking.calibration import FILE
    from rhn.plotting.figures import save_figure
    from rhn.utils.file_marks import remember_command
    from rhn.utils.io import write_json

    remember_command("python -m benchmarks.calibration", sys.argv[1:])
    table = options.out / f"{NAME}.csv"
    networks = read_networks(table) if options.study is None else _measured(options, table)
    write_json(options.json or FILE, calibrate(networks, made_by()), indent=1)
    save_figure(options.out / f"{NAME}.png", lambda: draw(networks))
    print(tables(networks))


def _measured(options: argparse.Namespace, table: Path) -> list:
    """All networks of the folders that were given, measured."""
    from benchmarks.calibration.trials import full_size, measure_all, stored
    from rhn.cli.common import progress_bars

    networks = list(stored(options.study, "study"))
    for source in SOURCES if options.new else ():
        if (options.new / source / "journal.log").is_file():
            networks += stored(options.new / source, source)
    if options.full:
        networks += full_size(options.full)
    slow = [n for n in networks if n.learning_rate < options.least_rate]
    print(
        f"{len(slow)} with lower learning rates are left out; {sum(n.learned for n in slow)} of them learned",
        file=sys.stderr,
    )
    with progress_bars() as report:
        kept = [n for n in networks if n.learning_rate >= options.least_rate]
        return measure_all(kept, table, options.jobs, report("measuring networks"))


def made_by() -> dict:
    """The command, the versions and the machine."""
    import torch

    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {
        "command": " ".join(["python -m benchmarks.calibration", *sys.argv[1:]]),
        "machine": where,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()

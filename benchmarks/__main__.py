"""`python -m benchmarks`: run the registered benchmarks and print one ratio each, with the
environment.
"""

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

import torch

from benchmarks import gersgorin, kernels, language, study, watching  # noqa: F401 - they enrol themselves
from benchmarks.registry import (
    BENCHMARKS,
    Benchmark,
    Ratio,
    make_of_processor,
    paired,
    write_rows,
)
from rhn.utils.resources import tune_malloc

ATTEMPTS = 3  # of a row that is below its floor: a busy machine is not a defect


def environment(device: str) -> str:
    """Device and versions of this run."""
    where = f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} torch threads"
    if device == "cuda":
        where = torch.cuda.get_device_name()
    return (
        f"{datetime.date.today().isoformat()}, {platform.system()} {platform.machine()}, {where}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def measure(b: Benchmark, device: str) -> tuple[Ratio, bool]:
    """The ratio of a row, and whether it passes; floors hold on a CPU only."""
    functions = b.prepare(device)
    for _ in range(ATTEMPTS):
        ratio = paired(*functions, pairs=b.pairs, device=device)
        if device != "cpu" or ratio.median >= b.floor:
            return ratio, True
    return ratio, False


def chosen(options: argparse.Namespace) -> list[Benchmark]:
    """The benchmarks on a device, with words in their names."""
    return [
        b
        for b in BENCHMARKS
        if options.device in b.devices and (options.full or not b.full) and options.only in b.name
    ]


def main() -> int:
    """Parse options, run, print; 1 if a ratio on a CPU is below its floor in all attempts."""
    parser = argparse.ArgumentParser(
        description="Ratios above 1 mean ours is faster. Medians of interleaved pairs."
    )
    parser.add_argument("--full", action="store_true", help="also the slow ones")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only names that contain these words"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="a CSV file to put the ratios of a CPU into"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    # else a large tensor is kept memory or new pages by turns, at 1 or 3 times the cost
    tune_malloc()
    print(environment(options.device))
    below, ratios = [], dict[tuple[str, str], Ratio]()
    for b in chosen(options):
        ratio, passes = measure(b, options.device)
        ratios[b.name, b.against] = ratio
        if not passes:
            below.append(b)
        mark = "" if passes else f"  BELOW {b.floor:g}"
        # times of a shared CPU mean nothing
        mark += f"  {1000 * ratio.seconds:.2f} ms" if options.device == "cuda" else ""
        print(
            f"{ratio.median:6.2f}x  ({ratio.low:.2f} to {ratio.high:.2f})  {b.name}, against "
            f"{b.against}{mark}",
            flush=True,
        )
    if options.device == "cpu":
        if options.table:
            write_rows(options.table, ratios, make_of_processor())
        print(f"below their floors: {len(below)}" if below else "none is below its floor")
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())

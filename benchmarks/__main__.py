"""`python -m benchmarks`: run the registered benchmarks and print one ratio each, with the environment."""

import argparse
import datetime
import os
import platform

import torch

from benchmarks import (  # noqa: F401 - they enrol themselves
    analysis,
    dynamics,
    gersgorin,
    kernels,
    language,
    large,
    step,
    study,
)
from benchmarks.registry import BENCHMARKS
from benchmarks.timing import paired
from rhn.utils.wording import counted


def environment(device: str) -> str:
    """Device and versions of this run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{cores} cores, {counted(torch.get_num_threads(), 'torch thread')}"
    )
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{datetime.date.today().isoformat()}, {platform.system()} {platform.machine()}, {where}, {versions}"


def main() -> None:
    """Parse options, run, print; a ratio under its floor is marked, never an error: a busy machine is not a defect."""
    parser = argparse.ArgumentParser(description="Ratios above 1 mean ours is faster. Medians of interleaved pairs.")
    parser.add_argument("--full", action="store_true", help="also the slow ones")
    parser.add_argument("--only", default="", metavar="WORDS", help="only names that contain these words")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(environment(options.device))
    for b in BENCHMARKS:
        if options.device not in b.devices or (b.full and not options.full) or options.only not in b.name:
            continue
        ratio = paired(*b.prepare(options.device), pairs=b.pairs, device=options.device)
        goal = f"promised {b.floor:g}x" + (f", aim {b.aim:g}x" if b.aim else "") if b.floor else ""
        mark = "" if ratio.median >= b.floor else "  BELOW"
        print(
            f"{ratio.median:6.2f}x  ({ratio.low:.2f} to {ratio.high:.2f})  {b.name}, against {b.against}  {goal}{mark}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Count, judge, time and draw.

python -m benchmarks.newton collect OUT.csv [CELL ...]     new networks at all scales
python -m benchmarks.newton tasks OUT.csv [CELL ...]       before and after training on chorales and characters
"""

import sys
from pathlib import Path

import torch

from benchmarks.newton.collect import collect
from benchmarks.newton.networks import new_networks, task_networks
from rhn.cells import CELLS

SEEDS = 4
DEPTHS = {"rhn": (1, 2, 3, 5, 7, 10)}
BOTH = "full", "diagonal"


def main() -> None:
    """Run a part."""
    torch.set_num_threads(1)
    part, path, *cells = sys.argv[1:]
    for cell in cells or CELLS:
        print(cell, flush=True)
        if part == "collect":
            collect(new_networks(cell, SEEDS), Path(path))
        else:
            for task in ("chorales", "characters"):
                for depth in DEPTHS.get(cell, (1,)):
                    collect(task_networks(cell, task, depth), Path(path), lengths=(64, 256, 1024), methods=BOTH)


if __name__ == "__main__":
    main()

"""Count, judge, time and draw.

python -m benchmarks.newton collect OUT.csv [CELL ...]     new networks at all scales
python -m benchmarks.newton tasks OUT.csv [CELL ...]       before and after training on chorales and characters
    python -m benchmarks.newton judge FILE.csv ...             the forecast against what was counted
    python -m benchmarks.newton tables OUT.png NEW.csv TASKS.csv COSTS.csv
    python -m benchmarks.newton costs OUT.csv THREADS [CELL]   seconds against the loop
"""

import sys
from pathlib import Path

import torch

from benchmarks.newton.collect import collect
from benchmarks.newton.costs import collect_costs
from benchmarks.newton.judge import main as judge
from benchmarks.newton.networks import new_networks, task_networks
from benchmarks.newton.tables import main as tables
from rhn.cells import CELLS

SEEDS = 4
DEPTHS = {"rhn": (1, 2, 3, 5, 7, 10)}
BOTH = "full", "diagonal"


def main() -> None:
    """Run a part."""
    torch.set_num_threads(1)
    part, path, *cells = sys.argv[1:]
    if part == "tables":
        tables([path, *cells])
        return
    if part == "judge":
        judge([path, *cells])
        return
    if part == "costs":
        collect_costs(Path(path), int(cells[0]), cells[1:] or CELLS)
        return
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

"""Time Newton's method against the loop that the cell has otherwise, and against torch.nn, over T and n."""

import csv
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from rhn.cells import make_cell, to_torch
from rhn.kernels.newton import Recurrence, solve

LENGTHS = 64, 256, 1024, 4096, 16384, 65536
UNITS = 2, 4, 8, 16, 32, 64
MOST = 1 << 28  # multiplications of one iteration that are still timed


def median_seconds(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each function, called in turn; of several rounds the first is not counted. Other work does not count."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(values[len(values) > 1 :]) for name, values in taken.items()}


@torch.no_grad()
def row_of(name: str, n: int, T: int, B: int = 1, method: str = "full") -> dict:
    """The seconds of one network, new, reading noise in float32."""
    generator = torch.Generator().manual_seed(0)
    cell = make_cell(name, 4, n, init="scaled", generator=generator)
    x, s0 = torch.randn(T, B, 4, generator=generator), torch.zeros(B, cell.state_size)
    recurrence = Recurrence(cell.step, cell.jacobian, x, s0, cell.states)
    solution = solve(recurrence, method=method)
    functions = {"newton": lambda: solve(recurrence, method=method), "loop": lambda: cell.states(x, s0)}
    if name == "gru":
        theirs = to_torch(cell)
        functions["torch"] = lambda: theirs(x)
    seconds = {"torch": float("nan")} | median_seconds(functions, 1 if T > 10_000 else 6)
    about = {"cell": name, "units": n, "T": T, "B": B, "method": method, "iterations": solution.iterations}
    return about | {"fallback": solution.fallback_from is not None} | seconds


def collect_costs(path: Path, threads: int, cells: Iterable[str]) -> None:
    """Append a row for each cell, method, n and T that is small enough."""
    torch.set_num_threads(threads)
    for name in cells:
        for n in UNITS:
            for method in ("full", "diagonal"):
                for T in LENGTHS:
                    if T * n ** (3 if method == "full" else 2) > MOST // (1 if method == "full" else 8):
                        continue
                    row = row_of(name, n, T, method=method)
                    print(row, flush=True)
                    new = not path.exists()
                    with path.open("a", newline="") as file:
                        writer = csv.DictWriter(file, list(row))
                        if new:
                            writer.writeheader()
                        writer.writerow(row)
                    if row["newton"] > 20:
                        break

"""Fixed points of networks that hold three bits, the task fixed-point-finder is shown on: both searches from the same starts.

    python -m benchmarks.flip_flop docs/results/2026-11-20-fixed-points

prints the tables and draws PREFIX.png. Two networks of 16 units are trained (about a minute). fixed-point-finder's published procedure
is always compared; its own code too if its checkout is on PYTHONPATH.

The task (D. Sussillo, O. Barak 2013): at a step in four each of three inputs is a pulse of +1 or -1; the outputs are the last pulses.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.__main__ import environment
from benchmarks.dynamics import has_original, original_fixed_points
from benchmarks.procedures import fixed_points_by_adam
from gersgorin import fixed_points, trajectory
from gersgorin.analyses.fixed_points import draw_fixed_points
from rhn.plotting.figures import save_figure
from rhn.utils.file_marks import remember_command

BITS, UNITS, UPDATES, STARTS, SEED = 3, 16, 1500, 512, 0
NEAR = 1e-2  # an end this near to one of our points is that point


def pulses(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(inputs, outputs) of the task, (steps, batch, 3) each; at the first step all three inputs are pulses."""
    draw = lambda: torch.rand(steps, batch, BITS, generator=generator)  # noqa: E731
    x = (draw() < 0.25) * (2.0 * (draw() < 0.5) - 1)
    x[0] = 2.0 * (draw()[0] < 0.5) - 1
    held = [x[0]]
    for now in x[1:]:
        held.append(torch.where(now != 0, now, held[-1]))
    return x, torch.stack(held)


def trained(kind: type[nn.RNNBase]) -> tuple[nn.RNNBase, float]:
    """(the recurrent part, its last mean squared error) after Adam on fresh batches of 64 sequences of 40 steps."""
    torch.manual_seed(SEED)  # torch.nn draws its first weights from the global generator
    rnn, output, generator = kind(BITS, UNITS), nn.Linear(UNITS, BITS), torch.Generator().manual_seed(SEED)
    weights = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(weights)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, UPDATES)
    for _ in range(UPDATES):
        x, wanted = pulses(40, 64, generator)
        loss = (output(rnn(x)[0]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return rnn.double(), float(loss.detach())


def starting_states(rnn: nn.RNNBase) -> Tensor:
    """Points between two states of runs on the task, (512, 16), drawn."""
    generator = torch.Generator().manual_seed(SEED + 1)
    x, _ = pulses(40, 16, generator)
    states = trajectory(rnn, x.double()).detach().reshape(-1, UNITS)
    first, second = torch.randint(len(states), (2, STARTS), generator=generator)
    share = torch.rand(STARTS, 1, generator=generator, dtype=torch.float64)
    return share * states[first] + (1 - share) * states[second]


def searches() -> dict[str, Callable[[nn.RNNBase, Tensor, Tensor], np.ndarray]]:
    """By name, what gives distinct ends (P, n) of a network, an input and starts."""
    found = {}
    for rate in (1.0, 0.1):
        plain = lambda rnn, x, s, rate=rate: fixed_points_by_adam(rnn, x, s, rate=rate)[0].numpy()  # noqa: E731
        own = lambda rnn, x, s, rate=rate: original_fixed_points(rnn, x, s, rate).xstar  # noqa: E731
        found[f"published procedure, rate {rate:g}"] = plain
        if has_original():
            found[f"fixed-point-finder, rate {rate:g}"] = own
    return found


def compared(rnn: nn.RNNBase, error: float) -> tuple[list[str], object]:
    """(the lines of a network's table, our record)."""
    x, starts = torch.zeros(BITS, dtype=torch.float64), starting_states(rnn)
    ours, seconds = timed(lambda: fixed_points(rnn, x, starts))
    counts = np.bincount(ours.unstable[~ours.is_slow], minlength=BITS + 1)
    split = ", ".join(f"{count} with {k}" for k, count in enumerate(counts))
    lines = [f"\n{type(rnn).__name__}, mean squared error {error:.1e}. Unstable directions: {split}.\n"]
    lines += ["| search | points | of ours | others | largest entry | largest residual | seconds | ratio |"]
    lines.append("|" + "---|" * 8)
    lines.append(row("ours", ours.states, ours.states, rnn, x, seconds, seconds))
    for name, search in searches().items():
        ends, taken = timed(lambda search=search: search(rnn, x, starts))
        lines.append(row(name, ends, ours.states, rnn, x, taken, seconds))
    about = f"torch's own start, seed {SEED}; {UPDATES} updates by Adam; searched from {STARTS} states, no input"
    return lines, replace(ours, title=f"{type(rnn).__name__}, {UNITS} units, holding three bits", about=about)


def row(name: str, ends: np.ndarray, ours: np.ndarray, rnn, x: Tensor, seconds: float, our_seconds: float) -> str:
    """One search's ends beside our points."""
    near = np.abs(ends[:, None] - ours).max(-1) < NEAR
    s = torch.from_numpy(np.asarray(ends, dtype=float)).unsqueeze(0)
    with torch.no_grad():
        residuals = torch.linalg.vector_norm(rnn(x.expand(1, len(ends), -1).contiguous(), s)[1] - s, dim=-1)
    numbers = f"{len(ends)} | {near.any(0).sum()} | {(~near.any(1)).sum()} | {np.abs(ends).max():.3g}"
    return f"| {name} | {numbers} | {float(residuals.max()):.1e} | {seconds:.3g} | {seconds / our_seconds:.3g} |"


def timed(function: Callable) -> tuple:
    """(what it returns, the median of three times)."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)


def main() -> None:
    """Train, search, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prefix", type=Path)
    prefix = parser.parse_args().prefix
    remember_command("python -m benchmarks.flip_flop", sys.argv[1:])
    torch.set_num_threads(1)
    records = []
    for kind in (nn.GRU, nn.RNN):
        lines, record = compared(*trained(kind))
        records.append(record)
        print(*lines, sep="\n", flush=True)
    print("\n" + environment("cpu"))
    save_figure(prefix.with_suffix(".png"), lambda: draw_fixed_points(records))


if __name__ == "__main__":
    main()

"""Count the iterations of Newton's method on many networks, with the measures of their first steps."""

import csv
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.newton.networks import Network
from rhn.kernels.newton import MAX_ITERATIONS, Recurrence, solve
from rhn.kernels.newton_forecast import measure

LENGTHS = 64, 256, 1024, 4096


def recurrence_of(network: Network, steps: int | None = None) -> Recurrence:
    """The recurrence of a network over its first steps."""
    cell = network.cell
    s0 = network.x.new_zeros(cell.state_size)
    run = lambda x, s: cell.states(x.unsqueeze(1), s.unsqueeze(0)).squeeze(1)  # noqa: E731
    return Recurrence(cell.step, cell.jacobian, network.x[:steps], s0, run)


@torch.no_grad()
def rows_of(network: Network, lengths: Iterable[int] = LENGTHS, methods: Iterable[str] = ("full",)) -> list[dict]:
    """A row for each method and length; a length is not run if a shorter one has not converged."""
    found = measure(recurrence_of(network)).numbers()
    about = {name: getattr(network, name) for name in ("name", "depth", "kind", "trained", "scale", "seed")}
    about |= {"units": network.cell.hidden_size, "state": network.cell.state_size}
    rows = []
    for method in methods:
        converged = True
        for T in lengths:
            iterations = MAX_ITERATIONS
            if converged:
                solution = solve(recurrence_of(network, T), method=method, guard=False)
                iterations, converged = solution.iterations, bool(solution.converged.all())
            rows.append(about | found | {"method": method, "T": T, "iterations": iterations, "converged": converged})
    return rows


def collect(networks: Iterable[Network], path: Path, **options) -> None:
    """Append the rows of networks to a .csv file."""
    for network in networks:
        rows = rows_of(network, **options)
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows(rows)

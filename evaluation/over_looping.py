"""Measure whether the spectral radius at the last trained loop tells which answers of a looped
network stay right in many more loops.

    python -m evaluation.over_looping docs/results/over-looping.csv

The networks and the task are those of examples/looped.py. Each row of the table is one network. The
table has the area under the ROC curve of each measure: the probability that the measure is larger
for an answer that becomes wrong than for an answer that stays right (1/2 by chance).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

import gersgorin
from examples.looped import Block, inputs, places, states, task, trained
from rhn.utils.io import write_rows

SETTINGS = {  # name: (loops of the training, whether the block normalises its state)
    "normalised, 4 loops": (4, True),
    "normalised, 8 loops": (8, True),
    "not normalised, 4 loops": (4, False),
    "not normalised, 8 loops": (8, False),
}
SEEDS, TRIALS, FURTHER = 3, 1000, 10


def area(measure: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of a measure that is larger for positives; NaN with one class.

    >>> area(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
    1.0
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(measure)[positive].sum() - n * (n + 1) / 2) / (n * m))


def measures(block: Block, x: Tensor, path: Tensor) -> dict[str, np.ndarray]:
    """Numbers at the end of a path of states (loops + 1, count, N), each (count,): the spectral
    radius and the norm of the Jacobian of the last loop, and the growth of the product of all loops
    for each loop.
    """
    A = gersgorin.temporal_jacobian(block, x.expand(len(path) - 1, *x.shape), path[:-1])
    product = A[0]
    for last in A[1:]:
        product = last @ product
    return {
        "radius": gersgorin.eigenvalues(A[-1]).abs().amax(-1).numpy(),
        "norm": torch.linalg.matrix_norm(A[-1], 2).numpy(),
        "growth": (torch.linalg.matrix_norm(product, 2).log() / len(A)).numpy(),
    }


def row(name: str, seed: int) -> dict[str, float | str]:
    """Train one network, and follow the answers that are right at the end of its loops."""
    loops, norm = SETTINGS[name]
    block = trained(seed, loops=loops, norm=norm)
    order, first = task(TRIALS, torch.Generator().manual_seed(10_000 + seed))
    x, s0 = inputs(block, order, first)
    path = torch.cat((s0[None], states(block, x, s0, FURTHER * loops)))
    is_right = block.head(path[1:]).argmax(-1) == places(order, first, FURTHER * loops)
    answered = is_right[loops - 1]
    kept = is_right[loops - 1 :].all(0)[answered].numpy()
    found = measures(block, x[answered], path[: loops + 1, answered])
    radius = found["radius"]
    return {
        "setting": name,
        "seed": seed,
        "right at the end": answered.double().mean().item(),
        f"of these right in {FURTHER} times the loops": kept.mean(),
        "radius": radius.mean(),
        "radius if it stays right": radius[kept].mean() if kept.any() else np.nan,
        "radius if not": radius[~kept].mean() if not kept.all() else np.nan,
        "radius below 1": (radius < 1).mean(),
        "right if below 1": kept[radius < 1].mean() if (radius < 1).any() else np.nan,
        "right if not below 1": kept[radius >= 1].mean() if (radius >= 1).any() else np.nan,
    } | {f"area by {name}": area(values, ~kept) for name, values in found.items()}


def main(file: Path) -> None:
    """Train all networks, print and write the table."""
    rows = []
    for name in SETTINGS:
        for seed in range(SEEDS):
            rows.append(row(name, seed))
            print({key: _short(value) for key, value in rows[-1].items()}, flush=True)
    write_rows(file, list(rows[0]), [each.values() for each in rows])


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

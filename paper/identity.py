"""Section 4: an RNN that starts at the identity (IRNN) soon has eigenvalues above 1 in training,
which is conjectured to be why very small learning rates are used with it.

    python -m paper.identity

IRNNs of 32 units with ReLU learn the next frame of 16 chorales of 32 frames: 200 steps of SGD at
five learning rates, five seeds each. `Recorder` measures the spectral radius at four time steps of
one of these chorales, every 5 optimiser steps; a value here is the largest of the four. Values are
medians and quartiles over the seeds that are finite at that moment.
"""

import warnings

import numpy as np
import torch

from gersgorin.recorder import Recorder
from gersgorin.recording import Recording
from paper.values import Value, median_and_quartiles, print_rows
from rhn.data import chorales
from rhn.models import PolyphonicModel

PIECES, FRAMES, UNITS = 16, 32, 32
STEPS, EVERY, SOON = 200, 5, 20  # optimiser steps
SEEDS = 5
RATES = {"1e4": 1e-4, "3e4": 3e-4, "1e3": 1e-3, "3e3": 3e-3, "1e2": 1e-2}
"""Learning rates by their names in the rows: "3e4" is 3 times 10 to the power of -4."""


def frames() -> torch.Tensor:
    """Return the first frames of the first training chorales that are long enough, (T, B, keys)."""
    long = [piece for piece in chorales().train if len(piece) >= FRAMES][:PIECES]
    return torch.tensor(np.stack([piece[:FRAMES] for piece in long], 1), dtype=torch.float32)


def trained(x: torch.Tensor, rate: float, seed: int) -> Recording:
    """Train a network, and return the measurements."""
    generator = torch.Generator().manual_seed(seed)
    model = PolyphonicModel("irnn", hidden_size=UNITS, init=None, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    recorder = Recorder(model, x[:, 0], every=EVERY)
    for _ in range(STEPS):
        loss = model.nll(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with warnings.catch_warnings(action="ignore"):  # units that died have gradients of 0
            recorder.step(loss)
    return recorder.recording


def finite_median(values: np.ndarray) -> Value:
    """Return the median and quartiles of finite values; NaN if there is none."""
    known = values[np.isfinite(values)]
    return median_and_quartiles(known) if len(known) else float("nan")


def rows() -> dict[str, Value]:
    """Return the spectral radius at the start, and for each rate soon after it and the largest in
    training, with the loss at the end and the number of seeds that have diverged.
    """
    x, found = frames(), dict[str, Value]()
    for name, rate in RATES.items():
        recordings = [trained(x, rate, seed) for seed in range(SEEDS)]
        radius = np.stack([one.radius.max(1) for one in recordings])
        loss = np.array([one.loss[-1] for one in recordings])
        found["identity_start"] = finite_median(radius[:, 0])
        found |= {
            f"identity_{name}_soon": finite_median(radius[:, SOON // EVERY]),
            f"identity_{name}_largest": finite_median(np.nanmax(radius, 1)),
            f"identity_{name}_loss": finite_median(loss),
            f"identity_{name}_diverged": float((~np.isfinite(loss)).sum()),
        }
    return found


def main() -> None:
    """Print the rows."""
    print_rows(rows())


if __name__ == "__main__":
    main()

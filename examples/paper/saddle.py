"""Measure how the time on the plateau of the small study grows as the initial weights shrink.

    python -m examples.paper.saddle docs/results/saddle-escape.csv

The networks learn the beginnings of 16 chorales by gradient flow of the full batch, from Gaussian
weights of standard deviation eps. A step of the flow changes no matrix by more than a share of its
norm, so the number of steps does not grow with the time. The escape time is the time at which the
loss is below that of the constant predictor by `FALL`.

A deep transition of L layers has r = L + 1 small matrices between input and output. "matrices":
only these learn, and the output bias is that of the constant predictor, as in the theory. "all":
biases learn too, starting at 0, as in the study.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from examples.paper.plateau import beginnings, matrices
from rhn.models import PolyphonicModel
from rhn.utils.io import write_rows

UNITS, FRAMES = 12, 9
SEEDS = {"matrices": 2, "all": 1}
SCALES = (0.1, 0.03, 0.01, 0.003)
CELLS = (("dt-rnn", 1), ("dt-rnn", 2), ("dt-rnn", 3), ("dt-rnn", 4), ("rhn", 4))
SHARE = 0.03  # of its norm by which a matrix changes in a step
FALL = 0.02  # of the constant predictor's loss
MOST = 5000  # steps
LONGEST = 1.0  # step while the output bias learns


def loss_of(model: PolyphonicModel, frames: Tensor) -> Tensor:
    """Return the loss in nats per frame."""
    y = frames[1:]
    return (
        F.binary_cross_entropy_with_logits(model(frames[:-1]), y, reduction="none").sum(-1).mean()
    )


def escape_time(cell: str, depth: int, eps: float, seed: int, *, biases: bool) -> float:
    """Return the time of the flow until the loss has fallen; infinity if it has not after `MOST`
    steps.
    """
    generator, init = torch.Generator().manual_seed(seed), f"gaussian:{eps!r}"
    model = PolyphonicModel(
        cell, depth=depth, hidden_size=UNITS, init=init, generator=generator
    ).double()
    frames = beginnings()[:FRAMES]
    constant = frames[1:].mean((0, 1)).clamp(1e-7, 1 - 1e-7).logit()
    least = float(F.binary_cross_entropy_with_logits(constant.expand_as(frames[1:]), frames[1:]))
    least *= frames.shape[-1] * (1 - FALL)
    if not biases:
        model.output.bias.data.copy_(constant)
    named = {n: p for n, p in model.named_parameters() if biases or "bias" not in n}
    time = 0.0
    for _ in range(MOST):
        loss = loss_of(model, frames)
        if loss < least:
            return time
        slopes = dict(zip(named, torch.autograd.grad(loss, [*named.values()]), strict=True))
        weights = matrices(dict(named))
        rates = [slope.norm() / weights[name].norm() for name, slope in matrices(slopes).items()]
        dt = SHARE / float(max(rates))
        dt = min(dt, LONGEST) if biases else dt
        with torch.no_grad():
            for name, p in named.items():
                p.sub_(slopes[name], alpha=dt)
        time += dt
    return float("inf")


def exponent(times: dict[float, float]) -> float:
    """Return -d log time / d log eps between the two smallest scales with a finite time."""
    (small, late), (large, early) = sorted((e, t) for e, t in times.items() if np.isfinite(t))[:2]
    return float(np.log(late / early) / np.log(large / small))


def main(table: Path) -> None:
    """Run all flows, print the exponents and write the table."""
    rows: list[dict] = []
    for learns, seeds in SEEDS.items():
        for cell, depth in CELLS:
            for seed in range(seeds):
                times = {
                    eps: escape_time(cell, depth, eps, seed, biases=learns == "all")
                    for eps in SCALES
                }
                about = {"learns": learns, "cell": cell, "depth": depth, "seed": seed}
                rows += [about | {"eps": eps, "time": time} for eps, time in times.items()]
                print(about, times, f"exponent {exponent(times):.2f}", flush=True)
    write_rows(table, list(rows[0]), [row.values() for row in rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

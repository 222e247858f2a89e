"""Record small trainings of many tasks, cells, starts, optimisers and learning rates: the loss of every step.

    nice python -m benchmarks.calibration.trainings OUT --minutes 60      # goes on where it stopped

A file OUT/<task>-<cell>-<start>-<optimizer>-<seed>.npz holds the losses (steps, rates) of one network at eight learning rates of four
decades, on the same minibatches, and the loss of the best constant output. Everything else is computed from these curves.
"""

import argparse
import itertools
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.trials import run_trials
from rhn.models import PolyphonicModel

STEPS, UNITS, EXAMPLES = 1000, 24, 1000
CELLS = ("rnn", "irnn", "dt-rnn", "rhn", "lstm", "gru", "mgu", "indrnn", "antisymmetric", "mingru")
STARTS = ("uniform", "gaussian:0.0001", "gaussian:0.01", "scaled", "orthogonal", "identity")
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}, 1.0),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, 0.3),
    "adam": (torch.optim.Adam, {}, 0.1),
    "adamw": (torch.optim.AdamW, {}, 0.1),
    "rmsprop": (torch.optim.RMSprop, {}, 0.1),
}
RATES = 10.0 ** -np.arange(0, 4, 0.5)  # times the largest of the optimiser


class Network(nn.Module):
    """One of our cells with an output of every frame, or of the last one."""

    def __init__(self, cell: str, start: str, inputs: int, outputs: int, last: bool, seed: int):
        super().__init__()
        depth = 3 if cell in ("dt-rnn", "rhn") else 1
        self.model = PolyphonicModel(
            cell,
            hidden_size=UNITS,
            depth=depth,
            input_size=inputs,
            output_size=outputs,
            init=start,
            generator=torch.Generator().manual_seed(seed),
        )
        self.last = last

    def forward(self, x):
        output = self.model(x)
        return output[-1] if self.last else output


def adding(g):
    x = torch.rand(30, EXAMPLES, 2, generator=g)
    x[..., 1] = 0
    first, second = torch.randint(0, 15, (EXAMPLES,), generator=g), torch.randint(15, 30, (EXAMPLES,), generator=g)
    x[first, range(EXAMPLES), 1] = x[second, range(EXAMPLES), 1] = 1
    return x, x.prod(-1).sum(0)[:, None], "mse", True


def recall(g):
    symbols = torch.randint(0, 4, (EXAMPLES,), generator=g)
    x = torch.zeros(20, EXAMPLES, 5)
    x[0, range(EXAMPLES), symbols] = 1
    x[1:, :, 4] = 1
    return x, symbols, "cross-entropy", True


def sines(g):
    rate, phase = 0.2 + 0.6 * torch.rand(EXAMPLES, generator=g), 6.3 * torch.rand(EXAMPLES, generator=g)
    waves = torch.sin(rate * torch.arange(26)[:, None] + phase)[..., None]
    return waves[:-1], waves[1:], "mse", False


def characters(g):
    text = "\n".join(path.read_text() for path in sorted(Path("docs").rglob("*.md"))).lower()
    ids = torch.tensor([ord(c) - 96 if "a" <= c <= "z" else 0 for c in text])
    starts = torch.randint(0, len(ids) - 26, (EXAMPLES,), generator=g)
    pieces = torch.stack([ids[s : s + 26] for s in starts], 1)
    return nn.functional.one_hot(pieces[:-1], 27).float(), pieces[1:], "cross-entropy", False


def chorales(g):
    from rhn.data import chorales

    pieces = [torch.as_tensor(p) for p in chorales(progress=False).train if len(p) >= 13]
    cut = []
    for _ in range(EXAMPLES):
        piece = pieces[int(torch.randint(len(pieces), (), generator=g))]
        start = int(torch.randint(len(piece) - 12, (), generator=g))
        cut.append(piece[start : start + 13].float())
    x = torch.stack(cut, 1)
    return x[:-1], x[1:], "bernoulli", False


def digits(g):
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = torch.randperm(len(data.target), generator=g)[:EXAMPLES]
    x = torch.tensor(data.images / 16).float().reshape(-1, 64)[chosen]
    return x.T[..., None].contiguous(), torch.tensor(data.target)[chosen], "cross-entropy", True


TASKS = (adding, recall, sines, characters, chorales, digits)


def record(task, cell: str, start: str, optimizer: str, seed: int, out: Path) -> None:
    """Train at all rates and save the curves."""
    path = out / f"{task.__name__}-{cell}-{start.replace(':', '')}-{optimizer}-{seed}.npz"
    if path.exists():
        return
    x, y, loss, last = task(torch.Generator().manual_seed(seed))
    outputs = int(y.max()) + 1 if loss == "cross-entropy" else y.shape[-1]
    model = Network(cell, start, x.shape[-1], outputs, last, seed)
    kind, options, top = OPTIMIZERS[optimizer]
    loop = TrainingLoop(model, x, y, loss, kind(model.parameters(), lr=top, **options), batch_axis=1)
    trials = run_trials(loop, RATES, [None] * len(RATES), steps=STEPS, seconds=math.inf, after=math.inf, seed=seed)
    np.savez(
        path,
        losses=trials.losses.astype(np.float32),
        constants=np.nanmax(trials.constants, 1).astype(np.float32),
        rates=RATES * top,
        constant=trials.constant,
        step_seconds=trials.step_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--of", type=int, nargs=2, default=(0, 1), help="share K of N processes")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cases = list(itertools.product(TASKS, CELLS, STARTS, OPTIMIZERS))
    random.Random(0).shuffle(cases)
    end = time.monotonic() + 60 * asked.minutes
    for number, case in enumerate(cases):
        if number % asked.of[1] == asked.of[0] and time.monotonic() < end:
            began = time.monotonic()
            record(*case, seed=number, out=asked.out)
            print(number, case[0].__name__, *case[1:], f"{time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()

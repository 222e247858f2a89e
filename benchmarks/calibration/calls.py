"""Forecast fresh trainings, then train them: what `gersgorin.checking.forecast` says beside what happens.

    python -m benchmarks.calibration.calls OUT.csv --calls 80 --minutes 40
    python -m benchmarks.calibration.calls OUT.csv --calls 80 --minutes 40 --first 600000 --unseen

Networks, tasks, optimisers and learning rates are drawn at random. Three tasks and the cells of `torch.nn` are not among the recorded
trainings (`trainings.py`), nor are lengths of 100 and trainings of 3,000 steps. With --unseen no task is, half of the optimisers are
others, and the layers of `torch.nn` are called with batch_first=True. Times are of the processor.
"""

import argparse
import csv
import math
import random
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.calibration.trainings import CELLS, EXAMPLES, OPTIMIZERS, STARTS, TASKS, Network
from gersgorin.checking.forecast import forecast
from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.trials import run_trials

COLUMNS = (
    "seed", "task", "network", "start", "optimizer", "learning_rate", "steps", "left", "diverged", "loss_20", "loss_100",
    "escape_steps", "low", "high", "diverges_at", "probability", "halves_agree", "cut", "window_low", "window_high", "trial_steps",
    "forecast_seconds", "training_seconds_1000",
)  # fmt: skip


def copy_memory(g):
    """Repeat three symbols after a delay of 20 frames."""
    symbols = torch.randint(0, 4, (3, EXAMPLES), generator=g)
    x = torch.zeros(26, EXAMPLES, 6)
    x[:3].scatter_(2, symbols[..., None], 1.0)
    x[3:23, :, 4] = x[23:, :, 5] = 1
    y = torch.full((26, EXAMPLES), 4)
    y[23:] = symbols
    return x, y, "cross-entropy", False


def parity(g):
    """The parity of all bits so far, at each of 12 frames."""
    x = torch.randint(0, 2, (12, EXAMPLES, 1), generator=g).float()
    return x, x[..., 0].cumsum(0).long() % 2, "cross-entropy", False


def long_adding(g):
    """The adding problem over 100 frames."""
    x = torch.rand(100, EXAMPLES, 2, generator=g)
    x[..., 1] = 0
    first, second = (torch.randint(low, low + 50, (EXAMPLES,), generator=g) for low in (0, 50))
    x[first, range(EXAMPLES), 1] = x[second, range(EXAMPLES), 1] = 1
    return x, x.prod(-1).sum(0)[:, None], "mse", True


class TorchNetwork(nn.Module):
    """A layer of `torch.nn` with a linear output of every frame, or of the last one."""

    def __init__(self, kind, units: int, inputs: int, outputs: int, last: bool):
        super().__init__()
        self.rnn, self.out, self.last = kind(inputs, units), nn.Linear(units, outputs), last

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[-1] if self.last else states)


OTHERS = (copy_memory, parity, long_adding)
LAYERS = {"nn.RNN": nn.RNN, "nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU}


def order(g):
    """The first of two symbols, among noise of 40 frames."""
    x = torch.zeros(40, EXAMPLES, 6)
    x.scatter_(2, torch.randint(2, 6, (40, EXAMPLES, 1), generator=g), 1.0)
    symbols = torch.randint(0, 2, (2, EXAMPLES), generator=g)
    for k in (0, 1):
        at = torch.randint(3 + 16 * k, 12 + 16 * k, (EXAMPLES,), generator=g)
        x[at, range(EXAMPLES)] = nn.functional.one_hot(symbols[k], 6).float()
    return x, 2 * symbols[0] + symbols[1], "cross-entropy", True


def multiplication(g):
    """The product of two marked numbers of 40."""
    x = torch.rand(40, EXAMPLES, 2, generator=g)
    x[..., 1] = 0
    first, second = (torch.randint(low, low + 20, (EXAMPLES,), generator=g) for low in (0, 20))
    x[first, range(EXAMPLES), 1] = x[second, range(EXAMPLES), 1] = 1
    return x, (x[first, range(EXAMPLES), 0] * x[second, range(EXAMPLES), 0])[:, None], "mse", True


def flip_flops(g):
    """The last pulse of each of three channels, at each of 25 frames."""
    x = (torch.rand(25, EXAMPLES, 3, generator=g) < 0.15) * torch.randn(25, EXAMPLES, 3, generator=g).sign()
    y, state = torch.zeros_like(x), torch.zeros(EXAMPLES, 3)
    for t in range(25):
        state = torch.where(x[t] != 0, x[t], state)
        y[t] = state
    return x, y, "mse", False


def logistic_map(g):
    """The next number of a chaotic map, seen through noise."""
    z = torch.rand(EXAMPLES, generator=g)
    frames = []
    for _ in range(31):
        z = 3.9 * z * (1 - z)
        frames.append(z)
    z = torch.stack(frames)[..., None]
    return z[:-1] + 0.1 * torch.randn(30, EXAMPLES, 1, generator=g), z[1:], "mse", False


def majority(g):
    """The majority of 51 bits."""
    x = torch.randint(0, 2, (51, EXAMPLES, 1), generator=g).float()
    return 2 * x - 1, (x.mean((0, 2)) > 0.5).long(), "cross-entropy", True


UNSEEN = (order, multiplication, flip_flops, logistic_map, majority)
OTHER_OPTIMIZERS = {
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 0.3),
    "nadam": (torch.optim.NAdam, {}, 0.1),
    "radam": (torch.optim.RAdam, {}, 0.1),
    "adagrad": (torch.optim.Adagrad, {}, 0.3),
    "sgd": OPTIMIZERS["sgd"],
    "momentum": OPTIMIZERS["momentum"],
    "adam": OPTIMIZERS["adam"],
    "rmsprop": OPTIMIZERS["rmsprop"],
}


class Layers(nn.Module):
    """One or two layers of `torch.nn` with batch_first=True, called in the usual way."""

    def __init__(self, kind, units: int, layers: int, inputs: int, outputs: int, last: bool):
        super().__init__()
        self.rnn = kind(inputs, units, num_layers=layers, batch_first=True)
        self.out, self.last = nn.Linear(units, outputs), last

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1] if self.last else states)


def unseen(seed: int) -> tuple[dict, TrainingLoop]:
    """A training of an unseen task: its description and its loop."""
    pick = random.Random(seed)
    task = pick.choice(UNSEEN)
    x, y, loss, last = task(torch.Generator().manual_seed(seed))
    outputs = int(y.max()) + 1 if loss == "cross-entropy" else y.shape[-1]
    name = pick.choice((*CELLS, *4 * list(LAYERS)))
    start, axis = "torch" if name in LAYERS else pick.choice(STARTS), 1
    torch.manual_seed(seed)
    if name in LAYERS:
        size, layers, axis = pick.choice((16, 32, 64)), pick.choice((1, 1, 2)), 0
        model = Layers(LAYERS[name], size, layers, x.shape[-1], outputs, last)
        x, y = x.transpose(0, 1), y if last else y.transpose(0, 1)
    else:
        model = Network(name, start, x.shape[-1], outputs, last, seed)
    optimizer = pick.choice(list(OTHER_OPTIMIZERS))
    kind, options, top = OTHER_OPTIMIZERS[optimizer]
    rate = float(f"{top * 10 ** pick.uniform(-3.0, -0.3):.2g}")
    steps = pick.choice((500, 1000, 1000, 1000, 2000, 3000))
    what = {"seed": seed, "task": task.__name__, "network": name, "start": start, "optimizer": optimizer}
    loop = TrainingLoop(model, x, y, loss, kind(model.parameters(), lr=rate, **options), batch_axis=axis)
    return what | {"learning_rate": rate, "steps": steps}, loop


def drawn(seed: int) -> tuple[dict, TrainingLoop]:
    """A training: its description and its loop."""
    pick = random.Random(seed)
    task = pick.choice(TASKS + OTHERS)
    x, y, loss, last = task(torch.Generator().manual_seed(seed))
    outputs = int(y.max()) + 1 if loss == "cross-entropy" else y.shape[-1]
    name = pick.choice((*CELLS, *3 * list(LAYERS)))
    start = "torch" if name in LAYERS else pick.choice(STARTS)
    torch.manual_seed(seed)
    if name in LAYERS:
        model = TorchNetwork(LAYERS[name], pick.choice((16, 32)), x.shape[-1], outputs, last)
    else:
        model = Network(name, start, x.shape[-1], outputs, last, seed)
    optimizer = pick.choice(list(OPTIMIZERS))
    kind, options, top = OPTIMIZERS[optimizer]
    rate = float(f"{top * 10 ** pick.uniform(-3.0, -0.3):.2g}")
    steps = pick.choice((300, 1000, 1000, 1000, 1000, 1000, 1000, 3000))
    what = {"seed": seed, "task": task.__name__, "network": name, "start": start, "optimizer": optimizer}
    loop = TrainingLoop(model, x, y, loss, kind(model.parameters(), lr=rate, **options), batch_axis=1)
    return what | {"learning_rate": rate, "steps": steps}, loop


def call(row: dict, loop: TrainingLoop, seconds: float) -> dict:
    """A row: forecast and training."""
    seed = row["seed"]
    began = time.process_time()
    found = forecast(loop, row["steps"], seconds=seconds)
    took = time.process_time() - began
    began = time.process_time()
    training = run_trials(loop, [1.0], [None], steps=row["steps"], seconds=math.inf, after=1.5, seed=seed + 1)
    trained = time.process_time() - began
    low, high = found.window or (math.nan, math.nan)
    ratios = training.ratios[:, 0]
    return row | {
        "left": float(training.left[0]),
        "diverged": float(training.diverged[0]),
        "loss_20": float(ratios[min(19, len(ratios) - 1)]),
        "loss_100": float(ratios[min(99, len(ratios) - 1)]),
        "escape_steps": found.escape_steps,
        "low": found.interval[0],
        "high": found.interval[1],
        "diverges_at": found.diverges_at,
        "probability": found.probability,
        "halves_agree": found.halves_agree,
        "cut": found.cut or "",
        "window_low": low,
        "window_high": high,
        "trial_steps": int(found.trials.steps.sum()),
        "forecast_seconds": took,
        "training_seconds_1000": trained / len(ratios) * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--calls", type=int, default=80)
    parser.add_argument("--first", type=int, default=100_000, help="seed of the first call")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seconds", type=float, default=120, help="time limit of a forecast")
    parser.add_argument(
        "--unseen", action="store_true", help="draw from tasks and optimisers that nothing was fitted to"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)

    end = time.monotonic() + 60 * asked.minutes
    with asked.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for seed in range(asked.first, asked.first + asked.calls):
            if time.monotonic() > end:
                break
            row = call(*(unseen if asked.unseen else drawn)(seed), asked.seconds)
            table.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
            file.flush()
            print(row, flush=True)


if __name__ == "__main__":
    main()

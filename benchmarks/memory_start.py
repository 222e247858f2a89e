"""Does a plain RNN learn long lags from sensing and remembering units, which `gersgorin.cure` tries?

    python -m benchmarks.memory_start search OUT.csv adding-200 --parameters 17300 --steps 2000 --seconds 1500
    python -m benchmarks.memory_start tasks OUT.csv --steps 2000      # four tasks: as it is, and cured with and without the start
    python -m benchmarks.memory_start parts OUT.csv adding-100 --parameters 4500 --steps 1500      # one part changed, without `cure`
    python -m benchmarks.memory_start rates OUT.csv adding-200 copy-200      # unevenness of the gradient after some steps

Losses are relative to that of the best constant output. Trainings are those of `benchmarks.plateau_table`: 32 of 4,000 examples,
gradients clipped at norm 1. Its tasks keep their optimisers; the four tasks here take 64 units, Adam, and as it is 2e-3.

    recall-T      which of two symbols the first frame was, then noise
    product-T     product of two marked numbers, one in each half
    order-T       two of two symbols, in the second and the sixth tenth, among four distractors: which ones, of four classes
    parity-T      whether the first two signs agree, T - 2 empty frames later
"""

import argparse
import copy
import csv
import time
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import gersgorin
from benchmarks import plateau_table as table
from gersgorin.checking import cure as search
from gersgorin.checking.reach import measure_reach
from gersgorin.checking.starts import MEMORY, starts
from gersgorin.training.training import Training
from rhn.cells.init import WRITTEN, rotations

TASKS = "recall-100", "product-100", "order-100", "parity-60", "recall-150", "product-150", "parity-120"
ORDERS = 1001, 1002
OWN_RATE = 2e-3
RATES = 2e-3, 5e-4, 2e-4, 1e-4, 2e-5


def training_of(task: str, parameters: int | None = None, seed: int = 0):
    """(model, x, y, loss, a function that makes the optimiser, loss of the best constant output) of a task with a plain RNN."""
    kind, _, length = task.partition("-")
    if kind in ("adding", "copy"):
        x, y, loss, every, outputs, usual, (optimizer, rate) = table.data_of(task, seed)
    else:
        x, y, loss, outputs = _own(kind, int(length), torch.Generator().manual_seed(seed))
        every, usual, optimizer, rate = False, 64 * (64 + x.shape[-1] + 2) + outputs * 65, torch.optim.Adam, OWN_RATE
    torch.manual_seed(seed)
    model = table.Network("RNN", x.shape[-1], outputs, parameters or usual, every)
    return model, x, y, loss, lambda q, lr=rate: optimizer(q, lr=lr), table.constant_loss(x, y, loss, outputs)


def _own(kind: str, T: int, g: torch.Generator, examples: int = table.EXAMPLES):
    rows = torch.arange(examples)
    if kind == "recall":
        x, symbol = torch.zeros(examples, T, 3), torch.randint(0, 2, (examples,), generator=g)
        x[..., 2] = torch.rand(examples, T, generator=g)
        x[rows, 0, symbol] = 1
        return x, symbol, F.cross_entropy, 2
    if kind == "product":
        x, product = torch.rand(examples, T, 2, generator=g), torch.ones(examples)
        x[..., 1] = 0
        for low in (0, T // 2):
            at = torch.randint(low, low + T // 2, (examples,), generator=g)
            x[rows, at, 1] = 1
            product = product * x[rows, at, 0]
        return x, product[:, None], F.mse_loss, 1
    if kind == "order":
        x, order = torch.randint(2, 6, (examples, T), generator=g), torch.zeros(examples, dtype=torch.long)
        for k, low in enumerate((T // 10, T // 2)):
            symbol = torch.randint(0, 2, (examples,), generator=g)
            x[rows, torch.randint(low, low + T // 10, (examples,), generator=g)] = symbol
            order += symbol * 2**k
        return F.one_hot(x, 6).float(), order, F.cross_entropy, 4
    x, bits = torch.zeros(examples, T, 2), torch.randint(0, 2, (examples, 2), generator=g)
    x[:, :2, 0], x[:, 2:, 1] = 2.0 * bits - 1, 1
    return x, bits.sum(1) % 2, F.cross_entropy, 2


def trained(model, x, y, loss, optimizer, constant: float, steps: int, orders=ORDERS) -> str:
    """Relative losses of plain loops in some orders of minibatches; optimizer: a function of parameters."""
    found, table.STEPS = [], steps
    for order in orders:
        own = copy.deepcopy(model)
        found.append(table.trained(own, x, y, loss, optimizer(own.parameters()), table.CLIP, order) / constant)
    return " ".join(f"{value:.3g}" for value in found)


def cured(training, steps: int, seconds: float) -> dict:
    """What `cure` finds, its cost in trainings, and losses in two orders that it did not see."""
    model, x, y, loss, optimizer, constant = training
    given, began = optimizer(model.parameters()), time.process_time()
    options = {"steps": steps, "seconds": seconds, "clip_norm": table.CLIP, "batch_axis": 0, "progress": print}
    found = gersgorin.cure(model, x, y, loss, given, **options)
    row = {"outcome": found.outcome, "changes": "; ".join(found.changes), "rate": found.learning_rate}
    row |= {"cpu": round(time.process_time() - began)}
    again = found.chosen.before.steps if found.chosen.before else 0
    row["trainings"] = round((sum(tried["steps"] for tried in found.table()) + again) / steps, 2)
    row["unseen"] = trained(found.model, x, y, loss, found.optimizer, constant, steps) if found.changed else ""
    return row


def memory(training):
    """The model of a training with the start."""
    model, x, y, loss, optimizer, _ = training
    loop = Training(model, x, y, loss, optimizer(model.parameters()), batch_axis=0)
    return loop, next(start for start in starts(loop) if start.words == MEMORY).applied(model)


@torch.no_grad()
def parts(model: nn.Module, T: int) -> dict:
    """By name: the network with the start, and copies with one part changed."""
    n, g, made = model.rnn.hidden_size, torch.Generator().manual_seed(1), {"the start": model}
    half = n - n // 4 * 2

    def other(name: str) -> nn.RNN:
        made[name] = copy.deepcopy(model)
        return made[name].rnn

    nn.init.eye_(other("identity instead of rotations").weight_hh_l0[half:, half:])
    nn.init.orthogonal_(other("random orthogonal instead of rotations").weight_hh_l0[half:, half:], generator=g)
    other("fast planes only, angles from pi / 4").weight_hh_l0[half:, half:].copy_(rotations(n // 4, 4))
    other("angles from pi / (10 T)").weight_hh_l0[half:, half:].copy_(rotations(n // 4, 10 * T))
    other("four times as much written").weight_hh_l0[half:, :half] *= 4
    other("a quarter as much written").weight_hh_l0[half:, :half] /= 4
    other("biases N(0, 1) of sensing units").bias_ih_l0[:half].normal_(0, 1, generator=g)
    rnn = other("all units remember and read")
    rnn.weight_ih_l0.normal_(0, WRITTEN * T**-0.5, generator=g)
    rnn.weight_hh_l0.zero_()[: n // 2 * 2, : n // 2 * 2] = rotations(n // 2, T)
    return made


def rates(training, task: str, write) -> None:
    """Write the unevenness of the gradient of the start after some steps at several learning rates."""
    loop, model = memory(training)
    before = measure_reach(loop, model)
    for rate in RATES:
        own, found = copy.deepcopy(model), []
        optimizer = training[4](own.parameters(), lr=rate)
        for step, (x, y) in enumerate(islice(loop.data.stream(0), 240), 1):
            optimizer.zero_grad()
            loop.loss(own, x, y).backward()
            nn.utils.clip_grad_norm_(own.parameters(), table.CLIP)
            optimizer.step()
            if step in (32, 64, 96, 240):
                reach = measure_reach(loop, own)
                found.append(f"{reach.unevenness:.2f} ({reach.seen})")
        write(
            {
                "task": task,
                "rate": rate,
                "before": f"{before.unevenness:.2f} ({before.seen})",
                "after": "; ".join(found),
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "tasks", "parts", "rates"))
    parser.add_argument("out", type=Path)
    parser.add_argument("task", nargs="*")
    parser.add_argument("--parameters", type=int)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--rate", type=float, default=5e-4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    def write(row: dict) -> None:
        fresh = not asked.out.exists()
        with asked.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)

    every = search.starts
    for task, seed in ((task, seed) for seed in asked.seeds for task in asked.task or TASKS):
        training = training_of(task, asked.parameters, seed)
        model, x, y, loss, optimizer, constant = training
        row = {"task": task, "seed": seed, "units": model.rnn.hidden_size, "steps": asked.steps}
        if asked.what == "search":
            write(row | cured(training, asked.steps, asked.seconds))
        elif asked.what == "rates":
            rates(training, task, write)
        elif asked.what == "parts":
            for name, changed in parts(memory(training)[1], x.shape[1]).items():
                own = lambda q, optimizer=optimizer: optimizer(q, lr=asked.rate)  # noqa: E731
                losses = trained(changed, x, y, loss, own, constant, asked.steps, ORDERS[:1])
                write(row | {"rate": asked.rate, "part": name, "loss": losses})
        else:
            row["as it is"] = trained(model, x, y, loss, optimizer, constant, asked.steps)
            for name, kept in (("with", True), ("without", False)):
                search.starts = lambda loop, kept=kept: (s for s in every(loop) if kept or s.words != MEMORY)
                found = cured(training, asked.steps, asked.seconds)
                row |= {f"{name} {key}": value for key, value in found.items()}
            search.starts = every
            write(row)


if __name__ == "__main__":
    main()

"""Networks of all cells of the registry, new at several scales and trained on two tasks, with the inputs that they read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor, nn

from rhn.cells import CELLS, make_cell
from rhn.data import chorales as load_chorales
from rhn.models import PolyphonicModel

SCALES = 0.1, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0
CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n"
LONGEST = 4096
INPUTS = 4  # of new networks that read noise


@dataclass(frozen=True)
class Network:
    """A cell and what it reads."""

    cell: nn.Module
    x: Tensor
    """(T, m)."""
    name: str
    depth: int
    kind: str
    """"noise", "slow"; "chorales" or "characters", new or trained."""
    trained: bool
    scale: float
    """Factor of the recurrent weights, whose usual size is 1/sqrt(n); NaN for the start of the task."""
    seed: int


def scaled_cell(name: str, m: int, n: int, depth: int, scale: float, seed: int) -> nn.Module:
    """A new cell whose recurrent weights have the size of `scaled` initialisation times a factor."""
    cell = make_cell(
        name, m, n, depth, init="scaled", generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    with torch.no_grad():
        for key, p in cell.named_parameters():
            if key in ("weight_hh", "weight_skip"):
                p.mul_(scale)
    return cell


def new_networks(cell: str, seeds: int) -> Iterator[Network]:
    """A cell at all scales, of 4 to 16 units, reading noise or slow waves."""
    for seed in range(seeds):
        n = (4, 8, 16, 6)[seed % 4] // (2 if cell == "slstm" else 1)
        depth = (1, 2, 4)[seed % 3] if CELLS.rows[cell].deep else 1
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(LONGEST, INPUTS, generator=generator, dtype=torch.float64)
        kind = ("noise", "slow")[seed % 2]
        if kind == "slow":
            time = torch.arange(LONGEST, dtype=torch.float64).unsqueeze(1)
            x = torch.sin(2 * math.pi * time / torch.tensor([17.0, 31.0, 73.0, 211.0], dtype=torch.float64))
        for scale in SCALES:
            yield Network(scaled_cell(cell, INPUTS, n, depth, scale, seed), x, cell, depth, kind, False, scale, seed)


def chorales() -> tuple[Tensor, Tensor]:
    """Training batches (60, S, 88) of chorales, and one long sequence (T, 88) of other chorales."""
    data = load_chorales(progress=False)
    train = [torch.as_tensor(np.asarray(piece)[:60]) for piece in data.train if len(piece) >= 60]
    test = torch.cat([torch.as_tensor(np.asarray(piece)) for piece in data.test])
    return torch.stack(train, 1).to(torch.float64), test[:LONGEST].to(torch.float64)


def characters() -> tuple[Tensor, Tensor]:
    """The same of the characters of Python's own documentation, one of 31 inputs on at each step."""
    text = "\n".join(topics[key] for key in sorted(topics)).lower()
    places = {c: i for i, c in enumerate(CHARACTERS)}
    ids = torch.tensor([places.get(c, len(CHARACTERS)) for c in text])
    one_hot = torch.nn.functional.one_hot(ids, len(CHARACTERS) + 1).to(torch.float64)
    return one_hot[: 60 * 512].reshape(512, 60, -1).transpose(0, 1), one_hot[-LONGEST:]


def task_networks(
    cell: str, task: str, depth: int = 1, *, n: int = 16, updates: int = 300, seed: int = 0
) -> Iterator[Network]:
    """A cell before and after training to predict the next frame of a task, with Adam."""
    batches, x = {"chorales": chorales, "characters": characters}[task]()
    n, size, generator = (n // 2 if cell == "slstm" else n), batches.shape[-1], torch.Generator().manual_seed(seed)
    sizes = {"depth": depth, "hidden_size": n, "input_size": size, "output_size": size}
    model = PolyphonicModel(cell, **sizes, init="scaled", generator=generator)
    recurrent = model.cells[0]
    as_double = lambda: _double(recurrent, cell, size, n, depth)  # noqa: E731
    yield Network(as_double(), x, cell, depth, task, False, math.nan, seed)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    batches = batches.float()
    for _ in range(updates):
        rows = torch.randint(batches.shape[1], (16,), generator=generator)
        frames = batches[:, rows]
        logits = model(frames[:-1])
        if task == "chorales":
            loss = nn.functional.binary_cross_entropy_with_logits(logits, frames[1:], reduction="none").sum(-1).mean()
        else:
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), frames[1:].argmax(-1).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    yield Network(as_double(), x, cell, depth, task, True, float(loss.detach()), seed)


def _double(cell: nn.Module, name: str, m: int, n: int, depth: int) -> nn.Module:
    copy = make_cell(name, m, n, depth, dtype=torch.float64)
    copy.load_state_dict(cell.state_dict())
    return copy

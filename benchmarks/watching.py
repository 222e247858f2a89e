"""Training steps in `trainability.watch`, against the same steps without it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.registry import benchmark
from trainability import watch

AGAINST = "the same steps without a watch"
ROW: dict[str, Any] = {"pairs": 5, "full": True}


def steps_of(model: nn.Module, outputs: Callable[[], Tensor], steps: int) -> Callable[[], None]:
    """A loop of training steps that make outputs of a model smaller."""
    adam = torch.optim.Adam(model.parameters())

    def train() -> None:
        for _ in range(steps):
            adam.zero_grad()
            outputs().square().mean().backward()
            adam.step()

    return train


def watched(train: Callable[[], None]) -> Callable[[], None]:
    """The same loop in a watch of its own."""

    def run() -> None:
        with watch():
            train()

    return run


@benchmark("10 watched steps of an LSTM of 256 units, T=35 B=20", AGAINST, 1 / 1.10, **ROW)
def _(device):
    x, model = torch.randn(35, 20, 256), nn.LSTM(256, 256)
    train = steps_of(model, lambda: model(x)[0], 10)
    return watched(train), train


@benchmark("200 watched steps of 120 small modules, 32 units", AGAINST, 1 / 1.25, **ROW)
def _(device):
    x = torch.randn(64, 32)
    model = nn.Sequential(*(part for _ in range(60) for part in (nn.Linear(32, 32), nn.ReLU())))
    train = steps_of(model, lambda: model(x), 200)
    return watched(train), train


@benchmark("20 watched steps of 100 calls of an LSTMCell, 64 units", AGAINST, 1 / 1.30, **ROW)
def _(device):
    x, model = torch.randn(100, 32, 32), nn.LSTMCell(32, 64)

    def last_output() -> Tensor:
        state = None
        for row in x:
            state = model(row, state)
        return state[0]

    train = steps_of(model, last_output, 20)
    return watched(train), train

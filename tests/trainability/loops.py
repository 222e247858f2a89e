"""A plain training loop with one fault or none, to be watched."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainability

STEPS = 30


class Reader(nn.Module):
    """A GRU and a linear map of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1])


class SignSteps(torch.optim.Optimizer):
    """An optimiser whose parameter groups have no learning rate, or None."""

    def __init__(self, params, **defaults) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in [p for p in group["params"] if p.grad is not None]:
                p -= 0.01 * p.grad.sign()


def data(examples=320):
    """Sequences of 6 steps, and the sums of their first numbers."""
    x = torch.randn(examples, 6, 3, generator=torch.Generator().manual_seed(5))
    return x, x[:, :, :1].sum(1)


def train(fault="", make=Reader, optimizer=torch.optim.Adam, epochs=3):
    """Train a network; returns it and its losses."""
    torch.manual_seed(0)
    network, losses = make(), []
    trained = make() if fault == "weights of another model" else network
    adam = optimizer(trained.parameters(), 0.01)
    for _ in range(epochs):
        for x, y in DataLoader(TensorDataset(*data()), 32, shuffle=True):
            if fault != "no zero_grad":
                adam.zero_grad()
            loss = nn.functional.mse_loss(network(x), y)
            loss.backward()
            adam.step()
            losses.append(loss.item())
    return network, losses


def facts_of(loop, *args, **how):
    """The result of a loop that is watched."""
    with trainability.watch() as seen:
        loop(*args, **how)
    return seen.result()

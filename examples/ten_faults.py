"""Common faults in one small training run, and what `trainability.check` prints about each.

    python examples/ten_faults.py                # all of them, about two minutes on one core
    python examples/ten_faults.py two_softmax    # one
    trainability check examples/ten_faults.py:two_softmax

The task: each frame has three numbers; sum the first one over all frames but the last.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainability

STEPS, BATCH = 400, 32

torch.manual_seed(0)
x = torch.randn(600, 10, 3)  # (B, T, m): 600 sequences, 10 frames, 3 numbers
y = x[:, :-1, :1].sum(1) / 3
labels = y[:, 0].argsort().argsort() // 60  # ten classes, 60 of each
order = labels.argsort()


class Net(nn.Module):
    """An LSTM, and an output layer that reads its last output."""

    def __init__(self, outputs=1, batch_first=True):
        super().__init__()
        self.lstm = nn.LSTM(3, 16, batch_first=batch_first)
        self.head = nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Softmax(Net):
    """A network that returns probabilities; nn.CrossEntropyLoss applies the softmax again."""

    def forward(self, x):
        return super().forward(x).softmax(1)


class Reshaped(nn.Module):
    """A network that reshapes the axes of states (layers, B, n) instead of swapping them."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.gru(x)[1].reshape(len(x), 32))


class Listed(nn.Module):
    """A network with layers in a list, so that their weights are no parameters of the model."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.GRU(3, 16, batch_first=True), nn.GRU(16, 16, batch_first=True)]
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[:, -1])


class Detached(nn.Module):
    """A network that detaches its state after every frame."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), 16)
        for frame in x.unbind(1):
            h = self.cell(frame, h.detach())
        return self.head(h)


def training(model, x=x, y=y, loss_fn=None, learning_rate=1e-2, steps=STEPS, **more):
    """Return the arguments of `trainability.check`."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    parts = {"model": model, "x": x, "y": y, "optimizer": optimizer, "steps": steps}
    return parts | {"loss_fn": loss_fn or nn.MSELoss(), **more}


def batch_for_time():
    """An LSTM without batch_first=True, which treats the examples as time steps."""
    return training(Net(batch_first=False))


def raw_targets():
    """Targets in watts, with a mean of 9000."""
    return training(Net(), y=9000 + 700 * y)


def high_rate():
    """A learning rate of 3."""
    return training(Net(), learning_rate=3.0)


def two_softmax():
    """A softmax before the cross entropy, which applies a softmax itself."""
    return training(Softmax(10), y=labels, loss_fn=nn.CrossEntropyLoss())


def mixed_axes():
    """`reshape` where `transpose` was meant."""
    return training(Reshaped())


def listed_layers():
    """Layers in a Python list."""
    return training(Listed())


def detached_state():
    """`detach` between the frames; the target is the first number of the first frame."""
    return training(Detached(), y=x[:, 0, :1])


def sorted_data():
    """A loader that gives one class after the other; every fifth example is held out."""
    kept, out = order[torch.arange(len(order)) % 5 > 0], order[::5]
    large = labels // 5  # two classes
    parts = {"x": DataLoader(TensorDataset(x[kept], large[kept]), 8), "y": None, "steps": 600}
    return training(Net(2), loss_fn=nn.CrossEntropyLoss(), validation=(x[out], large[out]), **parts)


def few_steps():
    """Only twenty optimiser steps."""
    return training(Net(), steps=20)


def random_targets():
    """Targets that do not follow from the inputs."""
    return training(Net(), y=torch.randn(len(x), 1))


def own_loop():
    """A training loop without zero_grad, and the losses of its steps."""
    model, losses = Net(), []
    parts = training(Net())
    parts["model"].load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,))
        loss = (model(x[rows]) - y[rows]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return parts | {"losses": losses}


FAULTS = (
    batch_for_time,
    raw_targets,
    high_rate,
    two_softmax,
    mixed_axes,
    listed_layers,
    detached_state,
    sorted_data,
    few_steps,
    random_targets,
    own_loop,
)

if __name__ == "__main__":
    for fault in FAULTS:
        if fault.__name__ in (sys.argv[1:] or [fault.__name__]):
            torch.manual_seed(0)
            print(f"{fault.__name__}: {fault.__doc__}")
            print(trainability.check(**fault()), end="\n\n")

"""What the trainings of development.py share: networks in their owners' own code, data, ways of judging.

Legend: N examples, T frames, K outputs or classes, V words.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.threads.trainings import Net, zipf


class Own(nn.Module):
    """Parts and the forward function of them that its owner wrote."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: nn.Module):
        super().__init__()
        self.own, self.parts = forward, nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.parts, x)


class Cells(nn.LSTMCell):
    """A loop over an LSTM cell with another activation, initialised as in Keras: states (N, T, units)."""

    def __init__(self, inputs: int, units: int, activation: Callable[[Tensor], Tensor]):
        super().__init__(inputs, units)
        self.activation = activation
        for weight in self.weight_hh.data.chunk(4):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.bias_hh)
        self.bias_ih.data = F.pad(torch.ones(units), (units, 2 * units))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.hidden_size)
        states = []
        for frame in x.unbind(1):
            gates = F.linear(frame, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * self.activation(g)
            h = o.sigmoid() * self.activation(c)
            states.append(h)
        return torch.stack(states, 1)


def share(guess: Tensor, y: Tensor) -> float:
    """Share of wrong classes, divided by that of the best constant answer."""
    return ((guess != y).float().mean() / (y != y.flatten().mode()[0]).float().mean()).item()


def relative(
    guess: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[nn.Module, Tensor, Tensor], float]:
    """Squared error of a model's outputs, divided by that of a guess."""
    return lambda model, x, y: (
        (model(x).reshape(y.shape) - y).square().sum() / (guess(x, y) - y).square().sum()
    ).item()


def reader(kind: str, V: int, units: int, K: int, **options: Any) -> nn.Sequential:
    """An embedding of V words before a `Net`."""
    return nn.Sequential(nn.Embedding(V, 32), Net(kind, 32, units, K, **options))


def chain(N: int, T: int, V: int, back: int) -> Tensor:
    """Texts (N, T) whose words follow, nine in ten, from the word `back` places before."""
    text, table = zipf(V, N, T), torch.randperm(V)
    for t in range(back, T):
        text[:, t] = torch.where(torch.rand(N) < 0.9, table[text[:, t - back]], text[:, t])
    return text


def opinions(N: int, T: int, shortest: int | None = None) -> tuple[Tensor, Tensor]:
    """Texts (N, T), shorter ones after zeros, and whether their sum of weights is above the median (N,)."""
    text, weights = torch.randint(1, 50, (N, T)), torch.randn(50)
    if shortest is not None:
        text[torch.arange(T) < torch.randint(T - shortest + 1, (N, 1))] = 0
    value = weights[text].where(text > 0, 0).sum(1)
    return text, (value > value.median()).long()


def translation(kind: str, T: int, V: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """An encoder and decoder with attention, texts before their translations so far (N, 2T), translations."""

    def forward(parts: Any, x: Tensor) -> Tensor:
        source, target = parts["embedding"](x).chunk(2, 1)
        memory, state = parts["encoder"](source)
        h = parts["decoder"](target, state)[0]
        return parts["out"](torch.cat([h, (h @ memory.mT).softmax(2) @ memory], 2))

    encoder, decoder = (getattr(nn, kind)(32, 64, batch_first=True) for _ in range(2))
    source, table = torch.randint(1, V, (2400, T)), F.pad(1 + torch.randperm(V - 1), (1, 0))
    target = table[source.flip(1)]
    model = Own(forward, embedding=nn.Embedding(V, 32), encoder=encoder, decoder=decoder, out=nn.Linear(128, V))
    return model, (torch.cat([source, F.pad(target[:, :-1], (1, 0))], 1), target)

"""Networks of the trainings.

Legend: N examples, T frames, K outputs, V words.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rhn.models import PolyphonicModel
from rhn.utils.torch_private import tree_map


class Own(nn.Module):
    """Parts by name, and the forward function of them that its owner wrote: forward(network,
    *inputs).
    """

    def __init__(self, forward: Callable[..., Any], **parts: Any):
        super().__init__()
        self.own = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.own(self, *inputs)


class Net(nn.Module):
    """A recurrent layer of torch.nn, examples first, with a linear output of its last frame, or of
    every frame; sizes: inputs, units, outputs.
    """

    def __init__(self, kind: str, *sizes: int, every: bool = False, **options: Any):
        super().__init__()
        inputs, units, outputs = sizes
        self.rnn = getattr(nn, kind)(inputs, units, **{"batch_first": True} | options)
        self.out, self.every = nn.Linear(units * (1 + self.rnn.bidirectional), outputs), every

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[0]
        last = states.select(1 if self.rnn.batch_first else 0, -1)
        return self.out(states if self.every else last)


def ours(kind: str, *sizes: int, every: bool = False, time: int = 0, **options: Any) -> Own:
    """The same with one of our cells; time: axis of the frames, 0 or 1."""

    def forward(net: Any, x: Tensor) -> Tensor:
        output = net.model(x.transpose(0, time))
        return output.transpose(0, time) if every else output[-1]

    names: Any = dict(zip(("input_size", "hidden_size", "output_size"), sizes, strict=True))
    return Own(forward, model=PolyphonicModel(kind, **names, **options))


def gru(*sizes: int, **options: Any) -> nn.GRU:
    """A GRU of torch, examples first."""
    return nn.GRU(*sizes, batch_first=True, **options)


def lstm(*sizes: int, **options: Any) -> nn.LSTM:
    """An LSTM of torch, examples first."""
    return nn.LSTM(*sizes, batch_first=True, **options)


class Loop(nn.Module):
    """A cell of torch.nn in a loop over time, whose state is detached every `cut` frames; outputs
    as those of `Net`.
    """

    def __init__(self, kind: str, *sizes: int, every: bool = False, cut: int = 0):
        super().__init__()
        inputs, units, outputs = sizes
        self.cell, self.out = getattr(nn, kind)(inputs, units), nn.Linear(units, outputs)
        self.every, self.cut = every, cut

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        outputs = []
        for t, frame in enumerate(x.unbind(1)):
            if self.cut and t and t % self.cut == 0:
                state = tree_map(torch.Tensor.detach, state)
            state = self.cell(frame, state)
            outputs.append(self.out(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs, 1) if self.every else outputs[-1]


def reader(
    kind: str, V: int, units: int, K: int, *, embedding: int = 32, **options: Any
) -> nn.Sequential:
    """An embedding of V words before a `Net`."""
    return nn.Sequential(nn.Embedding(V, embedding), Net(kind, embedding, units, K, **options))


def coder(
    forward: Callable[..., Any], layer: Any, V: int, embedding: int, units: int, K: int, *,
    inputs: int = 0, features: int = 0,
) -> Own:  # fmt: skip
    """An embedding, an encoder, a decoder and a linear output, under a forward function of them.

    inputs: of the decoder, if they are no embedded words; features: what the output reads, if more
    than the states.
    """
    parts = {"embed": nn.Embedding(V, embedding), "encoder": layer(embedding, units)}
    decoder, out = layer(inputs or embedding, units), nn.Linear(features or units, K)
    return Own(forward, **parts, decoder=decoder, out=out)


def cross(output: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of logits (..., K) and classes (...)."""
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def output_of(model: nn.Module, x: Any) -> Tensor:
    """The prediction of a model of x, or of several inputs: the first of several outputs."""
    output = model(*x) if isinstance(x, tuple | list) else model(x)
    return output[0] if isinstance(output, tuple) else output

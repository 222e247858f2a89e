"""Networks of the trainings, and the loop that trains them.

Legend: N examples, T frames, K outputs, V words.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rhn.models import PolyphonicModel


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
    every frame.
    """

    def __init__(
        self,
        kind: str,
        inputs: int,
        units: int,
        outputs: int,
        *,
        every: bool = False,
        **options: Any,
    ):
        super().__init__()
        self.rnn = getattr(nn, kind)(inputs, units, **{"batch_first": True} | options)
        self.out, self.every = nn.Linear(units * (1 + self.rnn.bidirectional), outputs), every

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[0]
        return self.out(
            states if self.every else states.select(1 if self.rnn.batch_first else 0, -1)
        )


def ours(
    kind: str,
    inputs: int,
    units: int,
    outputs: int,
    *,
    every: bool = False,
    time: int = 0,
    **options: Any,
) -> Own:
    """The same with one of our cells; time: axis of the frames, 0 or 1."""

    def forward(net: Any, x: Tensor) -> Tensor:
        output = net.model(x.transpose(0, time))
        return output.transpose(0, time) if every else output[-1]

    sizes: Any = {"hidden_size": units, "input_size": inputs, "output_size": outputs}
    return Own(forward, model=PolyphonicModel(kind, **sizes, **options))


class Loop(nn.Module):
    """A cell of torch.nn in a loop over time, whose state is detached every `cut` frames; outputs
    as those of `Net`.
    """

    def __init__(
        self, kind: str, inputs: int, units: int, outputs: int, *, every: bool = False, cut: int = 0
    ):
        super().__init__()
        self.cell, self.out = getattr(nn, kind)(inputs, units), nn.Linear(units, outputs)
        self.every, self.cut = every, cut

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        outputs = []
        for t, frame in enumerate(x.unbind(1)):
            if self.cut and t and t % self.cut == 0:
                state = (
                    tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
                )
            state = self.cell(frame, state)
            outputs.append(self.out(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs, 1) if self.every else outputs[-1]


def reader(
    kind: str, V: int, units: int, K: int, *, embedding: int = 32, **options: Any
) -> nn.Sequential:
    """An embedding of V words before a `Net`."""
    return nn.Sequential(nn.Embedding(V, embedding), Net(kind, embedding, units, K, **options))


def cross(output: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of logits (..., K) and classes (...)."""
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def minibatches(
    x: Tensor, y: Tensor, size: int, axis: int = 0, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the minibatches of one epoch, without a smaller one; axis: of the examples."""
    size = min(size, x.shape[axis])
    for rows in torch.randperm(x.shape[axis], generator=generator).split(size):
        if len(rows) == size:
            yield (
                x.index_select(axis, rows),
                y.index_select(axis if y.shape[:2] == x.shape[:2] else 0, rows),
            )


def output_of(model: nn.Module, x: Any) -> Tensor:
    """The prediction of a model of x, or of several inputs: the
    first of several outputs.
    """
    output = model(*x) if isinstance(x, tuple | list) else model(x)
    return output[0] if isinstance(output, tuple) else output


def train(
    model: nn.Module,
    epoch: Callable[[], Iterable[tuple[Any, Tensor]]],
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    clip_norm: float | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Train epoch by epoch without end: yield loss, output and target of every step; stop if a loss
    is not finite.

    epoch: a function that gives the minibatches (x, y) of an epoch.
    """
    while True:
        for x, y in epoch():
            optimizer.zero_grad()
            output = output_of(model, x)
            loss = loss_fn(output, y)
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            yield loss.item(), output, y
            if not math.isfinite(loss.item()):
                return

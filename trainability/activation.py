"""Find the last operation on the outputs of a network, and the range of outputs that it allows.

with states_of(model) as states:
    output = model(x)
last_activation(output, states)      # None if nothing bounds the output
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainability.autograd import operation

INF = math.inf
RANGES = {  # operations of autograd: in words, least and greatest value
    "Sigmoid": ("a sigmoid", 0.0, 1.0),
    "Softmax": ("a softmax", 0.0, 1.0),
    "LogSoftmax": ("a log_softmax", -INF, 0.0),
    "Tanh": ("tanh", -1.0, 1.0),
    "Relu": ("ReLU", 0.0, INF),
    "Softplus": ("softplus", 0.0, INF),
    "Exp": ("exp", 0.0, INF),
}
SHAPING = {  # operations that move, copy or average values
    "Alias",
    "AsStrided",
    "Cat",
    "Clone",
    "Expand",
    "Gather",
    "Index",
    "IndexSelect",
    "Mean",
    "Permute",
    "Select",
    "ReshapeAlias",
    "Slice",
    "Split",
    "SplitWithSizes",
    "Squeeze",
    "Stack",
    "T",
    "ToCopy",
    "Transpose",
    "Unbind",
    "Unsqueeze",
    "UnsafeSplit",
    "UnsafeView",
    "View",
}
LINEAR = {"Add", "Addmm", "Baddbmm", "Bmm", "Convolution", "Linear", "Mm", "Mul", "Mv", "Sub"}
"""Operations whose values may be of any size, if they read a parameter."""
States = list[tuple[Any, "Activation"]]


@dataclass(frozen=True)
class Activation:
    """The last operation on the outputs of a network, and its range."""

    kind: str
    """Name of the operation, such as "Softmax"; for states of a recurrent layer its class, such as
    "LSTM".
    """
    words: str
    """The operation in words, such as "a softmax"."""
    low: float
    high: float
    axis: int = -1
    """Axis of a softmax."""

    @property
    def is_chosen(self) -> bool:
        """True if this operation is a common deliberate choice for an output layer, with targets
        scaled to its range.
        """
        return self.kind in ("Sigmoid", "Tanh", "Exp") and math.isfinite(self.high)

    def of(self, free: Tensor) -> Tensor:
        """Map numbers of any size to outputs in the range of this activation."""
        if self.kind in ("Softmax", "LogSoftmax"):
            return (
                F.softmax(free, self.axis)
                if self.kind == "Softmax"
                else F.log_softmax(free, self.axis)
            )
        if math.isinf(self.low) or math.isinf(self.high):
            return self.low + F.softplus(free) if self.high == INF else self.high - F.softplus(free)
        return self.low + (self.high - self.low) * torch.sigmoid(free)


@contextmanager
def states_of(model: nn.Module) -> Iterator[States]:
    """Context manager: collect the states that recurrent layers of torch.nn return, as nodes of
    autograd.
    """
    found: States = []

    def keep(layer: nn.Module, given: tuple, made: Any) -> None:
        if not getattr(layer, "proj_size", 0):
            found.extend(
                (hidden.grad_fn, range_of_states(layer)) for hidden in _hidden(layer, made)
            )

    with ExitStack() as hooks:
        for part in model.modules():
            if isinstance(part, nn.RNNBase | nn.RNNCellBase):
                hooks.enter_context(part.register_forward_hook(keep))
        yield found


def _hidden(layer: nn.Module, made: Any) -> list[Tensor]:
    """The hidden states that a recurrent layer returns: those of all frames, and the last."""
    pair = isinstance(made, tuple) and not isinstance(layer, nn.LSTMCell)
    states = [
        state[0] if isinstance(state, tuple) else state for state in (made if pair else [made])
    ]
    return [state for state in states if isinstance(state, Tensor)]


def range_of_states(layer: nn.Module) -> Activation:
    """Return the range of the states of a recurrent layer."""
    name = type(layer).__name__
    low, high = (0.0, INF) if getattr(layer, "nonlinearity", "") == "relu" else (-1.0, 1.0)
    return Activation(name, f"the states of nn.{name}", low, high)


def last_activation(output: Tensor, states: States) -> Activation | None:
    """Return the activation that bounds an output; None if there is none, or if it is not known."""
    known, node = dict(states), output.grad_fn
    while node is not None and node not in known and operation(node) not in RANGES:
        node = node.next_functions[0][0] if operation(node) in SHAPING else None
    if node is None:
        return None
    if node in known:
        return known[node]
    name = operation(node)
    axis = getattr(node, "_saved_dim", -1) if node is output.grad_fn else -1
    words, low, high = RANGES[name]
    if name == "Exp" and _sign(node.next_functions[0][0]) < 0:
        words, high = "exp(-distance)", 1.0
    return Activation(name, words, low, high, axis if axis < output.dim() else -1)


def is_free(output: Tensor) -> bool:
    """True if the last operation adds or multiplies a parameter, so that outputs may be of any
    size.
    """
    node = _unshaped(output.grad_fn)
    if node is None or operation(node) not in LINEAR:
        return False
    read = [_unshaped(following) for following, _ in node.next_functions]
    return any(node is not None and operation(node) == "AccumulateGrad" for node in read)


def _unshaped(node: Any) -> Any:
    """The first node of autograd that does more than move, copy or average values."""
    while node is not None and operation(node) in SHAPING:
        node = node.next_functions[0][0]
    return node


def _sign(node: Any) -> int:
    """1 or -1 if the numbers of a node are never negative or never positive; 0 if not known."""
    name = operation(node) if node is not None else ""
    if name in ("Neg", "Sum") or name in SHAPING:
        return _sign(node.next_functions[0][0]) * (-1 if name == "Neg" else 1)
    return int(name in ("Abs", "Relu", "LinalgVectorNorm", "Norm", "Sigmoid", "Softplus"))

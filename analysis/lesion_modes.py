"""The modes of lesions: shut gates, skip layers, or remove inputs.

| mode  | a lesioned layer                                                 | needs of a layer |
|-------|------------------------------------------------------------------|------------------|
| bias  | transform gates shut by a bias of -1e4 (the paper's)             | gate, bias       |
| carry | passes the state through exactly; a check of `bias`              | `run_layer`      |
| blind | keeps its recurrence, but loses its input product; a control     | input            |

The mode `bias` also opens a separate carry gate. The output gate of an LSTM and the reset gate of a
GRU are not changed. The sigmoid of -1e4 is exactly 0, and that of +1e4 exactly 1: a shut layer with
coupled gates returns s + 0 (h - s) = s to the last bit. The one layer of an LSTM (t = i, c = f) or
GRU (t = 1 - z) is its whole recurrence: a lesion freezes the state. `carry` shares no code with
`bias`, so that tests can compare the two: a cell runs in a loop that skips the layer; in a layer of
torch.nn all weights are 0, so that a state of zeros stays.

A new mode is a class and a row of `MODES`. The choices and the help of `rhn-analyze lesion` follow
from the row. This module does not import torch, so that `--help` is fast.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rhn.utils.old_names import moved

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from analysis.layers import Place
    from rhn.cells.layers import GateBlocks, Part

SHUT = -1e4
Copied = Callable[[str], "Tensor"]
"""A function (name of a tensor of the network) that returns its copy, which a lesion edits."""


@dataclass(frozen=True)
class Lesion:
    """A lesion: a mode, and the lesioned layers, counted from 1 through all stacked cells.

    >>> Lesion("bias", (1, 2))
    Lesion(mode='bias', layers=(1, 2))
    """

    mode: str
    layers: tuple[int, ...]


class LesionMode(ABC):
    """What a lesion does to a layer."""

    label: str
    """The mode in titles and legends."""
    meaning: str
    """What happens to the layer, as a part of a sentence: the help of the command prints it."""
    control: str | None = "blind"
    """The mode with which a layer is lesioned as a control; None for none."""

    @abstractmethod
    def applies(self, place: "Place") -> bool:
        """Return True if a layer can have the lesion."""

    def prepare(self, network: "nn.Module") -> "nn.Module":
        """Return the network in which `change` edits tensors, with the same layers."""
        return network

    @abstractmethod
    def change(self, place: "Place", copied: Copied) -> None:
        """Edit the tensors of a prepared network that the lesion of one layer changes."""

    def check(  # noqa: B027  # most modes have nothing to check
        self, network: "nn.Module", losses: Callable[[], "np.ndarray"], prepared: "np.ndarray"
    ) -> None:
        """Raise InvalidInputError if `prepare` changed the network.

        losses: a function that computes the losses (N,) of the network, unlesioned. prepared: those
        of the prepared network.
        """


class Bias(LesionMode):
    """Shut the transform gates, and open the carry gates."""

    label = "gates shut (bias)"
    meaning = "its transform gates are shut, as in the paper, and its carry gates opened"

    def applies(self, place: "Place") -> bool:
        return place.layer.gate is not None and place.layer.bias is not None

    def change(self, place: "Place", copied: Copied) -> None:
        part, gate = cast("Part", place.layer.bias), cast("GateBlocks", place.layer.gate)
        bias: Any = copied(place.prefix + part.parameter)[part.index]
        bias = bias.unflatten(0, (-1, place.cell.hidden_size))
        bias[gate.transform] = (SHUT if gate.opens else -SHUT) - gate.constant
        if gate.carry is not None:
            bias[gate.carry] = -SHUT


class Carry(LesionMode):
    """Skip the layer."""

    label = "layer skipped (carry)"
    meaning = "the layer is skipped exactly"

    def applies(self, place: "Place") -> bool:
        return place.cell.runs_layers

    def prepare(self, network: "nn.Module") -> "nn.Module":
        from analysis.layer_by_layer import network_layer_by_layer  # loads torch

        return network_layer_by_layer(network)

    def change(self, place: "Place", copied: Copied) -> None:
        from analysis.layer_by_layer import SKIPPED, LayerByLayer  # loads torch

        if isinstance(place.module, LayerByLayer):
            copied(place.prefix + SKIPPED)[place.index] = True
            return
        for name in place.parameters():
            copied(name)[:] = 0

    def check(
        self, network: "nn.Module", losses: Callable[[], "np.ndarray"], prepared: "np.ndarray"
    ) -> None:
        from analysis.layer_by_layer import check_layer_by_layer  # loads torch

        check_layer_by_layer(network, losses, prepared)


class Blind(LesionMode):
    """Remove the input product."""

    label = "input removed (blind)"
    meaning = "its input is removed"
    control = None

    def applies(self, place: "Place") -> bool:
        return place.layer.input is not None

    def change(self, place: "Place", copied: Copied) -> None:
        part = cast("Part", place.layer.input)
        copied(place.prefix + part.parameter)[part.index] = 0


MODES: dict[str, LesionMode] = {
    "bias": Bias(),
    "carry": Carry(),
    "blind": Blind(),
}
"""The modes by name. The first one that some layer can have is the usual one."""

if not TYPE_CHECKING:
    __getattr__ = moved(__name__)

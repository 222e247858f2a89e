"""The weight tensors of a loop: which are called, trained, and changed."""

import gc
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from trainability.watching.tensors import content_of, dense


@dataclass(eq=False)
class Weight:
    """One tensor of a module or an optimiser. The tensor itself is not kept."""

    tensor: "weakref.ref[Tensor]"
    first: int | None
    """Content of the tensor when it was first seen."""
    is_called: bool = False
    """Belongs to a module that was called."""
    beside_called: bool = False
    """Belongs to a module of which another part was called."""
    trainable: bool = False
    """Requires a gradient in a call outside `no_grad`."""
    in_optimiser: bool = False
    has_gradient: bool = False
    """Had a gradient with a number other than 0 after a backward pass."""
    is_changed: bool = False


class Weights:
    """All weight tensors that a loop used, also those that are gone."""

    def __init__(self) -> None:
        self.all: list[Weight] = []
        self._by_id: dict[int, Weight] = {}

    def of(self, tensor: Tensor) -> Weight:
        """Return the record of a tensor. The first call makes it."""
        weight = self._by_id.get(id(tensor))
        if weight is None or weight.tensor() is not tensor:  # an id is used again
            weight = Weight(weakref.ref(tensor), content_of(tensor))
            self._by_id[id(tensor)] = weight
            self.all.append(weight)
        return weight

    def read_gradients(self) -> None:
        """Note which tensors have a gradient now."""
        for weight, tensor in _alive(w for w in self.all if not w.has_gradient):
            if tensor.grad is not None:
                weight.has_gradient = bool(dense(tensor.grad).any())

    def read_changes(self) -> None:
        """Note which tensors have another content than at first."""
        for weight, tensor in _alive(w for w in self.all if not w.is_changed):
            weight.is_changed = content_of(tensor) != weight.first

    def read_modules(self, weights: Iterable[Weight]) -> None:
        """Note which of some weights stand beside called ones in a module."""
        sought = {id(tensor): weight for weight, tensor in _alive(weights)}
        if not sought:
            return
        called = {id(t) for _, t in _alive(w for w in self.all if w.is_called)}
        for module in _living_modules():
            own = {id(tensor) for tensor in module.parameters()}
            if not own.isdisjoint(called):
                for key in own & sought.keys():
                    sought[key].beside_called = True

    def trainable(self) -> list[Weight]:
        """Return the tensors of called modules that require a gradient."""
        return [weight for weight in self.all if weight.trainable]


def _alive(weights: Iterable[Weight]) -> Iterator[tuple[Weight, Tensor]]:
    for weight in weights:
        tensor = weight.tensor()
        if tensor is not None:
            yield weight, tensor


def _living_modules() -> Iterator[nn.Module]:
    """Yield all modules in memory."""
    return (one for one in gc.get_objects() if issubclass(type(one), nn.Module))

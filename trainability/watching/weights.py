"""The weight tensors of a loop: which are called, trained, and changed."""

import gc
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from trainability.watching.tensors import content_hash, is_nonzero


@dataclass(eq=False)
class WatchedWeight:
    """One tensor of a module or an optimiser. The tensor itself is not kept."""

    tensor: "weakref.ref[Tensor]"
    first: int | None
    """Content of the tensor when it was first seen."""
    is_called: bool = False
    """Belongs to a module that was called."""
    beside_called: bool = False
    """Belongs to a module of which another part was called."""
    in_training: bool = False
    """Belongs to a module that was called outside `no_grad`."""
    in_optimiser: bool = False
    has_gradient: bool = False
    """Had a gradient with a number other than 0 after a backward pass."""
    is_changed: bool = False


class WatchedWeights:
    """All weight tensors that a loop used, also those that are gone."""

    def __init__(self) -> None:
        self.all: list[WatchedWeight] = []
        self._by_id: dict[int, WatchedWeight] = {}

    def of(self, tensor: Tensor) -> WatchedWeight:
        """Return the record of a tensor. The first call makes it."""
        weight = self._by_id.get(id(tensor))
        if weight is None or weight.tensor() is not tensor:  # an id is used again
            weight = WatchedWeight(weakref.ref(tensor), content_hash(tensor))
            self._by_id[id(tensor)] = weight
            self.all.append(weight)
        return weight

    def read_gradients(self) -> None:
        """Note which tensors have a gradient now."""
        for weight, tensor in _alive(w for w in self.all if not w.has_gradient):
            if tensor.grad is not None:
                weight.has_gradient = is_nonzero(tensor.grad)

    def read_changes(self) -> None:
        """Note which tensors have another content than at first."""
        for weight, tensor in _alive(w for w in self.all if not w.is_changed):
            weight.is_changed = content_hash(tensor) != weight.first

    def read_modules(self, weights: Iterable[WatchedWeight]) -> None:
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

    def in_training(self) -> list[WatchedWeight]:
        """Return the tensors of modules that were called outside `no_grad`."""
        return [weight for weight in self.all if weight.in_training]


def _alive(weights: Iterable[WatchedWeight]) -> Iterator[tuple[WatchedWeight, Tensor]]:
    for weight in weights:
        tensor = weight.tensor()
        if tensor is not None:
            yield weight, tensor


def _living_modules() -> Iterator[nn.Module]:
    """Yield all modules in memory."""
    return (one for one in gc.get_objects() if issubclass(type(one), nn.Module))

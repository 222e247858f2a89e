"""The numbers of weights at one time, and which of them differ at another time.

Small tensors are copied, joined to one vector. Of a large tensor the sum of its bits is kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rhn.utils.torch_private import flattened, version_of
from trainability.watching.tensors import FEW_NUMBERS
from trainability.watching.weights import WatchedWeight

WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types of whole numbers by their bytes. Bits are compared: NaN is equal to itself."""


class JoinedWeights:
    """Small weights of one kind, and their numbers as one vector."""

    def __init__(self, tensors: Mapping[WatchedWeight, Tensor]) -> None:
        self.sizes = {weight: t.numel() for weight, t in tensors.items()}
        vector = flattened([*tensors.values()])
        is_view = len(tensors) == 1
        self.vector = vector.clone() if is_view else vector

    def differing(self, later: "JoinedWeights") -> list[WatchedWeight]:
        """Return the weights whose numbers differ; none if these are other weights."""
        is_comparable = self.sizes == later.sizes
        if not is_comparable or torch.equal(bits(self.vector), bits(later.vector)):
            return []
        sizes = [*self.sizes.values()]
        pairs = zip(self.vector.split(sizes), later.vector.split(sizes), strict=True)
        equal = [torch.equal(bits(a), bits(b)) for a, b in pairs]
        return [weight for weight, same in zip(self.sizes, equal, strict=True) if not same]


class Contents:
    """The numbers of weights now. Those of weights that are gone are left out."""

    @torch.no_grad()
    def __init__(self, weights: Sequence[WatchedWeight]) -> None:
        self.sums: dict[WatchedWeight, int] = {}
        """Of the bits of large tensors."""
        self.versions = versions_of(weights)
        small = defaultdict[tuple[torch.dtype, torch.device], dict[WatchedWeight, Tensor]](dict)
        for weight in weights:
            tensor = weight.tensor()
            if tensor is None or weight.first is None:  # gone, or its numbers cannot be read
                continue
            if tensor.numel() < FEW_NUMBERS:
                small[tensor.dtype, tensor.device][weight] = tensor
            else:
                self.sums[weight] = int(bits(tensor).sum())
        self.joined = {kind: JoinedWeights(tensors) for kind, tensors in small.items()}

    def differing(self, later: "Contents") -> list[WatchedWeight]:
        """Return the weights whose numbers differ from those at a later time."""
        found = [w for w, known in self.sums.items() if later.sums.get(w, known) != known]
        for kind, joined in self.joined.items():
            if kind in later.joined:
                found += joined.differing(later.joined[kind])
        return found


def bits(t: Tensor) -> Tensor:
    """Return the same memory as whole numbers.

    >>> bits(torch.tensor([1.0, -0.0])).tolist()
    [1065353216, -2147483648]
    """
    real = torch.view_as_real(t) if t.is_complex() else t
    return real.detach().view(WHOLE[real.element_size()])


def versions_of(weights: Sequence[WatchedWeight]) -> list[tuple[int, int] | None]:
    """Return what changes if a tensor is changed in place, but not through `.data`."""
    tensors = [weight.tensor() for weight in weights]
    return [None if t is None else (version_of(t), t.data_ptr()) for t in tensors]

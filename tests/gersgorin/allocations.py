"""Sizes of the tensors that torch allocates inside a `with` block."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """largest: bytes of the largest new tensor; views of arguments are not new."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        given = {storage.data_ptr() for storage in _storages((args, kwargs))}
        new = [storage.nbytes() for storage in _storages(found) if storage.data_ptr() not in given]
        self.largest = max([self.largest, *new])
        return found


def _storages(tree) -> list:
    parts = [
        part
        for part in tree_leaves(tree)
        if isinstance(part, Tensor) and part.layout == torch.strided
    ]
    return [part.untyped_storage() for part in parts]

"""Replay a function as CUDA graphs: a recurrence is thousands of small launches, its graph is one.

Tensor arguments are copied to the place of those of the first call with their shapes and types; other arguments are part of the key.
Each key is captured once, which takes as long as two calls without a graph. On other devices the function is called as it is.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def captured(function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()) -> Callable[..., Any]:
    """The same function of trees of tensors and numbers, on a GPU as one CUDA graph for each new combination of shapes and numbers.

    Its result on a GPU is overwritten by the next call, which may take it as an argument.

    changes: the tensors that the function changes in place. The function must not refer to its holder: graphs are freed by reference
    counts, and a cycle would keep their memory until the garbage collector runs.
    """
    if device.type != "cuda":
        return function
    graphs, inputs = _Graphs(changes, device), {}

    def call(*trees: Any) -> Any:
        leaves, structure = tree_flatten(trees)
        key = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        if key not in inputs:
            inputs[key] = [torch.empty_like(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        kept = inputs[key]
        for place, leaf in zip(kept, leaves, strict=True):
            if isinstance(leaf, Tensor):
                place.copy_(leaf)
        return graphs.replay(key, lambda: function(*tree_unflatten(kept, structure)))

    return call


class _Graphs:
    """CUDA graphs by key on one device, each with its result."""

    def __init__(self, changes: Sequence[Tensor], device: torch.device):
        self._changes, self._device = changes, device
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        self._pool = torch.cuda.graph_pool_handle()  # one for all graphs: they never run at the same time

    def replay(self, key: Hashable, function: Callable[[], Any]) -> Any:
        if key not in self._graphs:
            with torch.cuda.device(self._device):
                self._graphs[key] = self._capture(function)
        graph, result = self._graphs[key]
        graph.replay()
        return result

    def _capture(self, function: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """Run once on a side stream, as capturing requires, then record; restore all changed tensors."""
        before = [t.clone() for t in self._changes]
        side = _side_stream(torch.cuda.current_device())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=side):
            result = function()
        for t, value in zip(self._changes, before, strict=True):
            t.copy_(value)
        return graph, result


@functools.cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The one stream for all captures of a device: cuBLAS keeps a workspace for every stream."""
    return torch.cuda.Stream(device)

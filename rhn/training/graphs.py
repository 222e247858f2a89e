"""Replay a function as CUDA graphs: the thousands of kernel launches of a recurrence become one.

Shapes and types of tensor arguments, and the values of other arguments, are the key of a graph.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from rhn.utils.torch_private import tree_flatten, tree_unflatten


def captured(
    function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Wrap a function of trees of tensors and numbers, which changes the tensors `changes`
    in place. On a GPU the next call overwrites the result, which may be its argument. Without
    cycles: the function must not refer to the object that holds it.
    """
    if device.type != "cuda":
        return function
    return _Captured(function, _Graphs(changes, device))


class _Captured:
    """A function whose tensor arguments are copied into its graphs."""

    def __init__(self, function: Callable[..., Any], graphs: "_Graphs"):
        self._function, self._graphs = function, graphs
        self._inputs: dict[Hashable, list] = {}

    def __call__(self, *trees: Any) -> Any:
        leaves, structure = tree_flatten(trees)
        key = tuple(map(_key, leaves))
        if key not in self._inputs:
            self._inputs[key] = list(map(_place, leaves))
        kept = self._inputs[key]
        for place, leaf in zip(kept, leaves, strict=True):
            if isinstance(leaf, Tensor):
                place.copy_(leaf)
        return self._graphs.replay(key, lambda: self._function(*tree_unflatten(kept, structure)))


def _key(leaf: Any) -> Hashable:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _place(leaf: Any) -> Any:
    return torch.empty_like(leaf) if isinstance(leaf, Tensor) else leaf


class _Graphs:
    """CUDA graphs by key on one device, each with its result."""

    def __init__(self, changes: Sequence[Tensor], device: torch.device):
        self._changes, self._device = changes, device
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        # one for all graphs: they never run at the same time
        self._pool = torch.cuda.graph_pool_handle()

    def replay(self, key: Hashable, function: Callable[[], Any]) -> Any:
        if key not in self._graphs:
            with torch.cuda.device(self._device):
                self._graphs[key] = self._capture(function)
        graph, result = self._graphs[key]
        graph.replay()
        return result

    def _capture(self, function: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """Run the function once on a side stream, as capturing requires, and record its graph."""
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
    """Return the stream for all captures: cuBLAS keeps a workspace for every stream."""
    return torch.cuda.Stream(device)

"""Calls that are replayed on a GPU: a recurrence is thousands of small launches, a CUDA graph of them is one.

`replayed`: a function(i) works on the i-th of a fixed list of batches and on tensors that stay where they are; each i is captured once.
`captured`: a function of new tensors every time, which are copied to where those of the first call with their shapes and types were.
Each combination of them, and so each length of a window, is captured once; that takes as long as two calls without a graph.
On other devices both functions are simply called.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def replayed(
    function: Callable[[int], Tensor | None], device: torch.device, changes: Sequence[Tensor] = ()
) -> Callable:
    """The same function, as one CUDA graph for each i on a GPU. `changes` are the tensors that it writes to in place.

    What it returns is the caller's to keep. The function must not refer to what holds it: graphs die by counting references, and a
    cycle would keep their memory until the garbage collector comes by.
    """
    if device.type != "cuda":
        return function
    graphs = _Graphs(changes, device)

    def call(i: int) -> Tensor | None:
        result = graphs.replay(i, lambda: function(i))
        return None if result is None else result.clone()  # the graphs share memory: another i may overwrite it

    return call


def captured(function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()) -> Callable[..., Any]:
    """The same function of trees of tensors, as a CUDA graph for each new combination of shapes on a GPU.

    What it returns there is overwritten by the next call, which it may be given to. As for `replayed`, no cycle of references.
    """
    if device.type != "cuda":
        return function
    graphs, inputs = _Graphs(changes, device), {}

    def call(*trees: Any) -> Any:
        leaves, structure = tree_flatten(trees)
        key = tuple(None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in inputs:
            inputs[key] = [None if leaf is None else torch.empty_like(leaf) for leaf in leaves]
        kept = inputs[key]
        for place, leaf in zip(kept, leaves, strict=True):
            if place is not None:
                place.copy_(leaf)
        return graphs.replay(key, lambda: function(*tree_unflatten(kept, structure)))

    return call


class _Graphs:
    """CUDA graphs by key on one device, with what each call of them returns."""

    def __init__(self, changes: Sequence[Tensor], device: torch.device):
        self._changes, self._device = changes, device
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        self._pool = torch.cuda.graph_pool_handle()  # one for all: they are never replayed at the same time

    def replay(self, key: Hashable, function: Callable[[], Any]) -> Any:
        if key not in self._graphs:
            with torch.cuda.device(self._device):
                self._graphs[key] = self._capture(function)
        graph, result = self._graphs[key]
        graph.replay()
        return result

    def _capture(self, function: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """Run once on a side stream, as capturing asks for, then record; what either changed is put back."""
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
    """The stream that all captures of a device happen on: for every further one cuBLAS would keep a workspace of its own."""
    return torch.cuda.Stream(device)

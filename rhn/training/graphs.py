"""Calls that are replayed on a GPU: a recurrence is thousands of small launches, a CUDA graph of them is one.

A function(i) works on the i-th of a fixed list of batches and on tensors that stay where they are, so each i is captured once. On other
devices the function is simply called.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def replayed(
    function: Callable[[int], Tensor | None], device: torch.device, changes: Sequence[Tensor] = ()
) -> Callable:
    """The same function, as one CUDA graph for each i on a GPU. `changes` are the tensors that it writes to in place."""
    return _Replayed(function, changes) if device.type == "cuda" else function


class _Replayed:
    def __init__(self, function: Callable[[int], Tensor | None], changes: Sequence[Tensor]):
        self._function, self._changes = function, changes
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor | None]] = {}
        self._pool = torch.cuda.graph_pool_handle()  # one for all: they are never replayed at the same time

    def __call__(self, i: int) -> Tensor | None:
        if i not in self._graphs:
            self._graphs[i] = self._capture(i)
        graph, result = self._graphs[i]
        graph.replay()
        return result

    def _capture(self, i: int) -> tuple[torch.cuda.CUDAGraph, Tensor | None]:
        """Run once on a side stream, as capturing asks for, then record; what either changed is put back."""
        before = [t.clone() for t in self._changes]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._function(i)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = self._function(i)
        for t, value in zip(self._changes, before, strict=True):
            t.copy_(value)
        return graph, result

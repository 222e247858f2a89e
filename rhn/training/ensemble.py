"""K models of equal shape as one program: their weights stacked, every operation on all of them at once.

    ensemble = Ensemble.of(models)
    ensemble.map(lambda model, x: model(x), x)          (K, ...): each model on the same x
    ensemble.gradients(loss, x)                         gradients of loss(model, x), by name, (K, ...)

The modules are ordinary ones: torch.func puts the K sets of weights through one of them. Nothing is summed over K, so no model
depends on the others.

`captured` replays a function as CUDA graphs: a recurrence is thousands of small launches, its graph is one. Tensor arguments are copied
to the place of those of the first call with their shapes and types; other arguments are part of the key. Each key is captured once,
which takes as long as two calls without a graph. On other devices the function is called as it is.

`deterministic` makes the bits of a model on a CPU independent of the others. With several threads the order of a sum depends on the
number of models. Tiny weights (the study starts at a standard deviation of 1e-8) produce subnormal numbers, which a CPU multiplies a
hundred times slower than zero.
"""

import contextlib
import copy
import functools
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from rhn.errors import InvalidInputError

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K models: one module without memory, and the K values of each of its parameters and buffers, (K, ...) by name."""

    skeleton: nn.Module
    weights: Weights
    constants: Weights
    """What is not trained: buffers, and parameters that ask for no gradient."""

    @classmethod
    def of(cls, models: Sequence[nn.Module], device: torch.device | str = "cpu") -> "Ensemble":
        """A copy of these models, which must be alike but for the values of their parameters."""
        trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
        values = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        stacked = {name: torch.stack([v[name].detach() for v in values]).to(device) for name in values[0]}
        skeleton = copy.deepcopy(models[0]).to("meta")
        return cls(
            skeleton,
            {name: t for name, t in stacked.items() if name in trained},
            {name: t for name, t in stacked.items() if name not in trained},
        )

    @classmethod
    def in_evaluation(cls, model: nn.Module, device: torch.device | str = "cpu") -> "Ensemble":
        """A copy of one model, in evaluation mode: a cell of the user may have its own dropout."""
        stack = cls.of([model], device)
        stack.skeleton.eval()
        return stack

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.weights.values())).dtype

    def __getitem__(self, which: slice | list[int]) -> "Ensemble":
        """Some of the models: views of them for a slice, a copy for a list of places."""
        return Ensemble(self.skeleton, *tree_map(lambda t: t[which], (self.weights, self.constants)))

    def finite(self) -> Tensor:
        """(K,) bool: whether all trained weights of a model are finite."""
        return torch.stack([t.flatten(1).isfinite().all(1) for t in self.weights.values()]).all(0)

    def map(self, function: Callable[..., Any], *shared, own: Any = None) -> Any:
        """function(model, *shared) for every model, stacked.

        Where `own` is given, a tree of tensors (K, ...), each model gets its slice of it: function(model, its own, *shared).
        """

        def of_one(weights, constants, own):
            return function(self._model(weights, constants), *[own] * (own is not None), *shared)

        with torch.no_grad():
            return vmap(of_one, in_dims=(0, 0, mapped(own)))(self.weights, self.constants, own)

    def gradients(self, loss: Callable[..., Any], *shared, own: Any = None, has_aux: bool = False) -> Any:
        """Gradients of the number loss(model, *shared) in the trained weights of every model; `own` as for `map`.

        has_aux: the loss returns (number, more), and this (gradients, more), both stacked.
        """

        def of_one(weights, constants, own):
            mine = [own] * (own is not None)
            return grad(lambda w: loss(self._model(w, constants), *mine, *shared), has_aux=has_aux)(weights)

        return vmap(of_one, in_dims=(0, 0, mapped(own)))(self.weights, self.constants, own)

    def _model(self, weights: Weights, constants: Weights) -> Callable:
        return lambda *args, **kwargs: functional_call(self.skeleton, (weights, constants), args, kwargs)


def sums(stacked: Tensor) -> Tensor:
    """The sum of each model's numbers, (K, ...) -> (K,) in float64; one after another, so that no bit depends on the others."""
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


def mapped(tree: Any) -> Any:
    """vmap's in_dims for a tree of stacked tensors, in which None may stand for a tensor."""
    return tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, tree)


def places_to_keep(live: Sequence[bool], device: torch.device) -> list[int]:
    """The places of an ensemble that go on, given which of them are live (at least one).

    >>> places_to_keep([True, False, True], torch.device("cpu"))
    [0, 2]
    >>> [places_to_keep(live, torch.device("cuda")) for live in ([True, False, True], [True, False, False, False])]
    [[0, 1, 2], [0]]
    """
    size = sum(live)
    if device.type == "cuda":
        size = len(live)
        while sum(live) <= size // 2:
            size = -(-size // 2)
    living_first = sorted(range(len(live)), key=lambda k: not live[k])  # ended ones fill what is left
    return sorted(living_first[:size])


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


@contextlib.contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Context in which torch uses `threads` threads and sets denormal numbers to zero; the former settings are restored at its end.

    Raises InvalidInputError for more threads than the machine has CPUs: thousands of threads end the process.
    """
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise InvalidInputError(f"the number of threads is {threads}, expected 1 to {most}, the CPUs of this machine")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Context in which subnormal numbers count as zero on the CPU; the former setting is restored at its end."""
    before = torch.tensor([1e-40], dtype=torch.float32, device="cpu").mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)

"""K models of equal shape as one program: their weights stacked, every operation on all of them at once.

    ensemble = Ensemble.of(models)
    ensemble.map(lambda model, x: model(x), x)          (K, ...): each model on the same x
    ensemble.gradients(loss, x)                         gradients of loss(model, x), by name, (K, ...)

The modules are ordinary ones: torch.func puts the K sets of weights through one of them. Nothing is summed over K, so no model
depends on the others.

`captured` replays a function as CUDA graphs: a recurrence is thousands of small launches, its graph is one. Tensor arguments are copied
to the place of those of the first call with their shapes and types; other arguments are part of the key. Each key is captured once,
which takes as long as two calls without a graph. On other devices the function is called as it is.
"""

import copy
import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

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


def mapped(tree: Any) -> Any:
    """vmap's in_dims for a tree of stacked tensors, in which None may stand for a tensor."""
    return tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, tree)


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

"""Run K models of equal shape as one program. Their weights are stacked, and every operation acts
on all models at once.

    ensemble = Ensemble.of(models)
    ensemble.map(lambda model, x: model(x), x)    (K, ...): each model on the same x
    ensemble.gradients(loss, x)                   gradients of loss(model, x), by name, (K, ...)

The models are ordinary modules: torch.func runs one module with K sets of weights. Nothing is
summed over K, so no model depends on the others.

Models are built from their seeds if the free memory is large enough for their training. Seeds
depend only on (seed, architecture, depth, trial or epoch), never on scheduling. A position of a
batch is one time step of one row. For every position a model keeps a few copies of its
matrix-vector products: in the forward pass, in the backward pass and between them. A copy has one
number for each matrix row. On a CPU an ensemble is cut into parts that fit into the cache.

`captured` replays a function as CUDA graphs: a recurrence is thousands of small kernel launches,
and its graph is one launch. The shapes and types of tensor arguments, and the values of all other
arguments, are the key of a graph. Each key is captured once, which takes as long as two calls
without a graph. A replay copies its tensor arguments into the memory of the captured call. On other
devices the function itself is called.

`deterministic` makes the bits of a model on a CPU independent of the other models: with several
threads the order of a sum would depend on the number of models. `deterministic` also sets subnormal
numbers to zero, which a CPU multiplies a hundred times faster. Tiny weights produce such numbers
(in some trials of the optimisation study the initial weights have a standard deviation of 1e-8).
"""

import contextlib
import copy
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from rhn.cells import is_ours
from rhn.cells.init import for_steps
from rhn.errors import InvalidInputError, UsersCodeError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.utils.validation import check_room, check_seed

Weights = dict[str, Tensor]
COPIES = 5  # measured on our cells: 2.4 to 5.6; compiled kernels need less
TRAINED = 4  # weights, gradients, momentum, and the best weights so far
CACHE_BYTES = 8 << 20  # weights of the models in one pass of a step: more would not fit the cache
PART_BYTES = 512 << 20  # memory of a pass: larger parts gain nothing
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _GIGABYTE = -1, -3, 1 << 30


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K models: one module without memory (on torch's meta device), and the stacked values (K, ...)
    of each parameter and buffer, by name.

    >>> models = [nn.Linear(2, 1) for _ in range(3)]
    >>> Ensemble.of(models).weights["weight"].shape  # (K, 1, 2)
    torch.Size([3, 1, 2])
    """

    skeleton: Any
    weights: Weights
    constants: Weights
    """Buffers, and parameters without a gradient: the tensors that are not trained."""

    @classmethod
    def of(cls, models: Sequence[nn.Module], device: torch.device | str = "cpu") -> "Ensemble":
        """Stack copies of these models, which may differ only in the values of their parameters."""
        trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
        values = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        stacked = {
            name: torch.stack([v[name].detach() for v in values]).to(device) for name in values[0]
        }
        skeleton = copy.deepcopy(models[0]).to("meta")
        return cls(
            skeleton,
            {name: t for name, t in stacked.items() if name in trained},
            {name: t for name, t in stacked.items() if name not in trained},
        )

    @classmethod
    def in_evaluation(cls, model: nn.Module, device: torch.device | str = "cpu") -> "Ensemble":
        """Return an ensemble of a copy of one model in evaluation mode, because a user's cell may
        have its own dropout.
        """
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
        """Return some of the models: views of them for a slice, copies for a list of indices."""
        some = tree_map(lambda t: t[which], (self.weights, self.constants))
        return Ensemble(self.skeleton, *some)

    def finite(self) -> Tensor:
        """Return (K,) bool: True for each model whose trained weights are all finite."""
        return torch.stack([t.flatten(1).isfinite().all(1) for t in self.weights.values()]).all(0)

    def map(self, function: Callable[..., Any], *shared, own: Any = None) -> Any:
        """Call function(model, *shared) for every model, and stack the results.

        own: a tree of tensors (K, ...), of which each model gets its slice; the call is then
        function(model, slice, *shared).
        """

        def of_one(weights, constants, own):
            mine = () if own is None else (own,)
            return function(self._model(weights, constants), *mine, *shared)

        with torch.no_grad(), _not_random(self.skeleton):
            return vmap(of_one, in_dims=(0, 0, mapped(own)))(self.weights, self.constants, own)

    def gradients(
        self, loss: Callable[..., Any], *shared, own: Any = None, has_aux: bool = False
    ) -> Any:
        """Return the gradient of the number loss(model, *shared) with respect to each model's
        trained weights, stacked over models; `own` as for `map`.

        has_aux: True if the loss returns (number, more); this method then returns (gradients,
        more), both stacked.
        """

        def of_one(weights, constants, own):
            mine = () if own is None else (own,)

            def loss_of(weights):
                return loss(self._model(weights, constants), *mine, *shared)

            return grad(loss_of, has_aux=has_aux)(weights)

        with _not_random(self.skeleton):
            return vmap(of_one, in_dims=(0, 0, mapped(own)))(self.weights, self.constants, own)

    def _model(self, weights: Weights, constants: Weights) -> Callable:
        return lambda *args, **kwargs: functional_call(
            self.skeleton, (weights, constants), args, kwargs
        )


@contextlib.contextmanager
def _not_random(model: nn.Module) -> Iterator[None]:
    """Raise UsersCodeError if a user's own cell draws random numbers. They would depend on the
    other models and on the moment of an interruption.
    """
    try:
        yield
    except RuntimeError as error:
        if "randomness" not in str(error):
            raise
        raise UsersCodeError(
            f"the cell {getattr(model, 'cell', '')} draws random numbers while it runs, as "
            "nn.Dropout does: expected a cell that draws none; language models have dropout as "
            "options, such as --drop-hidden"
        ) from error


def sums(stacked: Tensor) -> Tensor:
    """Sum the numbers of each model, (K, ...) -> (K,) in float64. Models are summed one after
    another, so that no bit of one depends on the others.
    """
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


def mapped(tree: Any) -> Any:
    """Return vmap's in_dims for a tree of stacked tensors, some of which may be None."""
    return tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, tree)


def captured(
    function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Wrap a function of trees of tensors and numbers. On a GPU the function becomes one CUDA graph
    for each combination of shapes and numbers.

    On a GPU the next call overwrites the result. The result may also be an argument of the next
    call.

    changes: the tensors that the function changes in place. The function must not refer to the
    object that holds the wrapped function. Graphs are freed by reference counts, and a cycle would
    keep their memory until the garbage collector runs.
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
    """Return an argument's part of the key of a graph: the shape and type of a tensor, or any other
    value itself.
    """
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _place(leaf: Any) -> Any:
    """Return the memory of a tensor argument in a graph. Other arguments are part of the graph."""
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
        """Run the function once on a side stream, as capturing requires, then record its graph.
        Restore all changed tensors.
        """
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
    """Return the stream for all captures on a device. There is only one, because cuBLAS keeps a
    workspace for every stream.
    """
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Return a context in which torch uses `threads` threads and sets subnormal numbers to zero.
    Its end restores the old settings.

    Raises InvalidInputError for more threads than the machine has CPUs, because thousands of
    threads would crash the process.
    """
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise InvalidInputError(
            f"the number of threads is {threads}, expected 1 to {most}, the CPUs of this machine"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Return a context in which subnormal numbers count as zero on the CPU. Its end restores the
    old setting.
    """
    before = torch.tensor([1e-40], dtype=torch.float32, device="cpu").mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def build_model(
    config: ChoraleConfig | LanguageConfig,
    vocabulary_size: int | None = None,
    *,
    seed: int | None = None,
    device=None,
) -> Any:
    """Build the model of a configuration with its initial weights.

    Args:
        vocabulary_size: number of symbols of a language model.
        seed: seed of the initial weights. None: the seed of the configuration.

    Raises InvalidInputError if the cell lacks an option of the configuration, or if the free memory
    is too small for the model.
    """
    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    options = {
        "hidden_size": config.hidden_size,
        "depth": config.depth,
        "init": config.init,
        "generator": generator,
    }
    model: Any = PolyphonicModel
    if isinstance(config, LanguageConfig):
        model = LanguageModel
        options["init"] = for_steps(config.init, config.window)
        options |= {name: getattr(config, name) for name in ("layers", "embedding_size", "tied")}
        options["vocabulary_size"] = vocabulary_size
    options |= config.options
    if is_ours(config.cell):  # a user's cell may not work without memory
        require_memory(model(config.cell, device="meta", **options), device=device)
    return model(config.cell, device=device, **options)


def build_models(
    build: Callable[[int], nn.Module], seeds: Sequence[int], device
) -> dict[int, nn.Module]:
    """Build the models of several seeds on the CPU, for joint training on a device.

    Raises InvalidInputError if the free memory of the device is too small for all models, if there
    are no seeds, or if a seed is not valid or occurs twice.
    """
    if len(seeds) == 0:
        raise InvalidInputError("there are no seeds: expected at least one")
    first = build(check_seed(seeds[0]))
    require_memory(first, len(seeds), device)  # before the seeds are read one by one
    seeds = list(map(check_seed, seeds))
    if len(set(seeds)) < len(seeds):
        raise InvalidInputError(
            f"the seeds are {', '.join(map(str, seeds))}, expected distinct ones"
        )
    return {seeds[0]: first} | {seed: build(seed) for seed in seeds[1:]}


def require_memory(model: nn.Module, models: int = 1, device=None) -> None:
    """Raise InvalidInputError if the free memory of a device is too small for the training of
    `models` models like this one.
    """
    whose, advice = "the network's", "use a smaller hidden size or depth"
    if models != 1:
        whose, advice = f"{models} networks'", "use fewer of them, a smaller hidden size or depth"
    what = f"{whose} training (weights, gradients, optimizer)"
    check_room(models * TRAINED * weight_bytes(model), what, advice, str(device or "cpu"))


def weight_bytes(model: nn.Module) -> int:
    """Return the number of bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def step_bytes(model: nn.Module, positions: int) -> int:
    """Estimate the bytes that one model needs, in addition to its weights, for an optimiser step on
    a batch of `positions` positions (time steps x rows).

    Evaluation needs no more memory: its batches have up to twice the rows, but it has no backward
    pass.
    """
    outputs = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * positions


def part_size(model: nn.Module, positions: int, device: torch.device) -> int | None:
    """Return the number of models of this size that share one pass of an optimiser step on a batch
    of `positions` positions. None (on a GPU): all models.
    """
    if device.type != "cpu":
        return None
    in_cache = CACHE_BYTES // weight_bytes(model)
    in_memory = PART_BYTES // step_bytes(model, positions)
    return max(1, min(in_cache, in_memory))


def tune_malloc() -> None:
    """Let this process keep freed memory for its next tensors (with glibc; otherwise nothing
    happens).

    By default the memory of every tensor of more than 128 kB is given back to the system and
    fetched again, page by page, at the next optimiser step. In small networks this took a third of
    a step's time. Call this function in processes that do nothing but train.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        mallopt(_M_MMAP_THRESHOLD, _GIGABYTE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _GIGABYTE - 1)


def weights_generator(seed: int, arch: str, depth: int, trial: int = 0) -> torch.Generator:
    """Return the CPU generator that draws the initial weights of one trial, whatever its device."""
    (word,) = _sequence("weights", seed, arch, depth, trial).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def batch_order(seed: int, arch: str, depth: int, epoch: int, batches: int) -> list[int]:
    """Return the minibatch order of an epoch, as indices. The order is the same for every trial of
    (architecture, depth).

    >>> batch_order(0, "rhn", 4, 1, 7)
    [2, 0, 6, 1, 3, 5, 4]
    """
    generator = np.random.default_rng(_sequence("batches", seed, arch, depth, epoch))
    return generator.permutation(batches).tolist()


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on a device. Its seed is a function of these numbers."""
    (word,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))


def _sequence(
    purpose: str, seed: int, arch: str, depth: int, number: int
) -> np.random.SeedSequence:
    entropy = [seed, crc32(arch.encode()), depth, number, crc32(purpose.encode())]
    return np.random.SeedSequence(entropy)

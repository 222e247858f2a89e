"""Run K models of equal shape as one program. Their weights are stacked, and every operation acts
on all models at once.

    ensemble = Ensemble.of(models)
    ensemble.map(lambda model, x: model(x), x)    (K, ...): each model on the same x
    ensemble.gradients(loss, x)                   gradients of loss(model, x), by name, (K, ...)

Nothing is summed over K. Random numbers depend only on (seed, architecture, depth, trial or epoch).
"""

import contextlib
import copy
import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from rhn.cells.memory_init import for_steps
from rhn.errors import InvalidInputError
from rhn.models.networks import PolyphonicModel
from rhn.utils.threads import is_flushed, torch_threads, until_done
from rhn.utils.torch_private import tree_map
from rhn.utils.validation import check_room, unexpected, whole_number

if TYPE_CHECKING:
    from rhn.training.config import ChoraleConfig, LanguageConfig

Weights = dict[str, Tensor]
COPIES = 5  # of each matrix-vector product; measured on our cells: 2.4 to 5.6
TRAINED = 4  # weights, gradients, momentum, and the best weights so far
CACHE_BYTES = 8 << 20  # weights of the models in one pass of a step: more would not fit the cache
PART_BYTES = 512 << 20  # memory of a pass: larger parts gain nothing


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K models: a module on the meta device, and the stacked values (K, ...) of each parameter and
    buffer, by name. Those that are not trained are constants.

    >>> models = [nn.Linear(2, 1) for _ in range(3)]
    >>> Ensemble.of(models).weights["weight"].shape  # (K, 1, 2)
    torch.Size([3, 1, 2])
    """

    skeleton: Any
    weights: Weights
    constants: Weights

    @classmethod
    def of(cls, models: Sequence[nn.Module], device: torch.device | str = "cpu") -> "Ensemble":
        """Stack copies of these models, which may differ only in the values of their parameters."""
        values = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        stacked = {
            name: torch.stack([v[name].detach() for v in values]).to(device) for name in values[0]
        }
        trained = [name for name, p in models[0].named_parameters() if p.requires_grad]
        weights = {name: stacked.pop(name) for name in trained}
        empty: dict[int, Any] = {id(t): t.to("meta") for t in models[0].buffers()}
        for p in models[0].parameters():  # one for all names of a tied weight
            empty[id(p)] = nn.Parameter(p.to("meta"), p.requires_grad)
        return cls(copy.deepcopy(models[0], empty), weights, stacked)

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

    def map(self, function: Callable[..., Any], *shared, own: Any = None) -> Any:
        """Call function(model, *shared) for every model in evaluation mode, and stack the results.
        own: a tree of tensors (K, ...); the call is then function(model, its slice, *shared).
        """
        self.skeleton.eval()
        with torch.no_grad():
            return self._over_models(function, shared, own)

    def gradients(self, loss: Callable, *shared, own: Any = None, has_aux: bool = False) -> Any:
        """Return the gradient of loss(model, *shared) of each model's weights; `own` as for `map`.
        With `has_aux`: (gradients, more), of a loss that returns (number, more).
        """
        self.skeleton.train()
        return self._over_models(loss, shared, own, partial(grad, has_aux=has_aux))

    def _over_models(
        self, function: Callable, shared: tuple, own: Any, transform: Callable = lambda f: f
    ) -> Any:
        """Map a function of a model, transformed as one of its weights, over all models."""

        def of_one(weights, constants, own):
            values, given = (weights, constants), shared if own is None else (own, *shared)
            return function(
                lambda *args, **named: functional_call(self.skeleton, values, args, named), *given
            )

        dims = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, own)
        return vmap(transform(of_one), in_dims=(0, 0, dims))(self.weights, self.constants, own)


def sums(stacked: Tensor) -> Tensor:
    """Sum the numbers of each model, (K, ...) -> (K,) in float64, one model after another."""
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


@contextlib.contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Return a context with `threads` threads of torch, in which subnormal numbers (slow) count as
    zero; other threads keep their settings.
    """
    threads, flushed = whole_number("threads", threads, most=os.cpu_count() or 1), is_flushed()
    with torch_threads(threads):
        try:
            torch.set_flush_denormal(True)
            yield
        finally:
            until_done(partial(torch.set_flush_denormal, flushed))


def captured(
    function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Wrap a function of trees of tensors and numbers, which changes the tensors `changes`
    in place. On a GPU the next call overwrites the result, which may be its argument. Without
    cycles: the function must not refer to the object that holds it.
    """
    if device.type != "cuda":
        return function
    from rhn.training.graphs import _Captured, _Graphs  # only for a GPU

    return _Captured(function, _Graphs(changes, device))


def build_model(
    config: "ChoraleConfig | LanguageConfig",
    vocabulary_size: int | None = None,
    *,
    seed: int | None = None,
    device=None,
) -> Any:
    """Build a configuration's model. seed: None: that of the configuration."""
    from rhn.training.config import LanguageConfig  # trials of a study have a StudyConfig

    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    model: Any = PolyphonicModel
    options = {name: getattr(config, name) for name in ("hidden_size", "depth", "init")}
    if isinstance(config, LanguageConfig):
        from rhn.models.language import LanguageModel  # chorales do not need it

        model, options["init"] = LanguageModel, for_steps(config.init, config.window)
        options |= {name: getattr(config, name) for name in ("layers", "embedding_size", "tied")}
        options["vocabulary_size"] = vocabulary_size
    return model(config.cell, device=device, **options | config.options, generator=generator)


def build_models(build: Callable, seeds: Sequence[int], device) -> dict[int, nn.Module]:
    """Build the models of several seeds on the CPU, if the free memory of a device suffices."""
    if not isinstance(seeds, Sequence | np.ndarray):
        raise unexpected("seeds", seeds, "a list of one or more distinct numbers")
    if len(seeds) > 0:
        first = build(whole_number("seed", seeds[0], 0))
        need = len(seeds) * TRAINED * weight_bytes(first)  # before the seeds are read one by one
        check_room(need, "training", "use fewer or smaller networks", str(device or "cpu"))
    distinct = {whole_number("seed", seed, 0): None for seed in seeds}
    if len(distinct) != max(1, len(seeds)):
        raise InvalidInputError(f"seeds is {[*seeds]}: expected one or more distinct numbers")
    return {seed: build(seed) if k else first for k, seed in enumerate(distinct)}


def weight_bytes(model: nn.Module) -> int:
    """Return the number of bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def step_bytes(model: nn.Module, positions: int) -> int:
    """Estimate the bytes of an optimiser step of one model on `positions` time steps x rows."""
    outputs = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * positions


def part_size(model: nn.Module, positions: int, device: torch.device) -> int | None:
    """Return the number of models that share a pass of a step, to fit into the cache; None: all."""
    fits = CACHE_BYTES // weight_bytes(model), PART_BYTES // step_bytes(model, positions)
    return max(1, min(fits)) if device.type == "cpu" else None


def tune_malloc() -> None:
    """Let this process keep freed memory (with glibc): to fetch it anew takes a third of the time
    in small networks.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (2 << 30) - 1)  # M_TRIM_THRESHOLD


def weights_generator(seed: int, arch: str, depth: int, trial: int = 0) -> torch.Generator:
    """Return the CPU generator that draws the initial weights of one trial, whatever its device."""
    entropy = [seed, crc32(arch.encode()), depth, trial, crc32(b"weights")]
    (word,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def batch_order(seed: int, arch: str, depth: int, epoch: int, batches: int) -> list[int]:
    """Return the minibatch order of an epoch, the same for every trial of (architecture, depth).

    >>> batch_order(0, "rhn", 4, 1, 7)
    [2, 0, 6, 1, 3, 5, 4]
    """
    entropy = [seed, crc32(arch.encode()), depth, epoch, crc32(b"batches")]
    return np.random.default_rng(entropy).permutation(batches).tolist()


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator with a seed that is a function of these numbers."""
    (word,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))

"""The decoding cache of a layer as the state of a recurrence: `from_cache(layer)` gives step(x, s).

A state-space or linear-attention layer keeps what it needs of the past in a cache of fixed size.
All floating-point tensors in it that change from token to token are one state of N numbers,
flattened in their order in the cache.

Layers write into their cache in place. A step therefore works on a fresh copy. Known layers are
those of Hugging Face's transformers that take `cache_params`: Mamba, Mamba2, FalconMamba and
others. Any other layer is described by its cache and a function that calls it.

Legend: B sequences, m inputs, N entries of a state, k columns.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from gersgorin._validate import users_code
from gersgorin.run.autodiff import Linearized
from gersgorin.run.cell import as_rows
from rhn.errors import InvalidInputError


class _Copying(TorchFunctionMode):
    """Make the copies of tensors in `copy.deepcopy` by a function."""

    def __init__(self, copied: Callable[[Tensor], Tensor]):
        super().__init__()
        self._copied = copied

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return (
            self._copied(args[0])
            if function is Tensor.__deepcopy__
            else function(*args, **(kwargs or {}))
        )


def copied_cache(cache: Any, copied: Callable[[Tensor], Tensor] = torch.clone) -> Any:
    """A copy of a cache of any kind, with its tensors copied by a function. Raises
    InvalidInputError if it cannot be copied.
    """
    with users_code("the cache cannot be copied"), _Copying(copied):
        return copy.deepcopy(cache)


def tensors_in(cache: Any) -> list[Tensor]:
    """The tensors of a cache, in a fixed order."""
    found: list[Tensor] = []
    copied_cache(cache, lambda t: found.append(t) or t)  # type: ignore[func-returns-value]
    return found


class CacheCell(nn.Module):
    """A layer as a cell; its weights are those of the layer. Made by `from_cache`."""

    depth = 1
    batch_first = True

    def __init__(self, layer: nn.Module, cache: Any, call: Callable, input_size: int):
        """cache: before the first token. call: (layer, x (B, 1, m), cache) -> output; the cache is
        changed.
        """
        super().__init__()
        self.layer, self.input_size, self._call = layer, input_size, call
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 1, 1, input_size, generator=generator, dtype=torch.float64).to(
            next(layer.parameters())
        )
        caches = [cache]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for x_t in x:
                caches.append(copied_cache(caches[-1]))
                hint = "give its cache and call, or its input_size"
                with users_code(
                    f"{self._get_name()} takes no step from an input {tuple(x_t.shape)}", hint
                ):
                    call(layer, x_t, caches[-1])
        before, first, second = map(tensors_in, caches)
        if [t.shape for t in first] != [t.shape for t in second]:
            raise InvalidInputError(
                f"{self._get_name()} has no state of fixed size: its cache grows with every "
                "token, as that of attention; use "
                "gersgorin.memory(module, x), which needs no state"
            )
        # what no token changes is no state: it would add eigenvalues 1
        pairs = [*enumerate(zip(first, second, strict=True))]
        self._places = [k for k, (a, b) in pairs if a.is_floating_point() and not torch.equal(a, b)]
        if not self._places or any(
            t.dim() == 0 or len(t) != 1 for t in second if t.is_floating_point()
        ):
            raise InvalidInputError(
                f"{self._get_name()} keeps no state: expected a cache of floating-point "
                "tensors (1, ...) that every token changes"
            )
        filled = [t.shape for t in before] == [t.shape for t in second]
        self._cache = caches[1]
        self._start = (
            before
            if filled
            else [torch.zeros_like(t) if t.is_floating_point() else t for t in first]
        )
        self._shapes = [first[k].shape[1:] for k in self._places]
        self.hidden_size = self.state_size = sum(shape.numel() for shape in self._shapes)

    def _get_name(self) -> str:
        return type(self.layer).__name__

    def initial_state(self) -> Tensor:
        """The state before the first token, (N,)."""
        like = next(self.layer.parameters())
        return torch.cat([self._start[k].flatten() for k in self._places]).to(like)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        """The state after an input, (..., N), for x (..., m) and s (..., N)."""
        return self.run_step(x, s)[1]

    def run_step(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(The layer's output (..., k), the state after it (..., N)) for x (..., m) and s (...,
        N).
        """
        lead, (x, s) = as_rows(x, s)
        parts = iter(s.split([shape.numel() for shape in self._shapes], 1))
        tensors = [
            t.expand(len(s), *t.shape[1:]).clone() if t.is_floating_point() else t.clone()
            for t in self._start
        ]
        for k in self._places:
            tensors[k] = next(parts).reshape(tensors[k].shape).to(tensors[k].dtype, copy=True)
        fresh = iter(tensors)
        cache = copied_cache(self._cache, lambda t: next(fresh))
        with contextlib.ExitStack() as stack:
            if torch.is_grad_enabled():
                with contextlib.suppress(RuntimeError):  # torch.func has no such hooks
                    # values saved for the backward pass survive a change in place
                    stack.enter_context(saved_tensors_hooks(torch.clone, lambda t: t))
            output = self._call(self.layer, x[:, None], cache)
        found = tensors_in(cache)
        after = torch.cat([found[k].flatten(1).to(s.dtype) for k in self._places], 1)
        return output.reshape(*lead, -1), after.reshape(*lead, -1)

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """The states (T, B, N) after s0 (B, N) along x (T, B, m)."""
        states = [s0]
        for x_t in x:
            states.append(self.step(x_t, states[-1]))
        return torch.stack(states[1:])

    def forward(self, x: Tensor) -> Tensor:
        """The layer's own outputs (B, T, k) for whole sequences x (B, T, m)."""
        return self.layer(x)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d s' / d s, (..., N, N)."""
        return self._matrices(self._by_state, x, s)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d s' / d x, (..., N, m)."""
        return self._matrices(lambda x, s: Linearized(self.step, x, s), x, s)

    def push(self, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
        """d s' / d s times Q (N, k), without the matrix, for x (m,) and s (N,)."""
        return self._by_state(x, s).push(Q)

    def _by_state(self, x: Tensor, s: Tensor) -> Linearized:
        return Linearized(lambda s, x: self.step(x, s), s, x)

    def _matrices(
        self, linearized: Callable[[Tensor, Tensor], Linearized], x: Tensor, s: Tensor
    ) -> Tensor:
        lead, rows = as_rows(x, s)
        found = [linearized(*row).matrix() for row in zip(*rows, strict=True)]
        return torch.stack(found).reshape(*lead, *found[0].shape)


def from_cache(
    layer: nn.Module,
    cache: Any = None,
    call: Callable | None = None,
    *,
    input_size: int | None = None,
) -> CacheCell:
    """A layer with a decoding cache as a cell: step(x, s), state_size, initial_state(), for every
    function that takes a cell.

    Args:
        layer: a mixer of transformers that takes `cache_params` (`model.layers[0].mixer` of Mamba,
            Mamba2, FalconMamba), or any layer with `cache` and `call`. Its weights are shared, its
            attributes are left as they are; dropout is off.
        cache: the cache before the first token, for one sequence: tensors (1, ...) in lists,
            dictionaries or objects.
        call: call(layer, x (B, 1, m), cache) -> output, which changes the cache or the tensors in
            it; batches of any size.
        input_size: m; None: as the layer says.

    Raises:
        InvalidInputError: an unknown layer; a cache without floating-point tensors, of changing
            size, or that no token changes.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> def call(layer, x, cache):
    ...     cache["h"] = 0.5 * cache["h"] + layer(x[:, 0])
    ...     return cache["h"]
    >>> cell = from_cache(layer, {"h": torch.zeros(1, 2)}, call)
    >>> cell.state_size, cell.jacobian(torch.ones(2), cell.initial_state()).tolist()
    (2, [[0.5, 0.0], [0.0, 0.5]])
    """
    if (
        not isinstance(layer, nn.Module)
        or next(layer.parameters(), None) is None
        or (cache is None) != (call is None)
    ):
        raise InvalidInputError(
            f"got {type(layer).__name__}: expected a torch module with weights, and with cache "
            "and call or none of them"
        )
    if call is None:
        if not has_cache(layer):
            raise InvalidInputError(
                f"{type(layer).__name__} has no decoding cache that is known: expected a layer "
                "of transformers such as MambaMixer, "
                "or cache and call; for a layer without a state use gersgorin.memory(module, x)"
            )
        cache, call = _transformers_cache(), lambda layer, x, cache: layer(x, cache_params=cache)
    linear = [part.in_features for part in layer.modules() if isinstance(part, nn.Linear)]
    sizes = input_size, *map(vars(layer).get, ("hidden_size", "input_size")), *linear
    size = next((n for n in sizes if isinstance(n, int)), None)
    if size is None:
        raise InvalidInputError(
            f"{type(layer).__name__} does not say how many inputs it has: give input_size"
        )
    return CacheCell(_alone(layer), cache, call, size).eval()


def has_cache(layer: nn.Module) -> bool:
    """True for a layer of transformers whose decoding cache `from_cache` knows."""
    try:
        return "cache_params" in inspect.signature(layer.forward).parameters and hasattr(
            layer, "layer_idx"
        )
    except (TypeError, ValueError):
        return False


def _transformers_cache():
    """Of one layer of Mamba, Mamba2, FalconMamba: a convolution and a recurrent state."""
    try:
        from transformers.cache_utils import Cache, LinearAttentionLayer
    except ImportError as error:
        raise InvalidInputError(
            "a layer with cache_params needs the package transformers: pip install "
            "'rhn-toolkit[layers]', or give cache and call"
        ) from error
    return Cache(layers=[LinearAttentionLayer()])


def _alone(layer: nn.Module) -> nn.Module:
    """A layer as the first of its model, with the same weights: its number, and attributes in which
    it keeps a cache, are its own.
    """
    own: Any = copy.copy(layer)
    own._modules = {
        name: _alone(part) if part is not None else None for name, part in layer._modules.items()
    }
    if hasattr(layer, "layer_idx") and not any(
        hasattr(part, "layer_idx") for part in layer.children()
    ):
        own.layer_idx = 0
    return own

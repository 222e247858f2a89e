"""The decoding cache of a layer as the state of a recurrence: `from_cache(layer)` gives step(x, s).

A state-space or linear-attention layer keeps what it needs of the past in a cache of fixed size. All floating-point tensors in it that
change from token to token are one state of N numbers, flattened in their order in the cache.

Layers write into their cache in place. A step therefore works on a fresh copy; Jacobians come from forward mode, with one column of the
Jacobian in each row of a batch, and if an operation has no forward mode, from reverse mode, with one row of the Jacobian in each.

Known layers are those of Hugging Face's transformers: Mamba, Mamba2, FalconMamba and others that take `cache_params`, RWKV, xLSTM and
RecurrentGemma. Any other layer is described by its cache and a function that calls it.

Legend: B sequences, m inputs, N entries of a state, k columns.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks

from gersgorin._validate import with_gradients
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError
from rhn.utils.wording import first_line

ROWS = 4096  # of a batch for Jacobians, at most


@dataclass(frozen=True)
class _Recipe:
    """How to call a layer."""

    cache: Callable[[], Any]
    """Makes the cache before the first token."""
    step: Callable[[nn.Module, Tensor, Any], Tensor]
    """(layer, x (B, 1, m), cache) -> output; the cache is changed."""
    whole: Callable[[nn.Module, Tensor], Tensor]
    """(layer, x (B, T, m)) -> outputs."""


class CacheCell(nn.Module):
    """A layer as a cell; its weights are those of the layer. Made by `from_cache`."""

    depth = 1
    batch_first = True

    def __init__(self, layer: nn.Module, recipe: _Recipe, input_size: int):
        super().__init__()
        self.layer, self.input_size = layer, input_size
        self._recipe = recipe
        like = next(layer.parameters())
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 1, 1, input_size, generator=generator, dtype=torch.float64).to(like)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            empty = recipe.cache()
            first = self._called(x[0], _copied(empty))
            second = self._called(x[1], _copied(first))
        self._template, after, before = first, _tensors(second), _tensors(empty)
        self._check(after)
        start = (
            before if [t.shape for t in before] == [t.shape for t in after] else [torch.zeros_like(t) for t in after]
        )
        # what no token changes is no state: it would add eigenvalues 1
        self._places = [k for k, (a, b) in enumerate(zip(_tensors(first), after, strict=True)) if not torch.equal(a, b)]
        if not self._places:
            raise InvalidInputError(f"{self._name} keeps no state: no token changes its cache")
        self._start = start
        self._shapes = [after[k].shape[1:] for k in self._places]
        self.hidden_size = self.state_size = sum(shape.numel() for shape in self._shapes)
        self._batched = self._takes_batches(x[:, 0, 0])

    def initial_state(self) -> Tensor:
        """The state before the first token, (N,)."""
        like = next(self.layer.parameters())
        return torch.cat([self._start[k].flatten() for k in self._places]).to(like)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        """The state after an input, (..., N), for x (..., m) and s (..., N)."""
        return self.run_step(x, s)[1]

    def run_step(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(The layer's output (..., k), the state after it (..., N)) for x (..., m) and s (..., N)."""
        lead = np.broadcast_shapes(x.shape[:-1], s.shape[:-1])
        x, s = (v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in (x, s))
        if self._batched:
            output, after = self._step_rows(x, s)
        else:
            rows = [self._step_rows(*(v[None] for v in row)) for row in zip(x, s, strict=True)]
            output, after = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return output.reshape(*lead, -1), after.reshape(*lead, -1)

    def _step_rows(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """`run_step` of x (B, m) and s (B, N)."""
        parts = iter(s.split([shape.numel() for shape in self._shapes], 1))
        shapes = iter(range(len(self._start)))

        def take(t: Tensor) -> Tensor:
            k = next(shapes)
            if k in self._places:
                return next(parts).reshape(len(s), *t.shape[1:]).to(t.dtype, copy=True)
            return self._start[k].expand(len(s), *t.shape[1:]).clone()

        cache = _mapped(self._template, take)
        with contextlib.ExitStack() as stack:
            if torch.is_grad_enabled():
                with contextlib.suppress(RuntimeError):  # torch.func has no such hooks
                    # values saved for the backward pass survive a change in place
                    stack.enter_context(saved_tensors_hooks(torch.clone, lambda t: t))
            output = self._recipe.step(self.layer, x[:, None], cache)
        found = _tensors(cache)
        return output.flatten(1), torch.cat([found[k].flatten(1).to(s.dtype) for k in self._places], 1)

    @torch.no_grad()
    def _takes_batches(self, x: Tensor) -> bool:
        """True if two sequences (2, m) at once give the states of each alone; RWKV of transformers mixes them."""
        s = self.initial_state().expand(2, -1)
        try:
            together = self._step_rows(x, s)[1]
        except USERS_FAULT:  # whatever a layer raises
            return False
        alone = torch.cat([self._step_rows(row[None], s[:1])[1] for row in x])
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-4, atol=1e-6)

    def states(self, x: Tensor, s0: Tensor) -> Tensor:
        """The states (T, B, N) after s0 (B, N) along x (T, B, m)."""
        states = [s0]
        for x_t in x:
            states.append(self.step(x_t, states[-1]))
        return torch.stack(states[1:])

    def forward(self, x: Tensor) -> Tensor:
        """The layer's own outputs (B, T, k) for whole sequences x (B, T, m)."""
        return self._recipe.whole(self.layer, x)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d s' / d s, (..., N, N)."""
        return self._matrices(x, s, 1)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d s' / d x, (..., N, m)."""
        return self._matrices(x, s, 0)

    def push(self, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
        """d s' / d s times Q (N, k), without the matrix, for x (m,) and s (N,)."""
        try:
            return self._pushed(x, s, Q.T, 1).T
        except (RuntimeError, NotImplementedError):
            return self.jacobian(x, s) @ Q

    def _matrices(self, x: Tensor, s: Tensor, argument: int) -> Tensor:
        lead = np.broadcast_shapes(x.shape[:-1], s.shape[:-1])
        rows = [v.expand(*lead, v.shape[-1]).reshape(-1, v.shape[-1]) for v in (x, s)]
        found = [self._matrix(*row, argument) for row in zip(*rows, strict=True)]
        return torch.stack(found).reshape(*lead, *found[0].shape)

    def _matrix(self, x: Tensor, s: Tensor, argument: int) -> Tensor:
        of = (x, s)[argument]
        try:
            eye = torch.eye(len(of), dtype=of.dtype, device=of.device)
            return torch.cat([self._pushed(x, s, part, argument) for part in eye.split(ROWS)]).T
        except (RuntimeError, NotImplementedError):
            eye = torch.eye(len(s), dtype=s.dtype, device=s.device)
            return torch.cat([self._pulled(x, s, part, argument) for part in eye.split(ROWS)])

    @torch.no_grad()
    def _pushed(self, x: Tensor, s: Tensor, columns: Tensor, argument: int) -> Tensor:
        """The Jacobian times each of the columns (k, .), by forward mode: (k, N)."""
        given = [v.expand(len(columns), -1).clone() for v in (x, s)]
        with forward_ad.dual_level():
            given[argument] = forward_ad.make_dual(given[argument], columns)
            tangent = forward_ad.unpack_dual(self.step(*given)).tangent
            return given[1].new_zeros(len(columns), len(s)) if tangent is None else tangent.clone()

    @with_gradients()
    def _pulled(self, x: Tensor, s: Tensor, rows: Tensor, argument: int) -> Tensor:
        """Each of the rows (b, N) times the Jacobian, by reverse mode: (b, .)."""
        given = [v.detach().expand(len(rows), -1).clone() for v in (x, s)]
        given[argument].requires_grad_()
        how = {"allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(self.step(*given), given[argument], rows, **how)[0]

    @property
    def _name(self) -> str:
        return type(self.layer).__name__

    def _called(self, x: Tensor, cache):
        try:
            self._recipe.step(self.layer, x, cache)
        except RhnError:
            raise
        except USERS_FAULT as error:  # whatever a layer raises
            said = first_line(error)
            cuda = "cuda" in said.lower() or "triton" in said.lower()
            hint = (
                "; if it runs on a GPU only, move it there" if cuda else "; give its cache and call, or its input_size"
            )
            raise UsersCodeError(f"{self._name} takes no step from an input {tuple(x.shape)}: {said}{hint}") from error
        return cache

    def _check(self, after: list[Tensor]) -> None:
        if not after:
            integers: list[Tensor] = []
            _mapped(self._template, lambda t: t, integers.append)
            held = f"its cache holds {integers[0].dtype} only" if integers else "it fills no cache"
            raise InvalidInputError(f"{self._name} has no state: {held}, expected floating-point tensors that carry it")
        if [t.shape for t in _tensors(self._template)] != [t.shape for t in after]:
            raise InvalidInputError(
                f"{self._name} has no state of fixed size: its cache grows with every token, as that of attention; use "
                "gersgorin.memory(module, x), which needs no state"
            )
        if bad := [t.shape for t in after if t.dim() == 0 or len(t) != 1]:
            raise InvalidInputError(
                f"{self._name} has a cache with a tensor {tuple(bad[0])}: expected (1, ...), one sequence"
            )
        if not all(torch.isfinite(t).all() for t in after):
            raise InvalidInputError(f"{self._name} writes NaN or infinity into its cache: expected finite weights")


def from_cache(
    layer: nn.Module, cache: Any = None, call: Callable | None = None, *, input_size: int | None = None
) -> CacheCell:
    """A layer with a decoding cache as a cell: step(x, s), state_size, initial_state(), for every function that takes a cell.

    Args:
        layer: a mixer of transformers (`model.layers[0].mixer` of Mamba, `model.blocks[0]` of RWKV or xLSTM, ...), or any layer with
            `cache` and `call`. Its weights are shared, its attributes are left as they are; dropout is off.
        cache: the cache before the first token, for one sequence: tensors (1, ...) in lists, dictionaries or objects.
        call: call(layer, x (B, 1, m), cache) -> output, which changes the cache or the tensors in it; batches of any size.
        input_size: m; None: as the layer says.

    Raises:
        InvalidInputError: an unknown layer; a cache without floating-point tensors, of changing size, or that no token changes.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> def call(layer, x, cache):
    ...     cache["h"] = 0.5 * cache["h"] + layer(x[:, 0])
    ...     return cache["h"]
    >>> cell = from_cache(layer, {"h": torch.zeros(1, 2)}, call)
    >>> cell.state_size, cell.jacobian(torch.ones(2), cell.initial_state()).tolist()
    (2, [[0.5, 0.0], [0.0, 0.5]])
    """
    if not isinstance(layer, nn.Module):
        raise InvalidInputError(f"expected a torch module with a decoding cache, got {type(layer).__name__}")
    if (cache is None) != (call is None):
        raise InvalidInputError("cache and call describe a layer together: give both or none")
    if input_size is not None and (type(input_size) is not int or input_size < 1):
        raise InvalidInputError(f"input_size is {input_size!r}: expected a whole number of at least 1")
    if next(layer.parameters(), None) is None:
        raise InvalidInputError(f"{type(layer).__name__} has no parameters: expected a layer with weights")
    recipe = _recipe_of(layer) if call is None else _Recipe(lambda: cache, call, lambda layer, x: layer(x))
    if recipe is None:
        raise InvalidInputError(
            f"{type(layer).__name__} has no decoding cache that is known: expected a layer of transformers such as MambaMixer, or "
            "cache and call; for a layer without a state use gersgorin.memory(module, x)"
        )
    known = (layer, getattr(layer, "config", None))
    sizes = (getattr(of, name, None) for name in ("hidden_size", "input_size", "embedding_dim") for of in known)
    linear = (part.in_features for part in layer.modules() if isinstance(part, nn.Linear))
    size = input_size or next((n for n in sizes if isinstance(n, int)), None) or next(linear, None)
    if size is None:
        raise InvalidInputError(f"{type(layer).__name__} does not say how many inputs it has: give input_size")
    kind = type(type(layer).__name__, (CacheCell,), {})  # the layer's name in titles
    return kind(_alone(layer), recipe, size).eval()


def has_cache(layer: nn.Module) -> bool:
    """True for a layer whose decoding cache `from_cache` knows."""
    return _recipe_of(layer) is not None


def _recipe_of(layer: nn.Module) -> _Recipe | None:
    try:
        takes = inspect.signature(layer.forward).parameters
    except (TypeError, ValueError):
        return None
    if "cache_params" in takes and hasattr(layer, "layer_idx"):
        return _Recipe(_linear_attention_cache, _linear_attention_step, lambda layer, x: layer(x))
    if "state" in takes and "use_cache" in takes and hasattr(layer, "layer_id"):
        return _rwkv(layer)
    if "state" in takes and type(layer).__name__.startswith("xLSTM"):
        return _Recipe(lambda: {"state": None}, _xlstm_step, lambda layer, x: layer(x, None)[0])
    if hasattr(layer, "conv1d_state") and hasattr(layer, "rg_lru"):
        return _Recipe(lambda: {"conv1d_state": None, "recurrent_states": None}, _rg_lru_step, _rg_lru_whole)
    return None


def _linear_attention_cache():
    """Of one layer of Mamba, Mamba2, FalconMamba, Qwen3Next, ...: a convolution and a recurrent state."""
    try:
        from transformers.cache_utils import Cache, LinearAttentionLayer
    except ImportError as error:
        raise InvalidInputError(
            "a layer with cache_params needs the package transformers: pip install 'rhn-toolkit[layers]', or give cache and call"
        ) from error
    return Cache(layers=[LinearAttentionLayer()])


def _linear_attention_step(layer: nn.Module, x: Tensor, cache) -> Tensor:
    return layer(x, cache_params=cache)


def _rwkv(layer: nn.Module) -> _Recipe:
    inner = getattr(layer, "attention", layer)
    sizes = (layer.config.hidden_size,) * 2 + (inner.attention_hidden_size,) * 3
    state = [torch.zeros(1, size, 1).to(next(layer.parameters())) for size in sizes]
    state[4] -= 1e30  # the logarithm of the largest weight so far

    def step(layer: nn.Module, x: Tensor, cache: list) -> Tensor:
        return layer(x, state=cache, use_cache=True)[0]

    return _Recipe(lambda: state, step, lambda layer, x: layer(x)[0])


def _xlstm_step(layer: nn.Module, x: Tensor, cache: dict) -> Tensor:
    output, cache["state"] = layer(x, cache["state"])
    return output


def _rg_lru_step(layer: nn.Module, x: Tensor, cache: dict) -> Tensor:
    """A step of RecurrentGemma, whose layer is its own cache; it treats the first token, of position 0, differently."""
    layer.conv1d_state, layer.rg_lru.recurrent_states = cache["conv1d_state"], cache["recurrent_states"]
    position = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
    if layer.conv1d_state is not None:
        begun = [(part != 0).flatten(1).any(1, keepdim=True) for part in cache.values()]
        position = (begun[0] | begun[1]).long()
    output, _ = layer(x, position, None, use_cache=True)
    cache |= {"conv1d_state": layer.conv1d_state, "recurrent_states": layer.rg_lru.recurrent_states}
    layer.conv1d_state = layer.rg_lru.recurrent_states = None
    return output


def _rg_lru_whole(layer: nn.Module, x: Tensor) -> Tensor:
    positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    return layer(x, positions, None, use_cache=False)[0]


def _alone(layer: nn.Module) -> nn.Module:
    """A layer as the first of its model, with the same weights: its number, and attributes in which it keeps a cache, are its own."""
    own = copy.copy(layer)
    own._modules = {name: _alone(part) if part is not None else None for name, part in layer._modules.items()}
    for name in ("layer_idx", "layer_id"):
        if hasattr(layer, name) and not any(hasattr(part, name) for part in layer.children()):  # whose number counts
            setattr(own, name, 0)
    return own


def _mapped(
    cache: Any,
    of_floats: Callable[[Tensor], Tensor],
    of_others: Callable = lambda t: None,
    known: dict[int, Any] | None = None,
):
    """A copy of a cache with each floating-point tensor replaced, in a fixed order; other tensors are shown to a second function.

    A container in several places stays one (`known`: the copies so far, by the id of the original); each place of a tensor is its own.
    """
    known = {} if known is None else known
    if id(cache) in known:
        return known[id(cache)]

    def inner(part):
        return _mapped(part, of_floats, of_others, known)

    if isinstance(cache, Tensor):
        if not cache.is_floating_point():
            of_others(cache)
        return of_floats(cache) if cache.is_floating_point() else cache.clone()
    if isinstance(cache, tuple):
        parts = map(inner, cache)
        return type(cache)(*parts) if hasattr(cache, "_fields") else type(cache)(parts)  # _fields: a named tuple
    if isinstance(cache, MutableMapping | MutableSequence):
        fresh = known[id(cache)] = copy.copy(cache)
        for key, part in cache.items() if isinstance(cache, Mapping) else enumerate(cache):
            fresh[key] = inner(part)
        return fresh
    if isinstance(cache, nn.Module | type) or callable(cache):
        return cache
    slots = [name for kind in type(cache).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(cache, name)]
    if not (names := [*getattr(cache, "__dict__", ()), *slots]):
        return cache
    fresh = known[id(cache)] = copy.copy(cache)
    for name in names:
        object.__setattr__(fresh, name, inner(getattr(cache, name)))  # of a frozen dataclass, too
    return fresh


def _copied(cache: Any):
    return _mapped(cache, torch.clone)


def _tensors(cache: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(cache, lambda t: found.append(t) or t)
    return found

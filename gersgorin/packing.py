"""`Packing`: the nested tensors of a state as one vector for each row, and back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gersgorin import checks
from rhn.utils.torch_private import TreeSpec, tree_leaves, tree_unflatten


@dataclass(frozen=True, eq=False)
class Packing:
    """The tensors of a state as one vector for each row, a complex number as two real ones."""

    name: str
    like: list[Tensor]
    """The tensors of a state of one row, in the user's shapes."""
    tree: TreeSpec
    axes: list[int] | None = None
    """The axis of the rows of each tensor; None for states without such an axis."""

    def pack(self, state: Any) -> Tensor:
        """A state of B rows -> (B, N); without an axis of rows -> (N,)."""
        parts = [real_view(t) for t in tree_leaves(state)]
        if self.axes is None:
            return torch.cat([t.flatten() for t in parts])
        moved = [t.movedim(k, 0).flatten(1) for t, k in zip(parts, self.axes, strict=True)]
        return torch.cat(moved, 1)

    def unpack(self, s: Tensor) -> Any:
        """(B, N) -> a state of B rows; (N,) -> a state without an axis of rows."""
        parts, start = list[Tensor](), 0
        for t, shape in zip(self.like, self._own_shapes, strict=True):
            size = shape.numel()
            part = s[..., start : start + size].reshape(*s.shape[:-1], *shape)
            part = part if self.axes is None else part.movedim(0, self.axes[len(parts)])
            parts.append(torch.complex(*part.unbind(-1)) if t.is_complex() else part)
            start += size
        return tree_unflatten(parts, self.tree)

    def next_of(self, returned: Any, s: Tensor) -> Tensor:
        """The next states (B, N) or (N,) in what a step returns at states s."""
        parts = tree_leaves(returned)
        is_pair = isinstance(returned, tuple | list) and len(returned) == 2
        if is_pair and len(parts) != len(self.like):
            parts = tree_leaves(returned[1])
        tensors = len(parts) == len(self.like) and all(isinstance(t, Tensor) for t in parts)
        fits = tensors and self._shapes(parts) == self._own_shapes
        if not fits:
            _no_next_state(self.name, returned, self.like)
        return self.pack(parts).to(s.dtype)

    def output_of(self, returned: Any) -> Tensor:
        """The output (k,) of one row that a step returns beside its state; else the state."""
        parts = tree_leaves(returned)
        alone = len(parts) == len(self.like)
        return torch.cat([real_view(t).flatten() for t in (parts if alone else parts[:1])])

    @cached_property
    def _own_shapes(self) -> list[torch.Size]:
        return self._shapes(self.like)

    def _shapes(self, parts: list[Tensor]) -> list[torch.Size]:
        """The shapes of the real parts, without the axis of the rows."""
        shapes = [list(real_view(t).shape) for t in parts]
        for shape, k in zip(shapes, self.axes or [], strict=self.axes is not None):
            del shape[k : k + 1]
        return [torch.Size(shape) for shape in shapes]


def _no_next_state(name: str, returned: Any, like: list[Tensor]) -> None:
    """Refuse a step that returns no state like the one that it gets."""
    got = " and ".join(checks.kind(part) for part in tree_leaves(returned)[: checks.FEW])
    shapes = " and ".join(checks.kind(part) for part in like[: checks.FEW])
    checks.require(False, f"what {name} returns", got, f"a state {shapes}, or (output, state)")


def real_view(t: Tensor) -> Tensor:
    """A complex tensor (...) as real numbers (..., 2); a real tensor unchanged."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t

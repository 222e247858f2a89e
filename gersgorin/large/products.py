"""The Jacobian A = ds'/ds of one step by its products with vectors: A itself is never written down.

    backward(w)   A^T w, one reverse pass through the step, whose graph is kept
    forward(v)    A v. w -> A^T w is linear, so a reverse pass through that pass is its transpose: no forward mode is asked of the step
    rows(w)       w A for several w at once: rows of A where w are rows of the identity

Legend: m inputs; N entries of a state.
"""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gersgorin._validate import check_gradients, real_tensor
from gersgorin.stepping import Step, check_sizes, converted, name_of, step_of, try_step
from rhn.errors import InvalidInputError


class StepJacobian:
    """A of one step from an input x (m,) and a state s (N,), as an operator; what it keeps is a few vectors for each layer.

    Raises:
        InvalidInputError: x or s is no finite vector, or the step takes no step from them, or gives no gradient.

    >>> A = StepJacobian(lambda x, s: 2 * s.flip(-1) * s[0], torch.zeros(1), torch.tensor([1.0, 3.0]))
    >>> A.forward(torch.tensor([1.0, 0.0])), A.backward(torch.tensor([1.0, 0.0]))
    (tensor([6., 4.]), tensor([6., 2.]))
    """

    def __init__(self, cell: nn.Module | Step, x: Tensor, s: Tensor) -> None:
        cell = converted(cell)
        step = step_of(cell)
        x, s = real_tensor("x", x), real_tensor("s", s)
        check_gradients(cell)
        for name, v in (("x", x), ("s", s)):
            if v.dim() != 1 or not v.is_floating_point() or not torch.isfinite(v).all():
                got = f"{v.dtype} of shape {tuple(v.shape)}"
                raise InvalidInputError(
                    f"{name} is {got}: expected a finite floating-point vector, one input, one state"
                )
        if len(s) == 0:
            raise InvalidInputError("s is empty: expected a state of at least one entry")
        check_sizes(cell, step, x, s)
        try_step(cell, step, x, s)
        self.name = name_of(cell)
        self.dense = hasattr(cell, "jacobian")  # what has a closed form is no sparse step of a user's own
        with torch.enable_grad():
            self._s = s.detach().clone().requires_grad_()  # clones: what was made in inference mode has no gradient
            self._after = step(x.detach().clone(), self._s)
        if not self._after.requires_grad:
            raise InvalidInputError(f"{self.name} gives no gradient to its state: expected differentiable operations")
        self._weights = self._pulled = None

    @property
    def size(self) -> int:
        """N."""
        return len(self._s)

    @property
    def like(self) -> Tensor:
        """A vector of the state's type, on its device."""
        return self._after.detach()

    def backward(self, w: Tensor) -> Tensor:
        """A^T w, (N,) -> (N,)."""
        return self._pull(w)

    def forward(self, v: Tensor) -> Tensor:
        """A v, (N,) -> (N,). Raises InvalidInputError for a step that gives no second derivative."""
        if self._pulled is None:
            self._pull_twice()
        if not self._pulled.requires_grad:  # a Jacobian of zeros
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self._pulled, self._weights, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product

    def _pull_twice(self) -> None:
        """The graph of w -> A^T w; seen to be right: u^T (A v) = (A^T u)^T v for some u and v."""
        with torch.enable_grad():
            self._weights = torch.zeros_like(self._after, requires_grad=True)
            self._pulled = self._pull(self._weights, create_graph=True)
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, self.size, generator=generator, dtype=torch.float64, device="cpu").to(self.like)
        Av, uA = self.forward(v), self.backward(u)
        close = torch.finfo(v.dtype).eps ** 0.5 * (u.norm() * Av.norm() + uA.norm() * v.norm())
        if (u @ Av - uA @ v).abs() > close:
            raise InvalidInputError(
                f"{self.name} is not differentiable twice, as products with its Jacobian need: write its step in torch's own operations"
            )

    def rows(self, w: Tensor) -> Tensor:
        """w A for w (b, N), (b, N): in one pass, or one by one where some operation of the step cannot be batched."""
        try:
            return self._pull(w, is_grads_batched=True)
        except RuntimeError:
            return torch.stack([self._pull(row) for row in w])

    def row_bytes(self) -> int:
        """What `rows` needs for one row: all that one reverse pass brings about."""
        with Produced() as produced:
            self._pull(torch.ones_like(self._after))
        return max(produced.total, self.like.nbytes)

    def _pull(self, w: Tensor, **how) -> Tensor:
        (product,) = torch.autograd.grad(
            self._after, self._s, w, retain_graph=True, allow_unused=True, materialize_grads=True, **how
        )
        return product


class Produced(TorchDispatchMode):
    """How many bytes of tensors torch brings about inside a `with`, the largest and in all; views of what is there are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        known = {_place(part) for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)} - {None}
        for part in tree_leaves(found):
            if isinstance(part, Tensor) and (place := _place(part)) is not None and place not in known:
                size = part.untyped_storage().nbytes()
                self.total, self.largest = self.total + size, max(self.largest, size)
        return found


def _place(part: Tensor) -> int | None:
    """Where a tensor's numbers are; None for a sparse one."""
    return part.untyped_storage().data_ptr() if part.layout == torch.strided else None

"""The run of a linear recurrence s[t] = a[t] s[t-1] + b[t], as state-space models, minGRU and LRU
compute it by a parallel scan.

A module names its elements by a method `scan_elements(x) -> (a, b)` for one sequence x (T, m):

    b (T, ...)                    any shape of a state; all its entries are one state of N numbers
    a as b                        diagonal: s = a * s + b
    a (..., r, r) for b (..., r)  blocks of r entries: s = a @ s + b
    complex a and b               each complex entry is two real ones, its real and its imaginary part

The temporal Jacobian of step t is a[t] itself, as a matrix (N, N).

Legend: T steps, m inputs, N entries of a state, r entries of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gersgorin._validate import users_code, with_gradients
from gersgorin.run.autodiff import vjps
from gersgorin.run.cell import StepCell, as_cell, trajectory
from gersgorin.run.run import Label, Run
from rhn.errors import InvalidInputError


class ScanCell(nn.Module):
    """A linear recurrence as a cell whose inputs are the elements of a step, a and b in one
    vector.
    """

    depth = 1

    def __init__(self, module: nn.Module, blocks: tuple[int, int] = (1, 1)):
        super().__init__()
        self._name = type(module).__name__
        self._blocks = blocks
        self.hidden_size = self.state_size = blocks[0] * blocks[1]
        self.input_size = self.state_size * (blocks[1] + 1)

    def _get_name(self) -> str:
        return self._name

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        """a s + b for x = (a, b), (..., N)."""
        a, b = self._parts(x)
        return self._times(a, s[..., None]).squeeze(-1) + b

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """a as a matrix, (..., N, N)."""
        a, _ = self._parts(x)
        blocks = a.movedim(-3, -1).diag_embed(dim1=-4, dim2=-2)  # (..., N / r, r, N / r, r)
        return blocks.flatten(-4, -3).flatten(-2)

    def push(self, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
        """a Q for Q (N, k), without the matrix."""
        return self._times(self._parts(x)[0], Q)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """a (..., N / r, r, r) and b (..., N)."""
        groups, r = self._blocks
        return x[..., : groups * r * r].unflatten(-1, (groups, r, r)), x[..., groups * r * r :]

    def _times(self, a: Tensor, Q: Tensor) -> Tensor:
        return (a @ Q.unflatten(-2, self._blocks)).flatten(-3, -2)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanRun(Run):
    """A module with `scan_elements` along x; its `inputs` are the elements of each step, input
    derivatives are those in x[t].
    """

    module: nn.Module
    x: Tensor
    """(T, m) or (T, B, m)."""

    @classmethod
    def along(cls, module: nn.Module, x: Tensor) -> "ScanRun":
        """The run from zero. Raises InvalidInputError for elements that are no such pair or not
        finite.
        """
        each, blocks = zip(
            *(elements_of(module, row) for row in x.reshape(len(x), -1, x.shape[-1]).unbind(1)),
            strict=True,
        )
        elements = torch.stack(each, 1).detach().reshape(*x.shape[:-1], -1)
        cell = as_cell(ScanCell(module, blocks[0]))
        label = Label(name=cell.name, title=cell.name)
        return cls(
            cell=cell,
            inputs=elements,
            states=trajectory(cell, elements),
            label=label,
            module=module,
            x=x,
        )

    @with_gradients()
    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t] with s[t] and all other inputs fixed, (..., N, m)."""
        T, N = len(self), self.state_size
        x = self.x.reshape(T, -1, self.x.shape[-1]).detach().clone().requires_grad_()
        elements = torch.stack([elements_of(self.module, row)[0] for row in x.unbind(1)], 1)
        before, eye = (
            self.states[:-1].clone().reshape(T, -1, N),
            torch.eye(N, dtype=x.dtype, device=x.device),
        )
        places, found = torch.arange(T * x.shape[1]).reshape(self.x.shape[:-1])[at], []
        for place in places.flatten().tolist():
            t, row = divmod(place, x.shape[1])
            (J,) = vjps(self.cell.step(elements[t, row], before[t, row]), [x], eye)
            found.append(J[:, t, row])
        return torch.stack(found).reshape(*places.shape, N, -1)

    def repeated(self, times: int) -> "ScanRun":
        """The run over several repetitions of the sequence."""
        run = ScanRun.along(self.module, self.x.repeat(times, *[1] * (self.x.dim() - 1)))
        return run.starting_at(self.states[0]).named(self.label)

    def any_step(self) -> StepCell:
        """Raises InvalidInputError: the elements of a step may depend on other inputs too."""
        raise InvalidInputError(
            f"{type(self.module).__name__} gives the elements of whole sequences, not of any "
            "step: add step(x, s) and state_size"
        )


def elements_of(module: nn.Module, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """(a and b of each step in one real vector, for x (T, m): (T, ...), (blocks, entries of a
    block)). Raises InvalidInputError.
    """
    name = f"{type(module).__name__}.scan_elements(x)"
    with users_code(f"{name} gives no pair of tensors (a, b) for x {tuple(x.shape)}"):
        a, b = module.scan_elements(x)  # type: ignore[operator]  # a method of the user's module
        blocks = a.shape == (*b.shape, b.shape[-1])
    if len(b) != len(x) or b.dim() < 2 or not (a.shape == b.shape or blocks):
        raise InvalidInputError(
            f"{name} returns a {tuple(a.shape)} and b {tuple(b.shape)} for {len(x)} steps: "
            "expected b (T, ...) and a like b, or with "
            "one more dimension for blocks"
        )
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise InvalidInputError(f"{name} returns NaN or infinite numbers: expected finite ones")
    if not blocks:
        a, b = a[..., None, None], b[..., None]
    if a.is_complex() or b.is_complex():
        a, b = a + 0j, b + 0j
        # (re, im) -> (re', im'): an entry of a becomes [[re, -im], [im, re]], (..., i, j, 2, 2)
        rows = torch.stack(
            (torch.stack((a.real, -a.imag), -1), torch.stack((a.imag, a.real), -1)), -2
        )
        a, b = rows.transpose(-3, -2).flatten(-4, -3).flatten(-2), torch.view_as_real(b).flatten(-2)
    return torch.cat((a.flatten(1), b.flatten(1)), 1), (b[0].numel() // b.shape[-1], b.shape[-1])

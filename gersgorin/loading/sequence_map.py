"""A module as a function of one sequence: from its inputs x[0..T-1] to its outputs o[0..T-1],
differentiable.

Any module fits: a recurrence, a convolution, attention, with one output a step or one of the
sequence. Of a module that reads ids of tokens, the inputs are the vectors that its first
`nn.Embedding` returns.

Legend: T steps, m numbers of an input, S outputs (T, or 1 of the sequence), k numbers of an output.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin._validate import (
    check_order,
    check_weights,
    copied,
    random_numbers_kept,
    uncompiled,
    users_code,
    with_gradients,
)
from gersgorin.loading.find_cell import is_hand_written, part_of, run_by_equations, step_hint
from gersgorin.loading.one_sequence import layouts, one_sequence, without_batch
from gersgorin.run.autodiff import BLOCK, vjps
from gersgorin.run.cell import name_of
from gersgorin.run.run import Label
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError
from rhn.utils.wording import in_short

ROWS = 128  # products at once, at most: with more, states of many numbers leave the caches


class SequenceMap:
    """The `outputs` (S, k) of a module along x, and products with their derivatives.

    `module` is a float64 copy in evaluation mode.

    Args:
        module: a torch module, or a function of x; of several outputs (a tuple, a dictionary) the
            first one counts.
        x: one sequence, see `one_sequence`. It is passed to the module in the first of `layouts`
            that runs and in which an output depends on another input than its own, else in the
            first that runs.
        submodule: the part of the module whose outputs count, by its name in `named_modules`; None:
            the module.

    Raises:
        InvalidInputError: fewer than two steps, several sequences, NaN; a module that does not run
            on x, has neither an output for each step nor one for the sequence, or is not
            differentiable.
    """

    @with_gradients()
    def __init__(
        self,
        module: nn.Module | Callable,
        x: Any,
        *,
        label: Label | None = None,
        submodule: str | None = None,
    ):
        check_order("the module first, then x", module=module, x=x)
        if not callable(module):
            raise InvalidInputError(
                f"expected a torch module or a function of a whole sequence, got {in_short(module)}"
            )
        self.name, self._submodule = name_of(module), submodule
        x, module = one_sequence(x), module if isinstance(module, nn.Module) else Function(module)
        if isinstance(module, nn.RNNCellBase) or is_hand_written(module):
            raise InvalidInputError(
                f"{self.name} is one step of a recurrence: expected a module that reads a "
                "sequence, such as a loop over it"
            )
        if len(without_batch(x)) < 2:
            raise InvalidInputError(
                "x has one step: expected at least two, because memory is about earlier inputs"
            )
        sizes = f"of {' x '.join(map(str, x.shape))}"
        self.label = label or Label(name=self.name, title=self.name, sequence=sizes)
        check_weights(module)
        errors, found = [], []
        for dtype in (torch.float64, None):  # some modules only run in their own precision
            for layout, axis in layouts(module, x):
                try:
                    # a module may keep states from call to call
                    self._read(_copy(module, dtype), layout, axis, dtype)
                except (RhnError, *USERS_FAULT) as error:  # whatever a user's module raises
                    errors.append((error, layout))
                    continue
                if self._mixes_steps():
                    return
                found.append(dict(vars(self)))
            if found:
                break
        if not found:
            failure, given = errors[0]
            with users_code(
                f"{self.name} does not run on x {tuple(given.shape)} on {given.device}",
                step_hint(module),
            ):
                raise failure
        vars(self).update(found[0])

    def pulled(self, steps: Sequence[int], w: Tensor) -> Tensor:
        """w[i, j] d o[steps[i]] / d x for weights w (n, b, k): (n, b, T, m)."""
        n, b, _ = w.shape
        whole = w.new_zeros(n, b, *self.outputs.shape)
        whole[range(n), :, steps] = w
        found = [
            vjps(self.outputs, [self._leaf], part)[0]
            for part in whole.flatten(0, 1).split(self.at_once)
        ]
        # of one sequence, wherever its axis of time is
        return torch.cat(found).reshape(n, b, self.steps, -1)

    def _read(self, module: nn.Module, x: Tensor, axis: int, dtype: torch.dtype | None) -> None:
        """Set the outputs and the inputs that they are derivatives of."""
        part, like = part_of(module, self._submodule), next(module.parameters(), x)
        calls, hooks = [], []
        self._leaf: Any = None
        if x.is_floating_point():
            x = self._leaf = (
                x.to(like.device, dtype or like.dtype).detach().clone().requires_grad_()
            )
        else:
            x = x.to(like.device)
            hook = functools.partial(self._embedded, x)
            hooks = [
                p.register_forward_hook(hook)
                for p in module.modules()
                if isinstance(p, nn.Embedding)
            ]
        if self._submodule:
            hooks.append(
                part.register_forward_hook(
                    lambda part, args, output: calls.append(first_tensor(output))
                )
            )
        try:
            with random_numbers_kept(like):
                o = first_tensor(module(x.clone()))  # a module may change its input in place
        finally:
            for handle in hooks:
                handle.remove()
        self.steps = T = x.shape[axis]
        if self._submodule:
            o = torch.stack(calls) if len(calls) > 1 else next(iter(calls), None)  # type: ignore[arg-type]  # of a cell, step by step
            axis = 1 if o is not None and o.dim() == 3 and o.shape[1] == T != o.shape[0] else 0
        batched = x.dim() == 2 + x.is_floating_point()
        once = False
        if (
            o is not None
            and batched
            and not self._submodule
            and o.dim() == 2
            and o.shape == x.shape[:2]
        ):
            shorter = _output(module, x.narrow(axis, 0, T - 1))
            # as many numbers as there are steps, of one output
            once = shorter is not None and shorter.shape == o.shape
        if (
            o is None
            or once
            or o.dim() <= axis
            or o.shape[axis] != T
            or (batched and o.dim() > 2 and o.shape[1 - axis] != 1)
        ):
            if o is None or not o.dim() or o.numel() != o.shape[-1]:
                got = "no tensor of numbers" if o is None else f"outputs of shape {tuple(o.shape)}"
                raise InvalidInputError(
                    f"{self.name} returns {got} for {T} steps: expected one output for each "
                    "step, or one for the sequence"
                )
            o, axis = o.reshape(1, -1), 0
        if not torch.isfinite(o).all():
            raise InvalidInputError(
                f"{self.name} returns NaN or infinite outputs: expected finite ones"
            )
        if self._leaf is None or not o.requires_grad:
            raise InvalidInputError(
                f"the outputs of {self.name} have no gradient in its inputs: expected some"
            )
        self.module = module
        self.outputs = o.movedim(axis, 0).flatten(1) if o.dim() > 1 else o[:, None]
        self.at_once = max(1, min(ROWS, BLOCK // max(self._leaf.numel(), o.numel())))

    def _embedded(self, x: Tensor, module, args, output: Tensor) -> Tensor | None:
        """Replace the vectors of the ids by a leaf; an embedding of positions 0, 1, 2, ... is none
        of the ids.
        """
        ids = args[0].flatten() if args else x.new_empty(0)
        positions = torch.equal(
            ids, torch.arange(x.numel(), device=ids.device)
        ) and not torch.equal(ids, x.flatten())
        if self._leaf is not None or ids.numel() != x.numel() or positions:
            return None
        self._leaf = output.detach().clone().requires_grad_()
        return self._leaf.clone()

    def _mixes_steps(self) -> bool:
        """True if the last output depends on any other input, or the first one does."""
        # positive random weights of the outputs, so that no derivatives cancel by symmetry
        w = (
            torch.rand(
                1,
                self.outputs.shape[1],
                generator=torch.Generator().manual_seed(0),
                dtype=torch.float64,
            )
            + 0.5
        )
        w = w.to(self.outputs)
        first, last = self.pulled((0, -1), w.expand(2, 1, -1))[:, 0]
        return bool(first[1:].any() or last[:-1].any())


@torch.no_grad()
def _output(module: nn.Module, x: Tensor) -> Tensor | None:
    """The first tensor that a copy of a module returns; None if it does not run."""
    try:
        with random_numbers_kept(x):
            return first_tensor(copy.deepcopy(module)(x.detach().clone()))
    except USERS_FAULT:
        return None


class Function(nn.Module):
    """A function of x as a module."""

    def __init__(self, function: Callable):
        super().__init__()
        self.forward = function


def _copy(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    module = copied(uncompiled(module)).eval()
    module.requires_grad_(False)
    run_by_equations(module)  # three times as fast for many derivatives
    return module.to(dtype) if dtype else module


def first_tensor(output) -> Tensor | None:
    """The first floating-point tensor of what a module returns."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    parts = (
        output.values()
        if isinstance(output, Mapping)
        else output
        if isinstance(output, tuple | list)
        else ()
    )
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)

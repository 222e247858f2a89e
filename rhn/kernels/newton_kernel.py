"""The states of any cell by Newton's method, as one differentiable operation with a `vmap` rule.

The forward pass solves for all states (`rhn.kernels.newton`), with the cell's own loop as guard. At the solution gradients are exact:
one transposed scan turns the gradients of the states, grad[t], into those of the steps' results,

    D[t] = J[t+1]' D[t+1] + grad[t]

and all weights and inputs get theirs from one product of D with the derivatives of all steps together. Models of a stack are solved one
after the other, so that a model's numbers do not depend on the others.

`kernel="newton"` of a cell always calls it; `kernel="auto"` where the forecast says that it is faster than the loop
(`rhn.kernels.newton_forecast`). `recorded_choices` has the reason against it, and the steps that a loop had to compute.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from rhn.kernels import dispatch
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.newton import Recurrence, solve
from rhn.kernels.newton_forecast import reason_for_loop
from rhn.kernels.validation import is_traced


class _Method(nn.Module):
    """A method of a cell as a module, whose weights `functional_call` replaces."""

    def __init__(self, cell: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.cell, self._method = cell, method

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return self._method(x, s)


class CellFunctions:
    """Step, Jacobian and loop of a cell as functions of its weights."""

    def __init__(self, cell: nn.Module) -> None:
        self.names = [name for name, _ in cell.named_parameters()]
        jacobian = getattr(cell, "jacobian", None) or (lambda x, s: _by_autograd(cell.step, x, s))
        self._methods = [_Method(cell, method) for method in (cell.step, jacobian, cell.states)]

    def recurrence(self, x: Tensor, s0: Tensor, *weights: Tensor) -> Recurrence:
        """Of one model: x (T, B, m), s0 (B, N) and weights as in `names`."""
        given = {f"cell.{name}": weight for name, weight in zip(self.names, weights, strict=True)}
        step, jacobian, run = (
            lambda x, s, method=method: functional_call(method, given, (x, s)) for method in self._methods
        )
        return Recurrence(step, jacobian, x, s0, run)


def newton_states(cell: nn.Module, x: Tensor, s0: Tensor, *, asked: bool) -> Tensor | None:
    """States (T, B, N) of a cell for x (T, B, m) and s0 (B, N); None if the loop is to compute them.

    asked: do so whatever it costs. Otherwise only if the forecast and the costs say that it is faster than the loop.
    """
    functions, weights = CellFunctions(cell), tuple(p for _, p in cell.named_parameters())
    tensors = x, s0.expand(x.shape[1], -1), *weights
    reason = "operations are only recorded" if is_traced(*tensors) else None
    if reason is None and not tensors[1].numel():
        reason = "there is no sequence"
    if reason is None and not asked:
        hidden = any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))
        reason = "a forecast reads numbers, which torch.func hides" if hidden else None
    if reason is None and not asked:
        with torch.no_grad():
            reason = reason_for_loop(functions.recurrence(*tensors), getattr(cell, "depth", 1))
    if reason is not None:
        dispatch.record(NEWTON, NEWTON.implementations[0], reason)
        return None
    return batched_function(NEWTON, *tensors, functions=functions)


def _forward(x: Tensor, s0: Tensor, *weights: Tensor, functions: CellFunctions) -> tuple[Tensor, Tensor]:
    """(states (K, T, B, N), the same)."""
    found = []
    for tensors in _models((x, s0, *weights)):
        recurrence = functions.recurrence(*tensors)
        solution = solve(recurrence)
        found.append(solution.states)
        if (start := solution.fallback_from) is not None:
            left = f"{len(recurrence) - start} of {len(recurrence)} steps were computed in a loop, from step {start} on"
            dispatch.record(NEWTON, NEWTON.implementations[0], left)
    states = torch.stack(found)
    return states, states.clone()


def _backward(grad, needs, inputs, residuals, *, functions: CellFunctions) -> tuple[Tensor, ...]:
    """Gradients of (x, s0, *weights), each with a leading axis of K."""
    found = []
    for grad_k, states, *tensors in _models((grad, *residuals, *inputs)):
        leaves = [t.detach().requires_grad_() for t in tensors]
        recurrence = functions.recurrence(*leaves)
        with torch.no_grad():
            D = recurrence.adjoint(states, grad_k)
        with torch.enable_grad():
            found.append(torch.autograd.grad(recurrence.next(states), leaves, D, materialize_grads=True))
    return tuple(map(torch.stack, zip(*found, strict=True)))


def _models(tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """The tensors of each of K models, from (K or 1, ...)."""
    K = stack_size(*tensors)
    return zip(*(t.expand(K, *t.shape[1:]) for t in tensors), strict=True)


def _by_autograd(step: Callable[..., Tensor], x: Tensor, s: Tensor) -> Tensor:
    """ds'/ds (..., N, N) of a cell without closed form."""
    J = vmap(jacrev(step, argnums=1))(x.reshape(-1, x.shape[-1]), s.reshape(-1, s.shape[-1]))
    return J.reshape(*s.shape, s.shape[-1])


NEWTON = Operation("newton", Implementation(dispatch.NEWTON, _forward, _backward))

"""The autograd and `vmap` rules of a kernel call.

Under `torch.func.vmap` the mapped axis is folded into K: `vmap(grad_and_value(loss))` over stacked
models makes one forward and one backward call. A tensor that they share is never copied K times.

A call has the kernel's name, the names of its tensors, and its passes (see `rhn.kernels.kernel`).
"""

from types import SimpleNamespace

import torch
from torch import Tensor


class BatchedFunction(torch.autograd.Function):
    """The forward pass over K models, with gradients for all tensors except masks and targets. The
    residuals are returned too: torch.func saves only outputs. call: the name of a kernel, the names
    of its tensors, and its passes.
    """

    @staticmethod
    def forward(call, *tensors):
        K = max(len(t) for t in tensors if t is not None)  # shared tensors have 1
        # autocast would change only some of the operations
        with torch.autocast(tensors[0].device.type, enabled=False):
            return call.forward(**dict(zip(call.arguments, tensors, strict=True)), K=K)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call, *tensors = inputs
        _, *residuals = output
        ctx.mark_non_differentiable(*residuals)
        ctx.set_materialize_grads(False)  # the residuals' gradients: large, zero and unused
        ctx.save_for_backward(*tensors, *residuals)

    @staticmethod
    def backward(ctx, grad, *_):
        needs = ctx.needs_input_grad[1:]
        if grad is None:  # nothing downstream depends on the states
            return None, *(None for _ in needs)
        grads = _Backward.apply(ctx.call, needs, grad, *ctx.saved_tensors)
        return None, *(g if need else None for g, need in zip(grads, needs, strict=True))

    @staticmethod
    def jvp(ctx, *_):
        raise _no_such_derivative(ctx.call, "forward mode")

    @staticmethod
    def vmap(info, in_dims, call, *tensors):
        V = info.batch_size
        folded, K = _fold(V, in_dims[1:], tensors)
        outputs = BatchedFunction.apply(call, *folded)
        return tuple(o.unflatten(0, (V, K)) for o in outputs), (0,) * len(outputs)


class _Backward(torch.autograd.Function):
    """The backward pass. A shared tensor gets one gradient for each model, of which autograd takes
    the sum. Gradients that are not needed are empty tensors, because a Function under `vmap` must
    return tensors.
    """

    @staticmethod
    def forward(call, needs, grad, *saved):
        inputs, residuals = saved[: len(needs)], saved[len(needs) :]
        K = max(map(len, (grad, *residuals)))  # jacrev takes several gradients of one forward pass
        residuals = [r.expand(K, *r.shape[1:]) for r in residuals]
        with torch.autocast(grad.device.type, enabled=False):
            named = dict(zip(call.arguments, inputs, strict=True))
            grads = call.backward(grad, dict(zip(named, needs, strict=True)), residuals, **named)
        finished = []
        for name, need in zip(named, needs, strict=True):
            g = grads.get(name)
            if need and g is None:
                raise _no_such_derivative(call, "gradient of a dropout mask")
            finished.append(g if need else grad.new_empty(0))
        return tuple(finished)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call = inputs[0]

    @staticmethod
    def backward(ctx, *_):
        raise _no_such_derivative(ctx.call, "second derivative")

    @staticmethod
    def vmap(info, in_dims, call, needs, grad, *saved):
        V = info.batch_size
        folded, K = _fold(V, in_dims[2:], (grad, *saved))
        grads = _Backward.apply(call, needs, *folded)
        unfolded = [
            g.unflatten(0, (V, K)) if need else g.new_empty(V, 0)
            for g, need in zip(grads, needs, strict=True)
        ]
        return tuple(unfolded), (0,) * len(unfolded)


def _no_such_derivative(call: SimpleNamespace, what: str) -> RuntimeError:
    return RuntimeError(f'the fused {call.name} kernel has no {what}: use kernel="reference"')


def _fold(V: int, dims, tensors) -> tuple[list[Tensor | None], int]:
    """Fold the mapped axis V of tensors into their model axis. Returns them, and K."""
    K = max(_models_of(t, dim) for t, dim in zip(tensors, dims, strict=True) if t is not None)
    folded: list[Tensor | None] = []
    for t, dim in zip(tensors, dims, strict=True):
        if t is None:
            folded.append(None)
        elif dim is not None:  # (V, K or 1, ...) -> (V K, ...)
            t = t.movedim(dim, 0)
            folded.append(t.expand(V, K, *t.shape[2:]).flatten(0, 1))
        elif len(t) > 1:  # (K, ...) -> (V K, ...)
            folded.append(t.expand(V, *t.shape).flatten(0, 1))
        else:  # (1, ...), shared by all
            folded.append(t)
    return folded, K


def _models_of(t: Tensor, mapped: int | None) -> int:
    """Return the length of the model axis of a tensor, which stands behind a mapped axis 0."""
    return t.shape[1] if mapped == 0 else t.shape[0]

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
        grads = _Backward.apply(ctx.call, needs, False, grad, *ctx.saved_tensors)
        return None, *(g if need else None for g, need in zip(grads, needs, strict=True))

    @staticmethod
    def jvp(ctx, *_):
        raise _no_such_derivative(ctx.call, "forward mode")

    @staticmethod
    def vmap(info, in_dims, call, *tensors):
        folded, inner = _fold(info.batch_size, in_dims[1:], tensors)
        outputs = BatchedFunction.apply(call, *folded)
        return tuple(o.unflatten(0, (info.batch_size, inner)) for o in outputs), (0,) * len(outputs)


class _Backward(torch.autograd.Function):
    """The backward pass. With `separate`, which `vmap` needs, a shared tensor gets one gradient for
    each model, else their sum. Gradients that are not needed are empty tensors, because a Function
    under `vmap` must return tensors.
    """

    @staticmethod
    def forward(call, needs, separate, grad, *saved):
        inputs, residuals = saved[: len(needs)], saved[len(needs) :]
        K = max(map(len, (grad, *residuals)))  # jacrev takes several gradients of one forward pass
        residuals = [r.expand(K, *r.shape[1:]) for r in residuals]
        with torch.autocast(grad.device.type, enabled=False):
            named = dict(zip(call.arguments, inputs, strict=True))
            grads = call.backward(grad, dict(zip(named, needs, strict=True)), residuals, **named)
        finished = []
        for (name, like), need in zip(named.items(), needs, strict=True):
            g = grads.get(name)
            if need and g is None:
                raise _no_such_derivative(call, "gradient of a dropout mask")
            if need and like.shape[0] == 1 < g.shape[0] and not separate:
                g = g.sum(0, keepdim=True)
            finished.append(g if need else grad.new_empty(0))
        return tuple(finished)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call = inputs[0]

    @staticmethod
    def backward(ctx, *_):
        raise _no_such_derivative(ctx.call, "second derivative")

    @staticmethod
    def vmap(info, in_dims, call, needs, separate, grad, *saved):
        folded, inner = _fold(info.batch_size, in_dims[3:], (grad, *saved))
        grads = _Backward.apply(call, needs, True, *folded)
        unfolded = []
        for g, need, t, d in zip(grads, needs, saved, in_dims[4:], strict=False):
            if not need:
                unfolded.append(g.new_empty(info.batch_size, 0))
                continue
            g = g.unflatten(0, (info.batch_size, inner))
            models = t.shape[1 if d == 0 else 0]
            unfolded.append(g.sum(1, keepdim=True) if models == 1 < inner and not separate else g)
        return tuple(unfolded), (0,) * len(unfolded)


def _no_such_derivative(call: SimpleNamespace, what: str) -> RuntimeError:
    return RuntimeError(f'the fused {call.name} kernel has no {what}: use kernel="reference"')


def _fold(size: int, dims, tensors) -> tuple[list[Tensor], int]:
    """Fold a mapped axis into the model axis, (V, K, ...) -> (V K, ...), if there is either."""
    moved = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, dims, strict=True)]
    pairs = [*zip(moved, dims, strict=True)]
    inner, folded = max(t.shape[0 if d is None else 1] for t, d in pairs if t is not None), []
    for t, d in pairs:
        if t is not None and (d is not None or t.shape[0] > 1):
            t = t.expand(size, *(t.shape if d is None else (inner, *t.shape[2:]))).flatten(0, 1)
        folded.append(t)
    return folded, inner

"""The same in one pass over the weights for the norm and one for the step: in C on a CPU, in Triton on a GPU, float32.

By the equations in torch every operation reads and writes all weights, ten times over in a step. On a GPU Triton's is taken only
after a check on the device itself, as the persistent kernels are (`rhn.kernels.persistent.device`).
"""

import torch
from torch import Tensor

from rhn.kernels.compiled.build import library
from rhn.kernels.compiled.call import call
from rhn.kernels.persistent.device import disuse, refusal, relative_error
from rhn.kernels.persistent.launch import start
from rhn.kernels.routes import LaunchError
from rhn.kernels.update.reference import Weights, descend_reference, gradient_norm_reference
from rhn.kernels.validation import is_traced, validate_update


def gradient_norm(weights: Weights, gradients: Weights, decay: float = 0.0) -> Tensor:
    """(K,) float64; same arguments and values as `gradient_norm_reference`."""
    validate_update(weights, gradients)
    kind = _kind(weights, gradients)
    if kind is None:
        return gradient_norm_reference(weights, gradients, decay)
    squares = _squares_compiled if kind == "cpu" else _squares_triton
    try:
        return sum(squares(weights[name], g.contiguous(), decay) for name, g in gradients.items()).sqrt()
    except LaunchError as problem:
        disuse("update", "float32", next(iter(weights.values())).device, problem)
        return gradient_norm_reference(weights, gradients, decay)


def descend(
    weights: Weights,
    gradients: Weights,
    rate: Tensor,
    scale: Tensor,
    taken: Tensor,
    *,
    decay: float = 0.0,
    shrink: float = 0.0,
) -> None:
    """Change the weights in place; same arguments as `descend_reference`."""
    validate_update(weights, gradients, rate=rate, scale=scale, taken=taken)
    kind = _kind(weights, gradients)
    if kind is None:
        return descend_reference(weights, gradients, rate, scale, taken, decay=decay, shrink=shrink)
    step = _step_compiled if kind == "cpu" else _step_triton
    factors = torch.stack([torch.where(taken, rate * scale, 0), torch.where(taken, 1 - shrink, 1).to(rate)], 1).float()
    names = list(weights)
    for number, name in enumerate(names):
        try:
            step(weights[name], gradients[name].contiguous(), factors, decay)
        except LaunchError as problem:
            disuse("update", "float32", factors.device, problem)
            rest = {left: weights[left] for left in names[number:]}
            return descend_reference(rest, gradients, rate, scale, taken, decay=decay, shrink=shrink)
    return None


def _kind(weights: Weights, gradients: Weights) -> str | None:
    """The device's type where there is a kernel for it and these tensors, None where there is none."""
    tensors = [*weights.values(), *gradients.values()]
    device = tensors[0].device
    if any(t.dtype != torch.float32 or t.is_neg() or is_traced(t) for t in tensors):
        return None
    if not all(w.is_contiguous() for w in weights.values()):
        return None
    if device.type == "cpu":
        return "cpu" if library() is not None else None
    return None if refusal("update", "float32", device, check) else "cuda"


def _squares_compiled(w: Tensor, g: Tensor, decay: float) -> Tensor:
    totals = g.new_empty(len(g), dtype=torch.float64)
    tensors = {"gradients": _flat(g), "weights": _flat(w) if decay else None}
    call("rhn_squares", len(g), numbers=g[0].numel(), decay=decay, **tensors, totals=totals)
    return totals


def _step_compiled(w: Tensor, g: Tensor, factors: Tensor, decay: float) -> None:
    tensors = {"weights": _flat(w), "gradients": _flat(g), "factors": factors}
    call("rhn_descend", len(w), numbers=w[0].numel(), decay=decay, **tensors)


def _flat(t: Tensor) -> Tensor:
    """(K, numbers), a view."""
    return t.view(len(t), t[0].numel())


def _squares_triton(w: Tensor, g: Tensor, decay: float) -> Tensor:
    from rhn.kernels.update.triton_kernels import BLOCK, squares_kernel

    N = g[0].numel()
    blocks = -(-N // BLOCK)
    parts = g.new_empty(len(g), blocks, dtype=torch.float64)
    start(squares_kernel, (blocks, len(g)), w, g, parts, N, blocks, decay, BLOCK=BLOCK)
    return parts.sum(1)


def _step_triton(w: Tensor, g: Tensor, factors: Tensor, decay: float) -> None:
    from rhn.kernels.update.triton_kernels import BLOCK, descend_kernel

    N = w[0].numel()
    start(descend_kernel, (-(-N // BLOCK), len(w)), w, g, factors, N, decay, BLOCK=BLOCK)


def check(device: torch.device, precision: str) -> float:
    """The largest relative error of small cases on a device, against the equations: norms, and the changes of the weights."""
    generator, shrink = torch.Generator().manual_seed(0), 0.1
    rate, scale = torch.tensor([[0.3, 0.2, 0.1], [1.0, 0.5, 2.0]], device=device)
    taken, errors = torch.tensor([True, False, True], device=device), []
    factors = torch.stack([torch.where(taken, rate * scale, 0), torch.where(taken, 1 - shrink, 1).to(rate)], 1)
    for size, decay in ((1.0, 0.1), (1.0, 0.0), (1e-8, 0.1)):
        w, g = ((size * torch.randn(3, 5000, generator=generator)).to(device) for _ in range(2))
        norm, exact = _squares_triton(w, g, decay).sqrt(), gradient_norm_reference({"p": w}, {"p": g}, decay)
        before, wanted = w.clone(), w.clone()
        _step_triton(w, g, factors, decay)
        descend_reference({"p": wanted}, {"p": g}, rate, scale, taken, decay=decay, shrink=shrink)
        errors += [relative_error(norm.view(-1, 1), exact.view(-1, 1)), relative_error(w - before, wanted - before)]
    return max(errors)

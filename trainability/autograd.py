"""Functions that search the autograd graph behind a tensor."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gersgorin.losses import Loss


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient as a dense tensor, such as that of nn.Embedding(..., sparse=True)."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def operation(node: Any) -> str:
    """Return the name of a node of autograd, such as "Softmax"."""
    return node.name().rsplit("::", 1)[-1].rstrip("0123456789").removesuffix("Backward")


def graph(tensor: Tensor) -> list[Any]:
    """Return all nodes of the autograd graph from which a tensor was computed."""
    found, waiting = dict[Any, None](), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [following for following, _ in node.next_functions]
    return list(found)


def ends_of_gradient(tensor: Tensor, leaves: list[Tensor]) -> list[Any]:
    """Return the autograd nodes at which the gradient of a tensor ends. These nodes get a gradient,
    but pass only zeros on towards the leaves.
    """
    ends = list[Any]()

    def look(node: Any, passed: tuple, got: tuple) -> None:
        if any(g is not None and g.any() for g in got):
            ends.extend([node] if not any(g is not None and dense(g).any() for g in passed) else [])

    with ExitStack() as hooks:
        for node in graph(tensor):
            handle = node.register_hook(partial(look, node))
            hooks.callback(handle.remove)
        torch.autograd.grad(tensor, leaves, retain_graph=True, allow_unused=True)
    return ends


@torch.enable_grad()
def slope_at(loss_fn: Loss, output: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of a loss with respect to the outputs; zeros for a loss without a
    gradient.
    """
    z = output.detach().clone().requires_grad_()
    loss = loss_fn(z.clone(), y)
    if not loss.requires_grad:
        return torch.zeros_like(z)
    (slope,) = torch.autograd.grad(loss, z, materialize_grads=True)
    return slope

"""The matrices of a network, a layer apart, and the network with all of them made smaller.

A parameter of three dimensions is a stack of matrices, one a layer: `weight_hh[2]` is the third. The gate blocks that a matrix stacks
stay together: a step moves all of them, the fastest is what leaves the plateau, and taking them apart would change a relative rate by
at most the square root of their number. Biases are no matrices, and are not made smaller: a gate's bias is part of what the gate is,
and so is a weight of one dimension, what a unit keeps of its own state (an IndRNN's).

"Smaller" is nearer to zero, but for a square block that starts at the identity: it is what is added to the identity that is small.
Which one a block is nearer to says its trace: ||M - I||^2 < ||M||^2 where the mean of the diagonal is above 1/2.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def matrices(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views of the matrices among these parameters, by name, the layers of a stack apart.

    >>> list(matrices({"R": torch.zeros(2, 3, 3), "b": torch.zeros(3)}))
    ['R[0]', 'R[1]']
    """
    return dict(_parts(parameters.items()))


def identities(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each parameter that has matrices, what these are scaled about: the identity at square blocks near to it, zero elsewhere."""
    centres = {name: torch.zeros_like(p) for name, p in parameters.items() if is_weight(name, p)}
    for name, M in matrices(centres).items():
        values, (rows, columns) = matrices(parameters)[name], M.shape
        for start in range(0, rows - columns + 1, columns):
            if values[start : start + columns].diagonal().mean() > 0.5:
                M[start : start + columns].fill_diagonal_(1)
    return centres


def is_weight(name: str, p: Tensor) -> bool:
    """Whether a parameter is of matrices: of two dimensions or more, and not called a bias (some stack a bias a layer)."""
    return p.dim() >= 2 and "bias" not in name


def _parts(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, p in named:
        if not is_weight(name, p):
            continue
        if p.dim() == 2:
            yield name, p.detach()
        else:
            stack = p.detach().flatten(2) if p.dim() > 3 else p.detach()
            yield from ((f"{name}[{k}]", M) for k, M in enumerate(stack))

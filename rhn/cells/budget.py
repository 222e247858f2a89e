"""How many parameters a network has, and how many units a budget buys (Zilly et al. 2017, supplement: figure 4's networks)."""

import bisect
from collections.abc import Callable

from torch import nn

from rhn.cells.base import positive
from rhn.cells.registry import resolve_cell
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError

LARGEST_BUDGET = 10**12


def num_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in a cell or model."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def hidden_size_for_budget(
    cell: str | Callable[..., nn.Module],
    budget: int,
    depth: int = 1,
    *,
    input_size: int = 88,
    output_size: int = 88,
    **options,
) -> int:
    """The largest n for which cell + output layer (n -> output_size, biases) stay within `budget` parameters.

    Raises InvalidInputError where not even one unit fits, or for a budget beyond 10**12.

    >>> [hidden_size_for_budget("rhn", 150_000 * depth, depth) for depth in (1, 2, 4, 6)]
    [215, 242, 257, 262]
    """
    factory = resolve_cell(cell) if isinstance(cell, str) else cell
    budget = positive("budget", int(budget) if isinstance(budget, float) and budget.is_integer() else budget)
    if budget > LARGEST_BUDGET:
        raise InvalidInputError(f"a budget of {budget} parameters is beyond any computer: at most {LARGEST_BUDGET}")

    def size(n: int) -> int:
        try:
            network = factory(input_size, n, depth, device="meta", **options)
            return num_parameters(network) + (n + 1) * output_size
        except RhnError:
            raise
        except USERS_FAULT as error:  # whatever a user's cell raises
            said = f"the parameters of the cell {cell!r} cannot be counted: {type(error).__name__}: {error}"
            raise InvalidInputError(said) from error

    if size(1) > budget:
        raise InvalidInputError(
            f"a budget of {budget} parameters is too small: one unit at depth {depth} already takes {size(1)}"
        )
    return largest_within(size, budget)


def largest_within(size: Callable[[int], int], budget: int) -> int:
    """The largest n with size(n) <= budget, for a size that grows with n and fits at n = 1.

    >>> largest_within(lambda n: n * n, 150)
    12
    """
    high = 2
    while size(high) <= budget:
        high *= 2
    return bisect.bisect_right(range(high), budget, lo=high // 2, key=size) - 1

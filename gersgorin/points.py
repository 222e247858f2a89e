"""Which of many states are one point: the ends of searches that have met, and distinct states.

Legend: B states; N entries of a state; P points.
"""

import torch
from torch import Tensor


def meeting(s: Tensor, near: Tensor | float) -> Tensor:
    """Return a number for each of the states (B, N), counted from 0. Two states have the same
    number if a chain of states connects them, each within `near` of the next in every entry.

    Each state is compared only with the next one along a random direction, so states that have met
    may get different numbers.

    >>> meeting(torch.tensor([[0.0], [3.0], [0.1], [0.2]]), 0.15).tolist()
    [0, 1, 0, 0]
    """
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(s.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    order = (s @ direction.to(s)).argsort()
    apart = ~((s[order[1:]] - s[order[:-1]]).abs().amax(-1) <= near)  # True for NaN
    numbers = torch.zeros_like(order)
    numbers[order[1:]] = apart.cumsum(0)
    return numbers


def least_of_each(numbers: Tensor, key: Tensor) -> Tensor:
    """Return for each label, counted from 0, the row that has the smallest key among the rows with
    this label; the first of them if several have this key.

    >>> least_of_each(torch.tensor([1, 0, 1, 0]), torch.tensor([5.0, 2.0, 3.0, 4.0])).tolist()
    [1, 2]
    """
    order = key.argsort(stable=True)
    order, sizes = order[numbers[order].argsort(stable=True)], numbers.bincount()
    return order[sizes.cumsum(0) - sizes]


def distinct(
    s: Tensor, speeds: Tensor, group: Tensor, apart: Tensor, starts: int
) -> tuple[Tensor, Tensor]:
    """Find the distinct states among those states (B, N) for which `group` (B,) is True. Returns
    their rows (P,), and for each of them how many of the first `starts` states lie there, (P,). The
    states with the largest counts come first.

    States are visited from the slowest on. A state is new if it differs from each earlier one, in
    some entry, by more than `apart` and by more than sqrt(eps) times the largest entry.

    >>> s, speeds = torch.tensor([[1.0], [0.0], [1.1], [9.0]]), torch.zeros(4)
    >>> distinct(s, speeds, s[:, 0] < 9, torch.tensor(0.2), 4)
    (tensor([0, 1]), tensor([2, 1]))
    """
    left = group.nonzero()[:, 0]
    left, found = left[speeds[left].argsort(stable=True)], []
    while len(left):
        distance = (s[left] - s[left[0]]).abs().amax(-1)
        rounding = torch.finfo(s.dtype).eps ** 0.5 * s[left[0]].abs().max()
        near = distance <= torch.maximum(apart, rounding)
        found.append((-int((left[near] < starts).sum()), int(left[near].min()), int(left[0])))
        left = left[~near]
    table = torch.tensor(sorted(found), dtype=torch.int64, device=s.device).reshape(-1, 3)
    counts, _, rows = table.T
    return rows, -counts

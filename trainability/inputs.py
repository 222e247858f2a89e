"""Inputs and targets as a user gives them, as tensors.

inputs_of(given, like)              # a tensor, or a tuple or dictionary of tensors
inputs_and_targets(batch)           # of a batch of a DataLoader
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from gersgorin.losses import numbers_of
from rhn.errors import InvalidInputError

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Of a model: one, several in order, or several by name; the first one is the sequence."""
Pair = tuple[Inputs, Tensor]  # inputs and targets
TARGETS = ("y", "target", "targets", "label", "labels")  # names in a batch that is a dictionary
# of neighbouring examples, and the share that overlap if all are windows of a series
PAIRS, MOST = 8, 0.7
LONGEST = 128  # rows that overlap others


def overlap(count: int, windows: Callable[[list[int]], Tensor]) -> int:
    """Number of rows that overlap the last ones, if most are windows (T, ...) of a series in order
    and half of each is in the next.

    At most a fifth and 128, and 0 of other rows. windows: takes numbers of rows, and gives these.
    """
    first = (torch.arange(PAIRS) * (count - 1) // PAIRS).tolist()
    rows = windows(first + [k + 1 for k in first])
    if rows.dim() < 2 or len(rows) != 2 * PAIRS:
        return 0
    some, following = rows.split(PAIRS)
    moves = (some != some[:, :1]).flatten(1).any(1)
    for shift in range(1, some.shape[1] // 2 + 1):
        same = (some[:, shift:] == following[:, :-shift]).flatten(1).all(1)
        if (same & moves).float().mean() > MOST:
            return min(some.shape[1] // shift, count // 5, LONGEST)
    return 0


def numbers_like(name: str, given: Any, like: Tensor) -> Tensor:
    """Finite numbers as a tensor on the device of a parameter; those that are not a tensor yet in
    its type, if they are no integers.
    """
    values = numbers_of(name, given)
    keeps_type = isinstance(given, Tensor) or not values.is_floating_point()
    return values.to(like.device, None if keeps_type else like.dtype)


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """(Inputs, targets) of a batch of a DataLoader: the targets are last, or have a name of
    `TARGETS`.
    """
    if isinstance(batch, Mapping):
        return _by_name(batch)
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise InvalidInputError("the DataLoader gives no pairs: expected (x, y) of each batch")
    *x, y = batch
    return x[0] if len(x) == 1 else tuple(x), y


def _by_name(batch: Mapping[Any, Any]) -> tuple[Any, Any]:
    """(Inputs, targets) of a batch that is a dictionary."""
    names = [name for name in TARGETS if name in batch]
    if len(names) != 1 or len(batch) < 2:
        raise InvalidInputError(
            f"a batch has {', '.join(map(str, batch))}: expected inputs and one of "
            f"{', '.join(TARGETS)}"
        )
    others = {name: value for name, value in batch.items() if name not in names}
    return others if len(others) > 1 else next(iter(others.values())), batch[names[0]]


def inputs_of(given: Any, like: Tensor) -> Inputs:
    """The inputs of a model as tensors: of a tuple or a dictionary all, those after the first on
    the device on which they are.
    """
    if isinstance(given, Mapping):
        return dict(zip(given, _several([*given.values()], like), strict=True))
    if isinstance(given, PackedSequence):
        raise InvalidInputError(
            "x is a PackedSequence: expected padded sequences with their lengths, (x, "
            "lengths), as the inputs of a model that packs "
            "them in forward: pack_padded_sequence(x, lengths, batch_first=True, "
            "enforce_sorted=False)"
        )
    if isinstance(given, tuple) or (
        isinstance(given, list) and given and isinstance(given[0], Tensor)
    ):
        return _several(given, like)
    return numbers_like("x", given, like)


def _several(given: Sequence[Any], like: Tensor) -> tuple[Tensor, ...]:
    return numbers_like("x", given[0], like), *(
        numbers_of(f"x[{k}]", value) for k, value in enumerate(given) if k
    )


def with_sequence(x: Inputs, sequence: Tensor) -> Inputs:
    """Another tensor in the place of the first input."""
    return tree_unflatten([sequence, *tree_leaves(x)[1:]], tree_structure(x))


def in_double(values: object) -> Any:
    """Numbers in double precision; ids as they are."""
    return tree_map(lambda v: v.double() if v.is_floating_point() else v, values)


def sequence_of(x: Inputs) -> Tensor:
    """The first input."""
    return tree_leaves(x)[0]

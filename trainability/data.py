"""Minibatches and held-out examples of a training.

    data = Examples(x, y, batch_size=32, axis=0)     # tensors with an example each along an axis
    data = Batches(loader, like, seconds=10)         # what a DataLoader or a list of batches gives
    data.stream(seed)                                # minibatches without an end
    data.held_out                                    # minibatches that the stream never gives

Inputs are a tensor, a tuple or a dictionary of tensors; the first one is the sequence.

Legend: N examples, T frames.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten
from torch.utils.data import RandomSampler

from gersgorin._validate import random_numbers_kept, users_code
from gersgorin.losses import numbers_of
from rhn.errors import DataError, InvalidInputError

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Of a model: one, several in order, or several by name; the first one is the sequence."""
Pair = tuple[Inputs, Tensor]  # inputs and targets
TARGETS = ("y", "target", "targets", "label", "labels")  # names in a batch that is a dictionary
# of neighbouring examples, and the share that overlap if all are windows of a series
PAIRS, MOST = 8, 0.7
SAMPLE = 512  # examples by which scales are measured
WHOLE = 4096  # by which shares of classes are
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
    if isinstance(given, Mapping | tuple | list) and not given:
        raise InvalidInputError(f"x is an empty {type(given).__name__}, expected a tensor in it")
    if isinstance(given, Mapping):
        return dict(zip(given, _several([*given.values()], like), strict=True))
    if isinstance(given, PackedSequence):
        raise InvalidInputError(
            "x is a PackedSequence: expected padded sequences with their lengths, (x, "
            "lengths), as the inputs of a model that packs "
            "them in forward: pack_padded_sequence(x, lengths, batch_first=True, "
            "enforce_sorted=False)"
        )
    if isinstance(given, tuple) or (isinstance(given, list) and isinstance(given[0], Tensor)):
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


FEWEST = 20  # examples or batches, from which on some are held out
MOST_HELD_OUT = 128  # examples
PARTS = 16  # minibatches of the held-out examples
MOST_BATCHES = 2000  # read from a loader


class Examples:
    """Tensors x and y of N examples each, from which minibatches are drawn.

    Args:
        x, y: inputs and targets, with N examples along `axis` (of y along 0 if it has no frames).
        batch_size: of a minibatch.
        axis: 0 for (N, T, ...), 1 for (T, N, ...).

    Raises:
        InvalidInputError: x and y have different numbers of examples, or other sizes are wrong.
    """

    def __init__(self, x: Inputs, y: Tensor, batch_size: int, axis: int):
        self.x, self.y, self.axis = x, y, axis
        self.count = sequence_of(x).shape[axis]
        for name, value in (("y", y), *((f"x[{k}]", v) for k, v in enumerate(tree_leaves(x)))):
            if self._axis_of(value) is None:
                raise InvalidInputError(
                    f"x of shape {tuple(sequence_of(x).shape)} has {self.count} examples along "
                    f"axis {axis}, and {name} has shape {tuple(value.shape)}: expected as many; "
                    "batch_axis=0 or 1 says where the examples are"
                )
        if self.count < 2 and y.shape[:2] != sequence_of(x).shape[:2]:
            raise InvalidInputError(
                f"x of shape {tuple(sequence_of(x).shape)} holds one example along axis {axis}, "
                "with one target: expected several, else every constant is right; batch_axis=0 or "
                "1 says where the examples are"
            )
        self.batch_size = min(batch_size, self.count)
        self._rows, self._held = self._split()

    def _split(self) -> tuple[Tensor, Tensor]:
        """(Rows of the stream, rows held out): a fifth, at most 128, drawn or the last windows."""
        if self.count < FEWEST:
            return torch.arange(self.count), torch.arange(0)
        number = min(MOST_HELD_OUT, self.count // 5)
        first = sequence_of(self.x).movedim(self.axis, 0)
        gap = overlap(self.count, lambda rows: first[rows])
        if gap:
            last = self.count - number
            return torch.arange(last - gap), torch.arange(last, self.count)
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(0))
        return order[number:], order[:number]

    @property
    def held_out(self) -> list[Pair]:
        """Minibatches of the examples that are held out; empty if there are too few."""
        parts = max(1, min(PARTS, len(self._held) // 2))
        return [self.take(rows) for rows in self._held.tensor_split(parts) if len(rows)]

    @property
    def targets(self) -> list[Tensor]:
        """Of all examples."""
        return [self.y]

    def _axis_of(self, value: Tensor) -> int | None:
        """The axis of the examples; that of x if both it and 0 have N entries and frames agree."""
        axes = [a for a in (self.axis, 0) if a < value.dim() and value.shape[a] == self.count]
        same_frames = value.shape[:2] == sequence_of(self.x).shape[:2]
        if not axes:
            return None
        return axes[0] if same_frames else axes[-1]

    def take(self, rows: Tensor) -> Pair:
        """Inputs and targets of some examples."""

        def some(value: Tensor) -> Tensor:
            return value.index_select(self._axis_of(value) or 0, rows.to(value.device))

        return tree_map(some, (self.x, self.y))

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield minibatches: a permutation of the examples for each epoch."""
        generator = torch.Generator().manual_seed(seed)
        size = min(self.batch_size, len(self._rows))
        while True:
            order = self._rows[torch.randperm(len(self._rows), generator=generator)]
            for rows in order[: len(order) // size * size].split(size):
                yield self.take(rows)

    def sample(self, number: int) -> Pair:
        """Examples of the stream, drawn at random."""
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(1))
        return self.take(self._rows[order[:number]])


class Batches:
    """Ready-made minibatches: those of the first epoch of a loader, or of as much as time allows.

    Args:
        loader: of (x, y), (x, further inputs, y), or dictionaries, see `inputs_and_targets`.
        like: a parameter of the model; its device is that of the minibatches.
        seconds: most time for reading.

    Raises:
        DataError: the loader is empty.
        InvalidInputError: its batches are no pairs; or what the loader raised.
    """

    def __init__(self, loader: Any, like: Tensor, seconds: float):
        if isinstance(loader, Tensor | np.ndarray) or not isinstance(loader, Iterable):
            raise InvalidInputError(
                "y is missing: expected targets beside x, or as x a DataLoader of pairs (x, y)"
            )
        end, every = time.monotonic() + seconds, list[Pair]()
        with users_code("the DataLoader fails"), random_numbers_kept(like), generators_kept(loader):
            for batch in islice(loader, MOST_BATCHES):
                x, y = inputs_and_targets(batch)
                every.append((inputs_of(x, like), numbers_like("y", y, like)))
                if time.monotonic() > end:
                    break
        if not every:
            raise DataError("the DataLoader is empty: expected at least one batch")
        step = 10 if len(every) >= FEWEST else len(every) + 1
        self.held_out = every[step - 1 :: step][:PARTS]
        self._train = [pair for k, pair in enumerate(every, 1) if k % step]
        self.shuffles = isinstance(getattr(loader, "sampler", None), RandomSampler)
        self.axis = 0

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield the batches in the loader's order, or in another one each epoch if it shuffles."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.arange(len(self._train))
            if self.shuffles:
                order = torch.randperm(len(self._train), generator=generator)
            for k in order.tolist():
                yield tree_map(Tensor.clone, self._train[k])

    def all(self) -> list[Pair]:
        """All batches, also those that are held out."""
        return [*self._train, *self.held_out]

    @property
    def targets(self) -> list[Tensor]:
        """Of all batches."""
        return [y for _, y in self.all()]

    def sample(self, number: int) -> Pair:
        """A batch, drawn at random."""
        return next(self.shuffled().stream(1))

    def shuffled(self) -> "Batches":
        """The same batches in random order; their examples too, if all batches have one shape."""
        other = copy.copy(self)
        other.shuffles = True
        with contextlib.suppress(RuntimeError, ValueError):  # of batches of unlike shapes
            leaves = [tree_leaves(pair) for pair in self._train]
            joined = [torch.cat(parts, self.axis) for parts in zip(*leaves, strict=True)]
            order = torch.randperm(
                joined[0].shape[self.axis], generator=torch.Generator().manual_seed(2)
            )
            sizes = [parts[0].shape[self.axis] for parts in leaves]
            mixed = [part.index_select(self.axis, order).split(sizes, self.axis) for part in joined]
            places = iter(zip(*mixed, strict=True))
            other._train = [_filled(pair, next(places)) for pair in self._train]
        return other


@contextlib.contextmanager
def generators_kept(loader: Any) -> Iterator[None]:
    """Restore the generators of a DataLoader, so that it gives the same order as if never read."""
    holders = loader, getattr(loader, "sampler", None)
    generators = [getattr(holder, "generator", None) for holder in holders]
    states = [(g, g.get_state()) for g in generators if isinstance(g, torch.Generator)]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


Data = Examples | Batches


def _filled(pair: Pair, leaves: tuple[Tensor, ...]) -> Pair:
    """A pair of the same form with other tensors."""
    following = iter(leaves)
    return tree_map(lambda _: next(following), pair)


Change = Callable[[Any], Any]

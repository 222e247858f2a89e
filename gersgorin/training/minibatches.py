"""Minibatches of a training: of tensors with an example each, or of a DataLoader; which axes have
examples, frames and units.

    data = Examples(x, y, batch_size=32, axis=0)
    data.stream(seed)         minibatches, without an end
    data.minibatches(64)      some of them for measurements, drawn at random

Legend: N examples, K output units.
"""

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import count as count_from
from itertools import islice, tee
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten
from torch.utils.data import DataLoader, Subset

from gersgorin._validate import finite_tensor, users_code
from rhn.errors import DataError, InvalidInputError
from rhn.utils.wording import in_short

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Of a model: one, several in order, or several by name; the first one is the sequence."""
Pair = tuple[Inputs, Tensor]  # inputs and targets
TARGETS = ("y", "target", "targets", "label", "labels")  # names in a batch that is a dictionary
BATCH_SIZE = 32
# examples, of which some are kept out; how many of enough, at most
FEW, SOME_KEPT, MOST_KEPT = 50, 32, 128
MOST_PASSES = 4  # through the examples, for minibatches with the same number of each
UNRELATED, RELATED = 0.1, 0.5  # correlations of neighbouring examples, and of frames
FEW_NEIGHBOURS = 8  # least number of both
SAMPLE = 64  # batches of a DataLoader for the best constant output
# of which they are drawn: those of an epoch, but not fewer or more
SEVERAL, MOST_BATCHES = 32, 4_000
# of neighbouring examples, and the share that overlap if all are windows of a series
PAIRS, MOST = 8, 0.7


class Examples:
    """Tensors x and y of N examples each, from which minibatches are drawn."""

    cut: int | None = None

    def __init__(self, x: Inputs, y: Tensor, batch_size: int, axis: int):
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InvalidInputError(
                f"batch_size is {in_short(batch_size)}, expected a whole number of at least 1"
            )
        if axis not in (0, 1):
            raise InvalidInputError(
                f"batch_axis is {in_short(axis)}, expected 0 (batch_first=True), 1 or None"
            )
        self.x, self.y, self.axis, first = x, y, axis, sequence_of(x)
        if first.dim() <= self.axis:
            raise InvalidInputError(
                f"x has {first.dim()} axes, expected examples along axis {self.axis}"
            )
        self.count = first.shape[self.axis]
        for name, value in (("y", y), *((f"x[{k}]", v) for k, v in enumerate(tree_leaves(x)))):
            if self._axis_of(value) is None:
                raise InvalidInputError(
                    f"x of shape {tuple(first.shape)} has {self.count} examples along axis "
                    f"{self.axis}, and {name} has shape "
                    f"{tuple(value.shape)}: expected as many; batch_axis=0 or 1 says where the "
                    "examples are"
                )
        self.per_step = min(batch_size, self.count)
        self.kept, self.gap = torch.zeros(0, dtype=torch.int64), 0

    @property
    def epoch(self) -> float:
        """Steps of one pass through the data."""
        return self.count / self.per_step

    def keep_out(self) -> None:
        """Keep a tenth of the examples out of the stream, up to a fifth of less than 320, none of
        less than 50.

        Of overlapping windows the last ones, and those that overlap them.
        """
        if self.count < FEW:
            return
        first, number = sequence_of(self.x).movedim(self.axis, 0), number_kept(self.count)
        self.gap = overlap(self.count, lambda rows: first[rows])
        last = torch.arange(self.count - number - self.gap, self.count)
        self.kept = last if self.gap else _drawn(self.count, 1)[:number]

    def kept_out(self, parts: int) -> tuple[list[Pair], list[Pair]]:
        """(The examples kept out of the stream, as many of the stream), each in parts."""
        order, read = _drawn(self.count, 1), self.kept[self.gap :]
        rest = order[~torch.isin(order, self.kept)][: len(read)]
        # of two examples or more, which batch normalisation needs
        parts = max(1, min(parts, len(read) // 2))
        kept, others = (
            [self.take(some) for some in rows.tensor_split(parts) if len(some)]
            for rows in (read, rest)
        )
        return kept, others

    def _axis_of(self, value: Tensor) -> int | None:
        """The axis of the examples: that of x if there are as many, else the first one; None:
        neither. If both, x's if frames agree.
        """
        axes = [
            axis
            for axis in (self.axis, 0)
            if axis < value.dim() and value.shape[axis] == self.count
        ]
        same = value.shape[:2] == sequence_of(self.x).shape[:2]
        return (axes[0] if same else axes[-1]) if axes else None

    def take(self, units: Tensor) -> Pair:
        """Inputs and targets of some examples (B,)."""
        some = lambda value: value.index_select(self._axis_of(value), units.to(value.device))  # noqa: E731
        return tree_map(some, (self.x, self.y))

    def stream(self, seed: int) -> Generator[Pair]:
        """Yield minibatches: a permutation of the examples for each epoch, without those kept
        out.
        """
        g = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(self.count, generator=g)
            order = order[~torch.isin(order, self.kept)]
            size = min(self.per_step, len(order))
            for some in order[: len(order) // size * size].split(size):
                yield self.take(some)

    def mapped(self, change: Callable[[Pair], Pair]) -> "Examples":
        """The same examples, changed by a function."""
        other = copy.copy(self)
        other.x, other.y = change((self.x, self.y))
        return other

    def probe(self, number: int = BATCH_SIZE) -> Pair:
        """Examples drawn at random, as many as a usual minibatch has."""
        return self.take(_drawn(self.count, 1)[:number])

    def minibatches(self, most: int) -> list[Pair]:
        """Minibatches drawn at random, at most this number; together they hold each example as
        often as any other, or nearly so.
        """
        # both end together
        passes = min(self.per_step // math.gcd(self.count, self.per_step), MOST_PASSES)
        number = min(most, self.count * passes // self.per_step)
        order = _drawn(self.count, -(-number * self.per_step // self.count))
        return [self.take(some) for some in order.split(self.per_step)[:number]]


class Batches:
    """Pairs of batches from a DataLoader, in its own order; each run of trials reads it again."""

    held: tuple[list[Pair], list[Pair]] | None = None
    """Examples that are kept out of the loader, as many of it; None: not yet."""

    def __init__(self, loader: Any, like: Tensor, seconds: float):
        self.change: Callable[[Pair], Pair] = lambda pair: pair
        if isinstance(loader, Tensor | np.ndarray) or not isinstance(loader, Iterable):
            raise InvalidInputError(
                "y is missing: expected targets beside x, or as x a DataLoader of pairs (x, y)"
            )
        if isinstance(loader, list | tuple):
            loader = DataLoader(loader, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
        self.loader: Any = tee(loader, 1)[0] if isinstance(loader, Iterator) else loader
        self.like = like
        self.epoch = math.inf
        with contextlib.suppress(TypeError):  # of data without a length
            self.epoch = len(loader)
        self.kept, self.cut = self._sample(time.monotonic() + seconds)

    def _sample(self, end: float) -> tuple[list[Pair], int | None]:
        """(Batches drawn at random from at least one epoch, the number that was read if there was
        no time for an epoch).
        """
        draw, kept = random.Random(0), []
        with contextlib.closing(self.stream(0)) as stream:
            for count, pair in enumerate(stream, 1):
                if count <= SAMPLE:
                    kept.append(pair)
                elif (k := draw.randrange(count)) < SAMPLE:
                    kept[k] = pair
                if count >= SEVERAL and count % self.epoch == 0:
                    return kept, None
                most = MOST_BATCHES if self.epoch < math.inf else SAMPLE
                if count >= most or time.monotonic() > end:
                    return kept, None if count >= self.epoch else count
        raise AssertionError("a stream has no end")

    def stream(self, seed: int) -> Generator[Pair]:
        """Yield the batches of one epoch after another, in the order that the loader draws from a
        seed; it sets those of torch, Python and NumPy.
        """
        batches = getattr(self.loader, "batch_sampler", None)
        places = (
            self.loader,
            getattr(self.loader, "sampler", None),
            batches,
            getattr(batches, "sampler", None),
        )
        generators = {
            g
            for place in places
            if isinstance(g := getattr(place, "generator", None), torch.Generator)
        }
        states = [(g, g.get_state()) for g in generators]
        np.random.seed(seed % 2**32)  # noqa: NPY002 - of a user's code
        random.seed(seed)
        for set_seed in (torch.manual_seed, *(g.manual_seed for g in generators)):
            set_seed(seed)
        try:
            for epoch in count_from(0):
                number = 0
                for pair in _read(self.loader):
                    number += 1
                    x, y = inputs_and_targets(pair)
                    pair = inputs_of(x, self.like), numbers_like("y", y, self.like)
                    yield self.change(tree_map(Tensor.clone, pair))
                if not number:
                    advice = (
                        " in its second epoch: give a list of its batches"
                        if epoch
                        else ": expected at least one batch"
                    )
                    raise DataError(f"the DataLoader is empty{advice}")
                self.epoch = number
        finally:
            for g, state in states:
                g.set_state(state)

    def rows(self, dataset: Any, rows: Sequence[int], size: int | None) -> list[Pair]:
        """Some rows of a dataset in minibatches of a size, collated as the loader does it. size:
        None if the rows are batches.
        """
        other = copy.copy(self)
        other.loader = DataLoader(Subset(dataset, rows), size, collate_fn=self.loader.collate_fn)
        with contextlib.closing(other.stream(0)) as stream:
            return [*islice(stream, len(other.loader))]

    def mapped(self, change: Callable[[Pair], Pair]) -> "Batches":
        """The same batches, changed by a function."""
        other = copy.copy(self)
        other.change, other.kept = change, [change(pair) for pair in self.kept]
        return other

    def probe(self) -> Pair:
        """A batch drawn at random."""
        return self.minibatches(1)[0]

    def minibatches(self, most: int) -> list[Pair]:
        """Batches drawn at random, at most this number."""
        return [self.kept[k] for k in _drawn(len(self.kept), 1)[:most].tolist()]


def overlap(count: int, windows: Callable[[list[int]], Tensor]) -> int:
    """Number of rows that overlap the last ones, if most are windows (T, ...) of a series in order
    and half of each is in the next.

    At most `number_kept`, and 0 of other rows. windows: takes numbers of rows, and gives these
    rows.
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
            return min(some.shape[1] // shift, number_kept(count))
    return 0


def number_kept(count: int) -> int:
    """Number of examples that are held out of a count: a tenth, up to a fifth of less than 320, at
    most 128.
    """
    return min(max(count // 10, min(count // 5, SOME_KEPT)), MOST_KEPT)


def same_for_all_seeds(data: Examples | Batches) -> bool:
    """True if the first minibatch does not depend on the seed: there is one order, as of a
    DataLoader that does not shuffle.
    """
    first = []
    for seed in (0, 1):
        with contextlib.closing(data.stream(seed)) as stream:
            first.append(tree_leaves(next(stream)))
    return all(map(torch.equal, *first))


def _drawn(count: int, times: int) -> Tensor:
    """All numbers below `count` in random order, several times; the same at each call."""
    g = torch.Generator().manual_seed(0)
    return torch.cat([torch.randperm(count, generator=g) for _ in range(times)])


def _read(loader: Iterable) -> Iterator[Any]:
    """The batches of a loader from the first one on, an iterator's too. Raises InvalidInputError
    with what it raised.
    """
    with users_code("the DataLoader fails"):
        batches = copy.copy(loader) if isinstance(loader, Iterator) else loader
        for batch in batches:  # noqa: UP028 - `yield from` would close a generator that goes on later
            yield batch


def numbers_of(name: str, given: Any) -> Tensor:
    """Finite real numbers of a user as a tensor without a graph. Raises InvalidInputError."""
    if not isinstance(given, Tensor):
        with users_code(f"{name} is not an array of numbers"):
            given = np.asarray(given)
    return finite_tensor(name, given).detach()


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
        names = [name for name in TARGETS if name in batch]
        if len(names) == 1 and len(batch) > 1:
            others = {name: value for name, value in batch.items() if name not in names}
            return others if len(others) > 1 else next(iter(others.values())), batch[names[0]]
        raise InvalidInputError(
            f"a batch has {', '.join(map(str, batch))}: expected inputs and one of "
            f"{', '.join(TARGETS)}"
        )
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise InvalidInputError("the DataLoader gives no pairs: expected (x, y) of each batch")
    *x, y = batch
    return x[0] if len(x) == 1 else tuple(x), y


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


def _indexed(x: Inputs, axis: int, length: int, rows: Tensor) -> Inputs:
    """Some entries along an axis, of all inputs that have this length there."""
    has = lambda value: value.shape[axis : axis + 1] == (length,)  # noqa: E731
    return tree_map(
        lambda value: value.index_select(axis, rows.to(value.device)) if has(value) else value, x
    )


def with_sequence(x: Inputs, sequence: Tensor) -> Inputs:
    """Another tensor in the place of the first input."""
    return tree_unflatten([sequence, *tree_leaves(x)[1:]], tree_structure(x))


def in_double(x: Inputs) -> Inputs:
    """The same inputs, numbers in float64."""
    return tree_map(lambda value: value.double() if value.is_floating_point() else value, x)


def sequence_of(x: Inputs) -> Tensor:
    """The first input."""
    return tree_leaves(x)[0]


@torch.no_grad()
def find_batch_axis(
    outputs: Callable[[Inputs], Tensor], x: Inputs, y: Tensor, stated: set[bool]
) -> int:
    """Axis of the examples, 0 or 1: the only one with as many entries as there are targets.

    If both have, the one along which the output of an example does not change with its neighbours,
    unless `batch_first=True` or related neighbours say that these are frames. If this leaves both
    or none, or there are several inputs, `batch_first` of the model's parts decides. Raises
    InvalidInputError if it is not clear.

    stated: values of `batch_first` of the model's parts.
    """
    first = sequence_of(x)
    both = y.shape[:2] == first.shape[:2]
    axes = [k for k, n in enumerate(first.shape[:2]) if both or (y.dim() and n == y.shape[0])]
    if len(axes) != 1:
        axes = [
            k
            for k, n in enumerate(first.shape[:2])
            if first is x and n > 2 and _independent(outputs, first, k)
        ]
        related = [_relation(first, k) for k in (0, 1)]
        if axes == [1] and (stated == {True} or (related[0] < UNRELATED and related[1] > RELATED)):
            return 0  # the network takes examples for time
    # few examples, or weights so small that no frame changes the next one
    if len(axes) != 1 and len(stated) == 1:
        return 1 - next(iter(stated))
    if len(axes) == 2:  # the output does not change at all
        return 0
    if len(axes) == 1:
        return axes[0]
    raise InvalidInputError(
        f"the axis of the examples in x of shape {tuple(first.shape)} is not clear: add "
        "batch_axis=0 for (examples, frames, numbers), "
        "or batch_axis=1 for (frames, examples, numbers)"
    )


def _relation(x: Tensor, axis: int) -> float:
    """Mean correlation of neighbours along an axis of numbers; 0 of symbols."""
    if not x.is_floating_point() or x.dim() < 3 or x.shape[axis] < FEW_NEIGHBOURS:
        return 0.0
    z = (x - x.mean((0, 1))) / x.std((0, 1)).clamp_min(1e-12)
    return (
        (z.narrow(axis, 1, z.shape[axis] - 1) * z.narrow(axis, 0, z.shape[axis] - 1)).mean().item()
    )


def _independent(outputs: Callable[[Inputs], Tensor], x: Tensor, axis: int) -> bool:
    """True if the middle one of three slices of x along an axis gives the same output beside two
    other slices.
    """
    few = x.narrow(axis, 0, 3).clone()
    changed = few.clone()
    for k in (0, 2):
        piece = changed.select(axis, k)
        piece.copy_(
            piece + 1 if piece.is_floating_point() else piece.flatten().roll(1).reshape(piece.shape)
        )
    try:
        before, after = outputs(few), outputs(changed)
    except InvalidInputError:  # such as a model that takes one number of frames only
        return False
    where = [a for a in (axis, 0) if a < before.dim() and before.shape[a] == 3]
    return bool(where) and torch.equal(before.select(where[0], 1), after.select(where[0], 1))


@torch.no_grad()
def unit_axes(outputs: Callable[[Inputs], Tensor], x: Inputs, y: Tensor) -> Tensor:
    """Zeros in the shape of an output, with length 1 along the axes of examples and frames: those
    that are as long as x is.

    They are found by calls with other lengths of x. If the model takes only one, or an axis of
    several that stay may be that of frames, torch's layouts decide: the targets are classes without
    the axis of units, or have the units last. Raises InvalidInputError if neither does.
    """
    zeros, numbers = (
        torch.zeros_like(outputs(x)),
        sum(part.is_floating_point() for part in tree_leaves(x)),
    )
    shape, fixed, silent, follows = zeros.shape, [], [], [1] * zeros.dim()
    for axis, length in dict.fromkeys(
        (a, n) for part in tree_leaves(x) for a, n in enumerate(part.shape)
    ):
        for rows in (torch.arange(2 * length) % length, torch.arange(max(1, length // 2))):
            with contextlib.suppress(InvalidInputError):
                changed = outputs(_indexed(x, axis, length, rows)).shape
                if len(changed) == len(shape):
                    follows = [
                        f * length if a != b else f
                        for f, a, b in zip(follows, shape, changed, strict=True)
                    ]
                    silent += [length] * (changed == shape)
                    break
        else:
            fixed.append(length)
    units = [1 if f > 1 else n for f, n in zip(follows, shape, strict=True)]
    # an axis of frames and units
    mixed = any(1 < f < n for f, n in zip(follows, shape, strict=True))
    axes = [a for a, n in enumerate(units) if n > 1]
    doubtful = fixed * (len(fixed) > numbers) + silent * (len(axes) > 1)
    if mixed or any(units[a] in doubtful for a in axes):
        classes = [a for a in axes if shape[:a] + shape[a + 1 :] == y.shape]
        last = [len(shape) - 1] * (shape == y.shape and len(shape) > 2)
        if mixed or len(classes or last) != 1:
            raise InvalidInputError(
                f"the axes of examples, frames and units in outputs of shape {tuple(shape)} "
                "are not clear: return (..., units), with "
                "an axis of length 1 for one unit"
            )
        units = [n if a in (classes or last) else 1 for a, n in enumerate(units)]
    return zeros.new_zeros(units)

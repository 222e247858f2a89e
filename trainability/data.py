"""Minibatches and held-out examples of a training run.

    data = Examples(x, y, batch_size=32, axis=0)     # tensors with an example each along an axis
    data = Batches(loader, like, seconds=10)         # what a DataLoader or a list of batches gives
    data.stream(seed)                                # minibatches without an end
    data.held_out                                    # minibatches that the stream never gives

Inputs are a tensor, a tuple or a dictionary of tensors; the first one is the sequence.

Legend: N examples, T frames.
"""

import contextlib
import copy
import math
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

from gersgorin.data.layout import Layout
from gersgorin.losses import numbers_of
from gersgorin.validate import random_numbers_kept, users_code
from rhn.errors import DataError, InvalidInputError
from rhn.utils.wording import counted
from trainability.splits import TOO_FEW, keys_of, number_held_out, positions, split

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Of a model: one, several in order, or several by name; the first one is the sequence."""
Pair = tuple[Inputs, Tensor]  # inputs and targets
TARGETS = ("y", "target", "targets", "label", "labels")  # names in a batch that is a dictionary
SAMPLE = 512  # examples by which scales are measured
WHOLE = 4096  # by which shares of classes are


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
    return with_leaf(x, 0, sequence)


def with_leaf(x: Inputs, place: int, values: Tensor) -> Inputs:
    """Another tensor in the place of one of the inputs."""
    leaves = tree_leaves(x)
    leaves[place] = values
    return tree_unflatten(leaves, tree_structure(x))


def in_double(values: object) -> Any:
    """Numbers in double precision; ids as they are."""
    return tree_map(lambda v: v.double() if v.is_floating_point() else v, values)


def noise_like(values: Tensor, seed: int = 0) -> Tensor:
    """Normal numbers in the shape and type of others, the same on each device."""
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values)


def sequence_of(x: Inputs) -> Tensor:
    """The first input."""
    return tree_leaves(x)[0]


BATCHES = 20  # of a loader, from which on whole ones are held out
PARTS = 16  # minibatches of the held-out examples
MOST_BATCHES = 2000  # read from a loader


def examples_axis(value: Tensor, first: Tensor, axis: int) -> int | None:
    """The axis of the examples in one of several tensors; None: it has none.

    The axis of the sequence if both it and 0 have as many entries and the frames agree.
    """
    count = first.shape[axis]
    axes = [a for a in (axis, 0) if a < value.dim() and value.shape[a] == count]
    if not axes:
        return None
    return axes[0] if value.shape[:2] == first.shape[:2] else axes[-1]


def take(pair: Pair, rows: Tensor, axis: int) -> Pair:
    """Inputs and targets of some examples."""
    first = sequence_of(pair[0])

    def some(value: Tensor) -> Tensor:
        own = examples_axis(value, first, axis)
        return value if own is None else value.index_select(own, rows.to(value.device))

    return tree_map(some, pair)


def count_of(pair: Pair, axis: int) -> int:
    """The number of examples."""
    first = sequence_of(pair[0])
    return first.shape[axis] if first.dim() > axis else 1


def keys_of_inputs(x: Inputs, axis: int) -> list[bytes]:
    """A key of each example, the same for equal inputs."""
    first = sequence_of(x)
    axes = [(leaf, examples_axis(leaf, first, axis)) for leaf in tree_leaves(x)]
    return keys_of([leaf.movedim(own, 0) for leaf, own in axes if own is not None])


def joined(pairs: list[Pair], axis: int) -> Pair | None:
    """All minibatches as one; None if their shapes differ."""
    first = sequence_of(pairs[0][0])
    axes = [examples_axis(leaf, first, axis) for leaf in tree_leaves(pairs[0])]
    each = [tree_leaves(pair) for pair in pairs]
    try:
        whole = [
            parts[0] if own is None else torch.cat(parts, own)
            for own, parts in zip(axes, zip(*each, strict=True), strict=True)
        ]
    except (RuntimeError, ValueError):
        return None
    return _filled(pairs[0], whole)


class HeldOut:
    """Base of all data: minibatches that are held out, and whether they suffice."""

    axis: int
    held_out: list[Pair]
    in_time = False
    """Whether the last frames of each sequence are held out, in place of examples."""

    @property
    def layout(self) -> Layout:
        """Of the sequences, and of targets for each frame."""
        return Layout(self.axis)

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield (number of its first example, a minibatch) of all data in their own order."""
        raise NotImplementedError

    def number_of(self, x: Inputs, row: int) -> int | None:
        """The number of an example of a minibatch in the data; None: it is not in them."""
        key = keys_of_inputs(x, self.axis)[row]
        for number, (inputs, _) in self.every():
            keys = keys_of_inputs(inputs, self.axis)
            if key in keys:
                return number + keys.index(key)
        return None

    @property
    def too_few(self) -> str:
        """Why the held-out examples tell nothing; "" if they do."""
        count = sum(count_of(pair, self.axis) for pair in self.held_out)
        if count < TOO_FEW and not self.in_time:
            return f"{counted(count, 'example')} {'is' if count == 1 else 'are'} held out"
        targets = torch.cat([y.flatten() for _, y in self.held_out])
        return "the targets of the held-out examples are equal" if _equal(targets) else ""


def _equal(values: Tensor) -> bool:
    return bool((values == values[0]).all())


class Examples(HeldOut):
    """Tensors x and y of N examples each, from which minibatches are drawn.

    A quarter of small sets is held out, at least 100 of 400 examples and more. For a few long
    sequences with a target for each frame, the last quarter of the frames is held out.

    Args:
        x, y: inputs and targets, with N examples along `axis` (of y along 0 if it has no frames).
        batch_size: size of a minibatch.
        axis: 0 for (N, T, ...), 1 for (T, N, ...).
        fits: returns whether the model takes inputs of another size.

    Raises:
        InvalidInputError: x and y have different numbers of examples, or other sizes are wrong.
    """

    def __init__(
        self,
        x: Inputs,
        y: Tensor,
        batch_size: int,
        axis: int,
        fits: Callable[[Inputs], bool] = lambda x: False,
    ):
        self.x, self.y, self.axis = x, y, axis
        first = sequence_of(x)
        self.count = first.shape[axis]
        for name, value in (("y", y), *((f"x[{k}]", v) for k, v in enumerate(tree_leaves(x)))):
            if examples_axis(value, first, axis) is None:
                raise InvalidInputError(
                    f"x of shape {tuple(first.shape)} has {self.count} examples along "
                    f"axis {axis}, and {name} has shape {tuple(value.shape)}: expected as many; "
                    "batch_axis=0 or 1 says where the examples are"
                )
        if self.count < 2 and y.shape[:2] != first.shape[:2]:
            raise InvalidInputError(
                f"x of shape {tuple(first.shape)} holds one example along axis {axis}, "
                "with one target: expected several, else every constant is right; batch_axis=0 or "
                "1 says where the examples are"
            )
        self.batch_size = min(batch_size, self.count)
        rows = first.movedim(axis, 0)
        frames = rows.shape[1] if rows.dim() > 1 else 1
        self._rows, held = split(keys_of_inputs(x, axis), positions(rows), frames)
        self._cut = None if len(held) else self._cut_in_time(fits)
        self.in_time = self._cut is not None
        parts = max(1, min(PARTS, len(held) // 2))
        self.held_out = [self.take(rows) for rows in held.tensor_split(parts) if len(rows)]
        if self._cut is not None:
            self.held_out = [self._frames((x, y), self._cut, frames)]

    def _cut_in_time(self, fits: Callable[[Inputs], bool]) -> int | None:
        """The frame from which on all are held out; None if there are too few, or it cannot be."""
        first = sequence_of(self.x)
        frames = first.shape[self.layout.time] if first.dim() > 1 else 1
        number = frames // 4
        alike = all(v.shape[:2] == first.shape[:2] for v in (*tree_leaves(self.x), self.y))
        if number < TOO_FEW or not alike:
            return None
        cut = frames - number
        parts = ((0, cut), (cut, frames))
        return (
            cut if all(fits(self._frames((self.x, self.y), *ends)[0]) for ends in parts) else None
        )

    def _frames(self, pair: Pair, begin: int, end: int) -> Pair:
        """Some frames of all sequences."""
        return tree_map(lambda v: v.narrow(self.layout.time, begin, end - begin), pair)

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield (number of its first example, a minibatch) of all examples in their order."""
        for rows in torch.arange(self.count).split(self.batch_size):
            yield int(rows[0]), self.take(rows)

    @property
    def targets(self) -> list[Tensor]:
        """Of all examples."""
        return [self.y]

    @property
    def trained(self) -> list[Pair]:
        """All examples that are trained on, as one minibatch."""
        return [self._of_stream(self._rows)]

    def take(self, rows: Tensor) -> Pair:
        """Inputs and targets of some examples."""
        return take((self.x, self.y), rows, self.axis)

    def _of_stream(self, rows: Tensor) -> Pair:
        """The same without frames that are held out."""
        pair = self.take(rows)
        return pair if self._cut is None else self._frames(pair, 0, self._cut)

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield minibatches: a permutation of the examples for each epoch."""
        generator = torch.Generator().manual_seed(seed)
        size = min(self.batch_size, len(self._rows))
        while True:
            order = self._rows[torch.randperm(len(self._rows), generator=generator)]
            for rows in order[: len(order) // size * size].split(size):
                yield self._of_stream(rows)

    def sample(self, number: int) -> Pair:
        """Examples of the stream, drawn at random."""
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(1))
        return self._of_stream(self._rows[order[:number]])


class Batches(HeldOut):
    """Ready-made minibatches: those of the first epoch of a loader, or of as much as time allows.

    Of 20 batches and more whole ones are held out, of fewer some examples of each.

    Args:
        loader: yields (x, y), (x, further inputs, y), or dictionaries, see `inputs_and_targets`.
        like: a parameter of the model; its device is that of the minibatches.
        seconds: most time for reading.
        axis_of: returns the axis of the examples of a pair.
        fits: returns whether the model takes inputs of another size.
        change: changes the pairs that are read.

    Raises:
        DataError: the loader is empty.
        InvalidInputError: its batches are no pairs; or what the loader raised.
    """

    def __init__(
        self,
        loader: Any,
        like: Tensor,
        seconds: float,
        axis_of: Callable[[Inputs, Tensor], int] = lambda x, y: 0,
        fits: Callable[[Inputs], bool] = lambda x: False,
        change: Callable[[list[Pair]], list[Pair]] = list,
    ):
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
        every = change(every)
        self.shuffles = isinstance(getattr(loader, "sampler", None), RandomSampler)
        self.axis = axis_of(*every[0])
        count = count_of(every[0], self.axis)
        fewer = take(every[0], torch.arange(count - 1), self.axis)[0]
        self.resized = count > 1 and fits(fewer)
        self._every = every
        self.trained, self.held_out = self._split(every)
        self.batch_size = count_of(self.trained[0], self.axis)

    def _split(self, every: list[Pair]) -> tuple[list[Pair], list[Pair]]:
        """(Minibatches that are trained on, those that are held out)."""
        keys = [keys_of_inputs(x, self.axis) for x, _ in every]
        first = _windows([sequence_of(x).movedim(self.axis, 0) for x, _ in every])
        places = None if first is None else positions(first)
        if not self.resized or (places is None and len(every) >= BATCHES):
            return self._whole_batches(every, keys)
        flat = [key for part in keys for key in part]
        frames = 1 if first is None else first.shape[1]
        trained, some = (
            [self._some(pair, part) for pair, part in zip(every, marks, strict=True)]
            for marks in _marks(split(flat, places, frames), [len(part) for part in keys])
        )
        return [p for p in trained if count_of(p, self.axis) > 1] or every, self._in_parts(some)

    def _some(self, pair: Pair, which: Tensor) -> Pair:
        return take(pair, which.nonzero().flatten(), self.axis)

    def _in_parts(self, pairs: list[Pair]) -> list[Pair]:
        """The examples of small minibatches in larger ones, if their shapes allow it."""
        pairs = [pair for pair in pairs if count_of(pair, self.axis)]
        one = joined(pairs, self.axis) if pairs else None
        if one is None:
            return pairs
        rows = torch.arange(count_of(one, self.axis))
        return [take(one, part, self.axis) for part in rows.tensor_split(min(PARTS, len(pairs)))]

    def _whole_batches(
        self, every: list[Pair], keys: list[list[bytes]]
    ) -> tuple[list[Pair], list[Pair]]:
        """Every k-th batch is held out, without examples that others have too."""
        count = sum(map(len, keys))
        number = math.ceil(number_held_out(count) * len(every) / max(1, count))
        step = len(every) // number if number else len(every) + 1
        out = range(step - 1, number * step, step)
        known = {key for k, part in enumerate(keys) if k not in out for key in part}
        maybe = [self._unknown(every[k], keys[k], known) for k in out]
        held = [pair for pair in maybe if pair is not None]
        if sum(count_of(pair, self.axis) for pair in held) < TOO_FEW:
            return every, []
        return [pair for k, pair in enumerate(every) if k not in out], held

    def _unknown(self, pair: Pair, keys: list[bytes], known: set[bytes]) -> Pair | None:
        """The examples of a batch whose inputs are not known; None if no batch remains."""
        new = torch.tensor([key not in known for key in keys])
        if new.all():
            return pair
        return self._some(pair, new) if new.any() and self.resized else None

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield the batches in the loader's order, or in another one each epoch if it shuffles."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.arange(len(self.trained))
            if self.shuffles:
                order = torch.randperm(len(self.trained), generator=generator)
            for k in order.tolist():
                yield tree_map(Tensor.clone, self.trained[k])

    def all(self) -> list[Pair]:
        """All batches as the loader gave them."""
        return self._every

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield (number of its first example, a batch) in the order of the loader."""
        number = 0
        for pair in self._every:
            yield number, pair
            number += count_of(pair, self.axis)

    @property
    def targets(self) -> list[Tensor]:
        """Of all batches."""
        return [y for _, y in self._every]

    def sample(self, number: int) -> Pair:
        """Examples that are trained on, drawn at random; a batch if the model takes no others."""
        one = joined(self.trained, self.axis) if self.resized else None
        if one is None:
            return next(self.shuffled().stream(1))
        generator = torch.Generator().manual_seed(1)
        order = torch.randperm(count_of(one, self.axis), generator=generator)
        return take(one, order[:number], self.axis)

    def shuffled(self) -> "Batches":
        """The same batches in random order; their examples too, if all batches have one shape."""
        other = copy.copy(self)
        other.shuffles = True
        one = joined(self.trained, self.axis)
        if one is not None:
            sizes = [count_of(pair, self.axis) for pair in self.trained]
            generator = torch.Generator().manual_seed(2)
            order = torch.randperm(sum(sizes), generator=generator)
            other.trained = [take(one, rows, self.axis) for rows in order.split(sizes)]
        return other


def _windows(rows: list[Tensor]) -> Tensor | None:
    """The rows (N, T, ...) of all minibatches; None if their shapes differ."""
    alike = rows[0].dim() > 1 and all(part.shape[1:] == rows[0].shape[1:] for part in rows)
    return torch.cat(rows) if alike else None


def _marks(sides: tuple[Tensor, ...], sizes: list[int]) -> Iterator[tuple[Tensor, ...]]:
    """For each set of rows, True for its rows in each minibatch."""
    for rows in sides:
        marks = torch.zeros(sum(sizes), dtype=torch.bool)
        marks[rows] = True
        yield marks.split(sizes)


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


def _filled(pair: Pair, leaves: Sequence[Tensor]) -> Pair:
    """A pair of the same form with other tensors."""
    following = iter(leaves)
    return tree_map(lambda _: next(following), pair)


InputsChange = Callable[[Any], Any]

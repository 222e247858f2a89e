"""Minibatches and held-out examples of a training run.

    data = Examples(x, y, batch_size=32, axis=0)     # tensors; axis 0 holds the examples
    data = Batches(loader, like, seconds=10)         # a DataLoader, or a list of batches
    data.stream(seed)                                # minibatches for training, without end
    data.held_out                                    # minibatches that the stream never yields

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
"""The inputs of a model: one tensor, several in order, or several by name. The first tensor is the
sequence.
"""
Pair = tuple[Inputs, Tensor]  # inputs and targets
TARGETS = ("y", "target", "targets", "label", "labels")  # names in a batch that is a dictionary
SAMPLE = 512  # examples by which scales are measured
WHOLE = 4096  # by which shares of classes are


def numbers_like(name: str, given: Any, like: Tensor) -> Tensor:
    """Return finite numbers as a tensor on the device of the parameter `like`.

    Floats that are not a tensor yet get the type of `like`.
    """
    values = numbers_of(name, given)
    keeps_type = isinstance(given, Tensor) or not values.is_floating_point()
    return values.to(like.device, None if keeps_type else like.dtype)


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """Return (inputs, targets) of a batch of a DataLoader. The targets are the last entry, or have
    a name of `TARGETS`.
    """
    if isinstance(batch, Mapping):
        return _by_name(batch)
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise InvalidInputError("the DataLoader gives no pairs: expected (x, y) of each batch")
    *x, y = batch
    return x[0] if len(x) == 1 else tuple(x), y


def _by_name(batch: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return (inputs, targets) of a batch that is a dictionary."""
    names = [name for name in TARGETS if name in batch]
    if len(names) != 1 or len(batch) < 2:
        raise InvalidInputError(
            f"a batch has {', '.join(map(str, batch))}: expected inputs and one of "
            f"{', '.join(TARGETS)}"
        )
    others = {name: value for name, value in batch.items() if name not in names}
    return others if len(others) > 1 else next(iter(others.values())), batch[names[0]]


def inputs_of(given: Any, like: Tensor) -> Inputs:
    """Return the inputs of a model as tensors: one, a tuple or a dictionary.

    The first tensor is moved to the device of the parameter `like`; the others stay where they are.
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
    """Return inputs with another tensor in place of the first one."""
    return with_leaf(x, 0, sequence)


def with_leaf(x: Inputs, place: int, values: Tensor) -> Inputs:
    """Return inputs with another tensor in place of one of them."""
    leaves = tree_leaves(x)
    leaves[place] = values
    return tree_unflatten(leaves, tree_structure(x))


def in_double(values: object) -> Any:
    """Return floats in double precision, and ids unchanged."""
    return tree_map(lambda v: v.double() if v.is_floating_point() else v, values)


def noise_like(values: Tensor, seed: int = 0) -> Tensor:
    """Return standard normal numbers in the shape and type of `values`, the same on each device."""
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(values)


def sequence_of(x: Inputs) -> Tensor:
    """Return the first input, which is the sequence."""
    return tree_leaves(x)[0]


BATCHES = 20  # of a loader, from which on whole ones are held out
PARTS = 16  # minibatches of the held-out examples
MOST_BATCHES = 2000  # read from a loader
FEWEST = 3  # minibatches from which the error of their mean can be estimated


def examples_axis(value: Tensor, first: Tensor, axis: int) -> int | None:
    """Return the axis of the examples in one of several tensors; None if it has no such axis.

    `first` is the sequence, with its examples along `axis`. If axis 0 of the tensor fits as well,
    `axis` is returned only if the first two axes of both tensors agree, otherwise 0.
    """
    count = first.shape[axis]
    axes = [a for a in (axis, 0) if a < value.dim() and value.shape[a] == count]
    if not axes:
        return None
    return axes[0] if value.shape[:2] == first.shape[:2] else axes[-1]


def take(pair: Pair, rows: Tensor, axis: int) -> Pair:
    """Return inputs and targets of some examples, the `rows`."""
    first = sequence_of(pair[0])

    def some(value: Tensor) -> Tensor:
        own = examples_axis(value, first, axis)
        return value if own is None else value.index_select(own, rows.to(value.device))

    return tree_map(some, pair)


def count_of(pair: Pair, axis: int) -> int:
    """Return the number of examples in a minibatch."""
    first = sequence_of(pair[0])
    return first.shape[axis] if first.dim() > axis else 1


def keys_of_inputs(x: Inputs, axis: int) -> list[bytes]:
    """Return a key for each example; examples with equal inputs have the same key."""
    first = sequence_of(x)
    axes = [(leaf, examples_axis(leaf, first, axis)) for leaf in tree_leaves(x)]
    return keys_of([leaf.movedim(own, 0) for leaf, own in axes if own is not None])


def joined(pairs: list[Pair], axis: int) -> Pair | None:
    """Join minibatches to one; None if their shapes differ."""
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


def in_minibatches(pairs: list[Pair], size: int, axis: int) -> list[Pair]:
    """Return some examples in minibatches of `size`, or in `FEWEST` smaller ones if they are too
    few.

    A rest that fills no minibatch is left out. Minibatches that have this size already, or cannot
    be joined, are returned unchanged.
    """
    one = joined(pairs, axis)
    if one is None or {count_of(pair, axis) for pair in pairs} == {size}:
        return pairs
    count = count_of(one, axis)
    size = min(size, max(count // FEWEST, min(2, count)))
    return [take(one, rows, axis) for rows in torch.arange(count // size * size).split(size)]


def padded_frames(frames: Tensor, pad: Tensor) -> Tensor:
    """Return the number of padding frames at the end of each sequence of (B, T, ...), as (B,).

    >>> padded_frames(torch.tensor([[5, 0, 2], [7, 0, 0]]), torch.tensor(0))
    tensor([0, 2])
    """
    same = (frames == pad).flatten(2).all(2) if frames.dim() > 2 else frames == pad
    return same.flip(1).long().cumprod(1).sum(1)


class HeldOut:
    """Base class of the data: the minibatches that are held out, and whether they are enough."""

    axis: int
    size: int
    """Number of examples in a minibatch of the user."""
    held_out: list[Pair]
    in_time = False
    """Whether the last frames of each sequence are held out, instead of some examples."""

    @property
    def layout(self) -> Layout:
        """The axes of examples and time in the sequences, and in targets for each frame."""
        return Layout(self.axis)

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield all data in their own order, as (number of the first example, minibatch)."""
        raise NotImplementedError

    def number_of(self, x: Inputs, row: int) -> int | None:
        """Return the number of an example of a minibatch, as counted in the data; None if the
        example is not in the data.
        """
        key = keys_of_inputs(x, self.axis)[row]
        for number, (inputs, _) in self.every():
            keys = keys_of_inputs(inputs, self.axis)
            if key in keys:
                return number + keys.index(key)
        return None

    @property
    def too_few(self) -> str:
        """The reason why the held-out examples are too few to measure an error; "" if they
        are not.
        """
        count = sum(count_of(pair, self.axis) for pair in self.held_out)
        if count < TOO_FEW and not self.in_time:
            return f"{counted(count, 'example')} {'is' if count == 1 else 'are'} held out"
        targets = torch.cat([y.flatten() for _, y in self.held_out])
        return "the targets of the held-out examples are equal" if _equal(targets) else ""


def _equal(values: Tensor) -> bool:
    return bool((values == values[0]).all())


class Examples(HeldOut):
    """Tensors x and y of N examples each, from which minibatches are drawn.

    With 80 to 399 examples a quarter is held out; with more, an eighth, but at least 100 and at
    most 512. For a few long sequences with a target for each frame, the last quarter of the frames
    is held out.

    Args:
        x, y: inputs and targets, with N examples along `axis`. If y has no frames, its examples lie
            along axis 0.
        batch_size: size of a minibatch.
        axis: 0 for x of shape (N, T, ...), 1 for (T, N, ...).
        fits: function of inputs that returns whether the model runs on them.

    Raises:
        InvalidInputError: x and y have different numbers of examples; or x has only one example,
            and y has no target for each of its frames.
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
        self.size = self.batch_size = min(batch_size, self.count)
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
        """Return the first of the frames that are held out; None if there are too few frames, or
        the model does not run on a part of them.
        """
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
        """Return the frames from `begin` to `end` of all sequences."""
        return tree_map(lambda v: v.narrow(self.layout.time, begin, end - begin), pair)

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield all examples in their order, as (number of the first example, minibatch)."""
        for rows in torch.arange(self.count).split(self.batch_size):
            yield int(rows[0]), self.take(rows)

    @property
    def targets(self) -> list[Tensor]:
        """The targets of all examples."""
        return [self.y]

    @property
    def trained(self) -> list[Pair]:
        """The training examples, as one minibatch."""
        return [self._of_stream(self._rows)]

    def take(self, rows: Tensor) -> Pair:
        """Return inputs and targets of some examples, the `rows`."""
        return take((self.x, self.y), rows, self.axis)

    def _of_stream(self, rows: Tensor) -> Pair:
        """Return some examples without the frames that are held out."""
        pair = self.take(rows)
        return pair if self._cut is None else self._frames(pair, 0, self._cut)

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield minibatches of training examples without end: a new permutation in each epoch."""
        generator = torch.Generator().manual_seed(seed)
        size = min(self.batch_size, len(self._rows))
        while True:
            order = self._rows[torch.randperm(len(self._rows), generator=generator)]
            for rows in order[: len(order) // size * size].split(size):
                yield self._of_stream(rows)

    def sample(self, number: int) -> Pair:
        """Return training examples drawn at random, at most `number`."""
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(1))
        return self._of_stream(self._rows[order[:number]])


class Batches(HeldOut):
    """Ready-made minibatches: the first epoch of a DataLoader, or the part that the time allows.

    If there are 20 batches or more, whole batches are held out; otherwise some examples of each
    batch.

    Args:
        loader: yields (x, y), (x, further inputs, y), or dictionaries, see `inputs_and_targets`.
        like: a parameter of the model; the minibatches are on its device.
        seconds: time limit for reading, in seconds.
        axis_of: function of (x, y) that returns the axis of the examples.
        fits: function of inputs that returns whether the model runs on them.
        change: function that changes the list of pairs that were read.

    Raises:
        DataError: the loader is empty.
        InvalidInputError: the batches are not pairs, or the loader fails; the message has the error
            of the loader.
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
        self.size = count_of(every[0], self.axis)
        fewer = take(every[0], torch.arange(self.size - 1), self.axis)[0]
        self.resized = self.size > 1 and fits(fewer)
        self._every = every
        self.trained, self.held_out = self._split(every)
        self.batch_size = count_of(self.trained[0], self.axis)

    def _split(self, every: list[Pair]) -> tuple[list[Pair], list[Pair]]:
        """Return (minibatches for training, minibatches that are held out)."""
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
        """Join small minibatches to larger ones, if their shapes allow it."""
        pairs = [pair for pair in pairs if count_of(pair, self.axis)]
        one = joined(pairs, self.axis) if pairs else None
        if one is None:
            return pairs
        rows = torch.arange(count_of(one, self.axis))
        return [take(one, part, self.axis) for part in rows.tensor_split(min(PARTS, len(pairs)))]

    def _whole_batches(
        self, every: list[Pair], keys: list[list[bytes]]
    ) -> tuple[list[Pair], list[Pair]]:
        """Hold out every k-th batch, without its examples that also occur in a training batch."""
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
        """Return the examples of a batch whose inputs do not occur in a training batch; None if
        none remain.
        """
        new = torch.tensor([key not in known for key in keys])
        if new.all():
            return pair
        return self._some(pair, new) if new.any() and self.resized else None

    def stream(self, seed: int) -> Iterator[Pair]:
        """Yield the training batches without end, in the loader's order, or in a new order each
        epoch if the loader shuffles.
        """
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.arange(len(self.trained))
            if self.shuffles:
                order = torch.randperm(len(self.trained), generator=generator)
            for k in order.tolist():
                yield tree_map(Tensor.clone, self.trained[k])

    def all(self) -> list[Pair]:
        """Return all batches as the loader gave them."""
        return self._every

    def every(self) -> Iterator[tuple[int, Pair]]:
        """Yield all batches in the order of the loader, as (number of the first example, batch)."""
        number = 0
        for pair in self._every:
            yield number, pair
            number += count_of(pair, self.axis)

    @property
    def targets(self) -> list[Tensor]:
        """The targets of all batches."""
        return [y for _, y in self._every]

    def sample(self, number: int) -> Pair:
        """Return training examples drawn at random, at most `number`; a whole batch if the model
        takes no other size.
        """
        one = joined(self.trained, self.axis) if self.resized else None
        if one is None:
            return next(self.shuffled().stream(1))
        generator = torch.Generator().manual_seed(1)
        order = torch.randperm(count_of(one, self.axis), generator=generator)
        return take(one, order[:number], self.axis)

    def shuffled(self) -> "Batches":
        """Return the same batches in random order; the examples are shuffled too, if all batches
        can be joined.
        """
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
    """Join the rows (N, T, ...) of all minibatches; None if their shapes differ."""
    alike = rows[0].dim() > 1 and all(part.shape[1:] == rows[0].shape[1:] for part in rows)
    return torch.cat(rows) if alike else None


def _marks(sides: tuple[Tensor, ...], sizes: list[int]) -> Iterator[tuple[Tensor, ...]]:
    """Yield, for each set of rows, a mask of these rows for each minibatch."""
    for rows in sides:
        marks = torch.zeros(sum(sizes), dtype=torch.bool)
        marks[rows] = True
        yield marks.split(sizes)


@contextlib.contextmanager
def generators_kept(loader: Any) -> Iterator[None]:
    """Context manager: restore the generators of a DataLoader, so that it later gives the same
    order as if it had not been read.
    """
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
    """Return a pair of the same structure with other tensors."""
    following = iter(leaves)
    return tree_map(lambda _: next(following), pair)


InputsChange = Callable[[Any], Any]

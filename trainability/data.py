"""Examples of a training run: the one door for x and y, the held-out split, minibatches.

    data = read_examples(x, y, batch_size=32, axis=0, shuffle=True, validation=None, seed=0)
    data.train.take(rows)                   # (x, y) of some examples
    next(data.minibatches(seed=0))          # (x, y, rows), without end

x is a tensor, a tuple or dictionary of tensors, or a DataLoader. The user has examples along axis 0
of each tensor, or along axis 1 of those that have it (`batch_axis=1`); here they are along axis 0.

Legend: N examples, B examples of a minibatch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.torch_private import tree_flatten, tree_leaves, tree_map, tree_unflatten
from rhn.utils.validation import in_short
from trainability.layout import Layout, layout_of

SHARE = 5  # one of five examples is held out
LEAST = 20  # two halves of ten: below, a standard error is itself uncertain by a quarter
MOST = 1000  # share of wrong classes to two standard errors of 3 %


class Minibatch(NamedTuple):
    """Examples that are read together."""

    x: Any
    y: Tensor
    rows: Tensor
    """Their places in `Examples`, (B,)."""


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, with examples along axis 0."""

    x: Any
    y: Tensor
    rows: Tensor
    """Their places in the user's x, (N,)."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor) -> tuple[Any, Tensor]:
        """Return (x, y) of some examples, as new tensors."""
        rows = rows.to(self.y.device)
        return tree_map(lambda t: t.index_select(0, rows), self.x), self.y.index_select(0, rows)

    def part(self, rows: Tensor) -> "Examples":
        """Return some of the examples."""
        return Examples(*self.take(rows), self.rows[rows])

    def in_order(self, size: int) -> Iterator[tuple[Any, Tensor, int]]:
        """Yield (x, y, number of new examples) of minibatches that all have `size` examples: the
        last one is filled up with the first examples.
        """
        for start in range(0, len(self), size):
            rows = torch.arange(start, start + size) % len(self)
            yield *self.take(rows), min(size, len(self) - start)


@dataclass(frozen=True)
class Data:
    """The examples of a training run."""

    train: Examples
    halves: tuple[Examples, Examples]
    """Held-out examples: those that choose rows, and those that confirm them; twice the training
    examples if too few can be held out.
    """
    has_held_out: bool
    """False if errors are on the training examples."""
    batch_size: int
    shuffle: bool
    count: int
    """Number of rows of x."""
    distinct: int
    """Number of different rows of x."""
    layout: Layout
    """Where the user's model and loss want the examples."""

    @property
    def held_out(self) -> int:
        """The number of held-out examples."""
        return sum(map(len, self.halves)) if self.has_held_out else 0

    @property
    def time_steps(self) -> int:
        """The number of time steps of the first input; 1 without a time axis."""
        first = tree_leaves(self.train.x)[0]
        return first.shape[1] if first.dim() > 1 else 1

    def minibatches(self, seed: int, *, shuffle: bool | None = None) -> Iterator[Minibatch]:
        """Yield minibatches without end. The last, smaller one of an epoch is left out.

        shuffle: whether each epoch has a new order; None: as in the user's training run.
        """
        generator, n = torch.Generator().manual_seed(seed), len(self.train)
        shuffle = self.shuffle if shuffle is None else shuffle
        while True:
            order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)
            for rows in order.split(self.batch_size):
                if len(rows) == self.batch_size:
                    yield Minibatch(*self.train.take(rows), rows)

    def first_minibatch(self) -> Minibatch:
        """Return the first minibatch of shuffle seed 0."""
        return self.epoch(1)[0]

    def epoch(self, most: int) -> list[Minibatch]:
        """Return the first epoch of shuffle seed 0, at most some of its minibatches."""
        count = min(most, len(self.train) // self.batch_size)
        return [batch for batch, _ in zip(self.minibatches(0), range(count), strict=False)]


def read_examples(
    x: Any,
    y: Any,
    *,
    batch_size: int,
    axis: int,
    shuffle: bool,
    validation: Any,
    seed: int,
    device: torch.device,
) -> Data:
    """Check x and y, and split them. Raises InvalidInputError."""
    if isinstance(x, DataLoader):
        # beside a `batch_sampler`, torch sets `sampler` to one in order
        sampler = getattr(x.batch_sampler, "sampler", None if x.batch_sampler else x.sampler)
        shuffle = shuffle and not isinstance(sampler, SequentialSampler)
        x, y, layout, batch_size = joined(x, axis)
    else:
        x, y = checked_tensors(x, y, axis)
        layout = layout_of(x, y, axis)
    whole = examples_of(x, y, layout, device)
    is_fitted_alone = len(whole) == 1 and validation is None
    if not is_fitted_alone:
        _refuse_equal(whole)
    groups, distinct = groups_of(whole)
    train, held = whole, None
    if validation is not None:
        held = examples_of_validation(validation, layout, axis, device, seed)
        _refuse_other_targets(held, whole)
    else:
        train, held = divided(whole, groups, shuffle, seed)
    halves = (train, train) if held is None else halves_of(held)
    return Data(
        train=train,
        halves=halves,
        has_held_out=held is not None,
        batch_size=min(batch_size, len(train)),
        shuffle=shuffle,
        count=len(whole),
        distinct=distinct,
        layout=layout,
    )


def examples_of_validation(
    validation: Any, layout: Layout, axis: int, device: torch.device, seed: int
) -> Examples:
    """Return the held-out examples of the user in a random order. Raises InvalidInputError."""
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise InvalidInputError(f"validation is {in_short(validation)}: expected (x, y)")
    pair = checked_tensors(validation[0], validation[1], axis, part=" of validation")
    held = examples_of(*pair, layout, device, part=" of validation")
    if len(held) < LEAST:
        raise InvalidInputError(
            f"x of validation has {len(held)} examples: expected at least {LEAST}"
        )
    return held.part(mixed(torch.arange(len(held)), seed))


def divided(
    whole: Examples, groups: Tensor, shuffle: bool, seed: int
) -> tuple[Examples, Examples | None]:
    """Return (examples to train on, held-out examples); (all, None) if fewer than 20 can be held
    out, or fewer others are left.
    """
    kept, out = split(groups, seed) if shuffle else last_ones(len(whole))
    if LEAST <= len(out) <= len(kept):
        return whole.part(kept), whole.part(out)
    return whole, None


def halves_of(held: Examples) -> tuple[Examples, Examples]:
    """Return the first and the other half of held-out examples."""
    half = len(held) // 2
    rows = torch.arange(len(held))
    return held.part(rows[:half]), held.part(rows[half:])


def checked_tensors(x: Any, y: Any, axis: int, part: str = "") -> tuple[Any, Tensor]:
    """Return x, as a tuple for a list, and y. Raises InvalidInputError for other objects.

    part: of the data, as it stands behind x and y in errors.
    """
    x = tuple(x) if isinstance(x, list) else x
    leaves = tree_leaves(x) if isinstance(x, Tensor | tuple | Mapping) else []
    are_tensors = bool(leaves) and all(isinstance(leaf, Tensor) for leaf in leaves)
    if not are_tensors or leaves[0].dim() <= axis or not all(leaf.dim() for leaf in leaves):
        raise InvalidInputError(
            f"x{part} is {in_short(x)}: expected a tensor, or a tuple or dictionary of tensors"
        )
    if not isinstance(y, Tensor):
        raise InvalidInputError(f"y{part} is {in_short(y)}: expected a tensor")
    for name, t in (*((f"x{part}", leaf) for leaf in leaves), (f"y{part}", y)):
        layout = "nested" if t.is_nested else t.layout
        if layout is not torch.strided:
            raise InvalidInputError(f"layout of {name} is {layout}: expected {torch.strided}")
        if t.is_meta:
            raise InvalidInputError(f"device of {name} is meta: expected numbers")
    return x, y


def examples_of(
    x: Any, y: Tensor, layout: Layout, device: torch.device, part: str = ""
) -> Examples:
    """Return x and y as examples along axis 0, detached and on a device. Raises InvalidInputError
    and NotFiniteError.
    """
    leaves = tree_leaves(x)
    if len(leaves) != len(layout.inputs):
        raise InvalidInputError(
            f"x{part} is {in_short(x)}: expected {len(layout.inputs)} tensors, as x has"
        )
    axis = layout.inputs[0].axis
    count = leaves[0].shape[axis]
    orders = [*layout.inputs, layout.targets]
    names = [*(f"x{part}" for _ in leaves), f"y{part}"]
    for name, t, order in zip(names, [*leaves, y], orders, strict=True):
        if t.dim() <= order.axis or t.shape[order.axis] != count:
            raise InvalidInputError(
                f"{name} is {in_short(t)}: expected {count} examples along axis {axis}"
            )
        if not t.numel():
            raise InvalidInputError(f"{name} is {in_short(t)}: expected examples with numbers")
        if t.isnan().any():
            bad = t.movedim(order.axis, 0).reshape(count, -1).isnan().any(1)
            raise NotFiniteError(
                f"{name} has NaN in {int(bad.sum())} of {count} examples: expected numbers", name
            )
    x, y = tree_map(lambda t: t.detach().to(device), (x, y))
    return Examples(layout.inputs_first(x), layout.targets_first(y), torch.arange(count))


def joined(loader: DataLoader, axis: int) -> tuple[Any, Tensor, Layout, int]:
    """Return one epoch of a loader as (x, y), their layout, and the size of its minibatches."""
    pairs = [tuple(pair) if isinstance(pair, tuple | list) else (pair,) for pair in loader]
    if not pairs or any(len(pair) < 2 for pair in pairs):
        raise InvalidInputError("x is a DataLoader: expected minibatches (x, y)")
    given = [(pair[0] if len(pair) == 2 else pair[:-1], pair[-1]) for pair in pairs]
    parts = [checked_tensors(x, y, axis) for x, y in given]
    clear = [part for part in parts if not has_equal_axes(tree_leaves(part)[0])]
    layout = layout_of(*(clear or parts)[0], axis)
    axes = [order.axis for order in (*layout.inputs, layout.targets)]
    first, spec = tree_flatten(parts[0])
    try:
        tensors = zip(*map(tree_leaves, parts), strict=True)
        whole = [torch.cat(some, along) for some, along in zip(tensors, axes, strict=True)]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        reason = str(error).split("\n")[0]
        raise InvalidInputError(
            f"minibatches of the DataLoader cannot be joined: {reason}"
        ) from None
    x, y = tree_unflatten(whole, spec)
    return x, y, layout, first[0].shape[axis]


def has_equal_axes(first: Tensor) -> bool:
    """Return whether the first tensor of a minibatch has as many time steps as examples."""
    return first.dim() > 1 and first.shape[0] == first.shape[1]


def _refuse_other_targets(held: Examples, whole: Examples) -> None:
    """Raise InvalidInputError if inputs of one shape have targets of two shapes."""
    pairs = zip(tree_leaves(held.x), tree_leaves(whole.x), strict=True)
    has_equal_inputs = all(one.shape[1:] == other.shape[1:] for one, other in pairs)
    if has_equal_inputs and held.y.shape[1:] != whole.y.shape[1:]:
        expected = tuple(whole.y.shape[1:])
        raise InvalidInputError(
            f"y of validation is {in_short(held.y)}: expected {expected} behind the examples"
        )


def _refuse_equal(whole: Examples) -> None:
    """Raise InvalidInputError if all targets are equal."""
    if bool((whole.y == whole.y.flatten()[0]).all()):
        raise InvalidInputError(
            f"y is {whole.y.flatten()[0].item():g} in all {len(whole)} examples: expected targets "
            "that differ"
        )


def groups_of(whole: Examples) -> tuple[Tensor, int]:
    """Return the number of the group of equal rows of x to which each example belongs, (N,), and
    how many groups there are.
    """
    leaves = tree_leaves(whole.x)
    flat = [t.reshape(len(whole), -1).contiguous().cpu().view(torch.uint8) for t in leaves]
    numbers = dict[bytes, int]()
    rows = torch.cat(flat, 1).numpy()
    groups = [numbers.setdefault(row.tobytes(), len(numbers)) for row in rows]
    return torch.tensor(groups), len(numbers)


def number_held_out(count: int) -> int:
    """Return how many of `count` examples are held out.

    >>> [number_held_out(n) for n in (40, 100, 400, 100_000)]
    [20, 20, 80, 1000]
    """
    return min(max(count // SHARE, LEAST), MOST)


def split(groups: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return (rows to train on, rows that are held out), of random whole groups. The held-out rows
    are in a random order of groups. If whole groups leave fewer than 20 rows, the smallest of the
    others are held out, too.
    """
    sizes, free = groups.bincount(), number_held_out(len(groups))
    place, order = torch.full((len(sizes),), -1), mixed(torch.arange(len(sizes)), seed).tolist()
    for at, group in enumerate(order):
        if sizes[group] <= free:
            free -= int(sizes[group])
            place[group] = at
        if not free:
            break
    others = [(int(sizes[group]), at) for at, group in enumerate(order) if place[group] < 0]
    for _, at in sorted(others):
        if sizes[place >= 0].sum() >= LEAST:
            break
        place[order[at]] = at
    rows, places = torch.arange(len(groups)), place[groups]
    held = rows[places >= 0]
    return rows[places < 0], held[places[held].argsort(stable=True)]


def last_ones(count: int) -> tuple[Tensor, Tensor]:
    """Return (rows to train on, rows that are held out): the last ones."""
    rows, number = torch.arange(count), min(count, number_held_out(count))
    return rows[: count - number], rows[count - number :]


def mixed(rows: Tensor, seed: int) -> Tensor:
    """Return rows in a random order."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]

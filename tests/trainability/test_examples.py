"""The door for x and y: which examples are trained on, which are held out, what is refused."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_leaves
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    TensorDataset,
)

from rhn.errors import InvalidInputError
from trainability.data import read_examples
from trainability.door import refuse_kept_state
from trainability.layout import order_by_shape


def read(x, y=None, **changes):
    usual = {"batch_size": 32, "axis": 0, "shuffle": True, "validation": None, "seed": 0}
    return read_examples(x, y, **usual | changes, device=torch.device("cpu"))


def numbers(count, *shape):
    """Examples that are their own numbers: example i holds i everywhere."""
    return torch.arange(count).float().reshape(-1, *[1] * len(shape)).expand(count, *shape).clone()


def held(data):
    return torch.cat([half.rows for half in data.halves])


@pytest.mark.parametrize(
    ("count", "out"),
    [(40, 20), (41, 20), (99, 20), (100, 20), (187, 37), (400, 80), (6000, 1000)],
)
def test_a_fifth_is_held_out_but_20_to_1000_in_two_halves(count, out):
    data = read(numbers(count, 3), numbers(count))
    assert (data.held_out, len(data.train), data.count) == (out, count - out, count)
    assert abs(len(data.halves[0]) - len(data.halves[1])) <= 1
    assert sorted([*data.train.rows.tolist(), *held(data).tolist()]) == [*range(count)]


def test_time_steps_lie_along_the_other_axis():
    assert read(numbers(100), numbers(100)).time_steps == 1
    assert read(numbers(100, 7, 2), numbers(100)).time_steps == 7
    assert read(numbers(100, 7, 2).movedim(0, 1), numbers(100), axis=1).time_steps == 7


def test_equal_rows_are_on_one_side():
    x, y = numbers(100, 3).repeat(4, 1), numbers(400)
    data = read(x, y)
    trained, out = set(data.train.x[:, 0].tolist()), set(x[held(data), 0].tolist())
    assert not trained & out and data.held_out == 80 and data.distinct == 100


def test_a_group_that_is_too_large_is_trained_on():
    x = torch.cat([torch.zeros(200, 2), numbers(200, 2) + 1])
    data = read(x, numbers(400))
    assert data.held_out == 80 and not (held(data) < 200).any()


def test_groups_that_do_not_add_up_to_20_are_held_out_until_there_are_as_many():
    """91 examples in 13 groups of 7: two groups are 14, three are 21."""
    for seed in range(5):
        data = read(numbers(13, 1).repeat_interleave(7, 0), numbers(91), seed=seed)
        assert data.held_out == 21 and len(data.train) == 70
        trained = set(data.train.x.flatten().tolist())
        assert not trained & {*torch.cat([half.x for half in data.halves]).flatten().tolist()}


def test_the_smallest_of_groups_that_are_too_large_is_held_out():
    x = torch.cat([torch.zeros(300, 1), numbers(10, 1).repeat_interleave(15, 0) + 1])
    for seed in range(5):
        data = read(x, numbers(450), seed=seed)
        assert data.held_out == 90 and not (held(data) < 300).any()
    few = torch.cat([torch.zeros(60, 1), torch.ones(26, 1), 2 + numbers(2, 1).repeat(9, 1)])
    for seed in range(5):
        data = read(few, numbers(104), seed=seed)
        assert data.held_out == 44 and (data.train.x == 0).all()
    enough = torch.cat([numbers(3, 1).repeat_interleave(60, 0), 3 + numbers(20, 1)])
    for seed in range(5):
        assert read(enough, numbers(200), seed=seed).held_out == 20


def test_without_shuffling_the_last_ones_are_held_out_in_order():
    data = read(numbers(100, 2), numbers(100), shuffle=False)
    assert held(data).tolist() == [*range(80, 100)]
    assert next(data.minibatches(0)).rows.tolist() == [*range(32)]


def test_validation_replaces_the_held_out_examples():
    data = read(numbers(64, 2), numbers(64), validation=(numbers(30, 2) + 500, numbers(30)))
    assert len(data.train) == 64 and data.held_out == 30
    assert (torch.cat([half.x for half in data.halves]) >= 500).all()


def test_more_examples_of_validation_than_of_training_and_fewer_than_a_minibatch():
    data = read(numbers(25, 2), numbers(25), validation=(numbers(30, 2) + 500, numbers(30)))
    assert (len(data.train), data.held_out, data.batch_size) == (25, 30, 25)


@pytest.mark.parametrize(
    ("x", "shuffle"),
    [
        pytest.param(numbers(1, 2), True, id="one"),
        pytest.param(numbers(39, 2), True, id="20 and 19 others"),
        pytest.param(numbers(39, 2), False, id="20 and 19 others, in order"),
        pytest.param(torch.zeros(100, 2), True, id="100 equal ones"),
    ],
)
def test_too_few_examples_to_hold_out_are_all_trained_on(x, shuffle):
    data = read(x, torch.arange(len(x)), shuffle=shuffle)
    assert not data.has_held_out and data.held_out == 0
    for part in (data.train, *data.halves):
        assert part.rows.tolist() == [*range(len(x))] and torch.equal(part.x, x)


def test_20_examples_and_as_many_others_are_held_out():
    data = read(numbers(40, 2), numbers(40))
    assert data.has_held_out and data.held_out == 20


def test_fewer_than_20_examples_of_validation_are_refused():
    with pytest.raises(InvalidInputError, match="x of validation has 19 examples: expected at"):
        read(numbers(100, 2), numbers(100), validation=(numbers(19, 2), numbers(19)))
    few = read(numbers(10, 2), numbers(10), validation=(numbers(20, 2), numbers(20)))
    assert few.has_held_out and len(few.train) == 10


def with_nan(x, *rows):
    x[list(rows), 0] = torch.nan
    return x


class Single(torch.utils.data.Dataset):
    """Examples of which the last has more numbers."""

    def __len__(self):
        return 100

    def __getitem__(self, i):
        return torch.zeros(3 if i < 96 else 4), torch.zeros(1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(lambda: read("x", numbers(100)), "^x is ", id="text"),
        pytest.param(lambda: read((), numbers(100)), "^x is ", id="no tensor"),
        pytest.param(lambda: read((numbers(100, 2), 3), numbers(100)), "^x is ", id="a number"),
        pytest.param(lambda: read(torch.zeros(()), numbers(100)), "^x is ", id="no axis"),
        pytest.param(
            lambda: read((numbers(100, 2), torch.zeros(())), numbers(100)),
            "^x is ",
            id="second without an axis",
        ),
        pytest.param(lambda: read(numbers(100), numbers(100), axis=1), "^x is ", id="no axis 1"),
        pytest.param(
            lambda: read(numbers(100, 2), [0.0] * 100), "^y is .*expected a tensor", id="list"
        ),
        pytest.param(
            lambda: read(numbers(100, 2), torch.zeros(())),
            "^y is .*expected 100 examples along axis 0",
            id="one target",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), numbers(99)),
            "^y is .*expected 100 examples along axis 0",
            id="99 targets",
        ),
        pytest.param(
            lambda: read((numbers(100, 2), numbers(99)), numbers(100)),
            "^x is .*expected 100 examples along axis 0",
            id="99 of the second",
        ),
        pytest.param(
            lambda: read(numbers(7, 100), numbers(99), axis=1),
            "^y is .*expected 100 examples along axis 1",
            id="99 along axis 1",
        ),
        pytest.param(
            lambda: read(numbers(100, 0), numbers(100)), "^x is .*with numbers", id="no numbers"
        ),
        pytest.param(
            lambda: read(with_nan(numbers(100, 2), 3, 17, 98), numbers(100)),
            "^x has NaN in 3 of 100 examples",
            id="NaN in x",
        ),
        pytest.param(
            lambda: read(with_nan(numbers(7, 100), 5), numbers(100), axis=1),
            "^x has NaN in 1 of 100 examples",
            id="NaN in x along axis 1",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), with_nan(numbers(100, 1), 4, 5)),
            "^y has NaN in 2 of 100 examples",
            id="NaN in y",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), torch.ones(100, 3)), "^y is 1 in all 100", id="equal"
        ),
        pytest.param(
            lambda: read(numbers(100, 2), numbers(100), validation=numbers(2, 40)),
            "^validation is .*expected",
            id="validation is a tensor",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), numbers(100), validation=(numbers(40, 2),) * 3),
            "^validation is .*expected",
            id="validation of three",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), numbers(100), validation=(numbers(40, 2), 0)),
            "^y of validation is",
            id="y of validation",
        ),
        pytest.param(
            lambda: read(numbers(100, 2), numbers(100), validation=("x", numbers(40))),
            "^x of validation is .*expected a tensor, or a tuple or dictionary of tensors$",
            id="x of validation",
        ),
        pytest.param(
            lambda: read(DataLoader(TensorDataset(numbers(100, 2)), 16)),
            r"^x is a DataLoader: expected minibatches \(x, y\)",
            id="loader without targets",
        ),
        pytest.param(
            lambda: read(DataLoader(numbers(100, 2), 16)),
            r"^x is a DataLoader: expected minibatches \(x, y\)",
            id="loader of tensors",
        ),
        pytest.param(
            lambda: read(DataLoader(TensorDataset(numbers(0, 2), numbers(0)), 16)),
            r"^x is a DataLoader: expected minibatches \(x, y\)",
            id="empty loader",
        ),
        pytest.param(
            lambda: read(DataLoader(Single(), 16)), "cannot be joined: ", id="other shapes"
        ),
    ],
)
def test_x_and_y_that_are_no_examples_are_refused(given, words):
    with pytest.raises(InvalidInputError, match=words):
        given()


def test_lists_of_tensors_and_whole_numbers_are_examples():
    ids, lengths = numbers(100, 7).long().T, numbers(100).long()
    data = read([ids, lengths], lengths, axis=1)
    assert isinstance(data.train.x, tuple) and data.train.x[0].shape == (80, 7)
    assert data.train.x[1].shape == (80,) and data.distinct == 100
    pair = read(numbers(100, 2), numbers(100), validation=[numbers(40, 2) + 500, numbers(40)])
    assert pair.held_out == 40


STEPS_FIRST = 7, 5, 2  # 7 time steps of 5 examples


@pytest.mark.parametrize(
    ("shape", "first", "axis", "found"),
    [
        pytest.param((7, 5), STEPS_FIRST, 1, 1, id="steps of examples"),
        pytest.param((7, 5, 3), STEPS_FIRST, 1, 1, id="steps of examples, some numbers"),
        pytest.param((3, 5), STEPS_FIRST, 1, 1, id="other steps"),
        pytest.param((5,), STEPS_FIRST, 1, 0, id="examples"),
        pytest.param((5, 3), STEPS_FIRST, 1, 0, id="numbers of examples"),
        pytest.param((5, 5), STEPS_FIRST, 1, 0, id="as many numbers as examples"),
        pytest.param((5, 5), (5, 5, 2), 1, 1, id="as many steps as examples"),
        pytest.param((5, 7), (5, 7, 2), 0, 0, id="examples first"),
        pytest.param((3, 5), (5, 7, 2), 0, 0, id="examples first, another shape"),
    ],
)
def test_the_axis_of_examples(shape, first, axis, found):
    assert order_by_shape(torch.zeros(shape), torch.zeros(first), axis).axis == found


def test_minibatches_are_those_of_a_loader_with_this_generator():
    data = read(numbers(100, 2), numbers(100))
    generator = torch.Generator().manual_seed(3)
    order = [torch.randperm(80, generator=generator).split(32)[:2] for _ in range(2)]
    stream = data.minibatches(3)
    for rows in [rows for epoch in order for rows in epoch]:
        batch = next(stream)
        assert torch.equal(batch.rows, rows) and torch.equal(batch.x, data.train.x[rows])
        assert torch.equal(batch.y, data.train.y[rows])


@pytest.mark.parametrize(
    ("most", "batches"),
    [
        pytest.param(1, 1, id="the first one"),
        pytest.param(2, 2, id="all"),
        pytest.param(64, 2, id="no more than there are"),
    ],
)
def test_an_epoch_has_the_first_whole_minibatches_of_shuffle_seed_0(most, batches):
    """80 training examples: 2 x 32, and 16 in no minibatch."""
    data = read(numbers(100, 2), numbers(100))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0)).split(32)
    found = data.epoch(most)
    assert len(found) == batches
    assert all(torch.equal(b.rows, rows) for b, rows in zip(found, order, strict=False))
    assert torch.equal(data.first_minibatch().rows, order[0])


def test_tuples_and_dictionaries_are_split_alike():
    x, lengths = numbers(100, 5, 2), numbers(100)
    for given in ((x, lengths), {"a": x, "b": lengths}):
        batch = next(read(given, numbers(100)).minibatches(0))
        a, b = tree_leaves(batch.x)
        assert (
            torch.equal(a[:, 0, 0], b) and torch.equal(b, batch.y) and type(batch.x) is type(given)
        )


def test_examples_on_axis_1_are_on_axis_0_from_the_door_on():
    x, y = numbers(100, 7, 2).transpose(0, 1), numbers(100, 7).T
    data = read((x, numbers(100)), y, axis=1)
    (batch, lengths), target, _ = next(data.minibatches(0))
    assert batch.shape == (32, 7, 2) and target.shape == (32, 7) and data.count == 100
    assert torch.equal(batch[:, 0, 0], target[:, 0]) and torch.equal(lengths, target[:, 0])
    assert read(x, numbers(100, 3), axis=1).train.y.shape == (80, 3)


def test_a_state_that_changes_one_number_of_one_output_is_refused():
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            other = x.clone()
            other[0, 1] += self.calls
            return x, other

    with pytest.raises(InvalidInputError, match="two calls of the model with the same x"):
        refuse_kept_state(Counting(), read(numbers(100, 2), numbers(100)))


def batches(sampler, data):
    return {"batch_sampler": BatchSampler(sampler(data), 16, drop_last=False)}


class Bucketed(Sampler):
    """Draws minibatches itself, without a sampler of examples."""

    def __iter__(self):
        return iter(torch.randperm(100).split(16))


@pytest.mark.parametrize(
    ("how", "shuffle", "size"),
    [
        pytest.param(lambda data: {"batch_size": 16, "shuffle": True}, True, 16, id="shuffled"),
        pytest.param(lambda data: {"batch_size": 16}, False, 16, id="in order"),
        pytest.param(lambda data: {"batch_size": None}, False, 1, id="single examples in order"),
        pytest.param(partial(batches, RandomSampler), True, 16, id="shuffled by batch_sampler"),
        pytest.param(partial(batches, SequentialSampler), False, 16, id="in order by it"),
        pytest.param(lambda data: {"batch_sampler": Bucketed()}, True, 16, id="own batch_sampler"),
    ],
)
def test_order_and_size_of_minibatches_are_those_of_a_loader(how, shuffle, size):
    """100 examples: 6 x 16 and 4."""
    data = TensorDataset(numbers(100, 1, 2), numbers(100, 1))
    found = read(DataLoader(data, **how(data)))
    assert (found.shuffle, found.batch_size, found.count) == (shuffle, size, 100)


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_one_epoch_of_a_loader_is_joined(shuffle):
    loader = DataLoader(TensorDataset(numbers(100, 2), numbers(100)), 16, shuffle=shuffle)
    data = read(loader)
    assert data.count == 100 and data.batch_size == 16 and data.shuffle == shuffle
    assert torch.equal(data.train.x[:, 0], data.train.y)
    alone = read(DataLoader(TensorDataset(numbers(100), numbers(100)), 16, shuffle=shuffle))
    assert torch.equal(alone.train.x, alone.train.y)
    three = DataLoader(TensorDataset(numbers(60, 2), numbers(60), numbers(60)), 16)
    assert isinstance(read(three).train.x, tuple)
    assert [len(x) for x in read(three).train.x] == [40, 40]


def test_minibatches_of_a_loader_are_joined_along_axis_1():
    """6 x 16 and 4 examples of 7 steps; the size of minibatches is that of the first."""
    x, y = numbers(100, 7, 2), numbers(100, 7)

    def turned(rows):
        return x[rows].transpose(0, 1), y[rows].T

    data = read(DataLoader(range(100), 16, collate_fn=turned), axis=1)
    assert (data.count, data.batch_size, data.time_steps) == (100, 16, 7)
    assert torch.equal(data.train.x[..., 0], data.train.y)


def test_a_loader_of_less_than_a_minibatch():
    data = read(DataLoader(TensorDataset(numbers(45, 2), numbers(45)), 64))
    assert (data.count, data.batch_size) == (45, 25)


def test_the_last_minibatch_is_filled_up_with_the_first_examples():
    half = read(numbers(100, 2), numbers(100)).halves[0]
    found = [(y.tolist(), count) for _, y, count in half.in_order(8)]
    y = half.y.tolist()
    assert found == [(y[:8], 8), ([*y[8:], *y[:6]], 2)]

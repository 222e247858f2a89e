"""Where a user has the examples changes no number of `check`."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from rhn.errors import InvalidInputError
from trainability import check
from trainability.data import read_examples
from trainability.layout import AxisOrder, layout_of, with_outputs

N, B, CLASSES = 60, 8, 3


class Net(nn.Module):
    """A GRU with an output for each step, or with `last` for each example."""

    def __init__(self, outputs=CLASSES, *, first, last=False, flat=False):
        super().__init__()
        torch.manual_seed(5)
        self.rnn, self.out = nn.GRU(2, 4, batch_first=first), nn.Linear(4, outputs)
        self.first, self.last, self.flat = first, last, flat

    def forward(self, x, other=None):
        states = self.rnn(x)[0]
        if self.last:
            states = states[:, -1] if self.first else states[-1]
        z = self.out(states) if other is None else self.out(states) + other
        return z.flatten(0, 1) if self.flat else z


def cross(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten())


def cross_flat(z, y):
    return F.cross_entropy(z, y.flatten())


def cross_turned(z, y):
    """Of outputs (T, B, K) and targets (B, T)."""
    return F.cross_entropy(z.permute(1, 2, 0), y)


def turned(x):
    return x.transpose(0, 1).contiguous()


def data(steps):
    torch.manual_seed(6)
    x = torch.randn(N, steps, 2)
    return x, (x[..., 0].cumsum(1) > 0).long() + (x[..., 1] > 1).long()


def every(steps, first):
    x, y = data(steps)
    return Net(first=first), *((x, y) if first else (turned(x), turned(y))), cross, {}


def targets_first(steps, first):
    x, y = data(steps)
    return (
        (Net(first=True), x, y, cross, {})
        if first
        else (Net(first=False), turned(x), y, cross_turned, {})
    )


def flat(steps, first):
    x, y = data(steps)
    net = Net(first=first, flat=True)
    return net, *((x, y) if first else (turned(x), turned(y))), cross_flat, {}


def last(steps, first):
    x, y = data(steps)
    return Net(first=first, last=True), x if first else turned(x), y[:, -1], F.cross_entropy, {}


def as_many_outputs(steps, first):
    """As many numbers of an example as the minibatch has examples."""
    x, y = data(steps)
    y = y.float().cumsum(1)[:, :1] * torch.arange(B)
    return Net(B, first=first, last=True), x if first else turned(x), y, F.mse_loss, {}


def nested(steps, first):
    x, y = data(steps)
    named = {"x": x if first else turned(x), "other": y[:, :1].float()}
    return Net(first=first, last=True), named, y[:, -1], F.cross_entropy, {}


def of_numbers(steps, first):
    x, _ = data(steps)
    x, y = (x, 5 + 3 * x) if first else (turned(x), turned(5 + 3 * x))
    return Net(2, first=first), x, y, F.l1_loss, {}


def last_of_predict(steps, first):
    """A loss of the last step of outputs, which `predict` returns, too."""
    x, y = data(steps)

    def chosen(z):
        return z[:, -1] if first else z[-1]

    def loss_fn(z, y):
        return F.cross_entropy(chosen(z), y)

    return Net(first=first), x if first else turned(x), y[:, -1], loss_fn, {"predict": chosen}


LAYOUTS = [
    pytest.param(every, id="x (T B m) and y (T B)"),
    pytest.param(targets_first, id="x (T B m) and y (B T)"),
    pytest.param(flat, id="outputs (T B K)"),
    pytest.param(last, id="x (T B m) and y (B)"),
    pytest.param(as_many_outputs, id="as many numbers of an example as examples"),
    pytest.param(nested, id="x (T B m) and (B 1) by name"),
    pytest.param(of_numbers, id="numbers of each step"),
    pytest.param(last_of_predict, id="predict chooses the last step"),
]


def numbers_of(make, steps, first):
    model, x, y, loss_fn, how = make(steps, first)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    axis = 0 if first else 1
    found = check(
        model, x, y, loss_fn, sgd, steps=2, batch_size=B, batch_axis=axis, progress=False, **how
    )
    rows = {row.label: row.error for row in found.rows}
    return rows | {fact.name: fact.numbers for fact in found.facts}


@pytest.mark.parametrize("steps", [pytest.param(5, id="5 steps"), pytest.param(B, id="B steps")])
@pytest.mark.parametrize("make", LAYOUTS)
def test_the_layout_of_the_user_changes_no_number(make, steps):
    expected, found = (numbers_of(make, steps, first) for first in (True, False))
    assert expected.keys() == found.keys()
    for name, numbers in expected.items():
        if numbers is None:
            assert found[name] is None, name
        else:
            np.testing.assert_allclose(found[name], numbers, rtol=1e-3, err_msg=name)


class OfEight(Net):
    """Takes minibatches of eight examples only."""

    def forward(self, x):
        if x.shape[1] != B:
            raise ValueError("another number of examples")
        return super().forward(x)


@pytest.mark.parametrize("flat", [False, True], ids=["outputs (T B K)", "rows (T B K)"])
def test_a_network_that_needs_as_many_examples_is_read_by_its_shapes(flat):
    x, y = data(5)
    loss_fn = cross_flat if flat else cross
    errors = []
    for model in (Net(first=False, flat=flat), OfEight(first=False, flat=flat)):
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        found = check(
            model, turned(x), turned(y), loss_fn, sgd, steps=1, batch_size=B, batch_axis=1,
            progress=False,
        )  # fmt: skip
        errors.append(found.rows[0].error)
    assert errors[0] == errors[1]


def test_minibatches_of_one_example():
    """None, a GRU and the usual loss, of (T 1 K) and of (1 T K)."""
    found = []
    for first in (True, False):
        model, x, y, _, _ = every(4, first)
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        axis = 0 if first else 1
        one = check(model, x, y, cross, sgd, steps=1, batch_size=1, batch_axis=axis, progress=False)
        found.append([row.error for row in one.rows])
    np.testing.assert_allclose(*found, rtol=1e-3)


@pytest.mark.parametrize(
    ("steps", "targets", "count"),
    [
        pytest.param(5, "(T B)", N, id="5 steps"),
        pytest.param(5, "(B T)", N, id="5 steps, targets (B T)"),
        pytest.param(B, "(T B)", N, id="B steps"),
        pytest.param(B, "(B T)", N, id="B steps, targets (B T)"),
        pytest.param(B, "(T B)", 7 * B, id="B steps in all minibatches"),
    ],
)
def test_a_loader_of_minibatches_on_axis_1(steps, targets, count):
    """7 x 8 examples, and 4 more if there are 60."""
    x, y = (t[:count] for t in data(steps))

    def batch(rows):
        return turned(x[rows]), turned(y[rows]) if targets == "(T B)" else y[rows]

    read = read_examples(
        DataLoader(range(count), B, collate_fn=batch), None, batch_size=1, axis=1, shuffle=True,
        validation=None, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    assert torch.equal(read.train.x, x[read.train.rows])
    assert torch.equal(read.train.y, y[read.train.rows])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(lambda x, y: ((x, y), y), "x of validation is .*expected 1 tensors, as x has",
                     id="two tensors"),
        pytest.param(lambda x, y: (x, y[:, 0]), "y of validation is .*expected 60 examples along "
                     "axis 1", id="y of another layout"),
    ],
)  # fmt: skip
def test_validation_has_the_layout_of_x_and_y(given, words):
    x, y = data(5)
    how = {"batch_size": B, "axis": 1, "shuffle": True, "seed": 0, "device": torch.device("cpu")}
    own = turned(x), turned(y)
    assert torch.equal(read_examples(*own, validation=own, **how).train.y, y)
    with pytest.raises(InvalidInputError, match=words):
        read_examples(*own, validation=given(*own), **how)


@pytest.mark.parametrize(
    ("shape", "targets", "found"),
    [
        pytest.param((B, 3), (B,), AxisOrder.EXAMPLES_FIRST, id="(B K)"),
        pytest.param((B, B), (B,), AxisOrder.EXAMPLES_FIRST, id="(B B), of all pairs"),
        pytest.param((5, B, 3), (5, B), AxisOrder.STEPS_FIRST, id="(T B K)"),
        pytest.param((5, B), (5, B), AxisOrder.STEPS_FIRST, id="(T B)"),
        pytest.param((5 * B, 3), (5, B), AxisOrder.ROWS_BY_STEP, id="rows (T B K)"),
        pytest.param((5 * B, 3), (B, 5), AxisOrder.EXAMPLES_FIRST, id="rows (B T K)"),
        pytest.param((B, 3), (5, B), AxisOrder.EXAMPLES_FIRST, id="(B K) beside targets (T B)"),
        pytest.param((7, 3), (5, B), AxisOrder.EXAMPLES_FIRST, id="no axis of examples"),
        pytest.param((B,), (B,), AxisOrder.EXAMPLES_FIRST, id="(B)"),
    ],
)
def test_the_order_of_axes_in_outputs_follows_from_two_calls(shape, targets, found):
    """With 8 examples of 5 steps, and with 7."""
    x = torch.zeros(5, B, 2)
    layout = layout_of(x, torch.zeros(targets), 1)
    fewer = tuple({B: B - 1, 5 * B: 5 * (B - 1)}.get(length, length) for length in shape)
    pairs = [(torch.zeros(each), torch.zeros(each)) for each in (shape, fewer)]
    made = with_outputs(layout, layout.inputs_first(x), *pairs)
    assert made.outputs is made.predicted is found

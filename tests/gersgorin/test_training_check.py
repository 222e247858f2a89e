"""A check of a training: from real trainings of small models, under any optimiser, loss and
layout.
"""

import copy
import math
import random

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gersgorin
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

ENOUGH = 600.0  # seconds on any machine


class Reader(nn.Module):
    """An output of each sequence, or of each frame."""

    def __init__(self, batch_first=True, last=True, size=8):
        super().__init__()
        self.rnn, self.out, self.last = (
            nn.GRU(2, size, batch_first=batch_first),
            nn.Linear(size, 1),
            last,
        )
        self.axis = 1 if batch_first else 0

    def forward(self, x):
        states, state = self.rnn(x)
        return self.out(states.select(self.axis, -1) if self.last else states), state


def made(**options):
    """A reader, and sequences whose targets are sums of their numbers so far."""
    torch.manual_seed(0)
    model = Reader(**options)
    x = torch.rand(300, 5, 2, generator=torch.Generator().manual_seed(1))
    y = x.sum(2, keepdim=True).cumsum(1)
    x, y = (x, y) if options.get("batch_first", True) else (x.transpose(0, 1), y.transpose(0, 1))
    return model, x, y.select(model.axis, -1) if options.get("last", True) else y


@pytest.fixture(scope="module")
def good():
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    return gersgorin.check(model, x, y, nn.MSELoss(), optimizer, steps=500, seconds=ENOUGH)


def test_a_training_that_works_leaves(good):
    assert good.outcome == "leaves" and good.probability > 0.5
    assert 1 <= good.interval[0] <= good.escape_steps <= good.interval[1]
    assert good.escape_steps <= 500 and good.diverges_at == math.inf
    assert good.verdict.startswith(
        "Under Adam at a learning rate of 0.03, the loss of Reader falls below "
    )


def test_a_loss_that_falls_below_zero_is_shifted_and_its_training_is_the_same(good):
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)

    def below(output, y):
        return nn.functional.mse_loss(output, y) - 5

    found = gersgorin.check(
        model, x, y, below, optimizer, steps=500, seconds=ENOUGH, losses=[-4.0] * 9
    )
    assert found.shift == pytest.approx(5, abs=1e-3) and found.losses == pytest.approx(
        [1] * 9, abs=1e-3
    )
    assert found.trials[0].losses == pytest.approx(good.trials[0].losses, abs=1e-3)
    assert (found.escape_steps, found.outcome) == (
        good.escape_steps,
        "leaves",
    )
    assert "yours fall below 0" in str(found)
    cured = gersgorin.cure(model, x, y, below, optimizer, steps=100, seconds=ENOUGH)
    assert cured.outcome == "cured" and 0 < cured.chosen.loss < 0.9


class Two(Reader):
    """Two outputs of each sequence."""

    def __init__(self, end):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(8, 2), end)


@for_each(
    ("end", "loss", "outcome", "cause"),
    [
        (
            nn.Identity(),
            lambda z, y: (z[:, 1] + (y[:, 0] - z[:, 0]).square() * (-z[:, 1]).exp()).mean(),
            "leaves",
            None,
        ),
        (
            nn.Identity(),
            lambda z, y: -torch.cosine_similarity(z, torch.cat([y, 1 - y], 1)).mean(),
            "leaves",
            None,
        ),
        (nn.Identity(), lambda z, y: (z[:, 0] * y[:, 0]).mean(), "may leave", "no least loss"),
        # only of positive z
        (nn.Softplus(), lambda z, y: (y[:, 0] / z[:, 0] + z[:, 0].log()).mean(), "leaves", None),
    ],
)
def test_losses_with_values_below_zero_have_an_answer(end, loss, outcome, cause):
    _, x, y = made()
    torch.manual_seed(0)
    model = Two(end)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    found = gersgorin.check(
        model, x, (y / 2).exp() / 10, loss, optimizer, steps=600, seconds=ENOUGH
    )
    assert (found.outcome, found.causes[0].name if found.causes else None) == (outcome, cause)


def test_the_time_of_the_escape_is_that_of_the_training(good):
    model, x, y = made()
    optimizer, steps = torch.optim.Adam(model.parameters(), lr=0.03), 0
    while nn.functional.mse_loss(model(x)[0], y) > 0.98 * y.var():
        rows = torch.randint(300, (32,))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rows])[0], y[rows]).backward()
        optimizer.step()
        steps += 1
    assert good.escape_steps / 2 < steps < 2 * good.escape_steps


class Noisy(nn.Module):
    """A reader whose every call changes buffers and all random states."""

    def __init__(self):
        super().__init__()
        self.reader, self.norm, self.drop = Reader(), nn.BatchNorm1d(1), nn.Dropout(0.3)

    def forward(self, x):
        return (
            self.drop(self.norm(self.reader(x)[0]))
            + 0.01 * random.random()
            + 0.01 * np.random.rand()  # noqa: NPY002
        )


class Counting(nn.MSELoss):
    """A loss with a state of its own."""

    calls = 0

    def forward(self, output, y):
        self.calls += 1
        return super().forward(output, y)


def test_nothing_that_was_given_changes_to_the_bit():
    _, x, y = made()
    model = Noisy()
    model.reader.out.bias.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    model(x).sum().backward()
    optimizer.step()
    model.eval()
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)

    def state():
        numpy = np.random.get_state()  # noqa: NPY002
        states = [
            torch.get_rng_state(),
            generator.get_state(),
            random.getstate()[1],
            numpy[1],
            numpy[2],
        ]
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        flags = [p.requires_grad for p in model.parameters()] + [
            m.training for m in model.modules()
        ]
        kept = model.state_dict(), optimizer.state_dict(), scheduler.state_dict()
        return copy.deepcopy([states, gradients, flags, *kept])

    before, loss = state(), Counting()
    gersgorin.check(model, loader, None, loss, optimizer, scheduler=scheduler, steps=40, seconds=5)
    assert loss.calls == 0
    after = state()
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_the_same_check_gives_the_same_answer(good):
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    torch.rand(5)
    again = gersgorin.check(model, x, y, nn.MSELoss(), optimizer, steps=500, seconds=ENOUGH)
    assert again.verdict == good.verdict


@for_each(
    ("change", "message"),
    [
        ({"optimizer": None}, "optimizer is missing"),
        ({"loss_fn": None}, "loss_fn is missing"),
        ({"x": None}, "x is missing"),
        ({"y": None, "loss_fn": None, "optimizer": None}, "loss_fn is missing"),
        ({"x": None, "y": None, "loss_fn": None, "optimizer": None}, "learning_rate is missing"),
        ({"steps": 0}, "steps is 0"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seed": "a"}, "the seed is 'a'"),
        ({"losses": ["much"]}, "losses: expected a number for each step"),
        ({"loss_fn": nn.MSELoss}, r"did you mean nn.MSELoss\(\)\?"),
        ({"optimizer": torch.optim.Adam}, r"expected a name, or an instance"),
        ({"optimizer": "adamV"}, "'adamV', expected one of sgd, adam, adamw, rmsprop"),
        ({"optimizer": "adamW"}, "AdamW given by name needs a learning rate: add learning_rate="),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, message):
    model, x, y = made()
    parts = {
        "model": model,
        "x": x,
        "y": y,
        "loss_fn": nn.MSELoss(),
        "optimizer": torch.optim.Adam(model.parameters()),
    }
    with pytest.raises(InvalidInputError, match=message) as raised:
        gersgorin.check(**parts | change)
    assert "\n" not in str(raised.value)


LABELS = torch.arange(64) % 4


@for_each(
    ("loss_fn", "y", "fault"),
    [
        (nn.CrossEntropyLoss(), LABELS.float(), r"give y.long\(\)"),
        (nn.CrossEntropyLoss(), LABELS + 1, "y holds classes 1 to 4, the output has 4: 0 to 3"),
        ("cross-entropy", LABELS - 1, "y holds classes -1 to 2, the output has 4: 0 to 3"),
        (nn.NLLLoss(), (LABELS == 9).long() + 9 * (LABELS == 3), "y holds classes 0 to 9"),
        (nn.CrossEntropyLoss(), LABELS[:, None], r"expected classes, y of shape \(32,\)"),
        (nn.MSELoss(), torch.rand(64, 5), r"expected y of shape \(32, 4\), as the output"),
        (nn.BCEWithLogitsLoss(), torch.ones(64, 4).long(), r"y is int64: give y.float\(\)"),
    ],
)
def test_targets_that_the_loss_does_not_take_are_named(loss_fn, y, fault):
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 4))
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(InvalidInputError, match=fault) as raised:
        gersgorin.check(model, torch.rand(64, 10, 3), y, loss_fn, optimizer)
    assert "logits" not in str(raised.value)


class Backward(torch.autograd.Function):
    """Fails in its backward."""

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, slope):
        return [][0]


def failing_after(calls, error):
    """A loss that raises an error after some calls."""
    count = iter(range(calls))

    def loss_fn(output, y):
        if next(count, None) is None:
            raise error
        return (output - y).square().mean()

    return loss_fn


@pytest.mark.parametrize("ask", [gersgorin.check, gersgorin.cure])
@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (failing_after(0, IndexError("empty")), r"loss_fn\(output, y\) fails .*IndexError: empty"),
        (failing_after(200, IndexError("empty")), r"fails .*IndexError: empty"),
        (
            lambda output, y: Backward.apply(output - y).square().mean(),
            "backward, line .* raised IndexError: list index out of range",
        ),
    ],
)
def test_an_error_of_the_users_loss_is_a_sentence_about_that_call(ask, loss_fn, words):
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
    with pytest.raises(InvalidInputError, match=words) as raised:
        ask(model, x, y, loss_fn, optimizer, steps=5000, seconds=ENOUGH)
    assert "logits" not in str(raised.value)


@for_each("error", [KeyboardInterrupt, MemoryError])
def test_what_is_no_fault_of_the_loss_goes_through(error):
    model, x, y = made()
    with pytest.raises(error):
        gersgorin.check(
            model, x, y, failing_after(3, error()), torch.optim.Adam(model.parameters())
        )


@pytest.mark.parametrize(("learning_rate", "outcome"), [(1e-3, "leaves"), (1e4, "explodes")])
def test_trainings_shorter_than_a_mean_of_losses_have_their_outcome(learning_rate, outcome):
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        nn.MSELoss()(model(x)[0], y).backward()
        optimizer.step()
    again = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    assert (
        gersgorin.check(model, x, y, nn.MSELoss(), again, steps=10, seconds=ENOUGH).outcome
        == outcome
    )


def test_without_data_the_chorales_are_read():
    model = PolyphonicModel("gru", hidden_size=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    found = gersgorin.check(model, optimizer=optimizer, steps=2, seconds=ENOUGH)
    assert (found.optimizer, found.steps_per_epoch) == ("Adam", 7)
    assert 9 < found.constant_loss < 12  # nats a frame


def test_without_time_nothing_is_decided():
    model, x, y = made()
    found = gersgorin.check(
        model, x, y, nn.MSELoss(), torch.optim.Adam(model.parameters()), seconds=1e-6
    )
    assert found.outcome == "may leave" and not found.tried
    assert found.cut and "the time ran out before the trials ended" in found.left_out


def test_a_rate_that_a_scheduler_changes_is_called_initial():
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=30)
    found = gersgorin.check(
        model, x, y, "mse", optimizer, scheduler=scheduler, steps=20, seconds=ENOUGH
    )
    assert "an initial_lr (of OneCycleLR) of 0.004" in found.verdict

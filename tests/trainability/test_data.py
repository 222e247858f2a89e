"""Held-out examples are held out, and minibatches permute examples, never time steps."""

import pytest
import torch
from tables import for_each
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, TensorDataset

from rhn.errors import InvalidInputError
from trainability import check
from trainability.facts import facts
from trainability.probe import Probe
from trainability.training import Training


def rows(x, axis=0):
    """The examples of a tensor, as tuples of numbers."""
    return [tuple(row.flatten().tolist()) for row in x.movedim(axis, 0)]


def training_of(x, y=None, model=None, **parts):
    model = model or nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    first = x if y is not None else next(iter(x))[0]
    with torch.no_grad():
        model(first)
    return Training(model, x, y, "mse", "sgd", learning_rate=1e-3, **parts)


def seen(training, count=400, axis=0):
    """(Examples of the stream, examples that are held out)."""
    stream = training.data.stream(0)
    trained = {row for _ in range(count) for row in rows(next(stream)[0], axis)}
    held = {row for x, _ in training.data.held_out for row in rows(x, axis)}
    return trained, held


@pytest.mark.parametrize(
    ("count", "held"), [(40, 0), (79, 0), (80, 20), (256, 64), (400, 100), (1600, 200)]
)
def test_a_quarter_of_small_sets_is_held_out_and_a_hundred_of_four_hundred(count, held):
    x = torch.randn(count, 5, 2)
    trained, out = seen(training_of(x, torch.randn(count, 1)))
    assert len(out) == held and len(trained) == count - held
    assert not trained & out


def test_equal_examples_stay_on_one_side():
    x = torch.randn(100, 5, 2).repeat(4, 1, 1)
    trained, out = seen(training_of(x, torch.randn(400, 1)))
    assert len(out) == 25 and not trained & out


def test_few_different_examples_are_not_held_out():
    x = torch.randn(8, 5, 2).repeat(50, 1, 1)
    training = training_of(x, torch.randn(400, 1))
    assert not training.data.held_out
    assert training.data.too_few == "0 examples are held out"


@for_each("order", ["as in the series", "shuffled"])
@for_each("loader", [False, True])
def test_windows_are_split_in_time_without_overlap(order, loader):
    windows = torch.randn(500, 1).unfold(0, 12, 1).transpose(1, 2)
    if order == "shuffled":
        windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))]
    x, y = windows[:, :10], windows[:, -1, :1]
    training = training_of(DataLoader(TensorDataset(x, y), 32)) if loader else training_of(x, y)
    trained, out = seen(training)
    assert len(out) >= 90 and len(trained) >= 250
    assert not {v for row in trained for v in row} & {v for row in out for v in row}


class Last(nn.Module):
    """A GRU and a linear layer of its last state, or of each; reads (T, B, m) or (B, T, m)."""

    def __init__(self, *, batch_first=False, every=False):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(3, 8, batch_first=batch_first), nn.Linear(8, 1)
        self.axis, self.every = int(batch_first), every

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.out(states if self.every else states.select(self.axis, -1))


def test_one_long_sequence_is_split_in_time():
    x, y = torch.randn(1, 400, 3), torch.randn(1, 400, 1)
    data = training_of(x, y, Last(batch_first=True, every=True)).data
    ((held, targets),) = data.held_out
    assert torch.equal(held, x[:, 300:]) and torch.equal(targets, y[:, 300:])
    assert torch.equal(next(data.stream(0))[0], x[:, :300])
    assert data.in_time and not data.too_few


def test_a_network_of_a_fixed_length_is_not_split_in_time():
    x, y = torch.randn(1, 400, 3), torch.randn(1, 400, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1200, 400), nn.Unflatten(1, (400, 1)))
    data = Training(model, x, y, "mse", "sgd", learning_rate=0.1).data
    assert not data.held_out and data.too_few


@for_each("batches", [1, 4, 13, 40])
def test_a_small_loader_is_split_by_examples(batches):
    count = 20 * batches if batches > 1 else 100
    x, y = torch.randn(count, 5, 2), torch.randn(count, 1)
    loader = DataLoader(TensorDataset(x, y), count // batches)
    trained, out = seen(training_of(loader))
    assert len(out) >= 20 and len(trained) + len(out) == count
    assert not trained & out


def test_an_example_that_a_loader_repeats_is_not_held_out():
    x, y = torch.randn(50, 5, 2), torch.randn(50, 1)
    drawn = torch.randint(50, (900,), generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x[drawn], y[drawn]), 30)
    training = training_of(loader)
    trained, out = seen(training)
    assert not trained & out


class Fixed(Last):
    """Begins with a state for eight examples."""

    def forward(self, x):
        states = self.rnn(x, torch.zeros(1, 8, 8))[0]
        return self.out(states[:, -1])


def test_a_network_of_a_fixed_batch_size_gets_whole_batches():
    x, y = torch.randn(240, 5, 3), torch.randn(240, 1)
    for batches, held in ((30, 3), (5, 0)):
        loader = DataLoader(TensorDataset(x[: 8 * batches], y[: 8 * batches]), 8)
        training = training_of(loader, model=Fixed(batch_first=True))
        sizes = {len(x) for x, _ in training.data.held_out}
        assert len(training.data.held_out) >= held and sizes <= {8}
        assert {len(next(training.data.stream(0))[0]) for _ in range(20)} == {8}
        assert len(training.data.sample(100)[0]) == 8


def test_labels_of_noise_are_not_learned_on_held_out_examples_of_a_loader():
    """A loader of few batches was scored on the examples that it was trained on."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(96, 6, 2, generator=g), torch.randn(96, 1, generator=g)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 256), nn.ReLU(), nn.Linear(256, 1))
    training = Training(
        model, DataLoader(TensorDataset(x, y), 32), None, "mse", "adam", learning_rate=3e-3
    )
    stream = training.data.stream(0)
    for _ in range(400):
        training.step(*next(stream))
    errors = [(training.answers([x])[0] - y).square().mean() for x, y in training.data.held_out]
    assert torch.stack(errors).mean() > 0.8 * y.var()


# ---- the axis of the examples -----------------------------------------------------------------

TIME_FIRST = [(torch.randn(7, 10, 3), torch.randn(10, 1)) for _ in range(12)]


@for_each("given", ["a list", "a loader"])
def test_a_time_first_network_with_ready_made_batches_mixes_no_examples(given):
    model = Last()
    batches = TIME_FIRST if given == "a list" else DataLoader(TIME_FIRST, batch_size=None)
    training = Training(model, batches, None, "mse", "sgd", learning_rate=1e-3, batch_axis=1)
    assert training.axis == 1
    found, missing = facts(Probe(training))
    assert not found and not missing


def test_a_network_that_takes_the_examples_for_time_still_mixes_them():
    batches = [(x.transpose(0, 1), y) for x, y in TIME_FIRST]
    training = Training(Last(), batches, None, "mse", "sgd", learning_rate=1e-3, batch_axis=0)
    found, _ = facts(Probe(training))
    assert "mixed examples" in {cause.name for cause in found}


EITHER = torch.randn(60, 10, 3), torch.randn(60, 10, 1)


def of_frames(model, *data, **more):
    return Training(model, *data, "mse", "sgd", learning_rate=1e-3, batch_size=20, **more)


def test_layers_that_take_time_first_make_the_axis_of_targets_of_each_frame_a_question():
    with pytest.raises(InvalidInputError, match=r"x \(60, 10, 3\) .* batch_axis=1 if x is so"):
        of_frames(Last(every=True), *EITHER)
    with pytest.raises(InvalidInputError, match="give batch_axis=1"):
        of_frames(Last(every=True), [EITHER], None)
    assert of_frames(Last(every=True, batch_first=True), *EITHER).axis == 0
    assert not facts(Probe(of_frames(Last(every=True), *EITHER, batch_axis=1)))[0]


@for_each("given", ["tensors", "a loader"])
def test_a_forgotten_batch_first_is_found_where_the_axis_is_known(given):
    loader = DataLoader(TensorDataset(*EITHER), 20)  # stacks examples along axis 0
    for model in (Last(every=True), Last(every=True, batch_first=True)):
        training = (
            of_frames(model, *EITHER, batch_axis=0)
            if given == "tensors"
            else of_frames(model, loader, None)
        )
        assert training.axis == 0
        cause = {c.name: c for c in facts(Probe(training))[0]}.get("mixed examples")
        assert (cause is None) == model.rnn.batch_first
        if cause:
            assert "treats axis 0 of x, whose shape is (20, 10, 3), as time, but" in cause.sentence
            assert cause.remedy == "Write nn.GRU(..., batch_first=True)."


def test_samples_and_shuffled_batches_permute_examples_and_keep_time_steps():
    batches = [(x + 100 * torch.arange(7.0)[:, None, None], x[0, :, :1]) for x, _ in TIME_FIRST]
    training = Training(Last(), batches, None, "mse", "sgd", learning_rate=1e-3, batch_axis=1)
    known = {row for x, _ in batches for row in rows(x, axis=1)}
    for data in (training.data, training.data.shuffled()):
        for x, y in (data.sample(30), next(data.stream(0)), *data.held_out):
            assert set(rows(x, axis=1)) <= known
            assert torch.equal(x[0, :, :1], y)  # each target is with its own example
    shuffled = [row for x, _ in training.data.shuffled().trained for row in rows(x, axis=1)]
    ordered = [row for x, _ in training.data.trained for row in rows(x, axis=1)]
    assert sorted(shuffled) == sorted(ordered) and shuffled != ordered


def test_a_check_of_a_time_first_network_with_a_loader_has_nothing_to_say():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 320, 3, generator=g)
    y = x[:, :, :1].sum(0) / 3
    batches = [(x[:, k : k + 32], y[k : k + 32]) for k in range(0, 320, 32)]
    model = Last()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    found = check(model, batches, None, "mse", adam, batch_axis=1, steps=200, seconds=60)
    assert "mixed" not in str(found) and not found.facts


class Packed(nn.Module):
    """A GRU over padded sequences with their lengths."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][-1])


def test_the_error_of_a_minibatch_whose_targets_are_not_last_says_which_entry_is_y():
    x, y, lengths = torch.randn(32, 6, 3), torch.randn(32, 1), torch.full((32,), 6)
    with pytest.raises(InvalidInputError, match="; the last of the 3 entries of a minibatch is"):
        check(Packed(), DataLoader(TensorDataset(x, y, lengths), 8), steps=2)
    training = Training(Packed(), DataLoader(TensorDataset(x, lengths, y), 8))
    assert training.data.trained

"""Sequences of different lengths: padding is left out where lengths are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import gersgorin
from rhn.cells import RNN
from rhn.errors import InvalidInputError

LENGTHS, T, M, N = (9, 4, 6), 9, 3, 5


class Packs(nn.Module):
    """A tagger of padded sequences (B, T, m) that packs them."""

    def __init__(self, last=False):
        super().__init__()
        self.rnn, self.out = nn.GRU(M, N, batch_first=True), nn.Linear(N, 2)
        self.last = last

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.rnn(packed)
        if self.last:
            return self.out(last[0])
        steps = {"batch_first": True, "total_length": x.shape[1]}
        return self.out(pad_packed_sequence(outputs, **steps)[0])


class KnowsLengths(Packs):
    """The same, with lengths of its own."""

    def forward(self, x):
        return super().forward(x, torch.tensor(LENGTHS))


class Sorts(Packs):
    """The same, in another order of the sequences than that of x."""

    def forward(self, x):
        order = torch.tensor([0, 2, 1])
        return super().forward(x[order], torch.tensor(LENGTHS)[order])[order.argsort()]


class Masks(Packs):
    """A GRU over all steps; the lengths choose the last one."""

    def forward(self, x, seq_len):
        return self.out(self.rnn(x)[0][torch.arange(len(x)), seq_len - 1])


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(LENGTHS), T, M, generator=generator).double()
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = 0
    return x


def by_hand(module, x):
    """Root mean square over the sequences that have both steps, by torch's autograd alone."""
    squares, pairs = np.zeros((T, T)), np.zeros((T, T))
    for row, n in zip(x, LENGTHS, strict=True):

        def outputs(row):
            return module.out(module.rnn(row[None])[0])[0]

        slopes = torch.autograd.functional.jacobian(outputs, row[:n])  # (n, 2, n, m)
        squares[:n, :n] += slopes.square().sum((1, 3)).numpy()
        pairs[:n, :n] += 1
    return np.sqrt(squares / np.maximum(pairs, 1))


@pytest.mark.parametrize("how", ["argument", "by name", "inside", "sorted inside"])
def test_padding_is_left_out(x, how):
    torch.manual_seed(0)
    made = {"inside": KnowsLengths, "sorted inside": Sorts}.get(how, Packs)
    module = made().double()
    lengths = torch.tensor(LENGTHS)
    given = {"argument": (x, lengths), "by name": {"x": x, "lengths": lengths}}.get(how, x)
    found = gersgorin.influence(module, given)
    np.testing.assert_allclose(found.influence, by_hand(module, x), rtol=1e-9, atol=1e-15)
    assert "3 sequences of 4 to 9 steps" in found.about
    assert found.without == 0


@pytest.mark.parametrize("last", [False, True])
def test_padding_behind_the_longest_sequence_is_left_out(x, last):
    torch.manual_seed(0)
    module, lengths = Packs(last=last).double(), torch.tensor(LENGTHS)
    found = gersgorin.influence(module, (nn.functional.pad(x, (0, 0, 0, 20)), lengths))
    cut = gersgorin.influence(module, (x, lengths))
    np.testing.assert_allclose(found.influence, cut.influence, rtol=1e-9)
    assert [*found.sentences()] == [*cut.sentences()]
    if not last:
        of_pairs = by_hand(module, x) ** 2
        by_lag = [np.sqrt(np.diag(of_pairs, -k).mean()) for k in range(T)]
        np.testing.assert_allclose(found.by_lag, by_lag, rtol=1e-9)


def test_a_running_sum_has_influence_1_at_every_lag_that_a_sequence_has():
    class Sum(nn.Module):
        def forward(self, x, lengths):
            mask = (torch.arange(x.shape[1]) < lengths[:, None]).unsqueeze(2)
            return torch.cumsum(x * mask, 1) * mask

    x, lengths = torch.randn(2, 40, 1), torch.tensor([12, 10])
    found = gersgorin.influence(Sum(), (x, lengths), batch_axis=0)
    np.testing.assert_allclose(found.by_lag, np.ones(12), rtol=1e-6)
    assert found.half_life == math.inf
    assert found.effective_length == pytest.approx(12)
    np.testing.assert_allclose(found.share, np.full(12, 1 / 12), rtol=1e-6)
    assert "zero" not in " ".join(found.sentences())


@pytest.mark.parametrize("made", [Packs, Masks])
def test_one_output_counts_lags_from_the_end_of_each_sequence(x, made):
    torch.manual_seed(0)
    module = made(last=True).double()
    found = gersgorin.influence(module, (x, torch.tensor(LENGTHS)))
    squares, sequences = np.zeros(T), np.zeros(T)
    for row, n in zip(x, LENGTHS, strict=True):

        def output(row):
            return module.out(module.rnn(row[None])[0][0, -1])

        slopes = torch.autograd.functional.jacobian(output, row[:n]).square().sum((0, 2)).numpy()
        squares[:n] += slopes[::-1]
        sequences[:n] += 1
    np.testing.assert_allclose(found.by_lag, np.sqrt(squares / sequences), rtol=1e-9, atol=1e-15)


def test_padding_stays_if_outputs_depend_on_it(x):
    """What the module packs is not what its outputs depend on."""

    class Skips(KnowsLengths):
        def forward(self, x):
            return super().forward(x) + x[..., :2]

    found = gersgorin.influence(Skips().double(), x)
    assert "3 sequences of 9 steps" in found.about
    assert (found.influence.diagonal() > 0).all()


def test_classes_are_no_lengths(x):
    class Speaker(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.speaker = nn.GRU(M, N, batch_first=True), nn.Embedding(9, M)

        def forward(self, x, speaker):
            return self.rnn(x + self.speaker(speaker)[:, None])[0]

    torch.manual_seed(0)
    module, x = Speaker().double(), torch.randn(3, T, M).double()
    found = gersgorin.influence(module, (x, torch.tensor([2, 3, 5])))
    assert found.influence[-1, -1] > 0 and (found.influence.diagonal() > 0).all()


def test_packed_sequences_are_described_by_their_lengths(x):
    packed = pack_sequence([row[:n] for row, n in zip(x, LENGTHS, strict=True)], False)
    rnn = nn.GRU(M, N)
    found = gersgorin.influence(rnn, packed)
    assert "3 sequences of 4 to 9 steps" in found.about and "19" not in found.title
    one = gersgorin.influence(rnn, pack_sequence([x[0]]))
    assert "9 x 3" in one.title


@pytest.mark.parametrize("form", ["packed", "with lengths"])
@pytest.mark.parametrize("analysis", ["spectra", "lyapunov"])
def test_spectra_of_several_lengths_say_how_to_take_one(x, form, analysis):
    module, given = Packs(), (x, torch.tensor(LENGTHS))
    if form == "packed":
        module = nn.GRU(M, N)
        given = pack_sequence([row[:n] for row, n in zip(x, LENGTHS, strict=True)], False)
    words = "3 sequences of 4 to 9 steps: expected one.*over='sequences'"
    with pytest.raises(InvalidInputError, match=words):
        getattr(gersgorin, analysis)(module, given)


def test_bands_over_packed_sequences_are_those_over_their_list(x):
    rows = [row[:n] for row, n in zip(x, LENGTHS, strict=True)]
    torch.manual_seed(0)
    rnn = nn.GRU(M, N)
    found = gersgorin.compare({"rnn": rnn}, pack_sequence(rows, False), over="sequences")
    listed = gersgorin.compare({"rnn": rnn}, rows, over="sequences")
    np.testing.assert_array_equal(found["rnn"].norm, listed["rnn"].norm)
    assert found["rnn"].steps.tolist() == [*LENGTHS]


class ReadsPacked(nn.Module):
    """A model that is given a packed sequence and takes it apart."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, N)

    def forward(self, packed):
        return self.rnn(PackedSequence(2 * packed.data, *packed[1:]))[0]


def test_packed_sequences_are_compared_by_a_model_that_reads_them_and_by_a_bare_cell(x):
    rows = [row[:n] for row, n in zip(x, LENGTHS, strict=True)]
    torch.manual_seed(0)
    model, packed = ReadsPacked(), pack_sequence(rows, False)
    doubled = gersgorin.compare({"m": model.rnn}, [2 * row for row in rows], over="sequences")
    found = gersgorin.compare({"m": model}, packed, over="sequences")
    np.testing.assert_array_equal(found["m"].norm, doubled["m"].norm)
    cell = RNN(M, N)
    found = gersgorin.compare({"cell": cell}, packed, over="sequences")
    listed = gersgorin.compare({"cell": cell}, rows, over="sequences")
    np.testing.assert_array_equal(found["cell"].norm, listed["cell"].norm)


class Hides(Packs):
    """A GRU over masked inputs, whose outputs and states in padding are zero: no length is said."""

    def forward(self, x, mask):
        return self.out(self.rnn(x)[0]) * mask[..., None]


def test_padding_is_found_where_nothing_says_the_lengths(x):
    torch.manual_seed(0)
    module = Hides().double()
    mask = (torch.arange(T) < torch.tensor(LENGTHS)[:, None]).double()
    found = gersgorin.influence(module, (x, mask))
    np.testing.assert_allclose(found.influence, by_hand(module, x), rtol=1e-9, atol=1e-15)
    assert "3 sequences of 4 to 9 steps" in found.about


class Tagger(nn.Module):
    """A GRU over all steps (B, T, m), padding included."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(M, N, batch_first=True), nn.Linear(N, 4)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


def own_cross_entropy(outputs, y):
    return nn.functional.cross_entropy(outputs.transpose(1, 2), y, reduction="none")


def cross_entropy_of_last(outputs, y):
    rows, last = torch.arange(len(y)), (y != -100).sum(1) - 1
    return nn.functional.cross_entropy(outputs[rows, last], y[rows, last], reduction="none")


def targets_with_padding(x):
    y = torch.randint(4, x.shape[:2], generator=torch.Generator().manual_seed(1))
    for row, length in zip(y, LENGTHS, strict=True):
        row[length:] = -100
    return y


def slopes_of_losses(module, x, y):
    """The norms of the gradients of the losses (T, T) of each sequence alone, unpadded."""
    for row, targets, n in zip(x, y, LENGTHS, strict=True):

        def losses(row, targets=targets[:n]):
            return nn.functional.cross_entropy(module(row[None])[0], targets, reduction="none")

        yield torch.autograd.functional.jacobian(losses, row[:n]).norm(dim=2).numpy()


def by_lag_of_rows(rows):
    """Root mean square over sequences for each pair, then over the pairs of each lag."""
    squares, pairs = np.zeros((T, T)), np.zeros((T, T))
    for row in rows:
        squares[: len(row), : row.shape[1]] += row**2
        pairs[: len(row), : row.shape[1]] += 1
    of_pairs = squares / np.maximum(pairs, 1)
    return np.sqrt([np.diag(of_pairs, -k).mean() for k in range(T)])


@pytest.mark.parametrize("padded_to", [T, T + 5])
@pytest.mark.parametrize("loss", ["categorical", own_cross_entropy])
def test_frames_without_a_loss_at_the_end_are_left_out(x, loss, padded_to):
    """The model reads the padding; the targets, or the loss, leave it out."""
    torch.manual_seed(0)
    module, y = Tagger().double(), targets_with_padding(x)
    expected = by_lag_of_rows(slopes_of_losses(module, x, y))
    padding = padded_to - T
    found = gersgorin.influence(
        module,
        nn.functional.pad(x, (0, 0, 0, padding)),
        of=loss,
        y=nn.functional.pad(y, (0, padding), value=-100),
    )
    if loss == "categorical" or not padding:
        np.testing.assert_allclose(found.by_lag, expected, rtol=1e-9, atol=1e-15)
        assert "3 sequences of 4 to 9 steps" in found.about and found.without == 0
    else:  # no sequence ends with x: the loss may ignore steps for other reasons
        words = [*found.sentences()]
        assert found.without == (5 + 3) + 3 * padding
        assert words[0].startswith(f"{found.without} losses without influence of any input")
        assert words[1] == f"{found.finding}."


def test_one_sequence_ends_with_its_last_target(x):
    torch.manual_seed(0)
    module, y = Tagger().double(), targets_with_padding(x)
    found = gersgorin.influence(module, x[1:2], of="categorical", y=y[1:2])
    alone = gersgorin.influence(module, x[1:2, :4], of="categorical", y=y[1:2, :4])
    np.testing.assert_allclose(found.influence, alone.influence, rtol=1e-9)


def test_a_loss_of_the_last_token_counts_lags_from_there(x):
    torch.manual_seed(0)
    module, y = Tagger().double(), targets_with_padding(x)
    rows = [row[-1:, ::-1] for row in slopes_of_losses(module, x, y)]
    squares, pairs = np.zeros(T), np.zeros(T)
    for row in rows:
        squares[: row.shape[1]] += row[0] ** 2
        pairs[: row.shape[1]] += 1
    found = gersgorin.influence(module, x, of=cross_entropy_of_last, y=y)
    np.testing.assert_allclose(found.by_lag, np.sqrt(squares / pairs), rtol=1e-9, atol=1e-15)


def test_dead_frames_and_padding_that_is_read_are_no_padding(x):
    torch.manual_seed(0)
    y = targets_with_padding(x)

    class Dead(Tagger):  # the loss of a frame after the fourth is exactly 0 in sequence 1
        def forward(self, x):
            alive = torch.ones((*x.shape[:2], 1), dtype=x.dtype)
            alive[1, 4:] = 0
            return 1e3 * (1 - alive) * torch.eye(4, dtype=x.dtype)[0] + super().forward(x)

    all_real = y.clamp(min=0)
    all_real[1, 4:] = 0
    found = gersgorin.influence(Dead().double(), x, of="categorical", y=all_real)
    assert found.without == T - 4 and "3 sequences of 9 steps" in found.about

    class Silent(Tagger):  # no frame has an influence
        def forward(self, x):
            return 0 * super().forward(x)

    found = gersgorin.influence(Silent().double(), x, of="categorical", y=y)
    assert not found.influence.any() and found.influence.shape == (T, T)

    class Both(Tagger):  # the losses of real frames depend on the padding
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(M, N, batch_first=True, bidirectional=True)
            self.out = nn.Linear(2 * N, 4)

    found = gersgorin.influence(Both().double(), x, of="categorical", y=y)
    assert found.without == 5 + 3 and "3 sequences of 9 steps" in found.about


@pytest.mark.parametrize("name", ["valence", "silent", "lengthscale", "length_class"])
def test_a_name_with_len_in_it_is_not_that_of_lengths(x, name):
    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(M, N, batch_first=True)

    function = f"lambda self, x, {name}: self.rnn(x + {name}[:, None, None])[0]"
    Conditioned.forward = eval(function)
    found = gersgorin.influence(Conditioned().double(), (x, torch.tensor([2, 1, 3])))
    assert "3 sequences of 9 steps" in found.about

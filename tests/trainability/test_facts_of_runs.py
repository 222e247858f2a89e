"""Facts: for each a training run in which it holds, and two sound neighbours."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_runs import N, T, run_of, sums
from user_modules import EachState, Embedded, LastState, Masked

from trainability import facts as f
from trainability.facts import (
    AHEAD,
    FINITE,
    LEARNING_RATE,
    LOOP,
    NEXT,
    OF_Y,
    OTHERS,
    OWN,
    PROPORTIONAL,
    RANGE,
    REACHED,
    READ,
    SECOND,
    SPREAD,
    TIMES,
    TO_ONE,
    WEIGHTS,
)
from trainability.snapshot import restored
from trainability.time_steps import Reads, steps_ahead
from trainability.training import train_run


def measured(model, y=None, loss_fn=None, optimizer=None, x=None, steps=5, losses=(), **how):
    """The facts of a run, by name."""
    x = sums()[0] if x is None else x
    y = x[:, :2, 0].sum(1, keepdim=True) if y is None else y
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    run = run_of(model, x, y, loss_fn or nn.MSELoss(), optimizer, **how)
    run = replace(run, scheduler=how.get("scheduler"))
    with restored(model, run.optimizer, run.scheduler) as saved:
        found, line, _ = f.facts(run, saved, steps, losses)
    return {fact.name: fact for fact in found} | {"line": line}


class Centred(LastState):
    """Subtracts the mean over examples."""

    def forward(self, x):
        z = super().forward(x)
        return z - z.mean(0)


class Random(LastState):
    """Adds random numbers in evaluation mode too, and reads only the last step."""

    def forward(self, x):
        return super().forward(x[:, -1:]) + torch.randn(len(x), 1)


class Viewed(LastState):
    """Both directions of the final state, put together by `view`."""

    def __init__(self, right=False):
        super().__init__()
        self.right, self.rnn = right, nn.GRU(2, 4, batch_first=True, bidirectional=True)

    def forward(self, x):
        state = self.rnn(x)[1]
        state = state.transpose(0, 1) if self.right else state
        return self.out(state.reshape(len(x), 8))


class Some(LastState):
    """Reads every second step, or cuts the gradient before a step, or reads from a step on."""

    def __init__(self, every=1, cut=0, first=0):
        super().__init__()
        self.every, self.cut, self.first = every, cut, first

    def forward(self, x):
        x = x[:, self.first :: self.every]
        state = None
        if self.cut:
            state = self.rnn(x[:, : self.cut])[1].detach()
        return self.out(self.rnn(x[:, self.cut :], state)[1][-1])


class Halves(nn.Module):
    """Reads the first three words by one embedding, and all others by another one."""

    def __init__(self):
        super().__init__()
        self.first, self.other, self.inner = nn.Embedding(9, 2), nn.Embedding(9, 2), LastState()

    def forward(self, ids):
        early = torch.arange(T)[:, None] < 3
        return self.inner(torch.where(early, self.first(ids), self.other(ids)))


class Hidden(nn.Module):
    """Layers in a list of Python."""

    def __init__(self, outputs=1):
        super().__init__()
        self.layers, self.out = [nn.Linear(T * 2, 4)], nn.Linear(4, outputs)

    def forward(self, x):
        return self.out(self.layers[0](x.flatten(1)))


class Ended(nn.Module):
    """The last output, through a last operation."""

    def __init__(self, end, outputs=1):
        super().__init__()
        self.inner, self.end = LastState(outputs), end

    def forward(self, x):
        return self.end(self.inner(x))


class Entry(LastState):
    """The numbers of x without a time axis."""

    def forward(self, x):
        return super().forward(x[:, None, None].expand(-1, 1, 2))


class OfIds(nn.Module):
    """Reads ids as numbers, or by an embedding that is not trained."""

    def __init__(self, frozen=False):
        super().__init__()
        self.embed = nn.Embedding(9, 2).requires_grad_(False) if frozen else None
        self.inner = LastState(inputs=2 if frozen else 1)

    def forward(self, ids):
        return self.inner(self.embed(ids) if self.embed else ids[..., None].float())


class OnAxis1(nn.Module):
    """Classes of each step along axis 1."""

    def __init__(self, end=None, **how):
        super().__init__()
        self.inner, self.end = EachState(3, **how), end or nn.Identity()

    def forward(self, x):
        return self.end(self.inner(x).transpose(1, 2))


class Transposed(nn.Module):
    """Exchanges the last two axes."""

    def forward(self, z):
        return z.transpose(1, 2)


class Rare(nn.Module):
    """Reads the last three steps only of examples that begin with a number above 1."""

    def __init__(self):
        super().__init__()
        self.inner = LastState()

    def forward(self, x):
        reads = torch.ones(T, 1)
        reads[3:] = 0
        return self.inner(x * torch.where(x[:, :1, :1] > 1, 1.0, reads))


class Placed(nn.Module):
    """Words and their places; the first words are detached, or those of a frozen embedding."""

    def __init__(self, cut=0, frozen=False, turned=False):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 2), nn.Embedding(T, 2)
        self.fixed = nn.Embedding(9, 2).requires_grad_(False) if frozen else None
        self.inner, self.cut, self.turned = LastState(), cut, turned

    def forward(self, ids):
        x = self.words(ids.T).transpose(0, 1) if self.turned else self.words(ids)
        x = torch.cat([x[:, : self.cut].detach(), x[:, self.cut :]], 1)
        x = x + (0 if self.fixed is None else self.fixed(ids))
        return self.inner(x + self.places(torch.arange(T)))


class TwoWords(nn.Module):
    """Reads two words at each step."""

    def __init__(self):
        super().__init__()
        self.words, self.inner = nn.Embedding(9, 2), LastState(inputs=4)

    def forward(self, ids):
        return self.inner(self.words(ids).flatten(2))


class Trained(LastState):
    """Fails in evaluation mode without gradients."""

    def forward(self, x):
        if not self.training and not torch.is_grad_enabled():
            raise RuntimeError("not in training mode")
        return super().forward(x)


def of_sum_1(z):
    return z - z.mean(-1, keepdim=True) + 1 / 3 + torch.tensor([-9.0, 0.0, 9.0])


def of_nothing(z, y):
    return z.square().mean() + 0 * y.sum()


def of_differences(z, y):
    """No constant changes this loss."""
    return (z - z.mean()).square().mean() + 0 * y.sum()


def squares(z, y):
    return (z.flatten() - y.flatten()).square().mean()


def of_columns(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten())


def never(z, y):
    return F.cross_entropy(z, y) * math.nan


ids = torch.randint(9, (N, T))
frames = sums()[0][:, :, :1]
classes = torch.arange(N) % 3
of_steps, of_x = torch.randint(3, (N, T)), torch.randn(N)
one_word = ids[:, :1].expand(N, T).clone()
next_words = torch.cat([ids[:, 1:], of_steps[:, :1]], 1)
but_once = next_words.clone()
some = N // 5 + 1  # one more than are held out
but_once[:some, 0] = (but_once[:some, 0] + 1) % 9
padded_words = next_words.masked_fill(torch.rand(N, T) < 0.5, -100)
with_zeros = torch.cat([frames, torch.zeros(N, T, 1)], 2)
at_the_end = torch.cat([torch.zeros(N, T - 1, 1), frames[:, :1]], 1)
shares_of_y = torch.rand(N, 3).softmax(-1)


def words(**how):
    return measured(Embedded(Some(**how), 9, 2), x=ids, y=frames[:, 0])


def of_words(targets, both=False, words=None):
    """The facts of a network that returns one of nine classes at each step of words."""
    layer = EachState(9, units=4, bidirectional=both)
    return measured(
        nn.Sequential(nn.Embedding(9, 2), layer, Transposed()),
        targets,
        nn.CrossEntropyLoss(),
        x=ids if words is None else words,
    )


def of_numbers(x, y, loss_fn=None, both=False):
    """The facts of a network that returns numbers at each step of numbers."""
    layer = EachState(y.shape[2], units=4, inputs=x.shape[2], bidirectional=both)
    return measured(layer, y, loss_fn, x=x)


class SeesAhead(nn.Module):
    """Outputs of each step from the numbers of a later one; of the first steps at the end."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.out = steps, nn.Linear(2, 2)

    def forward(self, x):
        return self.out(x.roll(-self.steps, 1))


def later_words(k):
    """The words of k steps later, then zeros."""
    return torch.cat([ids[:, k:], torch.zeros(N, k, dtype=torch.long)], 1)


def numbers_ahead(k):
    """Two numbers of each of 20 steps, and as targets those of k steps later."""
    whole = torch.randn(N, 20 + k, 2, generator=torch.Generator().manual_seed(1))
    return whole[:, :20], whole[:, k:]


def softmax(z):
    return z.softmax(-1)


def of_one_class(z):
    return (z >= z.amax(-1, keepdim=True)).float() + 0 * z


def unpaired(z, y):
    return (z - y).square().mean()


CASES = {
    "the mean of all examples": (OTHERS, lambda: measured(Centred()), (31,), True),
    "view for transpose": (OTHERS, lambda: measured(Viewed()), (2,), True),
    "examples by themselves": (OTHERS, lambda: measured(Viewed(right=True)), (0,), False),
    "batch normalisation": (
        OTHERS,
        lambda: measured(nn.Sequential(LastState(4), nn.BatchNorm1d(4), nn.Linear(4, 1))),
        (0,),
        False,
    ),
    "random outputs": (OTHERS, lambda: measured(Random()), (0,), False),
    "random outputs at a second call": (SECOND, lambda: measured(Random()), (32,), True),
    "dropout that is always active": (
        SECOND,
        lambda: measured(Ended(lambda z: F.dropout(z + 1, 0.5, training=True), 8)),
        (32,),
        True,
    ),
    "dropout in training": (
        SECOND,
        lambda: measured(nn.Sequential(LastState(4), nn.Dropout(0.5), nn.Linear(4, 1))),
        (0,),
        False,
    ),
    "batch normalisation at a second call": (
        SECOND,
        lambda: measured(nn.Sequential(LastState(4), nn.BatchNorm1d(4), nn.Linear(4, 1))),
        (0,),
        False,
    ),
    "a step of random outputs": (READ, lambda: measured(Random()), (1,), False),
    "every second step": (
        READ,
        lambda: measured(Some(every=2), x=sums(steps=40)[0]),
        (20,),
        False,
    ),
    "all steps": (READ, lambda: measured(LastState()), (6,), False),
    "the only step": (READ, lambda: measured(LastState(), x=sums(steps=1)[0]), (1,), False),
    "the gradient at the only step": (
        REACHED,
        lambda: measured(LastState(), x=sums(steps=1)[0]),
        (1,),
        False,
    ),
    "outputs of the only step": (
        NEXT,
        lambda: measured(EachState(), x=sums(steps=1)[0], y=frames[:, :1]),
        None,
        False,
    ),
    "the last four steps of ids": (READ, lambda: words(first=2), (4,), False),
    "a detached state": (REACHED, lambda: measured(Some(cut=4)), (2,), True),
    "a detached state of words": (REACHED, lambda: words(cut=4), (2,), True),
    "two embeddings": (REACHED, lambda: measured(Halves(), x=ids, y=frames[:, 0]), (6,), False),
    "no detached state": (REACHED, lambda: measured(LastState()), (6,), False),
    "steps that nothing reads": (REACHED, lambda: measured(Some(every=2)), (3,), False),
    "both directions": (
        NEXT,
        lambda: measured(EachState(units=4, bidirectional=True), y=frames),
        (5,),
        False,
    ),
    "both directions, the next word": (NEXT, lambda: of_words(next_words, both=True), (5,), True),
    "one direction, the next word": (NEXT, lambda: of_words(next_words), (0,), False),
    "both directions, the same word": (NEXT, lambda: of_words(ids, both=True), (5,), False),
    "both directions, other words": (NEXT, lambda: of_words(of_steps, both=True), (5,), False),
    "both directions, a number eight steps ahead": (
        NEXT,
        lambda: of_numbers(*numbers_ahead(8), both=True),
        (19,),
        True,
    ),
    "the step that is the target two steps ahead": (
        NEXT,
        lambda: measured(SeesAhead(2), numbers_ahead(2)[1], x=numbers_ahead(2)[0]),
        (18,),
        True,
    ),
    "a later step than the target": (
        NEXT,
        lambda: measured(SeesAhead(2), numbers_ahead(1)[1], x=numbers_ahead(1)[0]),
        (0,),
        False,
    ),
    "a later step, without targets ahead": (
        NEXT,
        lambda: measured(SeesAhead(2), torch.randn(N, T, 2)),
        (0,),
        False,
    ),
    "one direction, a number two steps ahead": (
        NEXT,
        lambda: of_numbers(*numbers_ahead(2)),
        (0,),
        False,
    ),
    "the next word": (AHEAD, lambda: of_words(next_words), (1,), False),
    "a word two steps ahead": (AHEAD, lambda: of_words(later_words(2), words=ids), (2,), False),
    "the word of the step": (AHEAD, lambda: of_words(ids), None, False),
    "the last word": (AHEAD, lambda: of_words(ids.roll(1, 1)), None, False),
    "the next word, but at one step of some examples": (
        AHEAD,
        lambda: of_words(but_once),
        None,
        False,
    ),
    "one word for all steps": (AHEAD, lambda: of_words(one_word, words=one_word), None, False),
    "words in reverse": (AHEAD, lambda: of_words(ids.flip(1)), None, False),
    "numbers eight steps ahead": (AHEAD, lambda: of_numbers(*numbers_ahead(8)), (8,), False),
    "numbers nine steps ahead": (AHEAD, lambda: of_numbers(*numbers_ahead(9)), None, False),
    "one of two numbers, ahead": (
        AHEAD,
        lambda: of_numbers(*(t[..., :n] for n, t in zip((2, 1), numbers_ahead(3), strict=True))),
        (3,),
        False,
    ),
    "a number, and another one that is ahead": (
        AHEAD,
        lambda: of_numbers(*(t[..., :n] for n, t in zip((1, 2), numbers_ahead(3), strict=True))),
        None,
        False,
    ),
    "two numbers in the other order, ahead": (
        AHEAD,
        lambda: of_numbers(numbers_ahead(3)[0], numbers_ahead(3)[1].flip(2)),
        None,
        False,
    ),
    "the next class of one-hot steps": (
        AHEAD,
        lambda: measured(
            nn.Sequential(EachState(9, inputs=9), Transposed()),
            next_words,
            nn.CrossEntropyLoss(),
            x=F.one_hot(ids, 9).float(),
        ),
        (1,),
        False,
    ),
    "the next word, and padding that the loss ignores": (
        AHEAD,
        lambda: of_words(padded_words),
        (1,),
        False,
    ),
    "targets that are the same at all steps but the last": (
        AHEAD,
        lambda: of_numbers(with_zeros, at_the_end),
        None,
        False,
    ),
    "a target of an example": (AHEAD, lambda: measured(LastState()), None, False),
    "targets of other steps": (
        AHEAD,
        lambda: measured(
            nn.Sequential(EachState(), nn.Unflatten(1, (3, 2))), frames.reshape(N, 3, 2, 1)
        ),
        None,
        False,
    ),
    "as many numbers as x has, ahead in two steps": (
        AHEAD,
        lambda: of_numbers(frames[:, :2], frames[:, 1:3]),
        None,
        False,
    ),
    "softmax before the negative likelihood": (
        PROPORTIONAL,
        lambda: measured(Ended(softmax, 3), classes, nn.NLLLoss()),
        (1.0,),
        True,
    ),
    "softmax before an own negative likelihood": (
        PROPORTIONAL,
        lambda: measured(Ended(softmax, 3), classes, lambda z, y: -z.gather(1, y[:, None]).mean()),
        (1.0,),
        True,
    ),
    "softmax on axis 1 before the negative likelihood": (
        PROPORTIONAL,
        lambda: measured(OnAxis1(lambda z: z.softmax(1)), of_steps, nn.NLLLoss()),
        (1.0,),
        True,
    ),
    "logarithms before the negative likelihood": (
        PROPORTIONAL,
        lambda: measured(Ended(lambda z: z.log_softmax(-1), 3), classes, nn.NLLLoss()),
        (0.0,),
        False,
    ),
    "logits before the negative likelihood": (
        PROPORTIONAL,
        lambda: measured(LastState(3), classes, nn.NLLLoss()),
        (0.0,),
        False,
    ),
    "sigmoid before the binary cross entropy": (
        PROPORTIONAL,
        lambda: measured(Ended(torch.sigmoid), (classes > 0).float()[:, None], nn.BCELoss()),
        (0.0,),
        False,
    ),
    "probabilities of actions, times their rewards": (
        PROPORTIONAL,
        lambda: measured(Ended(softmax, 3), shares_of_y, lambda z, y: -(z * y).sum(1).mean()),
        (0.0,),
        False,
    ),
    "softmax before the logarithm in the loss": (
        PROPORTIONAL,
        lambda: measured(Ended(softmax, 3), classes, lambda z, y: F.nll_loss(z.log(), y)),
        (0.0,),
        False,
    ),
    "probabilities beside predict": (
        PROPORTIONAL,
        lambda: measured(Ended(softmax, 3), classes, nn.NLLLoss(), predict=lambda z: z.log()),
        None,
        False,
    ),
    "one direction": (NEXT, lambda: measured(EachState(), y=frames), (0,), False),
    "one output": (NEXT, lambda: measured(LastState()), None, False),
    "both directions, classes on axis 1": (
        NEXT,
        lambda: measured(OnAxis1(units=4, bidirectional=True), of_steps, nn.CrossEntropyLoss()),
        (5,),
        False,
    ),
    "one direction, classes on axis 1": (
        NEXT,
        lambda: measured(OnAxis1(), of_steps, nn.CrossEntropyLoss()),
        (0,),
        False,
    ),
    "a number of every step in both directions": (
        NEXT,
        lambda: measured(
            nn.Sequential(EachState(units=4, bidirectional=True), nn.Flatten()), frames[..., 0]
        ),
        (5,),
        False,
    ),
    "as many classes as steps": (
        NEXT,
        lambda: measured(LastState(T), classes, nn.CrossEntropyLoss()),
        None,
        False,
    ),
    "other outputs than steps": (
        NEXT,
        lambda: measured(
            nn.Sequential(EachState(), nn.Unflatten(1, (3, 2))), frames.reshape(N, 3, 2, 1)
        ),
        None,
        False,
    ),
    "no time axis": (READ, lambda: measured(Entry(), x=of_x, y=of_x[:, None]), None, False),
    "no gradient without a time axis": (
        REACHED,
        lambda: measured(Entry(), x=of_x, y=of_x[:, None]),
        None,
        False,
    ),
    "ids as numbers": (REACHED, lambda: measured(OfIds(), x=ids, y=frames[:, 0]), None, False),
    "an embedding that is not trained": (
        REACHED,
        lambda: measured(OfIds(frozen=True), x=ids, y=frames[:, 0]),
        None,
        False,
    ),
    "both directions, classes on the last axis": (
        NEXT,
        lambda: measured(EachState(3, units=4, bidirectional=True), of_steps, of_columns),
        (5,),
        False,
    ),
    "both directions, classes of all steps in a row": (
        NEXT,
        lambda: measured(
            nn.Sequential(EachState(3, units=4, bidirectional=True), nn.Flatten(0, 1)),
            of_steps,
            lambda z, y: F.cross_entropy(z, y.flatten()),
        ),
        (5,),
        False,
    ),
    "both directions in two steps": (
        NEXT,
        lambda: measured(EachState(units=4, bidirectional=True), frames[:, :2], x=sums(steps=2)[0]),
        (1,),
        False,
    ),
    "as many outputs as steps, and one target": (
        NEXT,
        lambda: measured(LastState(T), frames[:, 0, 0], of_nothing),
        None,
        False,
    ),
    "as many classes as steps, targets of shape (N, 1)": (
        NEXT,
        lambda: measured(LastState(T), classes[:, None], lambda z, y: F.cross_entropy(z, y[:, 0])),
        None,
        False,
    ),
    "outputs of shape (B,), targets of shape (B, 1)": (
        READ,
        lambda: measured(nn.Sequential(LastState(), nn.Flatten(0)), loss_fn=squares),
        (6,),
        False,
    ),
    "two examples, each alone in a minibatch": (
        READ,
        lambda: measured(
            LastState(), frames[:2, 0], x=sums()[0][:2], batch_size=1, validation=sums()
        ),
        (6,),
        False,
    ),
    "steps that only some examples read": (
        READ,
        lambda: measured(Rare(), frames[:, 0], batch_size=1),
        (6,),
        False,
    ),
    "the gradient at steps that only some examples read": (
        REACHED,
        lambda: measured(Rare(), frames[:, 0], batch_size=1),
        (6,),
        False,
    ),
    "detached words, trained places": (
        REACHED,
        lambda: measured(Placed(cut=4), x=ids, y=frames[:, 0]),
        (2,),
        True,
    ),
    "a frozen embedding beside a trained one": (
        REACHED,
        lambda: measured(Placed(frozen=True), x=ids, y=frames[:, 0]),
        (6,),
        False,
    ),
    "as many words as examples": (
        REACHED,
        lambda: measured(Placed(cut=4), x=ids, y=frames[:, 0], batch_size=T),
        (2,),
        True,
    ),
    "words on the other axis": (
        REACHED,
        lambda: measured(Placed(cut=4, turned=True), x=ids, y=frames[:, 0]),
        (2,),
        True,
    ),
    "two words a step": (
        REACHED,
        lambda: measured(TwoWords(), x=torch.stack([ids, ids], 2), y=frames[:, 0]),
        (6,),
        False,
    ),
    "softmax of two classes": (
        TO_ONE,
        lambda: measured(Ended(softmax, 2), classes % 2, nn.CrossEntropyLoss()),
        (1.0,),
        True,
    ),
    "shares of 0 and 1": (
        TO_ONE,
        lambda: measured(Ended(of_one_class, 3), classes, nn.CrossEntropyLoss()),
        (1.0,),
        True,
    ),
    "softmax before the cross entropy of shares": (
        TO_ONE,
        lambda: measured(Ended(softmax, 3), shares_of_y, nn.CrossEntropyLoss()),
        (1.0,),
        True,
    ),
    "one output, which is always 1": (
        TO_ONE,
        lambda: measured(Ended(lambda z: 0 * z + 1), frames[:, 0], of_differences),
        (0.0,),
        False,
    ),
    "softmax before the cross entropy": (
        TO_ONE,
        lambda: measured(Ended(softmax, 3), classes, nn.CrossEntropyLoss()),
        (1.0,),
        True,
    ),
    "softmax before its logarithm": (
        TO_ONE,
        lambda: measured(Ended(softmax, 3), classes, lambda z, y: F.nll_loss(z.log(), y)),
        (0.0,),
        False,
    ),
    "shares of 0 before their logarithm in the loss": (
        TO_ONE,
        lambda: measured(Ended(of_one_class, 3), classes, lambda z, y: F.nll_loss(z.log(), y)),
        None,
        False,
    ),
    "logits before the cross entropy": (
        TO_ONE,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (0.0,),
        False,
    ),
    "softmax of classes on axis 1": (
        TO_ONE,
        lambda: measured(OnAxis1(lambda z: z.softmax(1)), of_steps, nn.CrossEntropyLoss()),
        (1.0,),
        True,
    ),
    "sum 1 with numbers below 0": (
        TO_ONE,
        lambda: measured(Ended(of_sum_1, 3), classes, nn.CrossEntropyLoss()),
        (0.0,),
        False,
    ),
    "a loss that is never a number": (
        TO_ONE,
        lambda: measured(Ended(softmax, 3), classes, never),
        None,
        False,
    ),
    "shares beside predict": (
        TO_ONE,
        lambda: measured(
            Ended(softmax, 3), classes, nn.CrossEntropyLoss(), predict=lambda z: z.argmax(1)
        ),
        None,
        False,
    ),
    "pairs beside predict": (
        OWN,
        lambda: measured(LastState(), predict=lambda z: 2 * z),
        None,
        False,
    ),
    "a single example is its own pair": (
        OWN,
        lambda: measured(LastState(), batch_size=1),
        None,
        False,
    ),
    "a loss without targets": (
        OWN,
        lambda: measured(LastState(), frames[:, 0], of_nothing),
        None,
        False,
    ),
    "other examples of a single one": (
        OTHERS,
        lambda: measured(LastState(), batch_size=1),
        (0,),
        False,
    ),
    "the mean of all pairs": (OTHERS, lambda: measured(Centred(), batch_size=2), (1,), True),
    "pairs of the same example": (OWN, lambda: measured(LastState()), (1.0,), False),
    "classes of the same example": (
        OWN,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (1.0,),
        False,
    ),
    "a sigmoid": (RANGE, lambda: measured(Ended(torch.sigmoid)), (0.0, 1.0), False),
    "a rectifier": (RANGE, lambda: measured(Ended(torch.relu)), (0.0, math.inf), False),
    "a range below 0": (RANGE, lambda: measured(Ended(nn.Hardtanh(-2, -1))), (-2.0, -1.0), False),
    "a range above 0": (RANGE, lambda: measured(Ended(nn.Hardtanh(1, 2))), (1.0, 2.0), False),
    "a linear output": (RANGE, lambda: measured(LastState()), (-math.inf, math.inf), False),
    "one class": (
        OF_Y,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (0, 2),
        False,
    ),
}


@pytest.mark.parametrize(
    ("fact", "make", "numbers", "starred"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)
def test_a_fact_has_the_numbers_of_the_run(fact, make, numbers, starred):
    found = make()[fact]
    assert (found.numbers, found.starred) == (numbers, starred)


def test_a_run_without_a_time_axis_has_no_steps_that_are_read_or_ahead():
    run = run_of(Entry(), of_x, of_x, lambda z, y: squares(z, y))
    reads = Reads(run, run.data.epoch(2), 1)
    reads.measure()
    assert steps_ahead(run) is None and reads.read is reads.ahead is reads.reached() is None


def test_a_loss_that_pairs_all_examples_has_its_gradient_at_all_of_them_alike():
    """One of seven targets moves the mean of all, from which each output has its gradient."""
    fact = measured(LastState(), frames[:, 0, 0], unpaired, batch_size=7)[OWN]
    assert fact.numbers == (round(1 / 7, 4),) and not fact.starred


def test_one_example_of_a_minibatch_is_replaced_by_another_one_of_it_at_each_place_in_turn():
    """Of 3 examples; the two calls of a minibatch differ in one of them."""
    calls = []

    class Kept(nn.Module):
        def forward(self, x):
            calls.append(x.clone())
            return x[:, 0, :1]

    x = sums()[0]
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    run = run_of(Kept(), x, x[:, 0, 1:], nn.MSELoss(), sgd, batch_size=3)
    batches = run.data.epoch(12)
    calls.clear()
    assert f.others_that_change(run, batches) == (0,)
    found = []
    for k, (one, other) in enumerate(zip(calls[::2], calls[1::2], strict=True)):
        (place,) = (one != other).flatten(1).any(1).nonzero()[:, 0].tolist()
        (by,) = (one == other[place]).flatten(1).all(1).nonzero()[:, 0].tolist()
        assert torch.equal(one, batches[k].x) and place == k % 3
        found.append((by - place) % 3)
    assert found == [1, 2] * 6


def test_the_range_of_outputs_is_that_of_eight_draws_of_weights_of_size_100():
    """An output that is bounded, and one that is linear; the first draws have size 10."""

    class Wave(nn.Module):
        def __init__(self, up):
            super().__init__()
            self.weight, self.up = nn.Parameter(torch.ones(2)), up

        def forward(self, x):
            wave = 2 + torch.sin(self.weight[0]) * x[:, 0, :1].sigmoid()
            return wave + (self.up * self.weight[1].abs() if self.up else 0)

    x = sums()[0]
    for up in (0, 1, -1):
        generator = torch.Generator().manual_seed(0)
        run = run_of(Wave(up), x, x[:, 0, :1], nn.MSELoss())
        batch, ends = next(run.data.minibatches(0)), []
        for size in (10, 100):
            waves = []
            for _ in range(8):
                a, b = (size * torch.randn(2, generator=generator)).tolist()
                waves += (2 + math.sin(a) * batch.x[:, 0, 0].sigmoid() + up * abs(b)).tolist()
            ends.append((min(waves), max(waves)))
        low, high = f.range_of_outputs(run, batch)
        assert low == (-math.inf if up < 0 else pytest.approx(ends[1][0], rel=1e-5))
        assert high == (math.inf if up > 0 else pytest.approx(ends[1][1], rel=1e-5))
        assert run.model.weight.tolist() == [1, 1]


class OfOneWeight(nn.Module):
    """A function of a weight, for each example."""

    def __init__(self, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(1)), function

    def forward(self, x):
        return self.function(self.weight) + 0 * x[:, 0, :1]


OF_SEED_0 = torch.Generator().manual_seed(0)
DRAWN = torch.stack([torch.randn(1, generator=OF_SEED_0) for _ in range(16)]).abs()
LARGEST = 10 * DRAWN[:8].max().item()  # weight of the draws of size 10
BELL = math.exp(-((10 * DRAWN[8:].min().item()) ** 2))  # largest value at size 100


@pytest.mark.parametrize(
    ("function", "ends"),
    [
        pytest.param(lambda w: 1e-4 * w, (-math.inf, math.inf), id="slow growth"),
        pytest.param(lambda w: -torch.exp(-((w / 10) ** 2)), (-BELL, 0), id="to 0 from below"),
        pytest.param(lambda w: torch.exp(-((w / 10) ** 2)), (0, BELL), id="to 0 from above"),
        pytest.param(
            lambda w: w.sign() * (1 + (w.abs() > 50)), (-2, 2), id="just twice as large, no growth"
        ),
        pytest.param(
            lambda w: w.sign() * (1 + 2 * (w.abs() > 1.05 * LARGEST)),
            (-math.inf, math.inf),
            id="three times as large as at size 10",
        ),
    ],
)
def test_ends_that_more_than_double_are_infinite(function, ends):
    """From weights of size 10 to those of size 100."""
    model, x = OfOneWeight(function), sums()[0]
    run = run_of(model, x, x[:, 0, :1], nn.MSELoss())
    low, high = f.range_of_outputs(run, next(run.data.minibatches(0)))
    assert (low, high) == pytest.approx(ends, rel=1e-5)


def test_an_output_that_changes_with_other_examples_counts_beside_one_that_does_not():
    class Half(LastState):
        def forward(self, x):
            z = super().forward(x)
            return torch.cat([z[:, :1], z[:, 1:] - z[:, 1:].mean(0)], 1)

    found = measured(Half(2), frames[:, :2, 0])[OTHERS]
    assert found.numbers == (31,) and found.starred


def test_a_network_that_cannot_be_evaluated_has_only_the_facts_of_its_training():
    found = measured(Trained())
    for name in (OTHERS, READ, REACHED, NEXT, RANGE, TO_ONE, OWN, TIMES):
        assert found[name].numbers is None, name
    assert [math.isnan(number) for number in found[SPREAD].numbers] == [True, True]
    assert found[WEIGHTS].numbers == (0, 0, 0) and found[FINITE].numbers == (0,)


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        pytest.param(range(1, 3), (6, 0, 0), id="steps 1 and 2"),
        pytest.param(range(64, 71), (6, 0, 0), id="from step 64 on"),
        pytest.param(range(65, 71), (0, 6, 0), id="from step 65 on"),
    ],
)
def test_a_gradient_counts_if_it_is_there_in_the_first_64_steps(steps, numbers):
    model, done = LastState(), []

    def loss_fn(z, y):
        return (z - y).square().mean() * (1 if len(done) + 1 in steps else 0)

    sgd = torch.optim.SGD(model.parameters(), 0.0)
    sgd.register_step_post_hook(lambda *_: done.append(1))
    assert measured(model, loss_fn=loss_fn, optimizer=sgd, steps=70)[WEIGHTS].numbers == numbers


def test_a_gradient_of_some_words_is_a_gradient_of_their_embedding():
    few = Embedded(Some(), 9, 2)
    few.embed = nn.Embedding(500, 2)
    sgd = torch.optim.SGD(few.parameters(), 0.0)
    assert measured(few, x=ids, y=frames[:, 0], optimizer=sgd)[WEIGHTS].numbers == (7, 0, 0)


def test_only_the_last_minibatch_of_a_training_is_kept():
    run = run_of(LastState(), *sums(), nn.MSELoss())
    watch, batches = f.Watch(run), run.data.epoch(3)
    for step, batch in enumerate(batches, 1):
        watch.before(step, *batch)
    (kept,) = watch.batches
    assert kept.x is batches[-1].x and len(watch.rates) == 3


def test_the_learning_rate_is_that_of_the_first_and_of_the_last_step():
    model = LastState()
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    found = measured(model, optimizer=sgd, scheduler=schedule, steps=5)
    assert found[LEARNING_RATE].numbers == (0.5, 0.5**5)


def test_a_parameter_without_numbers_is_no_fault():
    model = LastState()
    model.empty = nn.Parameter(torch.zeros(0))
    model.register_forward_hook(lambda module, x, z: z + module.empty.sum())
    assert measured(model)[FINITE].numbers == (0,)


def optimizers(model):
    """An optimiser without the first layer, one with rate 0, and one of another model."""
    adam = torch.optim.Adam
    return {
        "all": adam(model.parameters(), 1e-3),
        "last": adam(model.out.parameters(), 1e-3),
        "zero": adam(model.parameters(), 0.0),
        "other": adam(LastState().parameters(), 1e-3),
    }


@pytest.mark.parametrize(
    ("name", "numbers", "starred"),
    [
        pytest.param("all", (0, 0, 0), False, id="all weights"),
        pytest.param("last", (0, 0, 4), True, id="the last layer"),
        pytest.param("zero", (6, 0, 0), True, id="a rate of 0"),
        pytest.param("other", (0, 0, 6), True, id="another model"),
    ],
)
def test_weights_that_do_not_change_are_counted(name, numbers, starred):
    model = LastState()
    fact = measured(model, optimizer=optimizers(model)[name])[WEIGHTS]
    assert (fact.numbers, fact.sound, fact.starred) == (numbers, (0, 0, 0), starred)


def test_layers_in_a_list_are_not_in_the_optimiser():
    assert measured(Hidden())[WEIGHTS].numbers == (0, 0, 2)
    dead = nn.Sequential(LastState(), nn.Hardtanh(5, 6))
    assert measured(dead)[WEIGHTS].numbers == (0, 6, 0)


def test_a_warm_up_at_rate_0_is_no_fault():
    model = LastState()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: float(step >= 10))
    found = measured(model, optimizer=adam, scheduler=schedule, steps=15)
    assert found[WEIGHTS].numbers == (0, 0, 0) and found[LEARNING_RATE].numbers == (0.0, 0.01)


def test_words_that_do_not_occur_and_frozen_weights_are_no_fault():
    words = Embedded(Some(), 9, 2)
    words.embed = nn.Embedding(500, 2)
    assert not measured(words, x=ids, y=frames[:, 0])[WEIGHTS].starred
    words.embed.requires_grad_(False)
    sgd = torch.optim.SGD([p for p in words.parameters() if p.requires_grad], 0.1)
    assert not measured(words, x=ids, y=frames[:, 0], optimizer=sgd)[WEIGHTS].starred


def test_equal_outputs_have_no_spread():
    model = LastState()
    with torch.no_grad():
        model.out.weight.zero_()
    before, after = measured(model, steps=20)[SPREAD].numbers
    assert before == 0 and after > 0


SIZES = pytest.mark.parametrize(
    ("count", "batches"),
    [
        pytest.param(200, 5, id="160 = 5 x 32 training examples"),
        pytest.param(187, 4, id="150 training examples, 22 in no minibatch"),
    ],
)


@SIZES
def test_the_spread_of_outputs_is_that_of_all_minibatches(count, batches):
    model, x, y = LastState(3), sums(count)[0], torch.arange(count) % 3
    found = measured(model, y, nn.CrossEntropyLoss(), x=x)[SPREAD].numbers[0]
    train = run_of(model, x, y, nn.CrossEntropyLoss()).data.train.x
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    z = model(train[order[: batches * 32]]).detach().numpy()
    assert found == pytest.approx(z.std(0, ddof=1).mean(), rel=1e-4)


@SIZES
def test_the_loss_of_larger_outputs(count, batches):
    model, x, y = LastState(3), sums(count)[0], torch.arange(count) % 3
    train = run_of(model, x, y, nn.NLLLoss()).data.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = order[: batches * 32]
    with torch.no_grad():
        expected = float(-model(train.x[chosen])[range(len(chosen)), train.y[chosen]].mean())
    loss, larger = measured(model, y, nn.NLLLoss(), x=x)[TIMES].numbers
    assert loss == pytest.approx(expected, rel=1e-5)
    assert larger == pytest.approx(100 * expected, rel=1e-4)


def test_the_loss_of_larger_outputs_is_larger():
    loss, larger = measured(LastState(3), classes, nn.CrossEntropyLoss())[TIMES].numbers
    assert larger > loss > 0
    x, y = sums()
    loss, larger = measured(LastState(), y, x=x)[TIMES].numbers
    assert larger > loss > 0


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
def test_two_threads_measure_the_same_facts_as_one(two_threads):
    """Sums in another order are no change: a layer that is large enough to be shared out."""
    torch.manual_seed(1)
    model = nn.Sequential(LastState(16, units=256), nn.BatchNorm1d(16), nn.Linear(16, 1))
    other, (x, _) = copy.deepcopy(model), sums()
    found = measured(model, x=x)
    torch.set_num_threads(1)
    one = measured(other, x=x)
    for name in (OTHERS, WEIGHTS, READ, REACHED, TO_ONE, OWN, FINITE):
        assert found[name].numbers == one[name].numbers and not found[name].starred
    for name in (SPREAD, TIMES):
        assert found[name].numbers == pytest.approx(one[name].numbers, rel=1e-3)


def test_a_loss_that_is_never_finite_has_no_mean():
    loss, larger = measured(LastState(3), classes, never)[TIMES].numbers
    assert math.isnan(loss) and math.isnan(larger)


@pytest.mark.parametrize(
    ("mine", "plain", "numbers"),
    [
        pytest.param([], [1.0], None, id="no losses"),
        pytest.param([5.0, 3.0], [2.0, 4.0, 8.0], (3.0, 4.0), id="the last of few"),
        pytest.param([0.0] * 28 + [1.0, 3.0, 9.0], [1.0] * 30, (4 / 3, 1.0), id="3 of 30"),
        pytest.param([math.inf], [2.0], (pytest.approx(math.nan, nan_ok=True), 2.0), id="infinity"),
        pytest.param([1.0] * 19 + [math.nan], [2.0] * 20, (1.0, 2.0), id="one of two is NaN"),
    ],
)
def test_last_tenths_of_two_loops(mine, plain, numbers):
    assert f.last_tenths(mine, plain) == numbers


@pytest.mark.parametrize(
    ("numbers", "sound", "starred"),
    [
        pytest.param((1,), (0,), True, id="other numbers"),
        pytest.param((0,), (0,), False, id="those of sound runs"),
        pytest.param(None, (0,), False, id="not measured"),
        pytest.param((1,), None, False, id="sound runs differ"),
    ],
)
def test_a_fact_is_starred_if_it_is_not_that_of_sound_runs(numbers, sound, starred):
    assert f.Fact("a", numbers, sound).starred is starred


def test_the_own_loop_is_compared_at_its_last_tenth():
    assert measured(LastState(), steps=5)[LOOP].numbers is None
    torch.manual_seed(1)
    run = run_of(LastState(), *sums(), nn.MSELoss())
    with restored(run.model, run.optimizer) as saved:
        losses = train_run(run, 20, 0)
        saved.restore()
        found, *_ = f.facts(run, saved, 30, [7.0] * 19 + [8.0])
    numbers = {fact.name: fact.numbers for fact in found}
    assert numbers[LOOP] == (7.5, sum(losses[18:]) / 2)


class Divided(LastState):
    """Each series is divided by its own level."""

    def forward(self, x):
        level = x.abs().amax(1, keepdim=True)
        ratio = x / level
        return super().forward(ratio)


class Rooted(LastState):
    def forward(self, x):
        z = super().forward(x)
        return torch.sqrt((z - z.detach()) ** 2) + z


def test_a_division_by_zero_names_step_examples_and_line():
    x = sums()[0]
    x[17] = 0.0
    found = measured(Divided(), x=x)
    count, step, *examples = found[FINITE].numbers
    assert count == 1 and step >= 1 and examples == [17] and found[FINITE].starred
    assert found["line"].endswith("x / level") and "test_facts_of_runs.py" in found["line"]


def test_a_gradient_that_is_nan_names_the_line_of_its_operation():
    found = measured(Rooted())
    assert found[FINITE].numbers[:2] == (1, 1) and "torch.sqrt" in found["line"]


def test_a_rate_that_is_too_high_ends_with_a_step():
    model = LastState()
    found = measured(model, optimizer=torch.optim.SGD(model.parameters(), 1e25), steps=30)
    count, step, *_ = found[FINITE].numbers
    assert count == 1 < step < 30 and found[WEIGHTS].numbers is None


@pytest.mark.parametrize("make", [LastState, Masked])
def test_finite_runs_have_no_step(make):
    fact = measured(make(), steps=10)[FINITE]
    assert (fact.numbers, fact.starred) == ((0,), False)


class OnceBad:
    """A loss that is NaN, or infinite, in some minibatches, without a slope there."""

    def __init__(self, at, value=math.nan):
        self.at, self.value, self.calls = at, value, 0

    def __call__(self, z, y):
        self.calls += 1
        bad = self.calls in self.at and z.requires_grad
        return (z - y).square().mean() * (0 if bad else 1) + (self.value if bad else 0)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["NaN", "infinity"])
def test_losses_that_are_not_finite_are_counted_and_the_run_goes_on(value):
    """Before training, the loss is called once for its graph; the others have no gradient."""
    model, x, y = LastState(), *sums()
    run = run_of(model, x, y, OnceBad({4, 7, 20}, value))
    run.loss_fn.calls = 0
    with restored(run.model, run.optimizer, run.loss_fn) as saved:
        found, _, losses = f.facts(run, saved, 20, [1.0] * 20)
        facts = {fact.name: fact for fact in found}
        assert facts[FINITE].numbers[:2] == (3, 4) and facts[FINITE].starred
        assert len(losses) == 20
        assert [k for k, loss in enumerate(losses, 1) if not math.isfinite(loss)] == [4, 7, 20]
        assert facts[WEIGHTS].numbers == (0, 0, 0)
        assert facts[LOOP].numbers == (1.0, losses[18])  # of the last two steps, the finite one


def test_looking_for_the_first_bad_number_changes_nothing_of_the_training():
    """Batch normalisation, dropout and the random state go on as in a run that nobody looks at."""

    def losses(**how):
        torch.manual_seed(1)
        model = nn.Sequential(LastState(4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        run = run_of(model, *sums(), OnceBad({4}))
        with restored(run.model, run.loss_fn):
            run.loss_fn.calls = 0
            watch = f.Watch(run) if how else None
            run.loss_fn.calls = 0
            more = {"before": watch.before, "after": watch.after} if how else {}
            torch.manual_seed(2)
            run.model.load_state_dict({k: v.clone() for k, v in state.items()})
            return train_run(run, 8, 0, **more)

    torch.manual_seed(1)
    model = nn.Sequential(LastState(4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    state = model.state_dict()
    assert str(losses()) == str(losses(watched=True))


def steps_read(batch, model, y=None):
    found = measured(model, x=sums()[0], y=y, batch_size=batch)
    return [found[name].numbers for name in (READ, REACHED, NEXT)]


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_steps_are_read_in_minibatches_of_any_size(batch):
    assert steps_read(batch, Some(first=2)) == [(4,), (4,), None]
    both = EachState(units=4, bidirectional=True)
    assert steps_read(batch, both, frames) == [(6,), (6,), (5,)]


class Bag(nn.Module):
    """The mean of sparse embeddings."""

    def __init__(self, sparse=True):
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 1)

    def forward(self, ids):
        return self.out(self.embed(ids).mean(1))


class Outside(Bag):
    """Multiplies by infinity if word 8 occurs."""

    def forward(self, ids):
        found = (ids == 8).any(1, keepdim=True)
        return super().forward(ids) * torch.where(found, torch.inf, 1.0)


def test_sparse_gradients_are_measured_as_others():
    y = ids.float().mean(1, keepdim=True)
    found = {}
    for sparse in (True, False):
        torch.manual_seed(1)
        found[sparse] = measured(Bag(sparse), x=ids, y=y, steps=20)
    for name in (OTHERS, WEIGHTS, READ, REACHED, SPREAD, TIMES, FINITE):
        one, other = (found[sparse][name].numbers for sparse in (True, False))
        assert one == pytest.approx(other, rel=1e-5)
    assert found[True][WEIGHTS].numbers == (0, 0, 0)
    few = ids.clamp(max=7)
    few[17] = 8
    count, _, *examples = measured(Outside(), x=few, y=y, steps=20)[FINITE].numbers
    assert count == 1 and examples == [17]


ignored = torch.randint(3, (N, T))
ignored[:, 4:], ignored[::5] = -100, -100


def cross(z, y):
    return F.cross_entropy(z.transpose(1, 2), y)


def test_ignored_targets_count_in_no_fact():
    """A fifth of the examples has no others, so that some minibatches of 2 have a loss of 0 / 0."""
    tagger, x = EachState(3), sums()[0]
    found = measured(tagger, ignored, cross, x=x, batch_size=2, steps=40)
    assert found[OF_Y].numbers == (0, 2) and found[OWN].numbers == (1.0,)
    count, first, *_ = found[FINITE].numbers
    assert 0 < count < 10 and 1 <= first <= 40 and found[WEIGHTS].numbers == (0, 0, 0)
    run = run_of(tagger, x, ignored, cross, batch_size=2)
    with torch.no_grad():
        losses = torch.stack([cross(run.output(x), y) for x, y, _ in run.data.epoch(64)])
    loss, larger = found[TIMES].numbers
    assert loss == pytest.approx(float(losses.nanmean()), rel=1e-5) and larger > loss
    assert losses.isnan().any()


def test_probabilities_whose_loss_is_sometimes_nan_have_no_star():
    """The loss reads their logarithm, so that it changes with a constant."""
    model = Ended(softmax, 3)
    model.inner = EachState(3)
    loss_fn = lambda z, y: F.nll_loss(z.log().transpose(1, 2), y)  # noqa: E731
    assert measured(model, ignored, loss_fn, batch_size=2)[TO_ONE].numbers == (0.0,)


def test_facts_are_always_the_same():
    run = run_of(LastState(), *sums(), nn.MSELoss())
    with restored(run.model) as saved:
        found, line, _ = f.facts(run, saved, 3, ())
    assert tuple(fact.name for fact in found) == f.FACTS[:-1] and line == ""
    assert f.FACTS[-1] == f.FIRST_LOSS  # of rows, which are not trained here

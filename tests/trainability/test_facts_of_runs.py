"""Facts: for each a training run in which it holds, and two sound neighbours."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tables import for_each
from torch import nn
from training_runs import N, T, run_of, sums
from zoo import EachState, Embedded, LastState, Masked

from trainability import facts as f
from trainability.facts import (
    FINITE,
    LOOP,
    NEXT,
    OF_Y,
    OTHERS,
    OWN,
    RANGE,
    RATE,
    REACHED,
    READ,
    SPREAD,
    TIMES,
    TO_ONE,
    WEIGHTS,
)
from trainability.snapshot import restored
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


ids = torch.randint(9, (N, T))
frames = sums()[0][:, :, :1]
classes = torch.arange(N) % 3


def words(**how):
    return measured(Embedded(Some(**how), 9, 2), x=ids, y=frames[:, 0])


def softmax(z):
    return z.softmax(-1)


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
    "a step of random outputs": (READ, lambda: measured(Random()), (1,), False),
    "every second step": (
        READ,
        lambda: measured(Some(every=2), x=sums(steps=40)[0]),
        (20,),
        False,
    ),
    "all steps": (READ, lambda: measured(LastState()), (6,), False),
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
    "one direction": (NEXT, lambda: measured(EachState(), y=frames), (0,), False),
    "one output": (NEXT, lambda: measured(LastState()), None, False),
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
    "logits before the cross entropy": (
        TO_ONE,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (0.0,),
        False,
    ),
    "pairs of all": (OWN, lambda: measured(LastState(), frames[:, 0, 0], unpaired), None, False),
    "pairs of the same example": (OWN, lambda: measured(LastState()), (1.0,), False),
    "classes of the same example": (
        OWN,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (1.0,),
        False,
    ),
    "a sigmoid": (RANGE, lambda: measured(Ended(torch.sigmoid)), (0.0, 1.0), False),
    "a rectifier": (RANGE, lambda: measured(Ended(torch.relu)), (0.0, math.inf), False),
    "a linear output": (RANGE, lambda: measured(LastState()), (-math.inf, math.inf), False),
    "one class": (
        OF_Y,
        lambda: measured(LastState(3), classes, nn.CrossEntropyLoss()),
        (0, 2),
        False,
    ),
}


@for_each("name", list(CASES))
def test_a_fact_has_the_numbers_of_the_run(name):
    fact, make, numbers, starred = CASES[name]
    found = make()[fact]
    if name == "pairs of all":
        assert 0 < found.numbers[0] < 0.5 and not found.starred
        return
    assert (found.numbers, found.starred) == (numbers, starred)


def optimizers(model):
    """An optimiser without the first layer, one with rate 0, and one of another model."""
    adam = torch.optim.Adam
    return {
        "all": adam(model.parameters(), 1e-3),
        "last": adam(model.out.parameters(), 1e-3),
        "zero": adam(model.parameters(), 0.0),
        "other": adam(LastState().parameters(), 1e-3),
    }


@for_each(
    ("name", "numbers"),
    [("all", (0, 0, 0)), ("last", (0, 0, 4)), ("zero", (6, 0, 0)), ("other", (0, 0, 6))],
)
def test_weights_that_do_not_change_are_counted(name, numbers):
    model = LastState()
    fact = measured(model, optimizer=optimizers(model)[name])[WEIGHTS]
    assert (fact.numbers, fact.sound, fact.starred) == (numbers, (0, 0, 0), any(numbers))


def test_layers_in_a_list_are_not_in_the_optimiser():
    assert measured(Hidden())[WEIGHTS].numbers == (0, 0, 2)
    dead = nn.Sequential(LastState(), nn.Hardtanh(5, 6))
    assert measured(dead)[WEIGHTS].numbers == (0, 6, 0)


def test_a_warm_up_at_rate_0_is_no_fault():
    model = LastState()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: float(step >= 10))
    found = measured(model, optimizer=adam, scheduler=schedule, steps=15)
    assert found[WEIGHTS].numbers == (0, 0, 0) and found[RATE].numbers == (0.0, 0.01)


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
    model, (x, _) = LastState(3), sums()
    found = measured(model, classes, nn.CrossEntropyLoss(), x=x)[SPREAD].numbers[0]
    z = model(run_of(model, x, classes, nn.CrossEntropyLoss()).data.train.x).detach().numpy()
    assert found == pytest.approx(z.std(0, ddof=1).mean(), rel=1e-4)


def test_the_loss_of_larger_outputs():
    x, y = sums()
    loss, larger = measured(LastState(3), classes, nn.NLLLoss())[TIMES].numbers
    assert larger == pytest.approx(100 * loss, rel=1e-4)
    loss, larger = measured(LastState(3), classes, nn.CrossEntropyLoss())[TIMES].numbers
    assert larger > loss > 0
    loss, larger = measured(LastState(), y, x=x)[TIMES].numbers
    assert larger > loss > 0


def test_the_own_loop_is_compared_at_its_last_tenth():
    assert measured(LastState(), steps=5)[LOOP].numbers is None
    torch.manual_seed(1)
    run = run_of(LastState(), *sums(), nn.MSELoss())
    with restored(run.model, run.optimizer) as saved:
        losses = train_run(run, 20, 0)
        saved.restore()
        found, *_ = f.facts(run, saved, 30, [7.0] * 19 + [8.0])
    assert found[f.FACTS.index(LOOP)].numbers == (7.5, sum(losses[18:]) / 2)


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
    step, *examples = found[FINITE].numbers
    assert step >= 1 and examples == [17] and found[FINITE].starred
    assert found["line"].endswith("x / level") and "test_facts_of_runs.py" in found["line"]


def test_a_gradient_that_is_nan_names_the_line_of_its_operation():
    found = measured(Rooted())
    assert found[FINITE].numbers[0] == 1 and "torch.sqrt" in found["line"]


def test_a_rate_that_is_too_high_ends_with_a_step():
    model = LastState()
    found = measured(model, optimizer=torch.optim.SGD(model.parameters(), 1e25), steps=30)
    assert 1 < found[FINITE].numbers[0] < 30


@for_each("make", [LastState, Masked])
def test_finite_runs_have_no_step(make):
    fact = measured(make(), steps=10)[FINITE]
    assert (fact.numbers, fact.starred) == ((0,), False)


def test_facts_are_always_the_same_fourteen():
    run = run_of(LastState(), *sums(), nn.MSELoss())
    with restored(run.model) as saved:
        found, line, _ = f.facts(run, saved, 3, ())
    assert tuple(fact.name for fact in found) == f.FACTS and len(f.FACTS) == 14 and line == ""

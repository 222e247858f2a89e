"""The trainings by set, their plain loop and errors, and the table of their right parts."""

import csv
import itertools
import math
import random
from collections import Counter
from statistics import fmean

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.judge import CLOSES, TABLE
from evaluation.tasks import MSE, misread, transcribe
from evaluation.threads import SETS, THREADS, load_set
from evaluation.threads.development import DEVELOPMENT
from evaluation.threads.trainings import Training, case, error, fit, loaded, minibatches, wrong

PARTS = {
    *("data", "inputs", "targets", "loss", "initial weights"),
    *("optimizer", "regularization", "order", "network", "length"),
}


def rows_of(path):
    return [*csv.DictReader(path.open())]


def test_the_sets_and_their_sizes():
    counts = [30, 19, 20, 59, 20, 16, 24, 15, 8]
    assert [len(load_set(name)) for name in SETS] == counts


def test_every_thread_has_its_address_and_part():
    rows = rows_of(THREADS)
    for name in (name for name in SETS if not name.endswith("healthy")):
        own = {row["number"] for row in rows if row["set"] == name}
        assert own == {number for number, _ in load_set(name)}
    for row in rows:
        assert row["address"].startswith("http")
        assert {part.strip() for part in row["part"].split("|")} <= PARTS


def test_data_and_weights_depend_on_the_seed_only():
    draws = [DEVELOPMENT[1](False, seed) for seed in (5, 5, 6)]
    assert torch.equal(draws[0].x, draws[1].x) and not torch.equal(draws[0].x, draws[2].x)
    weights = [nn.utils.parameters_to_vector(t.model.parameters()) for t in draws]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_shares_of_the_table_are_those_of_its_errors():
    """Of the gap between the mean errors as written and repaired, from the seeds of the row."""
    rows = [row for row in rows_of(TABLE) if row["errors"]]
    ends = {
        (row["set"], row["number"], row["part"]): [float(e) for e in row["errors"].split()]
        for row in rows
        if row["part"] in ("as written", "repaired")
    }
    judged = 0
    for row in rows:
        errors = [float(e) for e in row["errors"].split()]
        written, repaired = (
            ends.get((row["set"], row["number"], part), ()) for part in ("as written", "repaired")
        )
        if not row["share"] or len(written) < len(errors):
            continue
        written, repaired = (fmean(end[: len(errors)]) for end in (written, repaired))
        share = (written - fmean(errors)) / (written - repaired)
        assert written - repaired >= 0.0985  # 0.1, of errors with three digits
        assert float(row["share"]) == pytest.approx(share, abs=0.03), row
        assert row["closes"] in ("", "yes" if float(row["share"]) >= 0.795 else "no")
        judged += 1
    assert judged > 400 and CLOSES < 0.8


@pytest.fixture
def linear():
    """A linear model on 96 examples and 32 fresh ones, of a linear law."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(128, 3, generator=g)
    y = x @ torch.randn(3, 1, generator=g)
    torch.manual_seed(1)
    return nn.Linear(3, 1), (x, y)


def test_the_plain_loop_is_gradient_descent_of_numpy(linear):
    """Clipping and a schedule included; minibatches from torch's shuffle of the same seed."""
    model, (x, y) = linear
    sgd = torch.optim.SGD(model.parameters(), 0.3)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, 2, 0.5)
    how = {"options": {"scheduler": schedule}, "clip": 0.5, "fresh": 32, "steps": 7}
    training = case(model, (x, y), MSE, kind=sgd, **how)
    W, b = (p.detach().double().numpy().copy() for p in model.parameters())
    losses = fit(training, seed=4)
    torch.manual_seed(4)
    epochs = (torch.randperm(96).split(32) for _ in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), 7)
    for step, (rows, loss) in enumerate(zip(batches, losses, strict=True)):
        a, t = (v[rows].double().numpy() for v in (x, y))
        residual = a @ W.T + b - t
        assert loss == pytest.approx((residual**2).mean(), rel=1e-4)
        dW, db = 2 * residual.T @ a / len(a), 2 * residual.mean(0)
        norm = math.sqrt((dW**2).sum() + (db**2).sum())
        rate = 0.3 * 0.5 ** (step // 2) * min(1, 0.5 / norm)
        W, b = W - rate * dW, b - rate * db
    np.testing.assert_allclose(model.weight.detach(), W, rtol=1e-4)


def test_the_loop_of_a_loader_and_the_owners_loop(linear):
    model, (x, y) = linear
    pairs = [*zip(x, y, strict=True)]
    training = loaded(model, pairs, (x, y), MSE, 0.1, {"batch_size": 64}, steps=5)
    assert len(fit(training)) == 5 and training.x.drop_last
    training.fit = lambda own: [own.steps]
    assert fit(training) == [5]


def test_a_loss_that_is_not_finite_ends_the_loop(linear):
    model, data = linear
    assert len(fit(case(model, data, MSE, 1e20, "SGD", fresh=32, steps=50))) < 50


@pytest.mark.parametrize("axis", [0, 1], ids=["examples first", "time first"])
def test_an_epoch_has_every_example_once_but_a_smaller_minibatch(axis):
    x = torch.arange(2 * 37).view(2, 37).T if axis == 0 else torch.arange(2 * 37).view(2, 37)
    found = [*minibatches(x, x, 5, axis)]
    assert [b.shape[axis] for b, _ in found] == [5] * 7
    firsts = torch.cat([b.select(1 - axis, 0) for b, _ in found]).tolist()
    assert len(set(firsts)) == 35 and all(torch.equal(a, b) for a, b in found)


@pytest.mark.parametrize(
    ("y", "output", "wanted"),
    [
        pytest.param([[0.0], [2.0], [4.0]], [[0.0], [2.0], [2.0]], 0.5, id="numbers: 4 of 8"),
        pytest.param(
            [0, 0, 1, 2],
            [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]],
            0.5,
            id="classes: 1 of 2 wrong",
        ),
        pytest.param([[0.0], [1.0]], [[math.nan], [1.0]], math.inf, id="NaN"),
    ],
)
def test_errors_are_relative_to_those_of_the_best_constant(y, output, wanted):
    y, output = torch.tensor(y), torch.tensor(output)
    training = Training(nn.Identity(), output, y, MSE, None, (output, y))
    assert error(training) == pytest.approx(wanted)


def test_labels_on_the_wrong_side_are_relative_to_the_rarer_side():
    y, output = torch.tensor([[0.0], [0.0], [0.0], [1.0]]), torch.tensor([[-1.0], [1.0], [-1], [1]])
    assert float(wrong(nn.Identity(), output, y)) == pytest.approx(1.0)  # one of one


def test_frames_are_read_without_repetitions_and_blanks():
    frames = torch.tensor([[1, 1, 0, 1, 2, 2, 0], [0, 0, 3, 3, 3, 0, 1]])
    output = nn.functional.one_hot(frames, 4).float()
    assert transcribe(output) == [[1, 1, 2], [3, 1]]
    assert transcribe(output, blank=3) == [[1, 0, 1, 2, 0], [0, 0, 1]]
    assert misread(nn.Identity(), output, torch.tensor([[1, 1], [3, 1]])) == 0.5
    assert misread(nn.Identity(), output[1:], torch.tensor([[3, 1]])) == 0


def test_no_two_threads_are_one():
    assert max(Counter(row["address"] for row in rows_of(THREADS)).values()) <= 2


def ends_of_the_table():
    """The mean errors (as written, repaired) of each thread, by its set and number."""
    found = {}
    for row in rows_of(TABLE):
        if row["part"] in ("as written", "repaired"):
            ends = found.setdefault((row["set"], row["number"]), {})
            ends[row["part"]] = fmean(float(e) for e in row["errors"].split())
    return {key: (ends["as written"], ends["repaired"]) for key, ends in found.items()}


ENDS = ends_of_the_table()
DRAWN = random.Random(0).sample(sorted(ENDS), 10)


@pytest.mark.slow
@pytest.mark.parametrize("key", [pytest.param(key, id=" ".join(key)) for key in DRAWN])
def test_a_fault_still_fails_and_its_repair_repairs(key):
    """Ten drawn threads: the repair lowers the error by at least half of the gap of the table."""
    make = dict(load_set(key[0]))[key[1]]
    errors = []
    for repaired in (False, True):
        training = make(repaired)
        fit(training)
        errors.append(error(training))
    written, repaired = ENDS[key]
    assert errors[0] - errors[1] >= 0.5 * (written - repaired)

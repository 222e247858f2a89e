"""A training run is given back bit for bit, and its steps are those of a plain loop."""

import copy
import random
from collections import deque
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import plain_losses
from tables import for_each
from torch import nn
from training_runs import parts, run_of, sums
from zoo import LastState

from trainability.snapshot import Snapshot, restored
from trainability.training import train_run


class Normalised(nn.Module):
    """Batch normalisation, dropout, a kept state, a list, a counter, and an unused gradient."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.drop = LastState(4), nn.BatchNorm1d(4), nn.Dropout(0.3)
        self.out = nn.Linear(4, 1)
        self.calls, self.kept, self.seen = 0, None, [torch.zeros(2)]
        self.generator = torch.Generator().manual_seed(7)
        self.numpy = np.random.default_rng(0)
        self.queue, self.table, self.array = deque([1]), {"a": {1}}, np.zeros(3)
        self.register_buffer("average", torch.zeros(4), persistent=False)

    def forward(self, x):
        self.calls += 1
        z = self.norm(self.inner(x))
        self.kept = z.detach()
        self.seen[0].add_(1)
        self.seen.append(torch.rand(1, generator=self.generator))
        self.average.lerp_(self.kept.mean(0), 0.1)
        self.queue.append(self.numpy.random() + random.random() + np.random.rand())  # noqa: NPY002
        self.table["a"].add(self.calls)
        self.array += 1
        return self.out(self.drop(z))


class Weighted(nn.Module):
    """A loss with a parameter, which reads the model."""

    def __init__(self, model):
        super().__init__()
        self.weight, self.model = nn.Parameter(torch.zeros(())), [model]

    def forward(self, z, y):
        penalty = self.model[0].out.weight.square().sum()
        return (z - y).square().mean() * self.weight.exp() - self.weight + 1e-3 * penalty


def flat(value, depth=0):
    """All numbers that a value holds, as one comparable text."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes(), None if value.grad is None else flat(value.grad)
    if isinstance(value, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
        hidden = ("model", "optimizer", "generator", "numpy")
        return [flat(v, depth + 1) for k, v in sorted(vars(value).items()) if k not in hidden]
    if isinstance(value, dict):
        return [flat(v, depth + 1) for v in value.values()]
    if isinstance(value, list | tuple | set | deque):
        return [flat(v, depth + 1) for v in value]
    return value.tobytes() if isinstance(value, np.ndarray) else str(value)


def randomness(model):
    """All random states."""
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
        model.generator.get_state().tolist(),
        str(model.numpy.bit_generator.state),
    )


def whole_run():
    """A run that has been trained for some steps already, with a schedule."""
    model = Normalised()
    loss_fn = Weighted(model)
    weights = [*model.parameters(), loss_fn.weight]
    optimizer = torch.optim.Adam(weights, 1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    run = run_of(model, *sums(), loss_fn, optimizer, scheduler=scheduler)
    train_run(run, 3, seed=1)
    return run


ERRORS = [None, RuntimeError, KeyboardInterrupt]


@for_each("error", ERRORS)
def test_everything_is_given_back_bit_for_bit(error):
    run = whole_run()
    objects = (run.model, run.loss_fn, run.optimizer, run.scheduler)
    before, states = flat(objects), randomness(run.model)
    weights = [p.data_ptr() for p in run.model.parameters()]

    def stop(step, loss):
        if error is not None and step == 5:
            raise error
        return False

    with nullcontext() if error is None else pytest.raises(error), restored(*objects):
        run.model.drop.p = 0.0
        run.model.new = nn.Linear(2, 2)
        run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
        train_run(run, 8, seed=2, after=stop)
        run.model.eval().requires_grad_(False)
        assert flat(objects) != before and randomness(run.model) != states
    assert flat(objects) == before and randomness(run.model) == states
    assert weights == [p.data_ptr() for p in run.model.parameters()]


@for_each("times", [1, 3])
def test_everything_is_given_back_also_if_ctrl_c_is_pressed_meanwhile(times, monkeypatch):
    model, original, pressed = nn.Linear(2, 2), torch.set_rng_state, []
    before = flat([model])

    def interrupted(state):
        if len(pressed) < times:
            pressed.append(True)
            raise KeyboardInterrupt
        original(state)

    monkeypatch.setattr(torch, "set_rng_state", interrupted)
    state = torch.get_rng_state()

    def stopped():
        with restored(model):
            nn.init.uniform_(model.weight)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(pressed) == times and flat([model]) == before
    assert torch.equal(state, torch.get_rng_state())


def test_an_axis_of_one_entry_without_a_stride_is_saved():
    tensor = torch.arange(3.0).as_strided((1, 3), (0, 1))
    saved = Snapshot([tensor])
    tensor += 1
    saved.restore()
    assert tensor.tolist() == [[0, 1, 2]]


def test_a_snapshot_is_restored_as_often_as_needed():
    run = whole_run()
    with restored(run.model, run.loss_fn, run.optimizer, run.scheduler) as saved:
        losses = [train_run(run, 4, seed=0)]
        saved.restore()
        losses.append(train_run(run, 4, seed=0))
    assert losses[0] == losses[1]


def test_variables_of_a_closure_and_modules_in_globals_are_given_back():
    count, weight = 0, nn.Parameter(torch.ones(2))

    def loss_fn(z, y):
        nonlocal count
        count += 1
        return (z * weight).sum() + GLOBAL.weight.sum()

    with restored(loss_fn), torch.no_grad():
        loss_fn(torch.ones(2), None)
        weight.zero_()
        GLOBAL.weight.zero_()
    assert count == 0 and weight.sum() == 2 and GLOBAL.weight.sum() != 0
    assert {id(t) for t in Snapshot(loss_fn).tensors} >= {id(weight), id(GLOBAL.weight)}


GLOBAL = nn.Linear(2, 2)


def test_the_generator_of_a_loader_is_given_back():
    generator = torch.Generator().manual_seed(4)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*sums()), 16, shuffle=True, generator=generator
    )
    state = generator.get_state()
    with restored(loader):
        run_of(LastState(), loader, None, nn.MSELoss())
        assert not torch.equal(generator.get_state(), state)
    assert torch.equal(generator.get_state(), state)


@for_each("kind", ["SGD", "Adam", "RMSprop"])
def test_training_is_a_plain_loop_to_the_bit(kind):
    model = nn.Sequential(LastState(4), nn.Dropout(0.2), nn.Linear(4, 1))
    model, x, y, loss_fn, optimizer = parts(model, kind=kind)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7)
    run = run_of(model, x, y, loss_fn, optimizer, scheduler=scheduler)
    mine = copy.deepcopy((model, optimizer, scheduler))

    losses = train_run(run, 12, seed=0)

    other, adam, schedule = mine
    torch.manual_seed(0)
    plain = plain_losses(other, run.data.train.x, run.data.train.y, loss_fn, adam, 12, schedule)
    assert losses == plain[:12]


def test_a_factor_changes_every_rate_and_no_schedule():
    model, x, y, loss_fn, _ = parts(LastState())
    pair = copy.deepcopy(model), model
    rates = [0.01, 0.1]
    losses = []
    for one, rate, factor in zip(pair, rates, (10.0, 1.0), strict=True):
        sgd = torch.optim.SGD(one.parameters(), rate)
        schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
        run = run_of(one, x, y, loss_fn, sgd, scheduler=schedule)
        losses.append(train_run(replace(run, factor=factor), 5, 0))
        assert sgd.param_groups[0]["lr"] == pytest.approx(rate * 0.5**5)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_training_ends_with_the_first_loss_that_is_not_finite():
    model, x, y, loss_fn, _ = parts(LastState())
    sgd = torch.optim.SGD(model.parameters(), 1e30)
    losses = train_run(run_of(model, x, y, loss_fn, sgd), 50, 0)
    assert 1 < len(losses) < 50 and not np.isfinite(losses[-1])

"""Each change trains as a plain loop in which one part is replaced, with errors by NumPy."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loops import SignSteps
from torch import nn
from training_runs import N, T, run_of, sums
from user_modules import EachState, LastState

from trainability.changes import (
    CHANGES,
    ROW_LABELS,
    Known,
    parameters_of_loss,
    scale_of,
)
from trainability.gru import InputLayer, Reader
from trainability.initial_weights import reset_
from trainability.snapshot import restored, seed_all
from trainability.training import held_of, train_run

STEPS = 6
(EVERYTHING, GRU, ADAM, USUAL, INPUTS, TARGETS, RANGE, SHUFFLED, DROPOUT, PLAIN, TENTH, TEN,
 WEIGHTS, AXIS) = CHANGES  # fmt: skip
UNKNOWN = Known()


class Scaled(nn.Module):
    """A linear network of numbers (N, T, 2), with dropout."""

    def __init__(self, end=None):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * T, 1))
        self.end = end or nn.Identity()

    def forward(self, x):
        return self.end(self.inner(x))


def made(model=None, loss_fn=None, schedule=False, kind="SGD", rate=1e-3, data=None, **how):
    torch.manual_seed(3)
    model = model or Scaled()
    optimizer = getattr(torch.optim, kind)(model.parameters(), rate, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) if schedule else None
    x, y = data or sums()
    x = 100 + 20 * x if data is None else x
    return run_of(
        model, x, 5 + 3 * y, loss_fn or nn.L1Loss(), optimizer, scheduler=scheduler, **how
    )


def of_change(run, label, known=UNKNOWN):
    """The error of a row on the first half, and the objects after training are given back."""
    with restored(run.model, run.loss_fn, run.optimizer, run.scheduler):
        held = held_of(run, run.data.halves[0])
        seed_all(0)
        changed = CHANGES[label].apply(run, known)
        train_run(changed, STEPS, 0)
        return float(held.errors(changed).mean())


def plainly(run, *, model=None, optimizer=None, loss_fn=None, scheduler=None, clip=None,
            inputs=lambda x: x, targets=lambda y: y, back=lambda z: z, shuffle=True):  # fmt: skip
    """The same error by a plain loop."""
    train_x, train_y = inputs(run.data.train.x), targets(run.data.train.y)
    model = model or copy.deepcopy(run.model)
    if optimizer is None:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, weight_decay=0.1)
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer(model.parameters())
    loss_fn = loss_fn or run.loss_fn
    torch.manual_seed(0)
    generator, done = torch.Generator().manual_seed(0), 0
    model.train()
    while done < STEPS:
        count = len(train_x)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        whole = [rows for rows in order.split(32) if len(rows) == 32]
        for rows in whole[: STEPS - done]:
            optimizer.zero_grad()
            loss_fn(model(train_x[rows]), train_y[rows]).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            done += 1
    half, mean = run.data.halves[0], run.data.train.y.mean().numpy()
    with torch.no_grad():
        z = back(model.eval()(inputs(half.x))).numpy()
    y = half.y.numpy()
    return ((z - y) ** 2).sum() / ((y - mean) ** 2).sum()


def standard(run):
    x = run.data.train.x
    mean, spread = x.mean((0, 1)), x.flatten(0, 1).std(0, correction=0)
    return lambda x: (x - mean) / spread


def without_dropout(run):
    model = copy.deepcopy(run.model)
    model.inner[1].p = 0.0
    return model


def decayed(rate, decay=0.1):
    return lambda weights: torch.optim.SGD(weights, rate, weight_decay=decay)


ORACLES = [
    pytest.param(
        ADAM,
        made,
        lambda run: {"optimizer": lambda w: torch.optim.Adam(w, 0.003), "clip": 1.0},
        id="Adam",
    ),
    pytest.param(USUAL, made, lambda run: {"loss_fn": nn.MSELoss()}, id="usual loss"),
    pytest.param(INPUTS, made, lambda run: {"inputs": standard(run)}, id="inputs"),
    pytest.param(
        TARGETS,
        made,
        lambda run: {
            "targets": lambda y: (y - y.mean()) / y.std(correction=0),
            "back": lambda z: z * run.data.train.y.std(correction=0) + run.data.train.y.mean(),
        },
        id="targets",
    ),
    pytest.param(SHUFFLED, lambda: made(shuffle=False), lambda run: {}, id="shuffled"),
    pytest.param(
        DROPOUT,
        made,
        lambda run: {
            "model": (model := without_dropout(run)),
            "optimizer": decayed(1e-3, 0.0)(model.parameters()),
        },
        id="no dropout, no decay",
    ),
    pytest.param(PLAIN, lambda: made(schedule=True), lambda run: {}, id="plain optimiser"),
    pytest.param(TENTH, made, lambda run: {"optimizer": decayed(1e-4)}, id="a tenth of the rate"),
    pytest.param(TEN, made, lambda run: {"optimizer": decayed(1e-2)}, id="ten times the rate"),
    pytest.param(
        TEN,
        lambda: made(data=sums(187)),
        lambda run: {"optimizer": decayed(1e-2)},
        id="examples that fill no minibatch",
    ),
]


@pytest.mark.parametrize(("label", "make", "oracle"), ORACLES)
def test_a_row_is_a_plain_loop_with_one_part_replaced(label, make, oracle):
    run = make()
    np.testing.assert_allclose(of_change(run, label), plainly(run, **oracle(run)), rtol=1e-3)


def of_counted(z, y):
    """The absolute error over targets other than -99."""
    return ((z - y).abs() * (y != -99)).sum() / (y != -99).sum()


def test_ignored_targets_stay_as_they_are_in_standardised_targets():
    """Every third example is ignored, by its value -99 after y is scaled, too."""
    x, y = sums()
    y = 5 + 3 * y
    y[::3] = -99
    run = made(loss_fn=of_counted, data=(x, (y - 5) / 3))  # `made` scales them
    kept = run.data.train.y[run.data.train.y != -99]
    mean, spread = kept.mean(), kept.std(correction=0)
    changed = CHANGES[TARGETS].apply(run, UNKNOWN)
    torch.testing.assert_close(changed.shift, mean[None])
    torch.testing.assert_close(changed.scale, spread[None])
    scaled = changed._scaled(run.data.train.y)
    assert torch.equal(scaled == -99, run.data.train.y == -99)
    moved = CHANGES[RANGE].apply(run, Known(False, 0.0, 1.0))
    ends = moved._scaled(kept).aminmax()
    assert (float(ends.min), float(ends.max)) == pytest.approx((0.0, 1.0))


IN_RANGE = [
    pytest.param((0.0, 4.0), None, id="equal to the range"),
    pytest.param((-1.0, 4.0), None, id="inside, up to the upper end"),
    pytest.param((0.0, 9.0), None, id="inside, from the lower end"),
    pytest.param((1.0, 1.0), None, id="one output"),
    pytest.param((-np.inf, 4.0), None, id="below an upper end"),
    pytest.param((-np.inf, np.inf), None, id="any outputs"),
    pytest.param((-1.0, 3.0), (-1.0, 3.0), id="above the upper end"),
    pytest.param((1.0, 9.0), (1.0, 9.0), id="below the lower end"),
    pytest.param((0.5, 1.0), (0.5, 1.0), id="on both sides"),
    pytest.param((-np.inf, 3.0), (-1.0, 3.0), id="above the only end"),
    pytest.param((1.0, np.inf), (1.0, 5.0), id="below the only end"),
]


@pytest.mark.parametrize(("ends", "moved"), IN_RANGE)
def test_targets_from_0_to_4_are_moved_if_one_is_outside_of_the_range(ends, moved):
    x, y = sums()[0], (torch.arange(N) % 5).float()[:, None]
    run = run_of(LastState(), x, y, nn.MSELoss())
    changed = CHANGES[RANGE].apply(run, Known(False, *ends))
    if moved is None:
        assert changed is None
    else:
        assert [float(end) for end in changed._scaled(y).aminmax()] == pytest.approx(moved)
        back = changed.guess(changed._scaled(y), y)
        torch.testing.assert_close(back, y)


@pytest.mark.parametrize(
    ("values", "mean", "spread"),
    [
        pytest.param([[1.0, 5.0], [4.0, 5.0]], [2.5, 5.0], [1.5, 1.0], id="a constant feature"),
        pytest.param([[[1.0], [2.0]], [[3.0], [6.0]]], [3.0], [3.5**0.5], id="of all steps"),
        pytest.param([1.0, 2.0, 6.0], [3.0], [(14 / 3) ** 0.5], id="without an axis of features"),
        pytest.param([[1e6], [1e6 + 0.125]], [1e6 + 0.0625], [1.0], id="only a rounding"),
        pytest.param([[1e6], [1e6 + 1]], [1e6 + 0.5], [0.5], id="more than a rounding"),
        pytest.param([[-1e6], [-1e6 - 0.125]], [-1e6 - 0.0625], [1.0], id="a rounding below 0"),
        pytest.param([[0.0], [0.0]], [0.0], [1.0], id="zeros"),
        pytest.param([[1], [4]], [2.5], [1.5], id="whole numbers"),
    ],
)
def test_the_scale_of_features_is_their_mean_and_deviation(values, mean, spread):
    found = scale_of(torch.tensor(values))
    assert [each.tolist() for each in found] == [pytest.approx(mean), pytest.approx(spread)]


class Dropped(nn.Module):
    def __init__(self, p=0.0, recurrent=0.0):
        super().__init__()
        self.rnn = nn.GRU(2, 4, num_layers=2, batch_first=True, dropout=recurrent)
        self.drop, self.out = nn.Dropout(p), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.drop(self.rnn(x)[0][:, -1]))


@pytest.mark.parametrize(
    ("model", "decays", "applies"),
    [
        pytest.param(Dropped(), (0.0, 0.0), False, id="neither"),
        pytest.param(Dropped(0.5), (0.0, 0.0), True, id="dropout"),
        pytest.param(Dropped(1), (0.0, 0.0), True, id="dropout of all, a whole number"),
        pytest.param(Dropped(recurrent=0.5), (0.0, 0.0), True, id="dropout between layers"),
        pytest.param(Dropped(), (0.1, 0.0), True, id="decay of the first group"),
        pytest.param(Dropped(), (0.0, 0.1), True, id="decay of the second group"),
        pytest.param(Dropped(0.5), (0.0, 0.1), True, id="both"),
    ],
)
def test_dropout_and_decay_are_switched_off_if_there_is_one(model, decays, applies):
    groups = [
        {"params": part.parameters(), "weight_decay": decay}
        for part, decay in zip((model.rnn, model.out), decays, strict=True)
    ]
    run = run_of(model, *sums(), nn.MSELoss(), torch.optim.SGD(groups, 0.1))
    with restored(model, run.optimizer):
        assert CHANGES[DROPOUT].apply(run, UNKNOWN) is (run if applies else None)
        assert (model.drop.p, model.rnn.dropout) == (0.0, 0.0)
        assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("schedule", "clip"),
    [
        pytest.param(True, None, id="schedule"),
        pytest.param(False, 1.0, id="clipping"),
        pytest.param(True, 1.0, id="both"),
    ],
)
def test_a_plain_optimiser_has_its_first_rate_and_neither_schedule_nor_clipping(schedule, clip):
    run = replace(made(schedule=schedule, rate=0.5), clip_norm=clip)
    if schedule:
        run.optimizer.step()
        run.scheduler.step()
    changed = CHANGES[PLAIN].apply(run, UNKNOWN)
    assert changed.scheduler is None and changed.clip_norm is None
    assert [group["lr"] for group in changed.optimizer.param_groups] == [0.5]


def test_masks_and_ids_stay_beside_numbers_that_are_standardised():
    x = 5 + 3 * torch.randn(N, T, 2), (torch.arange(N * T).reshape(N, T) % 2).float()
    x[0][:5, 0, 0] = 0  # numbers may be 0, too
    ids = torch.randint(9, (N, T))

    class Three(LastState):
        def forward(self, x, mask, ids):
            return super().forward(x * mask[..., None] + ids[..., None])

    run = run_of(Three(), (*x, ids), sums()[1], nn.MSELoss())
    changed = CHANGES[INPUTS].apply(run, UNKNOWN)
    numbers, mask, words = changed.change_x(run.data.train.x)
    assert torch.equal(mask, run.data.train.x[1]) and torch.equal(words, run.data.train.x[2])
    flat = numbers.flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(0, correction=0), torch.ones(2))


def test_the_gru_takes_the_group_of_the_first_weights_that_it_replaces():
    model, own = LastState(), nn.Parameter(torch.zeros(()))
    groups = [
        {"params": [own], "lr": 0.1},
        {"params": model.out.parameters(), "lr": 0.2},
        {"params": model.rnn.parameters(), "lr": 0.3},
    ]
    run = run_of(model, *sums(), nn.MSELoss(), torch.optim.SGD(groups))
    with restored(model, run.optimizer):
        other = CHANGES[GRU].apply(run, UNKNOWN)
        held = [[id(p) for p in group["params"]] for group in run.optimizer.param_groups]
        assert held == [[id(own)], [id(p) for p in other.model.parameters()], []]
    both = [
        {"params": [own, *model.out.parameters()], "lr": 0.1},
        {"params": model.rnn.parameters(), "lr": 0.3},
    ]
    mixed = run_of(model, *sums(), nn.MSELoss(), torch.optim.SGD(both))
    with restored(model, mixed.optimizer):
        other = CHANGES[GRU].apply(mixed, UNKNOWN)
        held = [[id(p) for p in group["params"]] for group in mixed.optimizer.param_groups]
        assert held == [[id(p) for p in (*other.model.parameters(), own)], []]
    strange = run_of(model, *sums(), nn.MSELoss(), torch.optim.SGD([own], 0.1))
    with restored(model, strange.optimizer):
        other = CHANGES[GRU].apply(strange, UNKNOWN)
        (group,) = strange.optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in (*other.model.parameters(), own)]


class WithState(LastState):
    """Returns (outputs, state)."""

    def forward(self, x):
        y, state = self.rnn(x)
        return self.out(y[:, -1]), state


def test_a_loss_of_a_tuple_is_no_loss_of_a_gru_but_the_usual_one_is():
    run = run_of(WithState(), *sums(), lambda z, y: F.mse_loss(z[0], y))
    with restored(run.model, run.optimizer):
        assert CHANGES[GRU].apply(run, UNKNOWN) is None
        assert isinstance(CHANGES[EVERYTHING].apply(run, UNKNOWN).model, Reader)


def test_a_raw_loss_has_no_usual_one_and_no_scale_of_targets():
    run = run_of(
        LastState(), *sums(), lambda z, y: torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()
    )
    assert run.score.kind == "raw"
    for label in (USUAL, TARGETS, RANGE):
        assert CHANGES[label].apply(run, Known(False, 0.0, 0.1)) is None, label
    with restored(run.model, run.optimizer):
        assert not CHANGES[EVERYTHING].apply(run, UNKNOWN).usual


class OfMany(nn.Module):
    """A loss with a weight, a constant, a number that is computed, and the model itself."""

    def __init__(self, model):
        super().__init__()
        self.weight, self.frozen = nn.Parameter(torch.zeros(())), nn.Parameter(torch.ones(()))
        self.frozen.requires_grad_(False)
        self.model, self.computed = [model], 2 * self.weight


def test_the_parameters_of_a_loss_are_its_own_leaves_with_a_gradient():
    model = LastState()
    loss_fn = OfMany(model)
    assert [id(t) for t in parameters_of_loss(loss_fn, model)] == [id(loss_fn.weight)]


def test_the_usual_loss_leaves_running_averages_alone():
    run = made(model := nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2 * T), nn.Linear(2 * T, 1)))
    before = model[1].running_mean.clone()
    assert CHANGES[USUAL].apply(run, UNKNOWN) is not None
    assert torch.equal(model[1].running_mean, before)


def test_targets_move_into_the_range_of_a_sigmoid():
    run = made(Scaled(nn.Sigmoid()), nn.MSELoss())
    y = run.data.train.y
    low, size = y.min(), y.max() - y.min()
    known = Known(False, 0.0, 1.0)
    expected = plainly(run, targets=lambda y: (y - low) / size, back=lambda z: z * size + low)
    np.testing.assert_allclose(of_change(run, RANGE, known), expected, rtol=1e-3)
    inside = Known(False, -100.0, 100.0)
    assert CHANGES[RANGE].apply(run, UNKNOWN) is None and CHANGES[RANGE].apply(run, inside) is None
    signed = CHANGES[RANGE].apply(run, Known(False, -1.0, 1.0))._scaled(y)
    assert (float(signed.min()), float(signed.max())) == pytest.approx((-1.0, 1.0))
    above = CHANGES[RANGE].apply(run, Known(False, 7.0, np.inf))
    assert float(above._scaled(y).min()) == pytest.approx(7.0) and float(above.scale) == 1.0


def test_new_weights_are_those_of_torch():
    run = made(LastState())
    with restored(run.model):
        torch.manual_seed(7)
        CHANGES[WEIGHTS].apply(run, UNKNOWN)
        torch.manual_seed(7)
        rnn, out = nn.GRU(2, 8, batch_first=True), nn.Linear(8, 1)
        assert torch.equal(run.model.rnn.weight_hh_l0, rnn.weight_hh_l0)
        assert torch.equal(run.model.out.weight, out.weight)


class Own(nn.Module):
    """A matrix, a vector and a layer of torch."""

    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.ones(50, 400)), nn.Parameter(torch.ones(50))
        self.out = nn.Linear(50, 1)


def test_new_weights_of_own_matrices_are_uniform_by_their_fan_in():
    model = Own()
    out = model.out.weight.clone()
    reset_(model)
    W = model.W.detach()
    assert W.abs().max() <= 1 / 20 and W.std().item() == pytest.approx(3**-0.5 / 20, rel=0.03)
    assert (model.b == 1).all() and not torch.equal(model.out.weight, out)


@pytest.mark.parametrize(
    ("seen", "rows"),
    [
        pytest.param(torch.tensor([[0, 4], [2, 1]]), 5, id="ids"),
        pytest.param(torch.tensor([[0, 0], [0, 0]]), 1, id="one id"),
        pytest.param(torch.tensor([[-1, -1], [-1, -1]]), 1, id="padding"),
        pytest.param(torch.zeros(2, 2), 1, id="numbers"),
    ],
)
def test_the_gru_has_a_row_for_each_id_that_occurs(seen, rows):
    assert InputLayer(seen).embedding.num_embeddings == rows


def test_ids_that_do_not_occur_are_read_as_the_next_one_that_does():
    layer = InputLayer(torch.tensor([[0, 4], [2, 1]]))
    found = layer(torch.tensor([[-100, 0], [4, 9]]))
    assert torch.equal(found, layer.embedding.weight[torch.tensor([[0, 0], [4, 4]])])


def test_a_rate_that_one_group_lacks_is_not_multiplied():
    model = LastState()
    groups = [{"params": model.rnn.parameters(), "lr": 0.1}, {"params": model.out.parameters()}]
    run = run_of(model, *sums(), nn.MSELoss(), SignSteps(groups))
    assert CHANGES[TEN].apply(run, UNKNOWN) is CHANGES[TENTH].apply(run, UNKNOWN) is None


def test_the_other_axis_turns_layers_that_mix_examples():
    model = LastState()
    model.rnn.batch_first = False
    run = made(model)
    assert CHANGES[AXIS].apply(run, UNKNOWN) is None
    with restored(model):
        assert (
            CHANGES[AXIS].apply(run, replace(UNKNOWN, mixes=True)) is run and model.rnn.batch_first
        )
    assert not model.rnn.batch_first


def test_changes_that_change_nothing_do_not_apply():
    run = made(nn.Sequential(nn.Flatten(), nn.Linear(2 * T, 1)), nn.MSELoss())
    run.optimizer.param_groups[0]["weight_decay"] = 0
    for label in (USUAL, SHUFFLED, DROPOUT, PLAIN, AXIS, RANGE):
        assert CHANGES[label].apply(run, UNKNOWN) is None, label
    classes = run_of(
        LastState(3), torch.ones(N, T, 2).cumsum(0), torch.arange(N) % 3, nn.CrossEntropyLoss()
    )
    assert (
        CHANGES[TARGETS].apply(classes, UNKNOWN) is None
        and CHANGES[USUAL].apply(classes, UNKNOWN) is None
    )
    predicted = run_of(LastState(), *sums(), nn.MSELoss(), predict=lambda output: 2 * output)
    for label in (USUAL, TARGETS, RANGE):
        assert CHANGES[label].apply(predicted, Known(False, 0.0, 0.1)) is None, label
    assert (
        CHANGES[RANGE].apply(run_of(LastState(), *sums(), nn.MSELoss()), Known(False, 1.0, 1.0))
        is None
    )
    masks = run_of(LastState(), (sums()[0] > 0).float(), sums()[1], nn.MSELoss())
    assert CHANGES[INPUTS].apply(masks, UNKNOWN) is None


class WithWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, z, y):
        return ((z - y).square() * self.weight.exp() - self.weight).mean()


def test_parameters_of_the_loss_are_trained_in_every_row():
    model, loss_fn = Scaled(), WithWeight()
    x, y = sums()
    sgd = torch.optim.SGD([*model.parameters(), loss_fn.weight], 1e-4)
    run = run_of(model, x, y, loss_fn, sgd)
    known = replace(UNKNOWN, of_loss=parameters_of_loss(loss_fn, model))
    assert known.of_loss == (loss_fn.weight,)
    for label in (GRU, ADAM, EVERYTHING):
        with restored(model, loss_fn, sgd):
            changed = CHANGES[label].apply(run, known)
            groups = changed.optimizer.param_groups
            assert any(p is loss_fn.weight for group in groups for p in group["params"]), label


def cross(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten())


class Pair(nn.Module):
    """Reads words and a number for each example."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(5, 1)

    def forward(self, ids, other):
        return self.out(torch.cat([self.embed(ids).mean(1), other], 1))


class Named(Pair):
    """Takes a dictionary as one argument."""

    def forward(self, inputs):
        return super().forward(inputs["ids"], inputs["other"])


def on_axis_1(model):
    """The model with examples along axis 1 of its inputs and outputs."""
    model.rnn.batch_first = False
    return model


numbers, frames = sums()[0], torch.arange(N * T).reshape(N, T) % 3
words, sides = torch.randint(9, (N, T)), (torch.arange(N) % 2).float()[:, None]
two = {"ids": words, "other": torch.randn(N, 1)}
ONE, EVERY = False, True
"""Whether the network has an output for each example, or for every step."""
TASKS = [
    pytest.param(
        LastState(3),
        numbers,
        torch.arange(N) % 3,
        nn.CrossEntropyLoss(),
        0,
        ONE,
        id="classes of the last step",
    ),
    pytest.param(
        LastState(T),
        numbers,
        torch.arange(N) % T,
        nn.CrossEntropyLoss(),
        0,
        ONE,
        id="as many classes as steps",
    ),
    pytest.param(
        nn.Sequential(LastState(), nn.Flatten(0)),
        numbers,
        torch.randn(N),
        nn.MSELoss(),
        0,
        ONE,
        id="a number without an axis",
    ),
    pytest.param(EachState(3), numbers, frames, cross, 0, EVERY, id="every step"),
    pytest.param(
        nn.Sequential(EachState(3), nn.Flatten(1), nn.Unflatten(1, (3, T))),
        numbers,
        frames,
        nn.CrossEntropyLoss(),
        0,
        EVERY,
        id="classes of every step on axis 1",
    ),
    pytest.param(
        nn.Sequential(EachState(3), nn.Flatten(0, 1)),
        numbers,
        frames,
        lambda z, y: F.cross_entropy(z, y.flatten()),
        0,
        EVERY,
        id="classes of all steps",
    ),
    pytest.param(
        nn.Sequential(LastState(1), nn.Sigmoid()),
        numbers,
        sides,
        nn.BCELoss(),
        0,
        ONE,
        id="probabilities",
    ),
    pytest.param(
        nn.Sequential(LastState(3), nn.LogSoftmax(-1)),
        numbers,
        torch.arange(N) % 3,
        nn.NLLLoss(),
        0,
        ONE,
        id="log-probabilities",
    ),
    pytest.param(
        EachState(), numbers, numbers[..., :1], nn.MSELoss(), 0, EVERY, id="numbers of every step"
    ),
    pytest.param(
        on_axis_1(EachState(3)),
        numbers.transpose(0, 1),
        frames.T,
        cross,
        1,
        EVERY,
        id="every step, on axis 0",
    ),
    pytest.param(
        Pair(),
        (words, torch.randn(N, 1)),
        torch.randn(N, 1),
        nn.MSELoss(),
        0,
        ONE,
        id="words and a number",
    ),
    pytest.param(
        nn.Sequential(EachState(1), nn.Flatten()),
        numbers,
        torch.randn(N, T),
        nn.MSELoss(),
        0,
        EVERY,
        id="a number of every step",
    ),
    pytest.param(Named(), two, torch.randn(N, 1), nn.MSELoss(), 0, ONE, id="a dictionary"),
    pytest.param(Pair(), two, torch.randn(N, 1), nn.MSELoss(), 0, ONE, id="arguments by name"),
    pytest.param(
        LastState(), numbers[:, :1], torch.randn(N, 1), nn.MSELoss(), 0, ONE, id="one step"
    ),
    pytest.param(
        EachState(3),
        numbers[:, :1],
        (torch.arange(N) % 3)[:, None],
        cross,
        0,
        ONE,
        id="every step of one",
    ),
]


@pytest.mark.parametrize(("model", "x", "y", "loss_fn", "axis", "every"), TASKS)
def test_the_gru_has_the_outputs_of_the_network_and_reads_every_input(
    model, x, y, loss_fn, axis, every
):
    run = run_of(model, x, y, loss_fn, axis=axis)
    for label in (GRU, EVERYTHING):
        with restored(model, run.optimizer):
            other = CHANGES[label].apply(run, UNKNOWN)
            assert isinstance(other.model, Reader), label
            assert other.model.plan.every is every
            x, y, _ = next(run.data.minibatches(0))
            assert other.output(x).shape == run.output(x).shape, label
            assert np.isfinite(train_run(other, 2, 0)).all()
            assert held_of(run, run.data.halves[0]).errors(other).isfinite().all()
            grads = [p.grad is not None for p in other.model.rnn.parameters()]
            assert all(grads), label


@pytest.mark.parametrize("every", [False, True], ids=["one output", "every step"])
@pytest.mark.parametrize("both", [False, True], ids=["forwards", "both directions"])
def test_the_gru_reads_in_both_directions_if_the_network_does(both, every):
    x, _ = sums()
    tagger = EachState(units=3, bidirectional=both)
    model = tagger if every else nn.Sequential(tagger, nn.Flatten(), nn.Linear(T, 1))
    run = run_of(model, x, torch.randn(N, T, 1) if every else torch.randn(N, 1), nn.MSELoss())
    with restored(model, run.optimizer):
        other = CHANGES[GRU].apply(run, UNKNOWN).model
        assert other.rnn.bidirectional == both and other.plan.every == every
        x = x[:4].clone().requires_grad_()
        output = other(x)
        (output[:, 0] if every else output).sum().backward()
        assert (x.grad[:, -1] != 0).any() == (both or not every)
        assert (x.grad[:, 0] != 0).all()


def test_everything_takes_the_usual_loss():
    run = made(LastState(), nn.L1Loss())
    with restored(run.model, run.optimizer):
        assert CHANGES[EVERYTHING].apply(run, UNKNOWN).usual and not run.usual


def test_everything_keeps_the_loss_of_what_predict_returns():
    run = run_of(LastState(), *sums(), nn.MSELoss(), predict=lambda output: 2 * output)
    with restored(run.model, run.optimizer):
        assert not CHANGES[EVERYTHING].apply(run, UNKNOWN).usual


def test_labels_are_literals_and_each_once():
    assert len(set(ROW_LABELS)) == len(ROW_LABELS) == 18

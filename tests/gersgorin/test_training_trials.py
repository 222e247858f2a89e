"""Trials of a training are the training itself, at several learning rates, and leave what they were
given alone.
"""

import contextlib
import copy
import functools
from itertools import islice

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gersgorin
from gersgorin.checking import trials as trials_module
from gersgorin.checking.causes.kept_out import _kept_out
from gersgorin.checking.trials import _Training, run_trials
from gersgorin.training.minibatches import Examples
from gersgorin.training.training import Training
from rhn.errors import DataError, InvalidInputError


class Reader(nn.Module):
    """An output of each sequence, or of each frame."""

    def __init__(self, kind=nn.GRU, batch_first=True, last=True, size=7):
        super().__init__()
        self.rnn, self.out, self.last = (
            kind(2, size, batch_first=batch_first),
            nn.Linear(size, 1),
            last,
        )
        self.axis = 1 if batch_first else 0

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states.select(self.axis, -1) if self.last else states)


class Always:
    """A constant output whose loss is never reached."""

    step_seconds, loss = 0.0, 1e-9
    loss_of = staticmethod(lambda shape, y: 1e-9)
    slope_of = staticmethod(lambda shape, y: (1e-9, torch.zeros(shape)))
    curvature_of = staticmethod(lambda output, y: 0.0)
    deviations = staticmethod(lambda output: output - output.mean(0))


def cross_entropy_of_steps(output, y):
    return nn.functional.cross_entropy(output.flatten(0, 1), y.flatten())


def made(seed=0, **options):
    torch.manual_seed(seed)
    model = Reader(**options)
    x = torch.rand(24, 5, 2) if options.get("batch_first", True) else torch.rand(5, 24, 2)
    with torch.no_grad():
        y = torch.rand_like(model(x))
    return model, x, y


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    lambda p: torch.optim.NAdam(p, lr=1e-2),
]


@for_each(
    ("optimizer_of", "clip_norm"), [*zip(OPTIMIZERS, (None, 0.05, None, 0.05, None), strict=True)]
)
def test_copies_step_as_the_loop_does_at_each_learning_rate(optimizer_of, clip_norm):
    model, x, y = made()
    loop = Training(model, x, y, "mse", optimizer_of(model.parameters()), clip_norm=clip_norm)
    factors = [1.0, 3.0, 0.1]
    copies = [_Training(loop, factor, 1.0, 32) for factor in factors]
    found = np.array([[each.take(x[k::6], y[k::6]) for each in copies] for k in range(6)])
    for k, factor in enumerate(factors):
        own = copy.deepcopy(model)
        optimizer = optimizer_of(own.parameters())
        optimizer.param_groups[0]["lr"] *= factor
        for j in range(6):
            loss = nn.functional.mse_loss(own(x[j::6]), y[j::6])
            assert found[j, k] == pytest.approx(loss.item(), rel=1e-5)
            optimizer.zero_grad()
            loss.backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(own.parameters(), clip_norm)
            optimizer.step()


def test_groups_schedules_and_parameters_left_out_are_kept():
    model, x, y = made()
    model.rnn.bias_hh_l0.requires_grad_(False)
    groups = [
        {"params": model.rnn.weight_hh_l0, "lr": 0.0},
        {"params": [model.out.weight], "lr": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    loop = Training(model, x, y, "mse", optimizer, scheduler=scheduler)
    rates = [[group["lr"] for group in row] for row in map(loop.scheduled, range(5))]
    assert (
        np.allclose(rates, [[0, 1], [0, 1], [0, 0.5], [0, 0.5], [0, 0.25]])
        and loop.learning_rate == 0.1
    )
    trial = _Training(loop, 1.0, 1.0, 32)
    before = copy.deepcopy(trial.model.state_dict())
    trial.take(x, y)
    changed = {
        name for name, p in trial.model.named_parameters() if not torch.equal(p, before[name])
    }
    assert changed == {"out.weight"}


@for_each("last", [True, False])
@for_each("scale", [1.0, 1e-8])
@for_each("batch_first", [True, False])
def test_the_axis_of_the_examples_is_found(batch_first, scale, last):
    model, x, y = made(batch_first=batch_first, last=last)
    with torch.no_grad():
        for p in model.rnn.parameters():
            p.mul_(scale)
    assert Training(model, x, y, "mse", "sgd", learning_rate=0.1).data.axis == (
        0 if batch_first else 1
    )


def test_a_rate_that_is_too_high_diverges_and_a_good_one_leaves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 1))
    x = torch.randn(64, 3, 2)
    loop = Training(
        model, x, x.sum((1, 2))[:, None], "mse", "sgd", learning_rate=0.01, batch_axis=0
    )
    slow, good, high = run_trials(loop, [1e-5, 1.0, 1e4], steps=400, seconds=60)
    assert slow.left == np.inf and 1 < good.left < 400
    assert slow.diverged == good.diverged == np.inf and high.diverged < 20
    assert high.steps < good.steps < slow.steps == 400
    assert not (slow.cut or good.cut or high.cut)


@for_each(
    ("change", "message"),
    [
        ({"y": torch.rand(23, 1)}, "expected as many"),
        ({"loss_fn": "hinge"}, "expected a function"),
        ({"loss_fn": lambda output, y: (output - y).square()}, "expected a real scalar"),
        ({"loss_fn": lambda output, y: 1 / 0}, "loss_fn.* ZeroDivisionError"),
        (
            {"loss_fn": lambda output, y: output.mean() * torch.nan},
            "The loss of the first minibatch is nan",
        ),
        (
            {"optimizer": torch.optim.Adam(nn.Linear(1, 1).parameters())},
            "no parameters of this model",
        ),
        ({"optimizer": lambda model: torch.optim.LBFGS(model.parameters())}, "without a closure"),
        ({"clip_norm": 0.0}, "above 0"),
        ({"x": torch.rand(24, 5, 3)}, "does not run on x.* RuntimeError"),
        ({"x": torch.full((24, 5, 2), torch.nan)}, "x holds 240 NaN"),
        ({"y": torch.full((24, 1), torch.inf)}, "y holds 24 NaN"),
        ({"x": torch.zeros(0, 5, 2)}, "at least one step"),
        ({"x": "abc"}, "x is .*real numbers"),
        ({"y": None}, "y is missing"),
        ({"x": [torch.rand(3, 5, 2)], "y": None}, "gives no pairs"),
        (
            {"x": [(nn.utils.rnn.pack_sequence([torch.rand(5, 2)]), torch.rand(1, 1))], "y": None},
            "PackedSequence: expected padded",
        ),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_axis": 2}, "batch_axis is 2"),
        ({"model": lambda x: x}, "the model is a function"),
        ({"model": nn.Flatten()}, "has no parameters"),
        ({"model": nn.Sequential(nn.Flatten(), nn.LazyLinear(1))}, "weights of no size yet"),
        ({"x": (1 / 0 for _ in range(2)), "y": None}, "the DataLoader fails: ZeroDivisionError"),
        (
            {"model": made()[0].requires_grad_(False)},
            "No parameter of the model requires a gradient",
        ),
        (
            {"loss_fn": "cross-entropy", "y": torch.ones(24).long()},
            "IndexError: Target 1 is out of bounds; y holds classes 1 to 1, the output has 1: 0 to",
        ),
    ],
)
def test_what_is_no_training_is_refused(change, message):
    model, x, y = made()
    by_name = {"optimizer": "adam", "learning_rate": 0.1} if "model" in change else {}
    parts = {
        "model": model,
        "x": x,
        "y": y,
        "loss_fn": "mse",
        "optimizer": torch.optim.Adam(model.parameters()),
    }
    parts |= by_name | change
    if callable(parts["optimizer"]) and not isinstance(parts["optimizer"], torch.optim.Optimizer):
        parts["optimizer"] = parts["optimizer"](model)
    with pytest.raises(InvalidInputError, match=message):
        Training(**parts)


def test_a_scheduler_may_change_momentum_and_moments_too(monkeypatch):
    monkeypatch.setattr(trials_module, "SCHEDULED", 4)  # is asked for more steps on the way
    for kind, options in ((torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})):
        model, x, y = made()
        optimizer = kind(model.parameters(), lr=0.1, **options)
        one_cycle = functools.partial(
            torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=21
        )
        found = run_trials(
            Training(model, x, y, "mse", optimizer, scheduler=one_cycle(optimizer)),
            [1.0],
            steps=20,
            seconds=600,
            constant=Always(),
            seed=5,
        )
        own, stream = one_cycle(optimizer), Training(model, x, y, "mse", optimizer).data.stream(5)
        for loss in found[0].losses:
            a, b = next(stream)
            mine = nn.functional.mse_loss(model(a), b)
            assert loss == pytest.approx(mine.item(), rel=1e-4)
            optimizer.zero_grad()
            mine.backward()
            optimizer.step()
            own.step()


def test_a_scheduler_that_ends_before_the_training_is_refused():
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    with pytest.raises(InvalidInputError, match="the scheduler fails at step 21"):
        Training(model, x, y, "mse", optimizer, scheduler=scheduler).scheduled(29)


def test_the_axis_of_few_examples_is_that_of_the_parts_or_of_the_targets():
    model, x, y = made()
    sgd = {"optimizer": "sgd", "learning_rate": 0.1}
    assert Training(model, x[:1], y[:1], **sgd).data.axis == 0
    assert (
        Training(nn.Sequential(nn.Flatten(), nn.Linear(10, 1)), x[:2], y[:2], **sgd).data.axis == 0
    )
    with pytest.raises(InvalidInputError, match="is not clear"):
        Training(
            nn.Sequential(nn.Flatten(), nn.Linear(10, 1)), x[:2].reshape(2, 2, 5), y[:2], **sgd
        )


class Packed(nn.Module):
    """Reads sequences of these lengths; the prediction is the second thing that it returns."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        return "states", self.out(self.rnn(packed)[1][0])


@pytest.mark.parametrize("given", ["tuple", "names", "triples", "pairs", "dictionaries"])
def test_several_inputs_are_taken_as_the_loop_takes_them(given):
    torch.manual_seed(0)
    model, x, lengths = Packed(), torch.randn(64, 6, 2), torch.randint(1, 7, (64,))
    y = torch.stack([x[k, :n, 0].sum() for k, n in enumerate(lengths)])[:, None]
    batches = [(x[k : k + 8], lengths[k : k + 8], y[k : k + 8]) for k in range(0, 64, 8)]
    data, targets = {
        "tuple": ((x, lengths), y),
        "names": ({"x": x, "lengths": lengths}, y),
        "triples": (batches, None),
        "pairs": ([((x, n), y) for x, n, y in batches], None),
        "dictionaries": ([{"x": x, "lengths": n, "target": y} for x, n, y in batches], None),
    }[given]
    training = {
        "predict": lambda output: output[1],
        "steps": 60,
        "seconds": 60,
        "batch_size": 8,
        "batch_axis": 0,
    }
    found = gersgorin.check(model, data, targets, "mse", "adam", learning_rate=0.03, **training)
    assert found.outcome == "leaves" and found.reach is None and found.first_loss > 0
    loop = Training(
        model,
        data,
        targets,
        "mse",
        "adam",
        learning_rate=0.03,
        predict=training["predict"],
        batch_axis=0,
    )
    (some, n), t = batches[0][:2], batches[0][2]
    inputs = (
        {"x": some, "lengths": n}
        if isinstance(data, dict) or given == "dictionaries"
        else (some, n)
    )
    assert loop.loss(model, inputs, t) == nn.functional.mse_loss(model(some, n)[1], t)


def test_mean_squared_error_of_targets_without_an_axis_of_outputs_is_that_of_each_example():
    model, x, y = made()
    loss = nn.functional.mse_loss(model(x), y)
    assert (
        Training(model, x, y[:, 0], "mse", "sgd", learning_rate=0.1).loss(model, x, y[:, 0]) == loss
    )


def test_a_named_loss_does_not_mix_targets_of_another_layout():
    model, x, y = made(last=False)
    for targets in (y[:, 0], torch.rand(24, 1, 5, 2)):
        with pytest.raises(
            InvalidInputError, match=r"needs y of shape \(24, 5, 1\), and y has .*: give one target"
        ):
            Training(model, x, targets, "mse", "sgd", learning_rate=0.1)


def test_a_loss_that_reads_the_weights_of_the_given_model_is_refused():
    model, x, y = made()

    def penalized(output, y):
        return (output - y).square().mean() + model.out.weight.square().sum()

    with pytest.raises(InvalidInputError, match="weight_decay"):
        Training(model, x, y, penalized, "sgd", learning_rate=0.1)
    assert model.out.weight.grad is None


def test_batches_of_two_processes_and_of_other_shapes_are_read():
    model, x, y = made()
    loader = DataLoader(TensorDataset(x[:20], y[:20]), 8, num_workers=2)
    loop = Training(model, loader, None, "mse", "sgd", learning_rate=0.1)
    assert {len(a) for a, _ in loop.data.kept} == {8, 4} and loop.data.epoch == 3
    trials = run_trials(loop, [1.0, 2.0], steps=6, seconds=600)
    assert all(np.isfinite(trial.losses).all() and trial.steps == 6 for trial in trials)


def test_the_best_constant_output_is_that_of_all_of_sorted_data():
    model = nn.Sequential(
        nn.Linear(4, 300), nn.Linear(300, 300), nn.Linear(300, 1)
    )  # too large for one batch of all examples
    x, y = torch.randn(2000, 4), torch.linspace(-1, 1, 2000)[:, None]
    for data in ((x, y), (DataLoader(TensorDataset(x, y), 32), None)):
        loop = Training(model, *data, "mse", "sgd", learning_rate=1e-6)
        constant = trials_module.Constant(loop)
        assert constant.output.item() == pytest.approx(0, abs=0.06)
        assert constant.loss == pytest.approx(y.square().mean().item(), rel=0.06)


def test_each_example_comes_as_often_as_any_other():
    model = nn.Linear(1, 1)
    for count, size in ((40, 32), (7, 7), (9, 4), (64, 16)):
        x = torch.arange(count)[:, None].float()
        drawn = Training(
            model, x, x, "mse", "sgd", learning_rate=1.0, batch_size=size, batch_axis=0
        ).data
        times = torch.cat([a for a, _ in drawn.minibatches(100)]).flatten().long().bincount()
        assert len(times) == count and len(set(times.tolist())) == 1


def drawn_labels(loader, steps=6):
    """Numbers of the examples that trials take from a loader, a row a step; two runs."""
    loop = Training(nn.Linear(1, 1), loader, None, "mse", "sgd", learning_rate=0.1)
    streams = (loop.data.stream(seed) for seed in (0, 1))
    return [[next(stream)[0].flatten().tolist() for _ in range(steps)] for stream in streams]


def test_of_overlapping_windows_the_last_ones_are_held_out_and_none_that_overlaps_them_is_trained():
    # (200, 10, 1)
    windows = torch.randn(409, generator=torch.Generator().manual_seed(0)).unfold(0, 10, 2)[
        ..., None
    ]
    data = Examples(windows, windows[:, 0], 20, 0)
    data.keep_out()
    kept, trained = (torch.cat([x for x, _ in part]) for part in data.kept_out(4))
    stream = data.stream(0)
    seen = torch.cat([trained, *(next(stream)[0] for _ in range(30))])
    assert torch.equal(kept, windows[-len(kept) :]) and len(kept) == len(trained) == 32
    assert not torch.isin(kept, seen).any()
    loader = DataLoader(TensorDataset(windows, windows[:, 0]), 20, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 1))
    loop = Training(model, loader, None, "mse", torch.optim.SGD(model.parameters(), 0.1))
    kept = torch.cat([x for x, _ in _kept_out(loop.data)[0]])
    seen = torch.cat([x for x, _ in islice(loop.data.stream(0), 30)])
    assert len(kept) == 32 and not torch.isin(kept, seen).any()
    others = Examples(windows[torch.randperm(200)], windows[:, 0], 20, 0)
    others.keep_out()
    assert others.gap == 0 and len(others.kept) == 32


def test_batches_come_in_the_order_of_the_loader():
    x = torch.arange(6.0)[:, None]
    first, second = drawn_labels(DataLoader(TensorDataset(x, 3 * x), 2))
    assert first == second == 2 * [[0, 1], [2, 3], [4, 5]]
    first, second = drawn_labels(DataLoader(TensorDataset(x, 3 * x), 6, shuffle=True))
    assert first != second and len({tuple(row) for row in first}) > 2


def test_an_iterator_is_read_as_far_as_trials_need_and_again_from_its_beginning():
    numbers = ((torch.full((2, 1), float(k)), torch.randn(2, 1)) for k in range(200))
    first, second = drawn_labels(numbers)
    assert first == second == [[k, k] for k in range(6)]


def test_a_loader_that_gives_nothing_when_it_is_read_again_is_refused():
    class Once:
        def __init__(self, *batches):
            self.batches = iter(batches)

        def __iter__(self):
            return self.batches

    model, x, y = made()
    with pytest.raises(DataError, match="in its second epoch"):
        Training(model, Once((x, y), (y, y)), None, "mse", "sgd", learning_rate=0.1)


def test_the_constant_of_a_summed_loss_is_that_of_a_minibatch():
    model, x, y = made()
    loop = Training(
        model, x, y, nn.MSELoss(reduction="sum"), "sgd", learning_rate=0.1, batch_size=8
    )
    assert trials_module.Constant(loop).loss == pytest.approx(
        8 * y.var(correction=0).item(), rel=1e-3
    )


class Classes(nn.Module):
    """Outputs of every frame, in several layouts; with `frames` of one number of frames only."""

    def __init__(self, units, layout, frames=None, batch_first=True):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 8, batch_first=batch_first), nn.Linear(8, units)
        self.layout, self.frames = (
            layout,
            None if frames is None else nn.Parameter(torch.zeros(frames, units)),
        )

    def forward(self, x):
        output = self.out(self.rnn(x)[0])
        return self.layout(output if self.frames is None else output + self.frames)


@for_each(
    ("units", "layout", "batch_first", "frames", "shape"),
    [
        (4, lambda output: output, True, None, (1, 1, 4)),
        (4, lambda output: output.transpose(1, 2), True, None, (1, 4, 1)),
        # as many units as frames
        (10, lambda output: output.transpose(1, 2), True, None, (1, 10, 1)),
        (1, lambda output: output.squeeze(-1), True, None, (1, 1)),
        (1, lambda output: output.squeeze(-1), False, None, (1, 1)),
        (4, lambda output: output[:, -1], True, None, (1, 4)),
        (4, lambda output: output.transpose(1, 2), True, 10, (1, 4, 1)),
    ],
)
def test_the_constant_output_has_one_number_for_each_unit(
    units, layout, batch_first, frames, shape
):
    model = Classes(units, layout, frames, batch_first)
    x = torch.rand(64, 10, 2) if batch_first else torch.rand(10, 64, 2)
    output = model(x)
    y = (
        torch.rand(output.shape)
        if units == 1
        else torch.randint(units, output.sum(shape.index(units), True).shape)
    )
    y = y if units == 1 else y.squeeze(shape.index(units))
    loss = nn.MSELoss() if units == 1 else nn.CrossEntropyLoss()
    if units > 1 and shape[-1] == units and len(shape) == 3:
        loss = cross_entropy_of_steps
    loop = Training(model, x, y, loss, "sgd", learning_rate=0.1)
    constant, value = loop.constant_output(loop.goals([(x, y)]))
    shares = y.flatten().bincount() / y.numel() if units > 1 else None
    assert constant.shape == shape
    assert value == pytest.approx(
        y.var(correction=0).item() if units == 1 else -(shares * shares.log()).sum().item()
    )


class Tagger(Packed):
    """Outputs of every frame of sequences of these lengths."""

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        states = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
        return states[..., :3]


class Decoder(Tagger):
    """Outputs of the frames of the second input."""

    def forward(self, x, before):
        return self.rnn(before, self.rnn(x)[1])[0][..., :3]


def test_frames_of_packed_sequences_and_of_a_second_input_are_no_units():
    x, before, y = torch.rand(64, 10, 2), torch.rand(64, 7, 2), torch.randint(3, (64, 10))
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "batch_axis": 0}
    assert Training(
        Tagger(), (x, torch.full((64,), 10)), y, cross_entropy_of_steps, **sgd
    ).units.shape == (
        1,
        1,
        3,
    )
    assert Training(Decoder(), (x, before), torch.rand(64, 7, 3), "mse", **sgd).units.shape == (
        1,
        1,
        3,
    )


def test_as_many_units_as_examples_stay_units():
    x, y = torch.rand(10, 32, 2), torch.rand(32, 32)
    some = Examples(x, y, 8, axis=1).take(torch.tensor([3, 1]))
    assert torch.equal(some[0], x[:, [3, 1]]) and torch.equal(some[1], y[[3, 1]])


def test_axes_of_outputs_that_are_not_clear_are_asked_for():
    x = torch.rand(64, 10, 2)
    for model in (
        Classes(1, lambda output: output.squeeze(-1), frames=10),
        Classes(4, lambda output: output.flatten(1)),
    ):
        with pytest.raises(InvalidInputError, match="are not clear"):
            Training(model, x, torch.rand_like(model(x)), nn.MSELoss(), "sgd", learning_rate=0.1)


def test_hooks_are_refused_because_copies_lose_them():
    model, x, y = made()
    optimizer = torch.optim.Adam(model.parameters())
    handles = [
        lambda: optimizer.register_step_pre_hook(lambda *_: None),
        lambda: optimizer.register_step_post_hook(lambda *_: None),
        lambda: model.out.weight.register_hook(lambda g: 0 * g),
        lambda: model.out.bias.register_post_accumulate_grad_hook(lambda p: None),
        lambda: setattr(optimizer, "step", lambda: None),
    ]
    for hook in handles:
        handle = hook()
        with pytest.raises(InvalidInputError, match="has a hook"):
            Training(model, x, y, "mse", optimizer)
        if handle:
            handle.remove()


def test_a_loss_of_which_no_output_takes_off_two_percent_is_refused():
    model, x, y = made()
    for offset, refused in ((0.0, False), (100.0, True)):
        loop = Training(
            model,
            x,
            y,
            lambda o, y, c=offset: (o - y).square().mean() + c,
            "sgd",
            learning_rate=0.1,
        )
        with (
            pytest.raises(InvalidInputError, match="no output")
            if refused
            else contextlib.nullcontext()
        ):
            loop.constant_output(loop.goals(loop.data.minibatches(4)))
    large = Training(
        nn.Linear(2, 88),
        torch.rand(12, 1000, 2),
        torch.rand(12, 1000, 88).round(),
        "bernoulli",
        "sgd",
        learning_rate=1.0,
    )
    trials_module.Constant(large)  # a mean over 10^6 outputs, each with a small gradient


def test_a_loss_that_a_constant_does_not_have_is_refused():
    model, x, y = made()
    loop = Training(
        nn.Sequential(model, nn.Hardsigmoid()), x, y.round(), nn.BCELoss(), "sgd", learning_rate=0.1
    )
    with pytest.raises(InvalidInputError, match="use a loss of logits"):
        trials_module.Constant(loop)


def test_complex_parameters_are_trained():
    class Rotations(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = nn.Parameter(torch.exp(1j * torch.rand(4)))

        def forward(self, x):
            state = torch.zeros(len(x), 4, dtype=torch.cfloat)
            for frame in x.unbind(1):
                state = self.turn * state + frame.sum(-1, keepdim=True)
            return state.sum(-1, keepdim=True).real

    _, x, y = made()
    loop = Training(Rotations(), x, y, "mse", "adam", learning_rate=1e-2)
    assert np.isfinite(run_trials(loop, [1.0], steps=5, seconds=600)[0].losses).all()


def test_trials_flush_subnormal_numbers_and_restore_the_setting():
    class Watched(nn.Linear):
        seen = ()

        def forward(self, x):
            if torch.is_grad_enabled():
                Watched.seen += ((torch.full((1,), 1e-40) * 1).item() == 0,)
            return super().forward(x)

    x = torch.randn(64, 2)
    loop = Training(Watched(2, 1), x, x[:, :1], "mse", "sgd", learning_rate=0.1)
    Watched.seen = ()
    run_trials(loop, [1.0], steps=3, seconds=600, constant=Always())
    assert Watched.seen == (True,) * 3
    assert (torch.full((1,), 1e-40) * 1).item() > 0

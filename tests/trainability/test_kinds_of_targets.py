"""Kinds of targets, and errors against NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import relative_error
from torch import nn
from training_runs import N, T, run_of, sums
from user_modules import EachState, LastState

from rhn.errors import InvalidInputError
from trainability import scores, training
from trainability.training import held_of

y_classes = torch.arange(N) % 3
y_signs = (torch.arange(N) % 4 == 0).float()[:, None]
y_frames = torch.arange(N * T).reshape(N, T) % 3


def focal(z, y):
    shares = z.log_softmax(-1).gather(-1, y[:, None])[:, 0]
    return (-((1 - shares.exp()) ** 2) * shares).mean()


def squared(z, y):
    return (z - y).square().mean()


def pinball(z, y):
    return torch.maximum(0.9 * (y - z), -0.1 * (y - z)).mean()


def density(z, y):
    return (0.5 * ((y - z[:, :1]) / z[:, 1:].exp()).square() + z[:, 1:]).mean()


def contrast(z, y):
    return F.triplet_margin_loss(z[:1], z[1:2], z[2:3]) + 0 * y.sum()


def one_sided(z, y):
    """Errors above the target, up to 1.5."""
    return (z - y).clamp(0, 1.5).square().mean()


def of_one_output(z, y):
    """Squared errors of one output, a quantile of the other one."""
    return squared(z[:, 0], y[:, 0]) + pinball(z[:, 1], y[:, 1])


class Both(LastState):
    """Returns (outputs, their squares)."""

    def forward(self, x):
        z = super().forward(x)
        return z, z.square()


class Shares(LastState):
    def forward(self, x):
        return super().forward(x).softmax(-1)


CASES = {
    "cross entropy": (LastState(3), y_classes, nn.CrossEntropyLoss(), "classes"),
    "negative log likelihood of raw outputs": (LastState(3), y_classes, nn.NLLLoss(), "classes"),
    "focal": (LastState(3), y_classes, focal, "classes"),
    "classes of frames, last": (
        EachState(3),
        y_frames,
        lambda z, y: F.cross_entropy(z.transpose(1, 2), y),
        "classes",
    ),
    "binary cross entropy": (LastState(1), y_signs, nn.BCEWithLogitsLoss(), "signs"),
    "squared error": (LastState(1), sums()[1], nn.MSELoss(), "numbers"),
    "own squared error": (LastState(1), sums()[1], squared, "numbers"),
    "own squared error that pairs all": (LastState(1), sums()[1][:, 0], squared, "numbers"),
    "own squared error of the last frame": (
        EachState(1),
        sums()[0][..., :1],
        lambda z, y: squared(z[:, -1], y[:, -1]),
        "numbers",
    ),
    "absolute error": (LastState(1), sums()[1], nn.L1Loss(), "numbers"),
    "quantile": (LastState(1), sums()[1], pinball, "raw"),
    "density": (LastState(2), sums()[1], density, "raw"),
    "triplets": (LastState(4), sums()[1], contrast, "raw"),
    "some shares of classes": (
        LastState(3),
        torch.where(torch.arange(N)[:, None] % 2 > 0, F.one_hot(torch.arange(N) % 3, 3), 1).float(),
        nn.CrossEntropyLoss(),
        "raw",
    ),
    "shares of three classes": (
        LastState(3),
        torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).repeat(N // 2, 1),
        nn.CrossEntropyLoss(),
        "raw",
    ),
    "squared error above the targets, cut off": (LastState(1), sums()[1], one_sided, "numbers"),
    "squared error of one output, quantile of another": (
        LastState(2),
        sums()[0][:, 0],
        of_one_output,
        "raw",
    ),
    "a quantile in small units": (
        LastState(1),
        sums()[1],
        lambda z, y: 1e-6 * pinball(z, y),
        "raw",
    ),
    "own squared error of the first of two outputs": (
        Both(1),
        sums()[1],
        lambda z, y: squared(z[0], y),
        "raw",
    ),
    "own squared error of whole numbers": (LastState(1), y_classes[:, None], squared, "raw"),
    "shares of six outputs against three": (
        LastState(6),
        F.one_hot(torch.arange(N) % 3, 3),
        lambda z, y: -(z.log_softmax(-1)[:, ::2] * y).mean(),
        "raw",
    ),
    "sides and half sides": (
        LastState(1),
        (torch.arange(N) % 3)[:, None] / 2,
        nn.BCEWithLogitsLoss(),
        "raw",
    ),
    "soft targets": (LastState(1), y_signs * 0.5 + 0.1, nn.BCEWithLogitsLoss(), "raw"),
}


@pytest.mark.parametrize(
    ("model", "y", "loss_fn", "kind"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)
def test_the_kind_follows_from_shapes_and_from_the_loss(model, y, loss_fn, kind):
    score = run_of(model, sums()[0], y, loss_fn).score
    assert score.kind == kind
    assert score.classes == -1  # the last axis, or none


def error_of(run):
    """(Error by `Held` on the first half, outputs of the model, targets) as arrays."""
    held = held_of(run, run.data.halves[0])
    found = held.errors(run)
    np.testing.assert_allclose(held.constant.mean(), 1, rtol=1e-5)
    with torch.no_grad():
        z = run.model(run.data.halves[0].x)
    return found.numpy(), z.numpy(), run.data.halves[0].y.numpy(), run.data.train.y.numpy()


def test_classes_are_wrong_relative_to_the_most_frequent():
    y = torch.randint(5, (N,)).clamp(max=3)
    found, z, y, train = error_of(run_of(LastState(4), sums()[0], y, nn.CrossEntropyLoss()))
    usual = np.bincount(train).argmax()
    np.testing.assert_allclose(found.mean(), (z.argmax(1) != y).mean() / (y != usual).mean())
    assert found.shape == (20,)


SOME_CLASSES = [
    pytest.param([2, 3], id="without the most frequent class"),
    pytest.param([0, 1], id="without two classes"),
    pytest.param([0, 1, 2, 3, 7], id="with a class that is not trained on"),
]


@pytest.mark.parametrize("classes", SOME_CLASSES)
def test_classes_that_a_half_lacks_change_only_its_own_errors(classes):
    """Four classes, of which 0 is the most frequent; the outputs know no class 7."""
    x, y = sums()[0], torch.randint(6, (N,)).sub(2).clamp(min=0)
    run = run_of(LastState(4), x, y, nn.NLLLoss())
    half = run.data.halves[0]
    few = replace(half, y=torch.tensor(classes).repeat(20)[:20])
    held = held_of(run, few)
    with torch.no_grad():
        guess = run.model(few.x).argmax(1).numpy()
    wrong, of_constant = guess != few.y.numpy(), few.y.numpy() != 0
    np.testing.assert_array_equal(run.score.constant, 0)
    np.testing.assert_allclose(held.errors(run), wrong / of_constant.mean())
    np.testing.assert_allclose(held.constant, of_constant / of_constant.mean())


def test_signs_are_wrong_relative_to_the_more_frequent():
    found, z, y, _ = error_of(run_of(LastState(1), sums()[0], y_signs, nn.BCEWithLogitsLoss()))
    np.testing.assert_allclose(found.mean(), ((z > 0) != y).mean() / y.mean())


def test_probabilities_are_compared_with_a_half():
    model = nn.Sequential(LastState(1), nn.Sigmoid())
    found, z, y, _ = error_of(run_of(model, sums()[0], y_signs, nn.BCELoss()))
    np.testing.assert_allclose(found.mean(), ((z > 0.5) != y).mean() / y.mean())


def test_numbers_have_the_squared_error_relative_to_the_means_of_the_training_targets():
    x = sums()[0]
    y = torch.stack([x[:, 0, 0], 10 + 5 * x[:, 1, 1]], 1)
    found, z, y, train = error_of(run_of(LastState(2), x, y, nn.L1Loss()))
    np.testing.assert_allclose(found.mean(), relative_error(z, y, train), rtol=1e-5)


def test_outputs_of_shape_n_1_are_compared_one_by_one_with_targets_of_shape_n():
    x, y = sums()
    found, z, y, train = error_of(run_of(LastState(1), x, y[:, 0], squared))
    np.testing.assert_allclose(found.mean(), relative_error(z[:, 0], y, train), rtol=1e-5)


def test_padding_that_the_loss_ignores_is_no_error():
    y = y_frames.clone()
    y[:, 4:] = -100

    def loss_fn(z, y):
        return F.cross_entropy(z.flatten(0, 1), y.flatten())

    found, z, y, train = error_of(run_of(EachState(3), sums()[0], y, loss_fn))
    real, guess = y[:, :4], z.argmax(-1)[:, :4]
    usual = np.bincount(train[:, :4].ravel()).argmax()
    np.testing.assert_allclose(found.mean(), (guess != real).mean() / (real != usual).mean())


def ignoring(value, kind="classes"):
    """A loss that ignores targets of one value, and returns 0 / 0 for a minibatch of them."""

    def loss_fn(z, y):
        if kind == "classes":
            return F.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=value)
        each = (
            F.binary_cross_entropy_with_logits(z, y.clamp(0, 1), reduction="none")
            if kind == "signs"
            else (z - y).square()
        )
        counted = (y != value).to(z)
        return (each * counted).sum() / counted.sum()

    return loss_fn


def some_ignored(y, value):
    """Targets of which the first four steps of the first half of the examples are ignored, and all
    steps of every tenth example.
    """
    y = y.clone()
    y[: len(y) // 2, :4] = value
    y[::10] = value
    return y


def means(y, value):
    """The mean of each output over the targets that are counted."""
    return torch.stack([each[each != value].mean() for each in y.unbind(-1)])


ORACLES = {
    "classes": (
        lambda y, value: y[y != value].bincount().argmax(),
        lambda z, y: (z.argmax(-1) if z.dim() else z) != y,
    ),
    "signs": (
        lambda y, value: y[y != value].mean() > 0.5,
        lambda z, y: (z > 0) != y,
    ),
    "numbers": (means, lambda z, y: (z - y).square()),
}
"""By kind: the constant predictor of training targets, and the errors of outputs or of it."""
IGNORING = [
    pytest.param("classes", y_frames, 3, -100, id="classes"),
    pytest.param("classes", y_frames, 3, 2, id="classes, one of which is ignored"),
    pytest.param("signs", (y_frames == 1).float()[..., None], 1, -1.0, id="signs"),
    pytest.param("numbers", sums()[0][..., :1] * 3 + 1, 1, -99.0, id="numbers"),
    pytest.param("numbers", sums()[0], 2, -99.0, id="two numbers"),
]


@pytest.mark.parametrize("batch", [1, 2, 32])
@pytest.mark.parametrize(("kind", "y", "outputs", "value"), IGNORING)
def test_targets_that_the_loss_ignores_count_nowhere(kind, y, outputs, value, batch):
    """Also if a minibatch has no others, and the first example is ignored."""
    y, loss_fn = some_ignored(y, value), ignoring(value, kind)
    run = run_of(EachState(outputs), sums()[0], y, loss_fn, batch_size=batch)
    assert run.score.kind == kind and run.score.ignored == value
    train, half = run.data.train.y, run.data.halves[0]
    kept = train[train != value].numpy()
    np.testing.assert_array_equal(np.sort(run.score.targets.numpy()), np.sort(kept))
    found = held_of(run, half).errors(run)
    with torch.no_grad():
        z = run.model(half.x)
    constant_of, errors_of = ORACLES[kind]
    constant = constant_of(train, value)
    np.testing.assert_allclose(run.score.constant.numpy(), constant.numpy(), rtol=1e-5)
    wrong, base = (errors_of(one, half.y) for one in (z, constant))
    expected = wrong[half.y != value].sum() / base[half.y != value].sum()
    np.testing.assert_allclose(found.mean(), expected, rtol=1e-5)


def test_the_kind_is_that_of_the_first_example_that_counts():
    """Three of four examples are ignored; the split by five seeds has another first example."""
    x, y = sums()
    y[torch.arange(N) % 4 > 0] = -99.0
    for seed in range(5):
        run = run_of(LastState(1), x, y, ignoring(-99.0, "numbers"), seed=seed)
        assert run.score.kind == "numbers"


def test_a_raw_loss_counts_all_targets_and_is_raw_if_it_ignores_the_first_example():
    """A quantile without the targets -99, by which five splits begin."""
    x, y = sums()
    y[torch.arange(N) % 4 > 0] = -99.0

    def loss_fn(z, y):
        return pinball(z[y != -99], y[y != -99])

    for seed in range(5):
        score = run_of(LastState(1), x, y, loss_fn, seed=seed).score
        assert (score.kind, len(score.targets), score.ignored) == ("raw", 160, None)
        assert score.targets.min() == -99


MASKED = [
    pytest.param(
        nn.Sequential(LastState(1), nn.Sigmoid()),
        torch.where(torch.arange(N)[:, None] % 3 == 0, -1.0, y_signs),
        lambda p, y: F.binary_cross_entropy(p[y >= 0], y[y >= 0]),
        id="probabilities",
    ),
    pytest.param(
        LastState(3),
        torch.where(torch.arange(N) % 4 == 0, -100, y_classes),
        nn.NLLLoss(),
        id="log likelihood of raw outputs",
    ),
    pytest.param(
        LastState(1),
        torch.where(torch.arange(N)[:, None] % 4 == 0, -99.0, sums()[1]),
        lambda z, y: one_sided(z[y != -99], y[y != -99]),
        id="squared error above the targets, cut off",
    ),
]


@pytest.mark.parametrize(("model", "y", "loss_fn"), MASKED)
def test_the_targets_that_a_loss_counts_are_those_at_which_it_has_a_slope(model, y, loss_fn):
    score = run_of(model, sums()[0], y, loss_fn).score
    assert score.ignored == y[0] and score.ignored not in score.targets


def test_a_logit_of_0_and_a_probability_of_a_half_are_no_side():
    """The side is that above: 1 at 1e-3 more."""
    for end, at in ((nn.Identity(), 0.0), (nn.Sigmoid(), 0.5)):
        loss_fn = nn.BCELoss() if at else nn.BCEWithLogitsLoss()
        score = run_of(nn.Sequential(LastState(1), end), sums()[0], y_signs, loss_fn).score
        z = torch.tensor([[at - 1e-3], [at], [at + 1e-3]])
        found = score.guess(z, torch.zeros(3, 1), logits=not at)
        assert found.flatten().tolist() == [False, False, True]


def test_held_out_classes_that_are_ignored_are_not_those_of_the_training():
    y = y_frames.clamp(max=1)
    y[160:] = 2
    y[:, 4:] = -100
    run = run_of(EachState(3), sums()[0], y, ignoring(-100), shuffle=False)
    with pytest.raises(InvalidInputError, match="no held-out class is one that is trained on"):
        held_of(run, run.data.halves[0])


@pytest.mark.parametrize(("kind", "y", "outputs", "value"), IGNORING)
def test_the_usual_loss_ignores_what_the_users_loss_ignores(kind, y, outputs, value):
    y, loss_fn = some_ignored(y, value), ignoring(value, kind)
    run = run_of(EachState(outputs), sums()[0], y, loss_fn)
    x, y, _ = next(run.data.minibatches(0))
    z = run.model(x)
    expected = loss_fn(z, y)
    torch.testing.assert_close(run.score.usual(z, y, run.score.last), expected)
    alone = run.score.usual(z[:2], torch.full_like(y[:2], value), run.score.last)
    assert alone.isnan()
    run.model.zero_grad()
    alone.backward()
    assert all((p.grad == 0).all() for p in run.model.parameters() if p.grad is not None)


def test_targets_are_ignored_by_value_only_if_they_have_one_that_no_other_has():
    def last(z, y):
        return (z[:, -1] - y[:, -1]).square().mean()

    x, _ = sums()
    every = run_of(EachState(1), x, x[..., :1], nn.MSELoss())
    assert every.score.ignored is None and len(every.score.targets) == 160 * T
    several = run_of(EachState(1), x, x[..., :1], last)
    assert several.score.ignored is None and len(several.score.targets) == 160
    y = torch.zeros(N, T, 1)
    y[:, 3:] = x[:, 3:, :1].round()  # 0 is counted, too
    assert run_of(EachState(1), x, y, last).score.ignored is None


OF_CONSTANTS = [
    pytest.param(
        lambda: torch.randint(2, (63,)),
        LastState(2),
        nn.CrossEntropyLoss(),
        lambda y: np.bincount(y).argmax(),
        id="classes",
    ),
    pytest.param(
        lambda: torch.randint(2, (63, 1)).float(),
        LastState(1),
        nn.BCEWithLogitsLoss(),
        lambda y: y.mean() > 0.5,
        id="signs",
    ),
    pytest.param(
        lambda: torch.randn(63, 1).exp(),
        LastState(1),
        nn.MSELoss(),
        lambda y: y.astype(float).mean(),
        id="numbers",
    ),
]


@pytest.mark.parametrize(("draw", "model", "loss_fn", "constant"), OF_CONSTANTS)
def test_the_constant_predictor_is_that_of_all_training_examples(draw, model, loss_fn, constant):
    """43 training examples: 32, and 11 that no minibatch has."""
    for seed in range(20):
        torch.manual_seed(seed)
        run = run_of(model, sums(63)[0], draw(), loss_fn)
        train = run.data.train.y.numpy()
        assert len(train) == 43
        found = run.score.constant.numpy().squeeze()
        np.testing.assert_allclose(found, constant(train), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "y", "mask", "constant"),
    [
        pytest.param("classes", [2, 0, 2, 1, 1, 1], [1, 1, 1, 1, 0, 0], 2, id="classes"),
        pytest.param("signs", [[0.0], [1.0]], [[1], [1]], [False], id="as many of both sides"),
        pytest.param("signs", [[0.0], [1.0], [1.0]], [[1], [1], [0]], [False], id="signs"),
        pytest.param("signs", [[0.0], [1.0], [1.0]], [[1], [1], [1]], [True], id="all signs"),
        pytest.param(
            "numbers",
            [[1.0, 5.0], [3.0, 9.0], [99.0, 99.0]],
            [[1, 1], [1, 0], [0, 0]],
            [2.0, 5.0],
            id="numbers",
        ),
        pytest.param(
            "numbers", [[1.0, 5.0], [3.0, 9.0]], [[1, 0], [1, 0]], [2.0, 0.0], id="none is counted"
        ),
        pytest.param("numbers", [1.0, 3.0, 9.0], [1, 1, 0], 2.0, id="numbers without an axis"),
        pytest.param("raw", [[1.0], [3.0]], [[1], [1]], 0.0, id="raw"),
    ],
)
def test_the_constant_predictor_is_that_of_the_counted_targets(kind, y, mask, constant):
    y, mask = torch.tensor(y), torch.tensor(mask, dtype=torch.bool)
    assert scores.constant_predictor(kind, y, mask, torch.float32).tolist() == constant


@pytest.mark.parametrize(
    ("y", "mask", "value"),
    [
        pytest.param([1, 2, 9, 9], [1, 1, 0, 0], 9, id="one value"),
        pytest.param([1, 2, 9, 8], [1, 1, 0, 0], None, id="two values"),
        pytest.param([1, 9, 9, 9], [1, 1, 0, 0], None, id="also counted"),
        pytest.param([1, 2, 9, 9], [1, 1, 1, 1], None, id="none"),
    ],
)
def test_the_value_of_ignored_targets(y, mask, value):
    found = scores.ignored_value(torch.tensor(y), torch.tensor(mask, dtype=torch.bool))
    assert (None if found is None else int(found)) == value


def test_a_mask_without_targets_is_one_of_all():
    none, one = torch.zeros(3, dtype=torch.bool), torch.tensor([False, True, False])
    assert scores.all_if_none(none).tolist() == [True] * 3
    assert scores.all_if_none(one).tolist() == [False, True, False]


class Turned(nn.Module):
    """Classes on axis 1."""

    def forward(self, z):
        return z.transpose(1, 2)


def test_axis_1_and_axis_0_give_the_same_errors():
    x, y = sums()[0], y_frames
    torch.manual_seed(1)
    one = EachState(3)
    other = EachState(3)
    other.load_state_dict(one.state_dict())
    other.rnn.batch_first = False

    def loss_fn(z, y):
        return F.cross_entropy(z.flatten(0, 1), y.flatten())

    a = run_of(one, x, y, loss_fn)
    b = run_of(other, x.transpose(0, 1), y.T, loss_fn, axis=1)
    turned = run_of(nn.Sequential(one, Turned()), x, y, nn.CrossEntropyLoss())
    found = [held_of(run, run.data.halves[1]).errors(run).numpy() for run in (a, b, turned)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


class HalfNan(nn.Module):
    """Two outputs, of which one is NaN for some examples."""

    def forward(self, x):
        first = x[:, 0]
        return torch.stack([first[:, 0], first[:, 1] / (first[:, 0] > 0)], 1)


def test_an_example_with_one_output_of_nan_has_an_infinite_error():
    x, _ = sums()
    x[:, 0, 1] = 0
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    run = run_of(HalfNan(), x, torch.randn(N, 2), nn.MSELoss(), sgd)
    half = run.data.halves[0]
    assert torch.equal(held_of(run, half).errors(run).isinf(), half.x[:, 0, 0] <= 0)


@pytest.mark.parametrize(
    ("count", "half", "batches"),
    [
        pytest.param(200, 0, 10, id="10 x 2 examples"),
        pytest.param(187, 1, 9, id="9 x 2 examples, and 1 in no minibatch"),
        pytest.param(5 * 46, 0, 11, id="11 x 2 examples, and 1 in no minibatch"),
        pytest.param(5 * 49, 0, 8, id="8 x 3 examples"),
    ],
)
def test_a_raw_loss_is_the_loss_of_held_out_minibatches(count, half, batches):
    """As many examples in each as leave eight minibatches or more."""
    run = run_of(LastState(2), *sums(count), density)
    half = run.data.halves[half]
    held = held_of(run, half)
    size = len(half) // batches
    with torch.no_grad():
        expected = [
            density(run.model(half.x[k : k + size]), half.y[k : k + size])
            for k in range(0, batches * size, size)
        ]
    np.testing.assert_allclose(held.errors(run), torch.stack(expected).numpy(), rtol=1e-5)
    assert held.groups.tolist() == [*range(batches)] and held.size == size


@pytest.mark.parametrize(
    ("y", "found"),
    [
        pytest.param([[0, 1], [1, 0]], True, id="one-hot"),
        pytest.param([[[0.0, 0.0, 1.0]]], True, id="of steps"),
        pytest.param([[0, 1], [1, 1]], False, id="two in a row"),
        pytest.param([[0, 1], [0, 0]], False, id="none in a row"),
        pytest.param([[0.5, 0.5], [1, 0]], False, id="shares"),
        pytest.param([[-1, 2], [1, 0]], False, id="other numbers of sum 1"),
        pytest.param([0, 1, 0], False, id="no axis of classes"),
    ],
)
def test_one_hot_targets_have_a_1_among_zeros_in_each_row(y, found):
    assert scores.is_one_hot(torch.tensor(y)) is found


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_a_raw_loss_that_is_not_finite_stays_infinite(number):
    run = run_of(LastState(2), *sums(), density)
    broken = replace(run, loss_fn=lambda z, y: density(z, y) * number)
    half = run.data.halves[0]
    assert held_of(run, half).errors(broken).abs().isinf().all()


def test_minibatches_of_a_raw_loss_are_no_larger_than_those_of_training():
    run = run_of(LastState(2), *sums(), lambda z, y: density(z, y) + 0 * len(z), batch_size=1)
    assert held_of(run, run.data.halves[0]).size == 1


@pytest.mark.parametrize(
    ("groups", "size", "batches"),
    [
        pytest.param([0, 1, 1, 2, 3, 3, 4], 2, [0, 0, 1], id="2 in a row share"),
        pytest.param([0, 0, 1, 1, 2, 2, 3, 3], 2, [0, 1, 2, 3], id="none"),
        pytest.param([0, 0, 0, 0, 0, 1], 2, [0, 0, 0], id="all"),
        pytest.param([0, 1, 2, 3, 3, 4, 5, 6, 7, 8], 3, [0, 1, 2], id="inside of one"),
        pytest.param([0, 1, 2, 2, 3, 4, 4], 3, [0, 0], id="three of seven"),
    ],
)
def test_minibatches_that_share_a_group_are_of_one_group(groups, size, batches):
    assert training.groups_of_minibatches(torch.tensor(groups), size).tolist() == batches


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        pytest.param([1.0, 0.0], [1.0, 64 * 2.0**-23], [False, False], id="64 roundings"),
        pytest.param([1.0, 0.0], [1.0, 65 * 2.0**-23], [False, True], id="65 roundings"),
        pytest.param([1000.0, 0.5], [1000.0, 0.507], [False, False], id="of the largest"),
        pytest.param([1000.0, 0.5], [1000.0, 0.492], [False, True], id="below"),
        pytest.param([0.0, 0.0], [0.0, 0.0], [False, False], id="zeros"),
        pytest.param([np.nan, np.inf], [np.nan, np.inf], [False, False], id="no numbers"),
        pytest.param([3, 4], [3, 5], [False, True], id="whole numbers"),
    ],
)
def test_numbers_differ_by_more_than_64_roundings_of_the_largest(one, other, differ):
    assert training.differs(torch.tensor(one), torch.tensor(other)).tolist() == differ


@pytest.mark.parametrize(
    ("kind", "errors"),
    [pytest.param("classes", [1, 2], id="wrong"), pytest.param("numbers", [1, 5], id="squares")],
)
def test_errors_of_an_example_are_those_of_all_its_counted_targets(kind, errors):
    score = scores.Score(kind, -1, True, "", constant=torch.tensor(0), targets=torch.tensor([]))
    guess, y = torch.tensor([[1, 2, 0], [0, 0, 0]]), torch.tensor([[1, 1, 1], [0, 1, 2]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert score.errors(guess, y, mask).tolist() == errors


def test_predict_chooses_what_is_compared():
    x, y = sums()
    run = run_of(LastState(2), x, y, density, predict=lambda z: z[:, :1])
    assert run.score.kind == "numbers"
    found = held_of(run, run.data.halves[0]).errors(run)
    with torch.no_grad():
        z = run.model(run.data.halves[0].x)[:, :1]
    expected = relative_error(*(t.numpy() for t in (z, run.data.halves[0].y, run.data.train.y)))
    np.testing.assert_allclose(found.mean().item(), expected, rtol=1e-5)
    classes = run_of(
        LastState(3), x, y_classes, nn.CrossEntropyLoss(), predict=lambda z: z.argmax(-1)
    )
    assert classes.score.kind == "classes"
    half = classes.data.halves[0]
    with torch.no_grad():
        wrong = classes.model(half.x).argmax(1) != half.y
    usual = classes.data.train.y.mode().values
    found = held_of(classes, half).errors(classes)
    np.testing.assert_allclose(found, wrong / (half.y != usual).double().mean())
    assert classes.score.classes == run.score.classes == -1


@pytest.mark.parametrize(
    ("predict", "kind"),
    [
        pytest.param(lambda z: z.argmax(-1), "classes", id="a class for every step"),
        pytest.param(lambda z: z, "classes", id="logits"),
        pytest.param(lambda z: z[..., 0].flatten(), "raw", id="a number for each of B T"),
        pytest.param(lambda z: z[:, 0, 0], "raw", id="a number for each example"),
    ],
)
def test_predictions_of_every_step_are_compared_with_its_class(predict, kind):
    def loss_fn(z, y):
        return F.cross_entropy(z.transpose(1, 2), y)

    run = run_of(EachState(3), sums()[0], y_frames, loss_fn, predict=predict)
    assert run.score.kind == kind
    half = run.data.halves[0]
    with torch.no_grad():
        wrong = run.model(half.x).argmax(-1) != half.y
    if kind == "classes":
        unit = (half.y != run.data.train.y.flatten().mode().values).sum(1).double().mean()
        found = held_of(run, half).errors(run)
        np.testing.assert_allclose(found, wrong.sum(1) / unit, rtol=1e-6)


class Centred(LastState):
    """Outputs without their mean over the minibatch, and with a normalisation of it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        z = self.norm(super().forward(x))
        return z - z.mean(0)


def test_single_examples_and_training_mode_are_measured_as_asked():
    x, y = sums()
    run = run_of(Centred(), x, y, nn.MSELoss())
    half, mean = run.data.halves[0], run.data.train.y.mean()
    held = held_of(run, half)
    unit = (half.y - mean).square().sum()
    single = held.errors(run, size=1).mean().item()
    np.testing.assert_allclose(single, (half.y.square().sum() / unit).item(), rtol=1e-5)
    rows = torch.arange(32) % 20  # a minibatch is filled up with the first examples
    with torch.no_grad():
        z = run.model.train()(half.x[rows])[:20]
    training = held.errors(run, training=True).mean().item()
    np.testing.assert_allclose(training, ((z - half.y).square().sum() / unit).item(), rtol=1e-5)


def test_outputs_that_are_nan_have_an_infinite_error():
    run = run_of(LastState(1), *sums(), nn.MSELoss())
    held = held_of(run, run.data.halves[0])
    with torch.no_grad():
        run.model.out.bias.fill_(torch.nan)
    assert held.errors(run).isinf().all()


def test_the_usual_loss_is_that_of_torch():
    z, p = torch.randn(N, 3), torch.randn(N, 1)
    x, numbers = sums()
    for model, output, y, loss_fn, expected in (
        (LastState(3), z, y_classes, focal, F.cross_entropy(z, y_classes)),
        (Shares(3), z.softmax(1), y_classes, focal, F.cross_entropy(z, y_classes)),
        (
            LastState(1),
            p,
            y_signs,
            nn.BCEWithLogitsLoss(),
            F.binary_cross_entropy_with_logits(p, y_signs),
        ),
        (
            nn.Sequential(LastState(1), nn.Sigmoid()),
            p.sigmoid(),
            y_signs,
            nn.BCELoss(),
            F.binary_cross_entropy_with_logits(p, y_signs),
        ),
        (LastState(1), p, numbers, nn.L1Loss(), F.mse_loss(p, numbers)),
    ):
        score = run_of(model, x, y, loss_fn).score
        torch.testing.assert_close(score.usual(output, y, score.last), expected)

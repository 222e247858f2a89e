"""`trainability.assert_learns`: what a test of a training prints and passes."""

import pytest
import torch
from torch import nn

import trainability
from rhn.errors import InvalidInputError
from trainability.training import Training

G = torch.Generator().manual_seed(0)
X = torch.randn(400, 8, 3, generator=G)
Y = X[:, :, :1].mean(1)


class Net(nn.Module):
    """A GRU whose last output is read."""

    def __init__(self, *, batch_first: bool):
        super().__init__()
        self.gru, self.head = nn.GRU(3, 16, batch_first=batch_first), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


def adam(model: nn.Module, rate: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), rate)


def test_a_network_that_learns_passes():
    model = Net(batch_first=True)
    before = [p.detach().clone() for p in model.parameters()]
    trainability.assert_learns(model, X, Y, nn.MSELoss(), adam(model), steps=200, below=0.3)
    assert all(map(torch.equal, before, model.parameters()))


def test_a_planted_fault_fails_with_both_numbers_and_its_proof():
    model = Net(batch_first=False)
    with pytest.raises(AssertionError) as found:
        trainability.assert_learns(model, X, Y, nn.MSELoss(), adam(model), steps=200, below=0.3)
    first, *facts = str(found.value).splitlines()
    assert first.startswith("the relative error of Net is 0.")
    assert float(first.split()[6]) > 0.5
    words = "after 200 steps, expected less than 0.3 (1: no better than the constant predictor)"
    assert words in first
    assert any("nn.GRU(..., batch_first=True)" in fact for fact in facts)


def test_the_optimiser_of_a_name_has_the_rate_of_torch():
    assert Training(Net(batch_first=True), X, Y).learning_rate == 1e-3
    with pytest.raises(AssertionError, match=r"expected less than 0\.5"):
        trainability.assert_learns(Net(batch_first=True), X, Y, steps=1)


class Stateful(nn.Module):
    """A GRU that goes on from the state of the last call."""

    def __init__(self):
        super().__init__()
        self.gru, self.head, self.h = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 1), None

    def forward(self, x):
        states, h = self.gru(x, self.h)
        self.h = h.detach()
        return self.head(states[:, -1])


def test_a_model_that_keeps_its_state_is_told_so_with_the_sizes():
    model = Stateful()
    with pytest.raises(
        InvalidInputError, match=r"keeps a state from call to call, h of shape \(1, "
    ):
        trainability.assert_learns(model, X, Y, nn.MSELoss(), adam(model), steps=3)


def test_a_bound_that_the_training_misses_fails():
    """The error of a linear network is that of least squares on the noise."""
    y = Y + 0.3 * torch.randn(Y.shape, generator=G)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    given = {"steps": 400, "seed": 1}
    least = 0.09 / float(y.var())  # the share of the noise
    trainability.assert_learns(model, X, y, nn.MSELoss(), adam(model), below=1.5 * least, **given)
    with pytest.raises(AssertionError, match="expected less than"):
        trainability.assert_learns(
            model, X, y, nn.MSELoss(), adam(model), below=0.5 * least, **given
        )


def test_an_explosion_fails():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    sgd = torch.optim.SGD(model.parameters(), 1e3)
    with pytest.raises(AssertionError, match="of Sequential is inf after"):
        trainability.assert_learns(model, X, Y, nn.MSELoss(), sgd, steps=300)


def test_few_examples_are_measured_on_those_of_the_training():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    frozen = torch.optim.SGD(model.parameters(), 0.0)
    with pytest.raises(AssertionError, match=r"on training examples \(0 examples are held out\)"):
        trainability.assert_learns(model, X[:40], Y[:40], nn.MSELoss(), frozen, steps=5)
    training = Training(model, X[:40], Y[:40], "mse", adam(model, 0.05), steps=300)
    trainability.assert_learns(training, below=0.1)


def test_a_failure_shows_the_line_of_the_test_and_none_of_ours():
    model = Net(batch_first=True)
    with pytest.raises(AssertionError) as found:
        trainability.assert_learns(model, X, Y, nn.MSELoss(), adam(model, 1e-9), steps=5)
    first, *others = found.traceback.filter(found)
    assert first.path.name == "test_testing.py" and not others


def message(*given, **parts):
    with pytest.raises(AssertionError) as found:
        trainability.assert_learns(*given, **parts)
    return str(found.value)


class Told(nn.Module):
    """Outputs that know padding, and nothing else."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        padding = 9 * nn.functional.one_hot(torch.tensor(0), 5)
        return self.scale * torch.where(x[..., None] == 0, padding, torch.tensor([0, 4, 3, 2, 1]))


def test_padding_that_the_loss_counts_is_named_as_by_a_check():
    lengths = torch.randint(3, 9, (120,), generator=G)
    real = torch.arange(8) < lengths[:, None]
    ids, y = (torch.randint(1, 5, (120, 8), generator=G) * real for _ in range(2))

    def loss_fn(z, y):
        return nn.functional.cross_entropy(z.transpose(1, 2), y)

    training = Training(Told(), ids, y, loss_fn, "sgd", batch_axis=0, steps=20)
    found = trainability.check(training, seconds=5)
    (sentence,) = (words for words in found.remarks if "as padding does" in words)
    assert sentence in message(training, below=0.1).splitlines()


def test_a_part_that_only_an_experiment_can_find_is_left_to_a_check():
    model = Net(batch_first=True)
    words = message(Training(model, X, Y, "mse", "sgd", clip_norm=1e-6, steps=20))
    assert words.splitlines()[-1].startswith("trainability.check tests each part")
    assert "clipping" in words.splitlines()[-1]


def test_an_error_that_is_that_of_the_loss_says_what_it_compares_as_a_check():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    counts = torch.poisson(Y.exp(), generator=G)
    training = Training(model, X, counts, nn.PoissonNLLLoss(), adam(model, 1e-6), steps=5)
    assert trainability.check(training, seconds=60).measure in message(training)


def test_a_loss_that_is_not_finite_is_named_as_by_a_check():
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    training = Training(model, X, Y, "mse", torch.optim.SGD(model.parameters(), 1e3), steps=300)
    found = trainability.check(training, seconds=5)
    assert found.facts[0].sentence in message(training)


def test_a_step_that_fails_is_not_called_an_error_too_large():
    calls = []

    def loss_fn(z, y):
        calls.append(None)
        if z.requires_grad and len(calls) > 200:
            raise RuntimeError("no memory")
        return (z - y).square().mean()

    with pytest.raises(InvalidInputError, match="no memory"):
        trainability.assert_learns(Net(batch_first=True), X, Y, loss_fn, steps=2000)


def test_a_network_that_learns_from_a_leak_passes_with_a_warning_at_the_line_of_the_test():
    """The target of a frame is the input of this frame, and the output for the frame reads it."""
    ids = torch.randint(0, 5, (200, 6), generator=G)
    model = nn.Sequential(nn.Embedding(5, 5), nn.Linear(5, 5))
    training = Training(model, ids, ids, "cross-entropy", adam(model, 0.1), batch_axis=0, steps=60)
    with pytest.warns(UserWarning, match=r"Sequential learns\. Proven: ") as found:
        trainability.assert_learns(training)
    words = "Sequential learns. Proven: The target of a frame is the input of this frame"
    assert any(str(warning.message).startswith(words) for warning in found)
    assert {warning.filename for warning in found} == {__file__}


def test_a_network_that_learns_without_a_fault_passes_without_a_warning(recwarn):
    model = Net(batch_first=True)
    trainability.assert_learns(model, X, Y, nn.MSELoss(), adam(model), steps=200, below=0.3)
    assert not recwarn

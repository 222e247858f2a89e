"""Known good parts, and swaps of one part: what they replace, and what they leave alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, SequentialLR, StepLR

from rhn.models import PolyphonicModel
from trainability import swaps
from trainability.diagnosis import WIDTH
from trainability.known_good import KnownGood
from trainability.probe import Probe
from trainability.reference import UNITS
from trainability.training import Training

G = torch.Generator().manual_seed(0)
X = 4200 + 900 * torch.randn(80, 6, 2, generator=G)
SIDE = 100 * torch.rand(80, 6, 1, generator=G)
MASK = (torch.rand(80, 6, generator=G) > 0.5).float()
Y = X[:, :, :1] * 3


class Net(nn.Module):
    """An output for each frame, from two inputs and a mask."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 4, batch_first=True, **options)
        self.out = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 1)

    def forward(self, x, side, mask):
        return self.out(self.rnn(torch.cat((x, side), 2) * mask[..., None])[0])


def training(model=None, scheduler=None, kind=torch.optim.SGD, **parts):
    model = model or Net()
    optimizer = kind(model.parameters(), 0.1)
    schedule = None if scheduler is None else scheduler(optimizer)
    return Training(model, (X, SIDE, MASK), Y, "mse", optimizer, scheduler=schedule, **parts)


def rates(training, steps=8):
    """The learning rate of each step."""
    x, y = training.data.sample(16)
    found = []
    for _ in range(steps):
        found.append(training.optimizer.param_groups[0]["lr"])
        training.step(x, y)
    return found


SCHEDULES = {
    "step": lambda o: StepLR(o, 2, 0.5),
    "to nothing": lambda o: StepLR(o, 1, 0.0),
    "one cycle": lambda o: OneCycleLR(o, 1.0, total_steps=10, cycle_momentum=False),
    "two after another": lambda o: SequentialLR(o, [LinearLR(o, 0.1), StepLR(o, 2, 0.5)], [3]),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_the_schedule_stays_with_the_optimiser_of_another_network(make):
    given = training(scheduler=make)
    other = given.with_model(Net())
    assert rates(other.copy()) == pytest.approx(rates(given.copy()))
    assert rates(other.with_rates(10.0)) == pytest.approx([10 * r for r in rates(given.copy())])


def test_a_constant_rate_is_the_largest_of_the_schedule():
    constant = swaps.without_schedule(training(scheduler=SCHEDULES["one cycle"], steps=10))
    assert rates(constant) == pytest.approx([1.0] * 8, rel=0.05)


def scales(values):
    flat = values.flatten(0, 1)
    return torch.stack((flat.mean(0).abs(), (flat.std(0) - 1).abs())).max()


@pytest.mark.parametrize("keep", [(), ("network",)])
def test_numbers_are_standardised_once(keep):
    given = training()
    good = KnownGood(given, Probe(given)).with_parts(*keep, rate=1e-3)
    if keep:
        x, side, mask = good.change_inputs(good.data.sample(512)[0])
        assert torch.equal(mask, given.data.sample(512)[0][2])
        seen = torch.cat((x, side), 2)
    else:
        assert good.change_inputs is given.change_inputs
        both = zip(good.model.readers, good.data.sample(512)[0][:2], strict=False)
        seen = torch.cat([reader(v) for reader, v in both], 2)
    assert scales(seen) < 0.05


def test_the_inputs_that_are_kept_reach_a_known_good_network_unchanged():
    given = training()
    good = KnownGood(given, Probe(given)).with_parts("inputs", rate=1e-3)
    x = given.data.sample(512)[0][0]
    assert torch.equal(good.model.readers[0](x), x)


@pytest.mark.parametrize("both", [False, True])
def test_a_known_good_network_is_causal_if_that_of_the_user_is(both):
    given = training(Net(bidirectional=both))
    good = KnownGood(given, Probe(given))
    assert good.causal != both
    assert good.reference().rnn.bidirectional == both


def test_a_network_of_another_form_needs_no_predict():
    model = Net()
    parts = {"predict": lambda output: output[..., :1]}
    adam = torch.optim.Adam(model.parameters(), 0.1)
    given = Training(model, (X, SIDE, MASK), Y, "mse", adam, **parts)
    good = KnownGood(given, Probe(given)).with_parts(rate=1e-3)
    assert good.output(given.data.sample(512)[0]).shape == given.data.sample(512)[1].shape


def pinball(z, y):
    return torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()


def loss_of_known_good(loss_fn, y):
    """The loss of a known good run, and how it changes the targets, for outputs (80, 1)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.1)
    given = Training(model, X, y, loss_fn, adam)
    good = KnownGood(given, Probe(given)).with_parts(rate=3e-3)
    return good._loss, good.change_targets


OF_NUMBERS = 5 + torch.randn(80, 1, generator=G)
COUNTS = torch.poisson(3 * torch.rand(80, 1, generator=G), generator=G)
SOFT = 0.1 + 0.8 * torch.rand(80, 1, generator=G)


@pytest.mark.parametrize(
    ("loss_fn", "y", "own", "scaled"),
    [
        (nn.PoissonNLLLoss(), COUNTS, True, False),
        (nn.BCEWithLogitsLoss(), SOFT, True, False),
        (lambda z, y: (y * (-z).exp() + z).mean(), OF_NUMBERS.abs(), True, False),  # of Gamma
        (pinball, OF_NUMBERS, True, True),
        (nn.MSELoss(), OF_NUMBERS, False, True),
        (nn.L1Loss(), OF_NUMBERS, False, True),
        (nn.L1Loss(), 20000 + 1500 * OF_NUMBERS, False, True),
        (nn.HuberLoss(), OF_NUMBERS, False, True),
        (lambda z, y: (z - y).cosh().log().mean(), OF_NUMBERS, False, True),
        (lambda z, y: F.mse_loss(z, y).sqrt(), OF_NUMBERS, False, True),
        (lambda z, y: (z - y.squeeze(1)).square().mean(), OF_NUMBERS, False, True),  # unpaired
    ],
    ids=[
        "poisson",
        "soft",
        "gamma",
        "quantile",
        "mse",
        "l1",
        "large",
        "huber",
        "log-cosh",
        "root",
        "unpaired",
    ],
)
def test_a_known_good_run_keeps_a_loss_that_is_least_at_other_outputs(loss_fn, y, own, scaled):
    loss, change = loss_of_known_good(loss_fn, y)
    z = torch.randn(80, 1, generator=G)
    kept, usual = loss_fn(z, y), F.mse_loss(z, y)
    assert float(loss(z, y)) == pytest.approx(float(kept if own else usual))
    assert torch.equal(change(y), y) != scaled


def test_a_layer_of_zeros_with_one_output_is_no_softmax():
    """exp(0) = 1: the known good network ended in log_softmax, and gave 0 for every input."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    nn.init.zeros_(model[1].weight), nn.init.zeros_(model[1].bias)
    x = torch.randn(80, 8, 3, generator=G)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    given = Training(model, x, x[:, -1, :1] + 1, nn.MSELoss(), adam)
    assert KnownGood(given, Probe(given)).reference()(x).std() > 1e-3


def test_a_known_good_run_learns_rates_by_the_loss_of_the_user():
    """By arithmetic: the Poisson loss of the best constant, and of the rates that made the data."""
    x = torch.randn(600, 6, 2, generator=G)
    rates = (1 + x[:, -1:, 0]).exp()
    y = torch.poisson(rates, generator=G)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    given = Training(model, x, y, nn.PoissonNLLLoss(), torch.optim.Adam(model.parameters(), 0.1))
    good = KnownGood(given, Probe(given)).with_parts(rate=3e-3)
    stream = good.data.stream(0)
    for _ in range(150):
        good.step(*next(stream))
    with torch.no_grad():
        reached = float(nn.PoissonNLLLoss()(good.output(x), y))
    constant = float(y.mean() - y.mean() * y.mean().log())
    best = float((rates - y * rates.log()).mean())
    assert reached - best < 0.2 * (constant - best)


# Swaps of the inputs


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("numbers", [False, True])
def test_padding_behind_sequences_moves_to_their_begin(axis, numbers):
    lengths = [3 + k % 4 for k in range(40)]
    rows = [[*range(1, length + 1)] for length in lengths]
    behind = torch.tensor([row + [0] * (8 - len(row)) for row in rows])
    before = torch.tensor([[0] * (8 - len(row)) + row for row in rows])
    if numbers:
        behind, before = (torch.stack((v, v > 0), 2).float() for v in (behind, before))
    model = nn.Linear(2, 1) if numbers else nn.Embedding(9, 1)
    parts = {"predict": lambda z: z.reshape(40, -1)[:, :1], "batch_axis": axis, "batch_size": 40}
    x, adam = behind.transpose(0, axis), torch.optim.Adam(model.parameters(), 0.1)
    other = swaps.padding_before(Training(model, x, torch.zeros(40, 1), "mse", adam, **parts))
    assert torch.equal(other.change_inputs(x), before.transpose(0, axis))


@pytest.mark.parametrize("reads", [False, True])
def test_padding_moves_beside_lengths_only_if_no_output_depends_on_them(reads):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(2, 1, batch_first=True)

        def forward(self, x, lengths):
            h = self.gru(x)[0]
            return h[torch.arange(len(x)), lengths - 1] if reads else h[:, -1]

    lengths = torch.tensor([3 + k % 4 for k in range(40)])
    real = torch.randn(40, 8, 2, generator=G)
    x = real * (torch.arange(8) < lengths[:, None])[..., None]
    model = Last()
    given = Training(model, (x, lengths), torch.zeros(40, 1), "mse", "adam", batch_size=40)
    other = swaps.padding_before(given)
    assert (other is None) is reads
    if other is not None:
        moved, same = other.change_inputs((x, lengths))
        assert torch.equal(same, lengths)
        for k, length in enumerate(lengths.tolist()):
            assert torch.equal(moved[k, 8 - length :], real[k, :length])
            assert not moved[k, : 8 - length].any()


def test_sequences_without_padding_stay_as_they_are():
    ids = torch.randint(1, 9, (80, 6), generator=G)
    delayed = torch.cat((ids[:, :3], torch.zeros(80, 3).long()), 1)  # all by as many frames
    for x in (ids, delayed, X):
        model = nn.Embedding(9, 1) if x.dim() == 2 else nn.Linear(2, 1)
        adam = torch.optim.Adam(model.parameters(), 0.1)
        parts = {"predict": lambda z: z.flatten(1)[:, :1]}
        given = Training(model, x, torch.ones(80, 1), "mse", adam, **parts)
        assert swaps.padding_before(given) is None


# Swaps of the field


def deep(cell="dt-rnn"):
    x = torch.rand(60, 5, 3, generator=G)
    model = PolyphonicModel(
        cell, input_size=3, hidden_size=4, output_size=3, depth=3, init="gaussian:0.01"
    )
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    return Training(model, x.transpose(0, 1), x.transpose(0, 1), "mse", sgd, batch_axis=1)


def test_recurrence_depth_one_keeps_the_first_layer():
    given = deep()
    cell, own = swaps.depth_one(given).model.cells[0], given.model.cells[0]
    assert cell.depth == 1 and torch.equal(cell.weight_hh, own.weight_hh[:1])
    assert swaps.depth_one(training()) is None


def test_a_carry_gate_takes_the_place_of_a_deep_transition():
    cell = swaps.carry_gate(deep()).model.cells[0]
    assert (type(cell).__name__, cell.depth, cell.hidden_size) == ("RHN", 3, 4)
    assert swaps.carry_gate(deep("rhn")) is None


@pytest.mark.parametrize("given", [deep, training], ids=["rhn", "torch"])
def test_recurrent_matrices_are_scaled_to_the_norm_of_a_rotation(given):
    matrices = [*swaps.recurrent_matrices(swaps.norm_kept(given()).model)]
    assert matrices
    for W in matrices:
        assert W.norm().item() == pytest.approx(len(W) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("swap", [swaps.every_weight, swaps.not_frozen])
def test_weights_that_are_left_out_or_frozen_enter_the_optimiser(swap):
    model = Net()
    model.out.requires_grad_(swap is swaps.every_weight)
    sgd = torch.optim.SGD(model.rnn.parameters(), 0.1)
    other = swap(Training(model, (X, SIDE, MASK), Y, "mse", sgd))
    held = {id(p) for group in other.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in other.model.parameters() if p.requires_grad}
    assert len(held) == len([*model.parameters()]) and swap(training()) is None


class OfAllFrames(nn.Module):
    """The mean of all frames, at each of them."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        return self.out(x.mean(1, keepdim=True) + x)


class LastState(nn.Module):
    """An output of the last state of a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(
    ("model", "y", "name"),
    [
        (LastState(), Y[:, -1], "a GRU that also reads mean states"),
        (nn.Sequential(nn.Linear(2, 1)), Y, "a GRU in place of the network"),
        (nn.Sequential(nn.Linear(2, 4), OfAllFrames()), Y, "a GRU that reads both ways"),
    ],
)
def test_the_name_of_the_known_good_network_is_what_its_remedy_builds(model, y, name):
    """Its outputs are those of the lines of the remedy, run with torch.nn of the same weights."""
    adam = torch.optim.Adam(model.parameters(), 0.1)
    good = KnownGood(given := Training(model, X, y, "mse", adam), Probe(given))
    version, x = good.network, good.x
    assert version.what == name and len(name) < WIDTH
    network = good.with_network(given).model
    gru = nn.GRU(2, UNITS, batch_first=True, bidirectional="bidirectional=True" in version.remedy)
    gru.load_state_dict(network.rnn.state_dict())
    scaled = (x - x.mean((0, 1))) / x.std((0, 1), correction=0)
    names = {"gru": gru, "linear": network.head, "x": scaled, "torch": torch}
    lines = version.remedy.partition(": ")[2].partition(", gru of")[0].rstrip(".")
    exec(lines, names)
    assert torch.allclose(names["y"], network(x), atol=1e-5)


def likelihood(z, y):
    """Of a Gaussian with a mean and a log standard deviation for each target."""
    mean, log = z.chunk(2, -1)
    return (log + 0.5 * ((y - mean) / log.exp()).square()).mean()


def test_the_loss_is_repaired_by_one_probe_of_the_users_run(monkeypatch):
    """The repair belongs to the loss and the targets, which all known good runs share."""
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(80, 6, 2, generator=G)
    y = torch.randn(80, generator=G)
    given = Training(model, x, y, likelihood, "adam")
    good, made = KnownGood(given, Probe(given)), []
    assert good.probe.repaired_loss
    monkeypatch.setattr(Probe, "__init__", lambda *given: made.append(given))
    runs = [good.with_parts("targets", *own, rate=1e-3) for own in ((), ("network",))]
    assert not made
    z = torch.randn(80, 2, generator=G)
    for run in runs:
        assert float(run.loss(z, y)) == pytest.approx(float(likelihood(z, y[:, None])))


def test_a_loss_that_is_not_finite_is_not_called_unpaired():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    probe = Probe(Training(model, X, COUNTS, nn.PoissonNLLLoss(), "adam"))
    assert not probe.loss.isfinite() and not probe.is_unpaired and probe.repaired_loss is None

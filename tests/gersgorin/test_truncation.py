"""Truncated backpropagation against plain loops of torch that detach the state."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from readable import without_layout
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gersgorin import load, open_run, truncation
from gersgorin.analyses import truncated_gradients
from gersgorin.analyses.loss_slopes import _step_weights, loss_slopes
from gersgorin.analyses.truncated_gradients import error_and_cosine as measured_error
from gersgorin.analyses.truncation import LossData
from gersgorin.model_map import Axes
from rhn.cells import RHN
from rhn.errors import InvalidInputError, UsersCodeError
from rhn.models import LanguageModel, PolyphonicModel
from tests.user_modules import LastState, OwnLoop, Stacked

T, M, N = 21, 3, 5
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


class Model(nn.Module):
    """A recurrent layer and a linear output, of (T, B, m)."""

    def __init__(self, layer, units=N):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(units, 2)

    def forward(self, x):
        return self.out(self.layer(x)[0])


class ReadsBefore(nn.Module):
    """A step (x, s) -> (output, next state): the output reads the state before the step."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.move, self.read = nn.Linear(M + N, N), nn.Linear(N, N)

    def forward(self, x, s):
        return self.read(s).tanh() * s, self.move(torch.cat((x, s), -1)).tanh()


class Loop(nn.Module):
    """A layer that reads (T, B, m) with a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x, s=None):
        s, outputs = x.new_zeros(x.shape[1], N) if s is None else s, []
        for x_t in x:
            o, s = self.step(x_t, s)
            outputs.append(o)
        return torch.stack(outputs), s


LAYERS = {
    "RNN": lambda: nn.RNN(M, N),
    "GRU": lambda: nn.GRU(M, N),
    "LSTM of two layers": lambda: nn.LSTM(M, N, 2),
    "LSTM with a projection": lambda: nn.LSTM(M, N + 2, proj_size=N),
    "RHN of depth 3": lambda: RHN(M, N, 3),
    "own step": lambda: Loop(ReadsBefore()),
}


def model_of(name):
    torch.manual_seed(3)
    model = Model(LAYERS[name]()).double()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model


def data_of(B=1, outputs=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (T, B, M), (T, B, outputs)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def slopes(loss, layer):
    """The gradient in the weights of a layer; added biases once."""
    found = []
    names, weights = zip(*layer.named_parameters(), strict=True)
    how = {"allow_unused": True, "materialize_grads": True}
    for name, slope in zip(names, torch.autograd.grad(loss, weights, **how), strict=True):
        if "bias_hh" not in name:
            found.append(slope.flatten())
        elif isinstance(layer, nn.GRU):
            found.append(slope[2 * N :])
    return torch.cat(found)


def detached(state):
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def by_chunks(model, x, y, loss_fn, K, offset):
    """A plain loop that detaches the state at each end of a chunk."""
    state, outputs, start = None, [], 0
    ends = [*range(offset or K, len(x), K), len(x)]
    for end in ends:
        given = () if state is None else (detached(state),)
        o, state = model.layer(x[start:end], *given)
        outputs.append(o)
        start = end
    return slopes(loss_fn(model.out(torch.cat(outputs)), y), model.layer)


def by_sliding(model, x, y, loss_fn, K):
    """Each output from a loop of its own over K steps, from a detached state."""
    states, outputs = [None], []
    for x_t in x:
        given = () if states[-1] is None else (states[-1],)
        states.append(detached(model.layer(x_t[None], *given)[1]))
    for t in range(len(x)):
        # an output of ReadsBefore reads the state before its step
        start = max(0, t - K + 1)
        given = () if states[start] is None else (states[start],)
        outputs.append(model.layer(x[start : t + 1], *given)[0][-1:])
    return slopes(loss_fn(model.out(torch.cat(outputs)), y), model.layer)


def error_and_cosine(g, whole):
    cosine = F.cosine_similarity(g, whole, dim=0) if g.any() else math.nan
    return float((g - whole).norm() / whole.norm()), float(cosine)


def masked(o, y):
    weight = (torch.arange(len(o)) % 3 == 0).to(o)[:, None, None]
    return ((o - y) ** 2 * weight).sum() / weight.sum()


@pytest.mark.parametrize("name", LAYERS)
def test_chunks_are_loops_that_detach_at_four_offsets(name):
    model, (x, y) = model_of(name), data_of()
    found = truncation(model, x, y, F.mse_loss, **how_of(name))
    whole = by_chunks(model, x, y, F.mse_loss, T, 0)
    offsets = {1: [0], 2: [0, 1], 3: [0, 1, 2], 8: [0, 2, 4, 6], 12: [0, 3, 6, 9], T: [0]}
    for K, starts in offsets.items():
        each = [by_chunks(model, x, y, F.mse_loss, K, start) for start in starts]
        error, cosine = np.mean([error_and_cosine(g, whole) for g in each], 0)
        at = found.windows.tolist().index(K)
        np.testing.assert_allclose(found.error[at], error, **CLOSE)
        np.testing.assert_allclose(found.cosine[at], cosine, **CLOSE)


@pytest.mark.parametrize("name", LAYERS)
def test_sliding_windows_and_lags_are_loops_of_each_output(name):
    model, (x, y) = model_of(name), (t[:9] for t in data_of(B=2))
    found = truncation(model, x, y, F.mse_loss, **how_of(name))
    sums = [by_sliding(model, x, y, F.mse_loss, K) for K in range(1, 10)]
    for at, K in enumerate(found.windows):
        error, cosine = error_and_cosine(sums[K - 1], sums[-1])
        np.testing.assert_allclose(found.sliding_error[at], error, **CLOSE)
        np.testing.assert_allclose(found.sliding_cosine[at], cosine, **CLOSE)
    parts = [sums[0], *(b - a for a, b in pairwise(sums))]
    np.testing.assert_allclose(found.by_lag, [float(part.norm()) for part in parts], **CLOSE)


@pytest.mark.parametrize("name", LAYERS)
def test_the_sum_over_lags_is_the_gradient_of_autograd(name):
    model, (x, y) = model_of(name), data_of()
    run = open_run(model, x, progress=False, **how_of(name))
    layer = how_of(name).get("layer", "layer")
    of = loss_slopes(model, layer, [x], [run], lambda outputs: F.mse_loss(outputs[0], y))
    wanted = slopes(F.mse_loss(model(x), y), model.layer)
    # a cell has its weights in another order
    torch.testing.assert_close(sum(truncated_gradients.by_lag(of)).sort()[0], wanted.sort()[0])
    (by_chunks_of_all,) = truncated_gradients.gradients(of, [truncated_gradients.Chunks(T, 0)])
    torch.testing.assert_close(sum(truncated_gradients.by_lag(of)), by_chunks_of_all[0])


def how_of(name):
    return {"layer": "layer.step", "batch_first": False} if name == "own step" else {}


@pytest.mark.parametrize(
    "loss_fn",
    [
        pytest.param(lambda o, y: F.mse_loss(o[-1], y[-1]), id="the last step"),
        pytest.param(masked, id="masked"),
        pytest.param(lambda o, y: (o - y) ** 2, id="a number for each output"),
    ],
)
def test_a_loss_is_differentiated_as_it_is_written(loss_fn):
    model, (x, y) = model_of("GRU"), data_of()

    def mean(o, y):
        return loss_fn(o, y).mean()

    found = truncation(model, x, y, loss_fn)
    whole = by_chunks(model, x, y, mean, T, 0)
    each = [by_chunks(model, x, y, mean, 4, start) for start in range(4)]
    errors = [error_and_cosine(g, whole)[0] for g in each]
    np.testing.assert_allclose(found.error[3], np.mean(errors), **CLOSE)
    lag_0 = by_sliding(model, x, y, mean, 1).norm()
    np.testing.assert_allclose(found.by_lag[0], float(lag_0), **CLOSE)


def test_a_loss_of_the_returned_state_reads_the_last_step():
    class OfState(Model):
        def forward(self, x):
            return self.out(self.layer(x)[1][0])

    torch.manual_seed(0)
    model = OfState(nn.LSTM(M, N)).double()
    x, y = data_of()[0], torch.ones(1, 1, 2).double()
    by_state = truncation(model, x, y, F.mse_loss)
    model.__class__ = Model
    by_output = truncation(model, x, y, lambda o, y: F.mse_loss(o[-1:], y))
    np.testing.assert_allclose(by_state.error, by_output.error, **CLOSE)
    np.testing.assert_allclose(by_state.by_lag, by_output.by_lag, **CLOSE)


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "time first"])
def test_a_batch_has_the_gradient_of_its_loss_and_the_windows_of_each_sequence(batch_first):
    torch.manual_seed(1)
    model = Model(nn.GRU(M, N, batch_first=batch_first)).double()
    x, y = data_of(B=4)
    given = [t.transpose(0, 1) if batch_first else t for t in (x, y)]
    found = truncation(model, *given, F.mse_loss)
    named = truncation(model, *given, "squared")  # as many times the same
    np.testing.assert_allclose(named.error, found.error, **CLOSE)
    model.layer.batch_first = False
    whole = by_chunks(model, x, y, F.mse_loss, T, 0)
    each = [by_chunks(model, x, y, F.mse_loss, 4, start) for start in range(4)]
    errors = [error_and_cosine(g, whole)[0] for g in each]
    np.testing.assert_allclose(found.error[3], np.mean(errors), **CLOSE)
    alone = [truncation(model, x[:, b], y[:, b], F.mse_loss) for b in range(4)]
    np.testing.assert_array_equal(found.windows_10, [one.window_10 for one in alone])
    np.testing.assert_array_equal(found.windows_1, [one.window_1 for one in alone])
    sliding = [by_sliding(model, x, y, F.mse_loss, K) for K in (4, T)]
    np.testing.assert_allclose(found.sliding_error[3], error_and_cosine(*sliding)[0], **CLOSE)


def test_a_pass_for_each_way_to_split_gives_the_numbers_of_one_pass_for_all(monkeypatch):
    model, (x, y) = model_of("GRU"), data_of(B=2)
    together = truncation(model, x, y, F.mse_loss)
    monkeypatch.setattr(truncated_gradients, "BLOCK", 1)
    one_by_one = truncation(model, x, y, F.mse_loss)
    np.testing.assert_allclose(one_by_one.error, together.error, **CLOSE)
    np.testing.assert_array_equal(one_by_one.windows_10, together.windows_10)


@pytest.mark.parametrize(("size", "sizes"), [(3, [3, 2]), (4, [2, 2, 1]), (10, [1] * 5)])
def test_as_many_ways_to_split_are_together_as_fit_into_a_block(size, sizes, monkeypatch):
    monkeypatch.setattr(truncated_gradients, "BLOCK", 9)
    ways = [truncated_gradients.Chunks(8, offset) for offset in range(5)]
    parts = truncated_gradients.in_blocks(ways, size)
    assert [len(part) for part in parts] == sizes
    assert [way for part in parts for way in part] == ways


def test_lags_and_chunks_are_reported():
    model, (x, y), reports = model_of("RNN"), data_of(), []

    def report(done, total):
        reports.append((done, total))

    windows = truncation(model, x, y, F.mse_loss, progress=report).windows
    count = sum(min(K, 4) for K in windows[:-1]) + 1
    lags, splits = [(k, T) for k in range(1, T + 1)], [(k, count) for k in range(1, count + 1)]
    assert reports == lags + splits


def test_the_whole_sequence_has_no_error():
    model, (x, y) = model_of("LSTM of two layers"), data_of(B=2)
    found = truncation(model, x, y, F.mse_loss)
    assert (found.windows[-1], found.error[-1]) == (T, 0)


def test_a_list_of_sequences_is_a_batch():
    model, (x, y) = model_of("RNN"), data_of(B=3)
    listed = truncation(model, [*x.unbind(1)], [*y.unbind(1)], "squared")
    whole = truncation(model, x, y, "squared")
    np.testing.assert_allclose(listed.error, whole.error, **CLOSE)
    own = truncation(model, x, y, lambda o, y: ((o - y) ** 2).sum(-1) / 2)
    np.testing.assert_allclose(whole.by_lag, own.by_lag, **CLOSE)


B = 2
SHAPES = {  # name: (axes, batch first, the user's x has an axis of the batch, outputs, wanted)
    "batch first, each step": (Axes(T, B, 0), True, True, (1, T, 3), (B, T, 3)),
    "time first, each step": (Axes(T, B, 1), False, True, (T, 1, 3), (T, B, 3)),
    "time first, the last step": (Axes(T, B, 1), False, True, (1, 3), (B, 3)),
    "batch first, one step": (Axes(1, B, 0), True, True, (1, 1, 3), (B, 1, 3)),
    "a list, batch first": (Axes(T, B, 0), True, False, (1, T, 3), (B, T, 3)),
    "a list, time first": (Axes(T, B, 0), False, False, (T, 1, 3), (B, T, 3)),
    "a list, no axis": (Axes(T, B, 0), None, False, (T, 3), (B, T, 3)),
    "a list, one output": (Axes(T, B, 0), False, False, (1, 3), (B, 3)),
    "a list, one output as the user has it": (Axes(T, B, 0), True, False, (3,), (B, 3)),
    "one sequence, batch first": (Axes(T, 1, None), True, False, (1, T, 3), (T, 3)),
    "one sequence, batch first, without its axis": (Axes(T, 1, None), True, False, (T, 1), (T, 1)),
    "one sequence, time first": (Axes(T, 1, None), False, False, (T, 1, 3), (T, 3)),
    "one sequence, no axis": (Axes(T, 1, None), None, False, (1, T, 3), (1, T, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_loss_reads_outputs_in_the_shape_that_the_user_knows(name):
    axes, first, has_batch, shape, wanted = SHAPES[name]
    given = [torch.full(shape, float(b)) for b in range(axes.B)]
    data = LossData(given, torch.zeros(1), first, axes, has_batch)
    read = []
    data.loss(lambda o, y: read.append(o) or o.mean())(given)
    assert read[0].shape == wanted
    for b in range(axes.B):  # each sequence has its own number
        assert (read[0] == b).sum() == math.prod(shape)


def test_a_cosine_is_at_most_one():
    for seed in range(20):
        g = torch.randn(9, generator=torch.Generator().manual_seed(seed)).double()
        cosines = [measured_error(sign * g, 3 * g)[1] for sign in (1, -1)]
        assert 1 - 1e-12 < cosines[0] <= 1 and -1 <= cosines[1] < -1 + 1e-12


def test_ids_of_several_sequences_are_a_list_of_them():
    torch.manual_seed(0)
    model = LanguageModel("gru", vocabulary_size=6, hidden_size=4)
    ids = torch.randint(6, (8, 3))
    found = truncation(model, ids[:-1], ids[1:], batch_first=False)
    listed = truncation(model, [*ids[:-1].T], [*ids[1:].T])
    np.testing.assert_allclose(found.error, listed.error, **CLOSE)
    assert len(found.windows_10) == 3 and found.windows.tolist() == [1, 2, 3, 4, 6, 7]


class OneWeight(nn.Module):
    """A layer of s' = w s + x over (T, B, 1), with a weight w or a held one."""

    state_size = 1

    def __init__(self, is_weight):
        super().__init__()
        self.step = WeightedSum(is_weight)

    def forward(self, x, s=None):
        s, states = x.new_zeros(x.shape[1:]) if s is None else s, []
        for x_t in x:
            o, s = self.step(x_t, s)
            states.append(o)
        return torch.stack(states)


class WeightedSum(nn.Module):
    """A step (x, s) -> (output, next state)."""

    state_size = 1

    def __init__(self, is_weight):
        super().__init__()
        w = torch.tensor(0.5)
        self.w = nn.Parameter(w) if is_weight else w
        self.out = nn.Identity()

    def forward(self, x, s):
        s = self.w * s + x
        return self.out(s), s


def test_a_step_of_one_weight_has_a_gradient_and_one_of_none_is_refused():
    how = {"layer": "step", "batch_first": False}
    x, y = torch.ones(6, 1, 1), torch.zeros(6, 1, 1)
    found = truncation(OneWeight(True), x, y, F.mse_loss, **how)
    assert found.error[0] > found.error[1] > found.error[2] > found.error[-1] == 0
    with pytest.raises(InvalidInputError, match=r"number of weights of .* is 0: expected at least"):
        truncation(OneWeight(False), x, y, F.mse_loss, **how)


class Rotated(nn.Module):
    """A step of complex states (x, s) -> (their real part, next state)."""

    def __init__(self):
        super().__init__()
        self.re, self.im = (nn.Parameter(torch.tensor(w)) for w in ([0.5, 0.6], [0.3, -0.7]))
        self.read = nn.Linear(M, 2)

    def forward(self, x, s):
        s = torch.complex(self.re, self.im) * s + self.read(x)
        return s.real, s


class RotatedPairs(Rotated):
    """The same with real and imaginary parts beside each other."""

    def forward(self, x, s):
        a, b = s.chunk(2, -1)
        a, b = self.re * a - self.im * b + self.read(x), self.re * b + self.im * a
        return a, torch.cat((a, b), -1)


class LoopFrom(Loop):
    """A layer that begins at a given state."""

    def __init__(self, step, first):
        super().__init__(step)
        self.first = first

    def forward(self, x):
        return super().forward(x, self.first)[0]


def test_complex_states_are_pairs_of_numbers():
    how, (x, y) = {"layer": "step", "batch_first": False}, data_of()
    of_complex = LoopFrom(Rotated().double(), torch.zeros(1, 2, dtype=torch.complex128))
    of_pairs = LoopFrom(RotatedPairs().double(), torch.zeros(1, 4).double())
    of_pairs.step.load_state_dict(of_complex.step.state_dict())
    found, wanted = (truncation(each, x, y, F.mse_loss, **how) for each in (of_complex, of_pairs))
    np.testing.assert_allclose(found.error, wanted.error, **CLOSE)
    np.testing.assert_allclose(found.by_lag, wanted.by_lag, **CLOSE)


def test_a_layer_of_packed_sequences_is_that_of_their_steps():
    """What the layer returns has whole numbers and None beside its outputs."""

    class Packs(Model):
        def forward(self, x):
            packed = pack_padded_sequence(x, [len(x)] * x.shape[1])
            return self.out(pad_packed_sequence(self.layer(packed)[0])[0])

    model, (x, y) = model_of("GRU"), data_of(B=2)
    wanted = truncation(model, x, y, F.mse_loss)
    model.__class__ = Packs
    found = truncation(model, x, y, F.mse_loss)
    np.testing.assert_allclose(found.error, wanted.error, **CLOSE)
    np.testing.assert_allclose(found.by_lag, wanted.by_lag, **CLOSE)


class OfCell(nn.Module):
    """A step with a cell of torch inside."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(M, N)

    def forward(self, x, s):
        s = self.cell(x, s)
        return s, s


@pytest.mark.parametrize(
    ("part", "count"),
    [
        pytest.param(nn.RNN(M, N), N * (M + N + 1), id="two biases that are added"),
        pytest.param(nn.RNN(M, N, bias=False), N * (M + N), id="no biases"),
        pytest.param(nn.GRUCell(M, N), 3 * N * (M + N + 1) + N, id="one bias that is not added"),
        pytest.param(nn.LSTM(M, N), 4 * N * (M + N + 1), id="LSTM"),
        pytest.param(nn.LSTM(M, 4, proj_size=1), 16 * (M + 1 + 1) + 4, id="a projection"),
        pytest.param(nn.LSTM(M, 4, bias=False, proj_size=2), 16 * (M + 2) + 8, id="without biases"),
        pytest.param(OfCell(), 3 * N * (M + N + 2), id="own step, of which all weights count"),
    ],
)
def test_weights_of_a_layer_are_those_that_it_has_and_added_biases_once(part, count):
    step = open_run(part, torch.zeros(2, M)).step
    assert sum(weight.numel() for weight in _step_weights(step, part)) == count


def test_one_output_for_each_sequence():
    torch.manual_seed(2)
    model = LastState(inputs=M).double()
    x, y = torch.randn(3, T, M).double(), torch.randn(3, 1).double()
    found = truncation(model, x, y, F.mse_loss)
    alone = truncation(model, x[:1], y[:1], F.mse_loss)
    assert found.windows_10[0] == pytest.approx(alone.window_10, nan_ok=True)
    assert len(found.windows_10) == 3


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell], ids=["GRUCell", "LSTMCell"])
def test_a_loop_over_a_cell_gives_the_numbers_of_the_layer(cell):
    torch.manual_seed(4)
    loop = OwnLoop(cell(M, N), batch_first=False).double()
    layer = getattr(nn, cell.__name__.removesuffix("Cell"))(M, N).double()
    layer.load_state_dict({f"{name}_l0": weight for name, weight in loop.cell.state_dict().items()})
    x, y = data_of(outputs=N)
    by_loop, by_layer = (truncation(each, x, y, F.mse_loss) for each in (loop, layer))
    np.testing.assert_allclose(by_loop.error, by_layer.error, **CLOSE)
    np.testing.assert_allclose(by_loop.by_lag, by_layer.by_lag, **CLOSE)


def test_lags_count_from_the_state_that_outputs_read():
    """The upper layer carries the state of the lower one on: it stays at lag 0 of its own step."""
    torch.manual_seed(5)
    model, (x, y) = Stacked(M).double(), data_of(outputs=M)
    found = truncation(model, x, y, F.mse_loss, layer="a")
    states = model.a(x)[0].detach().requires_grad_()
    loss = F.mse_loss(model.out(model.b(states)[0]), y)
    (of_states,) = torch.autograd.grad(loss, states)
    before = torch.cat((torch.zeros_like(states[:1]), states[:-1])).detach()
    each = [model.a(x_t[None], s[None])[0][0] for x_t, s in zip(x, before, strict=True)]
    total = (torch.stack(each) * of_states).sum()
    weights = [*model.a.parameters()]
    of_weights = torch.autograd.grad(total, weights)
    n = 2 * model.a.hidden_size
    lag_0 = torch.cat([g.flatten() for g in (*of_weights[:3], of_weights[3][n:])])
    np.testing.assert_allclose(found.by_lag[0], float(lag_0.norm()), **CLOSE)


def test_a_linear_network_of_one_unit_has_the_errors_of_its_series():
    """s' = r s + x with x = 1 and s[0] = 1 / (1 - r), in the loss s[T]: G_k is r^k (s, 1)."""
    r = 0.8
    rnn = nn.RNN(1, 1, bias=False, nonlinearity="relu").double()
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1 - r)
        rnn.weight_hh_l0.fill_(r)

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x):
            return self.rnn(x, x.new_ones(1, 1, 1))[0]

    found = truncation(Constant(), torch.ones(T, 1, 1), torch.ones(1), lambda o, y: o[-1].sum())
    lags = np.arange(T)
    np.testing.assert_allclose(found.by_lag, math.sqrt(2) * r**lags, **CLOSE)
    error = (r**found.windows - r**T) / (1 - r**T)
    np.testing.assert_allclose(found.sliding_error, error, **CLOSE)
    last = [(T - start - 1) % 4 + 1 for start in range(4)]  # steps of the last chunk, K = 4
    errors = [(r**length - r**T) / (1 - r**T) for length in last]
    np.testing.assert_allclose(found.error[3], np.mean(errors), **CLOSE)
    np.testing.assert_allclose(found.cosine, 1, **CLOSE)


def test_after_training_on_a_delay_the_window_is_longer_than_the_delay():
    delay, units, generator = 12, 20, torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Model(nn.RNN(1, units), units)
    model.out = nn.Linear(units, 1)
    with torch.no_grad():  # a shift register, from which training starts
        model.layer.weight_hh_l0.copy_(0.9 * torch.eye(units).roll(1, 0))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def batch(B):
        x = torch.rand(48, B, 1, generator=generator) - 0.5
        return x, F.pad(x[:-delay], (0, 0, 0, 0, delay, 0))

    for _ in range(80):
        x, y = batch(16)
        loss = F.mse_loss(model(x)[delay:], y[delay:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * float(y[delay:].var())
    found = truncation(model, *batch(1), lambda o, y: F.mse_loss(o[delay:], y[delay:]))
    is_short = found.windows <= delay
    assert found.error[is_short].min() > 0.1
    assert not found.window_10 <= delay  # NaN if only the whole sequence is long enough


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        pytest.param(lambda: PolyphonicModel("gru", hidden_size=4), "bernoulli", id="chorales"),
        pytest.param(lambda: LanguageModel("gru", vocabulary_size=6, hidden_size=4), "categorical",
                     id="text"),
    ],
)  # fmt: skip
def test_a_model_of_ours_knows_its_loss(model, loss):
    torch.manual_seed(0)
    model = model()
    x = torch.randint(6, (T,)) if loss == "categorical" else (torch.rand(T, 88) < 0.1).float()
    found = truncation(model, x[:-1], x[1:])
    assert found.loss == loss
    np.testing.assert_array_equal(found.error, truncation(model, x[:-1], x[1:], loss).error)
    by_torch = F.cross_entropy if loss == "categorical" else F.binary_cross_entropy_with_logits
    wanted = truncation(model, x[:-1], x[1:], by_torch)
    np.testing.assert_allclose(found.error, wanted.error, **CLOSE)


def test_the_window_holds_for_all_longer_ones_and_is_missing_if_only_the_whole_has_it():
    model, (x, y) = model_of("GRU"), data_of()
    found = truncation(model, x, y, F.mse_loss)
    holds = [K for k, K in enumerate(found.windows[:-1]) if (found.error[k:] <= 0.1).all()]
    assert found.window_10 == pytest.approx(min(holds, default=math.nan), nan_ok=True)
    nothing = truncation(model, x, y, lambda o, y: o.sum() * 0)
    assert math.isnan(nothing.window_10)
    assert "-" in str(nothing)


def test_a_result_is_saved_loaded_and_drawn(tmp_path):
    model, (x, y) = model_of("RNN"), data_of(B=2)
    found = truncation(model, x, y, F.mse_loss)
    for name in ("a.json", "a.npz"):
        assert str(load(found.save(tmp_path / name))) == str(found)
    axes = found.plot()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in axes.lines}
    window_10 = lines["error at most 10 %"].get_xdata()
    assert window_10 == pytest.approx([found.window_10], nan_ok=True)
    drawn = lines["sliding windows"].get_ydata()
    assert (drawn[:-1] == found.sliding_error[:-1]).all()
    assert math.isnan(drawn[-1]), "the error of all steps is rounding"
    without_layout(found)


def root_of_one(o, y):
    return o[:, 0].sum() + (-1 - o[:, 1] ** 2).sqrt().sum()


def both_ways():
    return Model(nn.GRU(M, N, bidirectional=True), 2 * N)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        pytest.param(lambda x, y: truncation(both_ways(), x, y, F.mse_loss), "bidirectional",
                     id="two directions"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), [x[:, 0]], y[None, :, 0], "squared"),
                     r"y is .*expected a list like x", id="targets that are no list"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), [x[:, 0]], [y[:, 0]] * 2, "squared"),
                     r"y is .*expected a list like x", id="a list of more targets"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), [x[:, 0]] * 2, [y[:, 0], y[1:, 0]],
                                             "squared"),
                     "targets of one shape", id="targets of two lengths"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), 3, y, "squared"), "x is int",
                     id="a number"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y), "loss_fn is None",
                     id="no loss"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y, "hinge"), "loss_fn is 'hinge'",
                     id="unknown loss"),
        pytest.param(lambda x, y: truncation(nn.Linear(M, 2), x[:, 0], y[:, 0], F.mse_loss),
                     "layer is None",
                     id="no layer"),
        pytest.param(lambda x, y: truncation(torch.sin, x, y, F.mse_loss), "model is",
                     id="a function"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y, lambda o, y: y.sum()),
                     "loss is no function", id="a loss of the targets"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y, lambda o, y: 1.0),
                     "what loss_fn returns", id="a loss that is no tensor"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y, lambda o, y: o.argmax()),
                     "what loss_fn returns", id="a loss of whole numbers"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x.repeat(1, 2, 1), y, root_of_one),
                     "gradient of the loss is NaN", id="one sequence without a gradient"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), torch.tensor(1.0), y, "squared"),
                     "x is .*: expected numbers", id="x without steps"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), [x[:, 0], x[1:, 0]], y, "squared"),
                     "sequences of one length", id="two lengths"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y[1:], "squared"),
                     "expected 21 steps, or one", id="fewer targets than steps"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x[:0], y[:0], "squared"),
                     "expected at least one number", id="no steps"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x[..., :2], y, F.mse_loss),
                     "Model cannot read x", id="fewer inputs"),
        pytest.param(lambda x, y: truncation(model_of("GRU"), x, y.tile(1, 1, 2), F.mse_loss),
                     r"mse_loss cannot read outputs \(21, 1, 2\) and y \(21, 1, 4\)",
                     id="targets of another size"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, said):
    with pytest.raises((InvalidInputError, UsersCodeError), match=said):
        call(*data_of())

"""The influence of inputs: recorded numbers, plain autograd, central differences, closed forms."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from readable import other_words, without_layout, words_in
from torch import nn
from user_modules import EachState, Embedded, LastState, OwnLoop, Packed, Vectors, WithState

from gersgorin.analyses import influence as home
from gersgorin.analyses.influence import (
    LABELS_OF_LOSS,
    ROWS,
    Gap,
    Influence,
    _of_weights,
    _over_sequences,
    _Part,
    influence,
    scaled_norm,
)
from gersgorin.autodiff import vjps
from gersgorin.kinds import batch_first_of
from gersgorin.losses import frame_losses
from gersgorin.model_map import outputs_in
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from tests.numbers.record import filled

T, B, M, N = 7, 2, 3, 4
DETECTED, HEALTHY_GAP = 0.05, 1e-6  # of the gradient against differences


KERNEL = torch.randn(N, M, 3, generator=torch.Generator().manual_seed(2)).double()


def causal(x):
    """A causal convolution over time of (B, T, m)."""
    return torch.tanh(F.conv1d(F.pad(x.transpose(1, 2), (2, 0)), KERNEL)).transpose(1, 2)


def in_place(x):
    """Changes its input and its outputs in place, (B, T, m)."""
    o = x.mul_(2).cumsum(1) ** 2
    o[:, 0] = 0
    return o


class Placed(nn.Module):
    """Looks up positions first, then ids in another layout; keeps its state from call to call."""

    def __init__(self):
        super().__init__()
        self.places, self.state = nn.Embedding(T, M), None
        self.embed, self.rnn = nn.Embedding(6, M), nn.GRU(M, N, batch_first=True)

    def forward(self, x):
        places = self.places(torch.arange(T))
        states, last = self.rnn(self.embed(x.transpose(0, 1)).transpose(0, 1) + places, self.state)
        self.state = last.detach()
        return {"none": None, "states": states, "last": last}


def loop(hand_on=torch.clone):
    return OwnLoop(nn.GRUCell(M, N), hand_on)


def reader(outputs=2, kind=EachState):
    return kind(outputs, units=N, inputs=M)


def numbers(first=True):
    return torch.randn(*((B, T) if first else (T, B)), M, dtype=torch.float64)


def ids():
    return torch.randint(6, (B, T))


CASES = {  # name: (model, x, options)
    "lstm": lambda: (nn.LSTM(M, N, 2, batch_first=True), numbers(), {}),
    "rhn": lambda: (make_cell("rhn", M, N, depth=2), numbers(False), {}),
    "both ways": lambda: (nn.GRU(M, N, bidirectional=True), numbers(False), {}),
    "convolution": lambda: (causal, numbers(), {"batch_first": True}),
    "attention": lambda: (nn.TransformerEncoderLayer(M, 1, 8, batch_first=True), numbers(), {}),
    "loop": lambda: (loop(), numbers(), {"batch_first": True}),
    "in place": lambda: (in_place, numbers(), {"batch_first": True}),
    "ids": lambda: (Embedded(reader(), 6, M), ids(), {}),
    "ids by places, kept state": lambda: (Placed(), ids(), {}),
    "one output": lambda: (reader(kind=LastState), numbers(), {}),
    "as many outputs as steps": lambda: (reader(T, LastState), numbers(), {}),
}


def slopes(outputs, leaf, axis):
    """Root mean square over sequences of ||d outputs[t2, b] / d leaf[t1, b]||, (S, T), of outputs
    (S, B, k), one gradient at a time.
    """
    squares = torch.zeros(len(outputs), leaf.shape[1 - axis], dtype=torch.float64)
    for t2, frame in enumerate(outputs):
        for b, each in enumerate(frame):
            for one in each:
                slope = torch.autograd.grad(one, leaf, retain_graph=True, allow_unused=True)[0]
                if slope is not None:
                    squares[t2] += slope.select(axis, b).square().sum(1)
    return (squares / leaf.shape[axis]).sqrt().numpy()


def by_autograd(model, x, axis):
    """The influence by plain autograd, of a copy in float64."""
    leaf = x.clone().double().requires_grad_()
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).double().eval()
    if not x.is_floating_point():
        leaf = model.embed(x).detach().requires_grad_()
        model.embed = nn.Identity()
    outputs = outputs_in(model(1 * leaf))[0]
    outputs = outputs[None] if outputs.dim() == 2 else outputs.movedim(1 - axis, 0)
    return slopes(outputs, leaf, axis)


def close(found, wanted, tolerance=1e-9):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_the_influence_on_outputs_is_that_of_autograd(name):
    model, x, how = CASES[name]()
    found, axis = influence(model, x, **how), 1 - int(how.get("batch_first", batch_first_of(model)))
    wanted = by_autograd(model, x, axis)
    close(found.influence, wanted)
    assert not found.error.any() and found.difference < HEALTHY_GAP and found.sequences == B
    listed = influence(model, [*x.unbind(axis)], **{"batch_first": not axis} | how)
    close(listed.influence, found.influence)  # the root mean square over the sequences
    last = T - len(wanted)  # the step of the first output
    later = sum(row[last + t + 1 :] @ row[last + t + 1 :] for t, row in enumerate(wanted))
    assert found.ahead == pytest.approx(later / (wanted**2).sum(), abs=1e-12)


X_OF_LOSSES = torch.linspace(-2, 2, B * T * M, dtype=torch.float64).reshape(B, T, M)
IDS_TO_SKIP = torch.tensor([[0, 1, 2, 3, -100, -100, 4], [1] * T])


def bernoulli(o, y):
    return F.binary_cross_entropy_with_logits(o, y, reduction="none").sum(-1)


def categorical(o, y):
    return F.cross_entropy(o.movedim(-1, 1), y, reduction="none")


def squared(o, y):
    return F.mse_loss(o, y, reduction="none").sum(-1) / 2


@pytest.mark.parametrize(
    ("of", "make", "y", "by_torch", "without"),  # losses (B, T) or (B,)
    [
        pytest.param(
            "bernoulli", partial(reader, M), X_OF_LOSSES.sigmoid().round(), bernoulli, 0, id="0/1"
        ),
        pytest.param("categorical", partial(reader, 5), IDS_TO_SKIP, categorical, 2, id="ids"),
        pytest.param(
            "categorical",
            partial(reader, 5, LastState),
            torch.tensor([4, 1]),
            categorical,
            0,
            id="one id",
        ),
        pytest.param("squared", partial(reader, 1), X_OF_LOSSES[..., :1], squared, 0, id="numbers"),
    ],
)
def test_the_gradient_of_a_loss_is_that_of_autograd(of, make, y, by_torch, without):
    x, model = numbers(), make()
    found, own = influence(model, x, of=of, y=y), influence(model, x, of=by_torch, y=y)
    leaf = x.clone().requires_grad_()
    losses = by_torch(model.double()(leaf), y).reshape(B, -1)
    close(found.influence, slopes(losses.T[..., None], leaf, 0))
    close(own.influence, found.influence)
    assert found.without == without and found.of == of
    one = influence(model, x, of=lambda o, y: by_torch(o, y).reshape(B, -1).sum(1), y=y)
    close(one.influence, slopes(losses.sum(1)[None, :, None], leaf, 0))
    whole = influence(model, x, of=lambda o, y: by_torch(o, y).mean(), y=y)
    close(whole.influence, one.influence / losses.numel())
    close(influence(model, [*x], of=of, y=[*y.split(1)]).influence, found.influence)


V = torch.randn(N, M + N, generator=torch.Generator().manual_seed(1)).double()


def pair(x, state):
    h, c = state
    c = 0.9 * c + 0.1 * torch.tanh(V @ torch.cat([x, h]))
    return h + c, (torch.tanh(c), c)


ZERO, WITH_STATE, OWN = torch.zeros(N).double(), filled(WithState(M, 6)), filled(Vectors(M, N))
STEPWISE = {  # name: (step, options, first state)
    "first state": (lambda x, s: torch.tanh(V @ torch.cat([x, s])), {"s0": ZERO + 0.3}, ZERO + 0.3),
    "output beside a tuple": (pair, {"state_size": (N, N)}, (ZERO, ZERO)),
    "cell": (OWN, {}, torch.zeros(OWN.state_size).double()),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_a_step_runs_along_x(name):
    (f, how, s0), x = STEPWISE[name], numbers()[0]

    def outputs(x):
        found, state = [], s0
        for x_t in x:
            after = getattr(f, "step", f)(x_t, state)
            output, state = after if isinstance(after, tuple) else (after, after)
            found.append(output)
        return torch.stack(found)

    wanted = torch.autograd.functional.jacobian(outputs, x).square().sum((1, 3)).sqrt()
    for found in (influence(f, x, **how), influence(open_run(f, x, **how))):
        close(found.influence, wanted)
        assert found.difference < HEALTHY_GAP


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_is_its_cell_and_its_run_and_a_part_of_a_model(kind):
    layer, one = getattr(nn, kind)(M, N), getattr(nn, f"{kind}Cell")(M, N)
    for name, weight in one.named_parameters():
        weight.data.copy_(getattr(layer, f"{name}_l0"))
    x, model = numbers()[0], nn.Sequential(nn.Tanh(), layer)
    wanted = influence(layer, x).influence
    close(influence(one, x).influence, wanted)
    close(influence(open_run(layer, x)).influence, wanted)
    close(influence(layer, x[:, None]).influence, wanted)
    close(influence(model, x, layer="1").influence, influence(layer, x.tanh()).influence)
    found, h = influence(WITH_STATE, x, (torch.zeros(1, 6),) * 2), influence(WITH_STATE.cell, x)
    close(found.influence, 2 * h.influence)  # the output beside the state


@pytest.mark.parametrize(
    ("network", "title"),
    [
        pytest.param(make_cell("rhn", M, N, depth=3), f"rhn, depth 3, {N} units", id="deep cell"),
        pytest.param(nn.LSTM(M, N, 2), f"LSTM, depth 2, {N} units", id="layers of torch"),
        pytest.param(nn.GRUCell(M, N), f"GRUCell, depth 1, {N} units", id="cell of torch"),
        pytest.param(
            PolyphonicModel("rhn", hidden_size=N, depth=3, input_size=M),
            f"rhn, depth 3, {N} units",
            id="chorales",
        ),
        pytest.param(nn.Sequential(nn.Linear(M, N)), "Sequential", id="model"),
    ],
)
def test_a_network_is_named_with_its_depth(network, title):
    assert influence(network, numbers()[0]).network == title
    assert influence(network, numbers()[0], title="mine").network == "mine"


def test_a_model_of_transformers_by_a_dictionary():
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra peers")
    config = transformers.GPT2Config(vocab_size=11, n_positions=T, n_embd=4, n_layer=2, n_head=2)
    model, tokens = transformers.GPT2LMHeadModel(config), torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    given = {"input_ids": tokens, "attention_mask": torch.ones(1, T), "use_cache": False}
    found = influence(model, given, batch_first=True)
    double = copy.deepcopy(model).double().eval()
    leaf = double.transformer.wte(tokens).detach().requires_grad_()
    outputs = double(inputs_embeds=leaf, use_cache=False).logits
    close(found.influence, slopes(outputs.movedim(1, 0), leaf, 0), 1e-7)
    assert found.ahead == 0 and found.difference < HEALTHY_GAP
    close(influence(model, tokens, batch_first=True).influence, found.influence, 1e-7)


def test_a_linear_recurrence_has_its_closed_forms():
    a, length, zero = 0.8, 80, torch.zeros(1).double()
    found = influence(lambda x, s: a * s + x, torch.randn(length, 1).double(), zero)
    close(found.by_lag, a ** np.arange(length))
    assert found.steps_to_half == pytest.approx(math.log(2) / -math.log(a))
    assert found.effective_length == pytest.approx(1 / (1 - a), rel=1e-6)
    tails = (a ** (2 * np.arange(length + 1)) - a ** (2 * length)) / (1 - a ** (2 * length))
    close(found.reach**2, tails[:-1], 1e-6)
    close(found.table()["share beyond"], tails[1:], 1e-6)
    tiny = influence(lambda x, s: 1e-80 * s + x, torch.ones(5, 2).double(), ZERO[:2])
    close(tiny.by_lag[:4] / 1e-80 ** np.arange(4), [2**0.5] * 4)  # their squares underflow


def of_weights(w):
    """The influence |w_k| at lag k of the filter sum_k w_k x[t - k]."""
    lag = torch.arange(len(w))[:, None] - torch.arange(len(w))
    filled_in = torch.where(lag >= 0, torch.tensor(np.array(w, float))[lag.clamp(0)], 0.0)
    return influence(lambda x: filled_in @ x, torch.ones(len(w), 1).double())


HALVES = {  # weights by lag: steps to half
    "exactly half": ([1, *[0.5] * 19], 1),
    "ends": ([0.2, 1, 0.8, 0.6, 0, 0], 3),
    "only the last below": ([1, 0.8, 0.6, 0.3], 2 + math.log(1.2) / math.log(2)),
    "none": (np.zeros(9), math.nan),
    "alternating": (np.tile([1, 0.4], 25), math.inf),
    "echo": (np.eye(50)[5] + 0.8 * np.eye(50)[45], math.inf),
    "below as long as twice a gap": ([1, 0.4, 0.8, 0.4, 0.4], 2 + math.log(1.6) / math.log(2)),
    "below for less than twice a gap": ([1, 0.4, 0.8, 0.4], math.inf),
    "a gap of two": ([1, 0.4, 0.4, 0.8, 0, 0, 0, 0], 4),
}


@pytest.mark.parametrize("name", HALVES)
def test_steps_to_half(name):
    w, half = HALVES[name]
    found = of_weights(w)
    close(found.by_lag, np.abs(w))
    assert found.steps_to_half == pytest.approx(half, nan_ok=True)
    assert found.difference < HEALTHY_GAP
    assert found.largest == int(np.argmax(np.abs(w)))
    with np.errstate(invalid="ignore"):
        close(found.share, np.square(w) / np.square(w).sum())
    waves = 0.9 ** np.arange(60) * np.cos(np.pi * np.arange(60) / 4)
    last = np.flatnonzero(np.abs(waves) > 0.5)[-1]
    assert last < of_weights(waves).steps_to_half <= last + 1


def test_columns_by_lag_are_loops_over_pairs():
    """The last two outputs of four steps, without influence at the lag 1."""
    values = np.array([[1.0, 0.0, 3.0, 4.0], [5.0, 1.0, 0.0, 2.0]])
    errors = np.array([[0.5, 0.25, 1.0, 0.5], [1.0, 2.0, 0.5, 0.25]])
    found = replace(of_weights([1, 0, 0, 0]), influence=values, error=errors)
    sizes, margins = [], []
    for lag in range(4):
        pairs = [(s, 2 + s - lag) for s in range(2) if 2 + s >= lag]
        squares = [values[pair] ** 2 for pair in pairs]
        sizes.append(math.sqrt(sum(squares) / len(pairs)))
        of_squares = [2 * values[pair] * errors[pair] for pair in pairs]
        of_mean = math.hypot(*of_squares) / len(pairs)
        margins.append(of_mean / (2 * sizes[-1]) if lag != 1 else 0.0)
    close(found.by_lag, sizes)
    close(found.by_lag_error, margins)
    close(found.share, np.square(sizes) / np.sum(np.square(sizes)))
    assert found.effective_length == pytest.approx(sum(sizes) / max(sizes))
    assert found.ahead == pytest.approx(values[0, 3] ** 2 / np.sum(values**2))
    assert found.coordinates()["output"].tolist() == [2, 3]
    huge = replace(found, influence=1e200 * values)
    close(huge.share, found.share)
    assert huge.ahead == pytest.approx(found.ahead)


def test_half_of_the_influence_of_a_reversed_sequence_is_from_later_inputs():
    found = influence(lambda x: x.flip(0), torch.ones(4, 1).double())
    assert found.ahead == 0.5
    assert found.effective_length == pytest.approx(1 + 3**-0.5)  # one of three pairs, the only one


@pytest.mark.parametrize("steps", [2, 3])
def test_errors_over_sequences_are_those_of_the_mean_square(steps):
    """A sequence of a step less than the other, whose first input has no influence."""
    made = {"gap": Gap(), "probes": 2, "sequences": 1, "without": 0}
    less, all_steps = (slice(steps - 1),) * 2, (slice(steps),) * 2
    short = _Part(
        norm=np.array([[3.0, 0.0], [1.0, 2.0]])[less],
        deviation=np.array([[4.0, 0.0], [0.5, 1.0]])[less],
        present=np.ones((2, 2), int)[less],
        **made,
    )
    whole = _Part(
        norm=np.array([[4.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 0.5]])[all_steps],
        deviation=np.array([[3.0, 0.0, 0.0], [0.25, 2.0, 0.0], [0.0, 0.5, 0.5]])[all_steps],
        present=np.ones((3, 3), int)[all_steps],
        **made,
    )
    found, error = _over_sequences([whole, short])
    for t2 in range(steps):
        for t1 in range(steps):
            parts = [part for part in (whole, short) if max(t1, t2) < len(part.norm)]
            mean_square = np.mean([part.norm[t2, t1] ** 2 for part in parts])
            of_mean = math.hypot(*(part.deviation[t2, t1] for part in parts)) / len(parts)
            assert found[t2, t1] == pytest.approx(math.sqrt(mean_square))
            margin = of_mean / (2 * math.sqrt(mean_square)) if mean_square else 0.0
            assert error[t2, t1] == pytest.approx(margin)


def test_an_estimate_is_the_mean_of_squares_over_vectors_with_its_standard_error():
    norms = torch.rand(2, 5, 3, 4).double()  # 2 outputs, 5 vectors, 3 steps, 4 sequences
    squares = (norms.numpy() ** 2).sum(-1)
    found, error = _of_weights(norms, estimate=True)
    close(found, np.sqrt(squares.mean(1)))
    close(error, scipy.stats.sem(squares, axis=1))


@pytest.mark.parametrize(
    ("rows", "probes", "done"),
    [
        pytest.param(8, None, [2, 4, 6, 7], id="four numbers of two outputs"),
        pytest.param(8, 2, [4, 7], id="two vectors for four outputs"),
        pytest.param(3, None, [1, 2, 3, 4, 5, 6, 7], id="one output at least"),
    ],
)
def test_outputs_are_done_together_as_far_as_their_products_are(rows, probes, done, monkeypatch):
    monkeypatch.setattr("gersgorin.model_map.ROWS", rows)
    steps = []
    influence(nn.GRU(M, 4), numbers()[0], probes=probes, progress=lambda *step: steps.append(step))
    assert steps == [(number, T) for number in done]


def test_the_estimate_is_within_its_errors(monkeypatch):
    x, module = torch.randn(12, M).double(), nn.GRU(M, 40)
    exact, found = influence(module, x), influence(module, x, probes=24)
    causal = np.tril_indices(12)
    z = (found.influence - exact.influence)[causal] / found.error[causal]
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6 and np.abs(z).max() < 6
    assert np.abs((found.by_lag - exact.by_lag) / found.by_lag_error).max() < 5
    assert found.difference < HEALTHY_GAP and found.probes == 24
    assert influence(module, x, probes=0).probes == 0
    two = influence(module, [x, x], probes=24)  # independent: the error is less by sqrt(2)
    assert 0.4 < np.median(two.by_lag_error / found.by_lag_error) < 1
    for most, probes in ((12 * 40, 0), (12 * 40 - 1, home.PROBES)):
        monkeypatch.setattr(home, "EXACT", most)
        assert influence(module, [x, x[:2]]).probes == probes
    assert influence(nn.GRU(M, home.PROBES), x.repeat(4, 1)).probes == 0, "as many products"
    with pytest.raises(InvalidInputError, match=r"^probes is 1: expected 0, or at least 2$"):
        influence(module, x, probes=1)


def test_a_single_number_of_the_inputs():
    x = numbers()
    for k in range(M):
        fixed = torch.arange(M) != k
        wanted = by_autograd(lambda x, fixed=fixed: causal(torch.where(fixed, x.detach(), x)), x, 0)
        close(influence(causal, x, batch_first=True, feature=k).influence, wanted)
    with pytest.raises(InvalidInputError, match=r"^feature is 3: .* from 0 to 2"):
        influence(causal, x, batch_first=True, feature=M)


@pytest.mark.parametrize("last", [False, True])
def test_steps_after_given_lengths_are_not_counted(last):
    model, x, lengths = (
        Packed(2, units=N, inputs=M, last=last).double(),
        numbers(),
        torch.tensor([T, T - 3]),
    )
    found = influence(model, (F.pad(x, (0, 0, 0, 5)), lengths), lengths=lengths)
    squares, count = np.zeros((2, *found.influence.shape))
    kind = LastState if last else EachState
    for b, n in enumerate(lengths):
        each = by_autograd(partial(kind.forward, model), x[b : b + 1, :n], 0)
        now = np.s_[:, T - n :] if last else np.s_[:n, :n]
        squares[now] += each**2
        count[now] += 1
    close(found.influence, np.sqrt(squares / np.maximum(count, 1)))
    assert found.without == 0 and found.steps == T
    if not last:
        assert influence(model, (x, lengths)).without == 3  # without lengths=


def over_sequences(model, sequences):
    """Root mean square over the sequences (t, m) that have a pair, one after another by autograd:
    outputs of each step count from the first one, a single output counts from the last one.
    """
    last = type(model) is LastState
    squares, count = np.zeros((2, 1 if last else T, T))
    for x in sequences:
        n = len(x)
        now = np.s_[:, T - n :] if last else np.s_[:n, :n]
        squares[now] += by_autograd(model, x[None], 0) ** 2
        count[now] += 1
    return np.sqrt(squares / np.maximum(count, 1))


@pytest.mark.parametrize("kind", [EachState, LastState])
def test_sequences_of_a_list_may_have_other_lengths(kind):
    model, x = reader(kind=kind), numbers()[0]
    sequences = [x, x[:2], x[1:5]]
    found = influence(model, [each[None] for each in sequences])
    close(found.influence, over_sequences(model, sequences))
    assert (found.sequences, found.steps, found.without) == (3, T, 0) and not found.error.any()


def test_outputs_that_read_no_input_have_no_influence_and_no_error():
    found = influence(lambda x: 0 * x, torch.ones(6, 2).double(), probes=4)
    assert not found.by_lag.any() and not found.by_lag_error.any() and found.difference == 0
    assert (found.effective_length, found.ahead, found.without) == (0, 0, 6)
    assert np.isnan(found.share).all() and np.isnan(found.reach).all()
    half = influence(lambda x: x * torch.tensor([0.0, 1.0]), torch.ones(6, 2).double())
    assert half.without == 0, "one number of an output reads one of the inputs"


@pytest.mark.parametrize("longest", [2, T - 1])
def test_a_sequence_of_a_batch_may_have_one_step(longest):
    x, lengths = torch.randn(3, T, M, dtype=torch.float64), torch.tensor([1, longest, 1])
    model = reader()
    found = influence(model, x, lengths=lengths)
    sequences = [each[:n] for each, n in zip(x, lengths, strict=True)]
    wanted = over_sequences(model, sequences)[:longest, :longest]
    close(found.influence, wanted)
    assert (found.sequences, found.steps, found.without) == (3, longest, 0)
    if longest == 2:
        close(influence(model, x[1:, :2], lengths=lengths[1:]).influence[1], wanted[1])


GAPS = {  # name: (model, x, whether the gradient is the slope)
    "detached": (lambda: loop(torch.detach), numbers, False),
    "ids": (lambda: Embedded(loop(torch.detach), 6, M), ids, False),
    "random": (lambda: lambda x: F.dropout(x, 0.5, True), numbers, False),
    "sound": (loop, numbers, True),
    "saturated": (lambda: filled(nn.LSTM(M, N, batch_first=True)), lambda: 30 * numbers(), True),
}


@pytest.mark.parametrize("name", GAPS)
def test_the_gradient_is_compared_with_differences(name):
    make, x, sound = GAPS[name]
    model, x = make(), x()
    state, found = torch.get_rng_state(), influence(model, x, batch_first=True)
    assert (found.difference < HEALTHY_GAP) == sound and (found.difference > DETECTED) != sound
    assert torch.equal(state, torch.get_rng_state())


def test_products_with_the_derivative_of_a_constant_are_zero():
    v = torch.ones(2, requires_grad=True)
    (found,) = vjps(torch.ones(3), [v], torch.eye(3))
    assert found.shape == (3, 2) and not found.any() and vjps(3 * v, [], torch.eye(2)) == []


def test_the_gap_is_its_formula():
    """s' = 0.9 s + x with the state detached: the gradient is v, the slope its discounted sum."""
    found = influence(lambda x, s: 0.9 * s.detach() + x, torch.ones(9, 1).double(), ZERO[:1])
    v = torch.randn(9, 1, generator=torch.Generator().manual_seed(0)).double()[:, 0].numpy()
    d = np.array([sum(0.9 ** (t - s) * v[s] for s in range(t + 1)) for t in range(9)])
    gap, sizes = np.linalg.norm(v - d), (np.linalg.norm(v), np.linalg.norm(d))
    assert found.difference == pytest.approx(gap / max(sizes), rel=1e-6)


def test_nothing_of_the_user_changes():
    module, x = Placed().train(), ids()
    before = {k: t.clone() for k, t in module.state_dict().items()}
    with torch.inference_mode():
        first, again = (influence(module, x).influence for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert module.training and module.state is None and torch.get_default_dtype() == torch.float32
    assert all(p.requires_grad and torch.equal(before[k], p) for k, p in module.named_parameters())


def test_whole_numbers_are_frames_without_an_embedding_and_tensors_are_counted():
    model, frames = nn.GRU(M, N), F.one_hot(torch.arange(T) % M, M)
    close(influence(model, frames).influence, influence(model, frames.double()).influence)
    assert [influence(f, x).returned for f, x in ((Placed(), ids()), (model, frames))] == [2, 2]
    assert outputs_in([None, (torch.arange(2), KERNEL)])[0] is KERNEL


@pytest.mark.parametrize(
    ("name", "y", "losses"),
    [
        pytest.param("squared", [[1.0, 2.0]], [2.5 - math.log(3) * 2 + math.log(3) ** 2 / 2],
                     id="squared"),
        pytest.param("bernoulli", [[0.5, 1.0]], [math.log(2) + math.log(4 / 3)], id="bernoulli"),
        pytest.param("categorical", [[0], [1], [-100]], [math.log(4), math.log(4 / 3), 0],
                     id="categorical"),
    ],
)  # fmt: skip
def test_losses_of_frames_are_their_closed_forms(name, y, losses):
    """Of outputs (0, log 3): probabilities 1/2 and 3/4, or shares 1/4 and 3/4 of classes."""
    z = torch.tensor([0, math.log(3)], dtype=torch.float64).expand(len(y), 1, 2)
    found = frame_losses(name, z, torch.tensor(y)[:, None])
    assert found[:, 0].tolist() == pytest.approx(losses)


class OwnTable(nn.Module):
    """Looks ids up in a table of its own, by the names of the arguments, the table first."""

    def __init__(self, module):
        super().__init__()
        self.table, self.inner = module.embed.weight, module.inner

    def forward(self, ids):
        return self.inner(F.embedding(padding_idx=0, weight=self.table, input=ids))


def test_an_embedding_may_be_the_function_of_torch():
    module, x = Embedded(reader(), 6, M).double(), ids()
    own, wanted = OwnTable(module), influence(module, x).influence
    close(influence(own, x[0]).influence, influence(module, x[0]).influence)
    close(influence(lambda x: own(x), x, batch_first=True).influence, wanted)


def test_only_the_first_of_two_embeddings_counts():
    table, x = torch.rand(6, M), ids()[0]
    once = influence(lambda x: F.embedding(x, table), x).influence
    twice = influence(lambda x: F.embedding(x, table) + 2 * F.embedding(x, table), x).influence
    close(twice, once)


def test_the_table_has_the_influence_at_its_largest_lag():
    """A delay of three steps: the printed lags 0, 1, 2, 4, 8 do not show it."""
    late = torch.arange(12)[:, None] > 2
    table = influence(lambda x: 0.5 * late * x.roll(3, 0), torch.ones(12, 1)).table()
    assert table["lag of the largest influence"] == 3 and table["largest influence"] == 0.5


@pytest.mark.parametrize("of", ["squared", "categorical"])
def test_a_loss_has_labels_of_its_own(of):
    model, x = nn.GRU(M, N), numbers(False)
    y = {"squared": torch.zeros(T, B, N), "categorical": torch.zeros(T, B, dtype=torch.long)}[of]
    found = influence(model, x, of=of, y=y)
    rows, printed = found.table(), str(found)
    assert "||d loss[t + lag] / d x[t]||" in rows and "losses without influence" in rows
    assert "d o[" not in printed and "outputs without" not in printed
    axes = without_layout(found).axes
    assert axes[1].get_ylabel().startswith("loss (")


def test_a_result_has_the_same_rows_is_stored_and_drawn(tmp_path):
    model, x = nn.GRU(M, N), numbers(False)
    every = [influence(model, x), influence(reader(kind=LastState), x), of_weights(np.zeros(9)),
             influence(model, x, probes=3, feature=1, data="bwv269", unit="bars"),
             influence(model, x, of="squared", y=torch.zeros(T, B, N))]  # fmt: skip
    assert (every[3].data, every[3].unit, every[0].unit) == ("bwv269", "bars", "time steps")
    more = {
        "bars",
        "(bars)",
        "(time steps)",
        "-,",
        "$",
        "10^{",
        "}",
        "}}",
        "}}$",
        "×",
        "{",
        "\\times",
    }
    for number, found in enumerate(every):
        rows = [LABELS_OF_LOSS.get(row, row) for row in ROWS] if found.of == "squared" else ROWS
        assert (*found.table(),) == (*rows,) and other_words(f"{found}", found) <= {"bars"}
        for suffix in (".json", ".npz"):
            again = Influence.load(found.save(tmp_path / f"{number}{suffix}"))
            assert str(again) == str(found) and np.array_equal(again.error, found.error)
        figure = without_layout(found)
        shown = np.where(found.by_lag > 0, found.by_lag, np.nan)
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), shown)
        drawn = figure.axes[1].images[0].get_array().filled(np.nan)
        np.testing.assert_array_equal(np.nan_to_num(drawn), found.influence)
        words = f"{found.figure_title()} {' '.join(words_in(figure))}"
        assert other_words(words, found, more) <= more
    assert [line.split()[0] for line in str(every[0]).splitlines()[4:8]] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("gradient", "quotient", "relative"),
    [
        pytest.param([2.0, 0.0], [0.0, 1.0], math.sqrt(5) / 2, id="the gradient is larger"),
        pytest.param([1.0, 0.0], [0.0, 2.0], math.sqrt(5) / 2, id="the differences are larger"),
        pytest.param([0.0, 0.0], [0.0, 0.0], 0.0, id="both are 0"),
    ],
)
def test_a_gap_is_relative_to_the_larger_one(gradient, quotient, relative):
    gap = Gap.between(torch.tensor(gradient), torch.tensor(quotient))
    assert gap.relative() == pytest.approx(relative)
    assert (gap + gap).relative() == pytest.approx(relative)


def test_the_norm_of_an_infinite_vector_is_infinite():
    vectors = torch.tensor([[math.inf, 1.0], [0.0, 0.0], [3.0, 4.0], [1e-200, 1.0]]).double()
    assert scaled_norm(vectors, 1).tolist() == [math.inf, 0.0, 5.0, 1.0]


@pytest.mark.parametrize("wrong", [1.5, -0.5])
def test_one_target_of_bernoulli_outside_0_and_1_is_refused(wrong):
    y = torch.full((4, 1, 2), 0.5)
    y[1, 0, 1] = wrong
    with pytest.raises(InvalidInputError, match="expected 0 to 1 for bernoulli"):
        frame_losses("bernoulli", torch.zeros(4, 1, 2), y)

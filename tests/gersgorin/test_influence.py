"""The memory of a module is the norm of the derivatives of its outputs in earlier inputs, whatever
the module is.
"""

import json

import numpy as np
import pytest
import torch
from tables import for_each
from test_layouts import Loop
from torch import nn

import gersgorin
from gersgorin.analyses import memory as analysis
from gersgorin.cli.main import main
from gersgorin.loading.sequence_map import SequenceMap
from rhn.cells import RHN
from rhn.errors import InvalidInputError

T, M = 7, 3


class Attention(nn.Module):
    """Causal self-attention, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(M, 1, batch_first=True)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=mask)[0]


class OwnLoop(nn.Module):
    """A loop with a norm between the steps of its cell, (T, B, m)."""

    def __init__(self):
        super().__init__()
        self.cell, self.norm = nn.GRUCell(M, 5), nn.LayerNorm(5)

    def forward(self, x):
        h, outputs = x.new_zeros(x.shape[1], 5), []
        for x_t in x:
            h = self.norm(self.cell(x_t, h))
            outputs.append(h)
        return torch.stack(outputs)


class Scan(nn.Module):
    """A linear recurrence h = a h + b x with the same a for all units, (B, T, m); no submodule says
    so.
    """

    def __init__(self, a=0.8):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x):
        h, outputs = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            h = self.a * h + x[:, t]
            outputs.append(h)
        return torch.stack(outputs, 1)


class InPlace(nn.Module):
    """A module that changes its input and its outputs in place, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, 5, batch_first=True)

    def forward(self, x):
        o = self.rnn(x.mul_(2))[0]
        o[:, 0] = 0
        return o


class Stateful(nn.Module):
    """A module that keeps its state from call to call, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(M, 5)
        self.register_buffer("h", torch.zeros(1, 5))

    def forward(self, x):
        outputs = []
        for t in range(x.shape[1]):
            self.h = self.cell(x[:, t], self.h.expand(len(x), -1))
            outputs.append(self.h)
        return torch.stack(outputs, 1)


class WithPositions(nn.Module):
    """A model of ids of tokens (B, T) that looks its positions up first, and computes with time
    first.
    """

    def __init__(self):
        super().__init__()
        self.positions, self.embedding, self.rnn = (
            nn.Embedding(T, 4),
            nn.Embedding(9, 4),
            nn.GRU(8, 5),
        )

    def forward(self, ids):
        return {"logits": self.rest(self.embedding(ids.transpose(0, 1)))}

    def rest(self, e):
        p = self.positions(torch.arange(len(e)))[:, None]
        return self.rnn(torch.cat((e, p), -1))[0].transpose(0, 1)


def brute_force(function, x):
    """||d o[t2] / d x[t1]||_F from the whole Jacobian; function (T, m) -> (T, k)."""
    J = torch.autograd.functional.jacobian(function, x)  # (T, k, T, m)
    return J.square().sum((1, 3)).sqrt().numpy()


CASES = {
    "torch.nn, several layers": (
        lambda: nn.LSTM(M, 5, num_layers=2),
        lambda f, x: f(x[:, None])[0][:, 0],
    ),
    "own loop": (OwnLoop, lambda f, x: f(x[:, None])[:, 0]),
    "scan": (Scan, lambda f, x: f(x[None])[0]),
    "attention": (Attention, lambda f, x: f(x[None])[0]),
    "our cell": (lambda: RHN(M, 5, 2, init="gaussian:0.3"), lambda f, x: f(x[:, None])[0][:, 0]),
    "changes in place": (InPlace, lambda f, x: f(x[None].clone())[0]),
    "kept state": (Stateful, lambda f, x: f(x[None])[0]),
}


@for_each("name", CASES)
def test_the_influence_is_that_of_the_whole_jacobian(name):
    build, call = CASES[name]
    module, x = build(), torch.randn(T, M, dtype=torch.float64)
    found = gersgorin.memory(module, x)
    module = module.double()
    np.testing.assert_allclose(
        found.influence, brute_force(lambda x: call(module, x), x), rtol=1e-9, atol=1e-14
    )
    assert found.probes == 0 and not found.error.any() and found.ahead == 0


def test_embeddings_of_positions_are_no_inputs():
    module, ids = WithPositions(), torch.tensor([3, 1, 4, 1, 5, 8, 2])
    found = gersgorin.memory(module, ids)
    module.double()
    e = module.embedding(ids).detach()
    np.testing.assert_allclose(
        found.influence, brute_force(lambda e: module.rest(e[:, None])[0], e), rtol=1e-9
    )


def test_a_linear_recurrence_has_its_half_life_effective_length_and_shares():
    a, steps = 0.8, 80
    found = gersgorin.memory(Scan(a).double(), torch.randn(steps, 2))
    np.testing.assert_allclose(found.by_lag, 2**0.5 * a ** np.arange(steps), rtol=1e-6)
    assert found.half_life == pytest.approx(np.log(2) / -np.log(a), rel=1e-6)
    assert found.effective_length == pytest.approx(1 / (1 - a), rel=1e-6)
    assert found.share_beyond(4) == pytest.approx(a**10, rel=1e-6)


def test_a_module_that_reads_both_ways_is_said_to():
    found = gersgorin.memory(nn.GRU(M, 4, bidirectional=True), torch.randn(T, M))
    assert 0 < found.ahead < 1 and "later inputs" in found.summary()


def test_the_estimate_is_within_its_errors():
    x = torch.randn(12, M, dtype=torch.float64)
    module = nn.GRU(M, 40)
    exact, found = gersgorin.memory(module, x), gersgorin.memory(module, x, probes=24)
    causal = np.tril_indices(12)
    z = ((found.influence - exact.influence)[causal]) / found.error[causal]
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6 and np.abs(z).max() < 6
    z = (found.by_lag - exact.by_lag) / found.by_lag_error
    assert np.abs(z).max() < 5 and "Estimated from 24 random vectors" in found.summary()


def test_long_runs_are_estimated_without_being_asked(monkeypatch):
    monkeypatch.setattr(analysis, "EXACT", 100)
    assert gersgorin.memory(nn.RNN(M, 20), torch.randn(9, M)).probes == analysis.PROBES


def test_the_module_is_left_as_it_was():
    module, x = nn.Sequential(nn.Linear(M, M), nn.Dropout(0.5)), torch.randn(T, M)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, again = (gersgorin.memory(module, x).influence for _ in range(2))
    assert module.training and all(
        p.requires_grad and p.dtype == torch.float32 for p in module.parameters()
    )
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    np.testing.assert_array_equal(first, again)


WRONG = {
    "one step": (nn.LSTM(M, 2), torch.zeros(1, M), "x has one step: expected at least two"),
    "several sequences": (nn.LSTM(M, 2), torch.zeros(T, 2, M), "holds several sequences"),
    "a longer output": (
        lambda x: nn.functional.pad(x.transpose(1, 2), (2, 0)).transpose(1, 2),
        torch.zeros(T, 1, M),
        "expected one output for each step",
    ),
    "a step": (
        lambda x, s: s + x,
        torch.zeros(T, M),
        "a step f(x, state): expected a module or function from a whole",
    ),
    "no gradient": (lambda x: x.detach(), torch.zeros(T, M), "have no gradient in its inputs"),
}


@for_each("name", WRONG)
def test_bad_input_is_refused_with_a_sentence(name):
    module, x, said = WRONG[name]
    with pytest.raises(InvalidInputError) as error:
        gersgorin.memory(module, x)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_command_measures_a_module_and_a_cell(tmp_path, own_folder, monkeypatch, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(T, M)))
    (tmp_path / "attending.py").write_text(
        "from torch import nn\n\ndef both(input_size):\n    return nn.GRU(input_size, 4, "
        "bidirectional=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["memory", "--module", "attending:both", "--input", "x.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        np.shape(found["memory"]["influence"]) == (T, T)
        and found["memory"]["half_life"] is not None
    )
    small = ["--cell", "lstm", "--hidden-size", "4", "--steps", "9"]
    assert main(["memory", *small, "--probes", "3", "--output", "m.png"]) == 0
    assert "effective length" in capsys.readouterr().out and (tmp_path / "m.png").stat().st_size > 0


def test_the_map_tries_the_modules_own_precision():
    class Single(nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError("only float32")
            return x.cumsum(0)

    assert SequenceMap(Single(), torch.randn(T, M)).outputs.dtype == torch.float32


@pytest.mark.parametrize("shape", [(T, M), (1, T, M), (T, 1, M)])
def test_one_output_of_a_sequence_is_that_of_its_last_step(shape):
    module, x = (
        Loop().double(),
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).double(),
    )
    found = gersgorin.memory(module, x)
    slopes = brute_force(lambda x: module(x[None]), x.reshape(T, M))
    np.testing.assert_allclose(found.influence, slopes, rtol=1e-12)
    np.testing.assert_allclose(found.by_lag, slopes[0, ::-1], rtol=1e-12)
    assert found.ahead == 0 and f"of {T} steps" in found.summary()
    (pairs,) = (ax for ax in found.figure().axes if ax.get_ylabel() == "output $t_2$")
    assert [*pairs.get_yticks()] == [T - 1]
    assert (pairs.get_xticks() % 1 == 0).all()


@for_each("name", ["rnn", "cell"])
def test_the_outputs_of_a_part_count_while_the_module_reads_x(name):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell, self.head = (
                nn.GRU(M, 4, batch_first=True),
                nn.GRUCell(4, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x):  # (T, B, m)
            h = None
            for e in self.rnn(x.transpose(0, 1))[0].transpose(0, 1):
                h = self.cell(e, h)
            return self.head(h)

    model, x = Classifier(), torch.randn(T, 1, M)
    found = gersgorin.memory(model, x, submodule=name)
    assert (
        found.influence.shape == (T, T)
        and not np.triu(found.influence, 1).any()
        and found.by_lag.all()
    )
    if name == "rnn":
        np.testing.assert_allclose(
            found.influence, gersgorin.memory(model.rnn, x[:, 0]).influence, rtol=1e-12
        )


@pytest.mark.parametrize(("module", "shape"), [(OwnLoop(), (1, T, M)), (Attention(), (T, 1, M))])
def test_the_axes_are_exchanged_if_no_output_reads_another_step(module, shape):
    x = torch.randn(T, M, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(
        gersgorin.memory(module, x.reshape(shape)).influence, gersgorin.memory(module, x).influence
    )


def test_reach_is_the_share_of_the_influence_from_each_lag_on_and_zeros_are_named():
    from gersgorin.analyses.memory import Memory

    r, T = 1e-40, 12
    lags = np.arange(T)[:, None] - np.arange(T)
    found = Memory(
        influence=np.where(lags >= 0, r ** np.maximum(lags, 0.0), 0.0), error=np.zeros((T, T))
    )
    assert found.reach[0] == 1 and found.reach[1] == pytest.approx(r, rel=1e-12)
    assert "From 8 steps back on it is zero" in found.summary()  # 1e-320 is subnormal
    even = Memory(influence=np.ones((1, 4)), error=np.zeros((1, 4)))
    assert (
        even.reach == pytest.approx(np.sqrt([1, 0.75, 0.5, 0.25])) and "zero" not in even.summary()
    )

"""New weights for any module of torch: rotations, chrono gates, units that remember."""

import math

import pytest
import torch
from torch import nn

from rhn import cells
from trainability.initial_weights import chrono_, orthogonal_, remembering_, reset_


class Own(nn.Module):
    """A recurrence written by hand."""

    def __init__(self, n=6):
        super().__init__()
        self.W, self.R = nn.Parameter(torch.zeros(n, 400)), nn.Parameter(torch.zeros(n, n))
        self.b, self.out = nn.Parameter(torch.ones(n)), nn.Linear(n, n)
        self.norm, self.words = nn.LayerNorm(n), nn.Embedding(4, 3)


MODULES = [
    pytest.param(lambda: nn.RNN(3, 6, num_layers=2), 2, id="RNN of two layers"),
    pytest.param(lambda: nn.LSTM(3, 6, bidirectional=True), 8, id="LSTM in both directions"),
    pytest.param(lambda: nn.GRUCell(3, 6), 3, id="GRU cell"),
    pytest.param(Own, 2, id="own"),
    pytest.param(lambda: cells.RHN(3, 6, depth=4), 8, id="RHN"),
]


def rotations(model):
    """Recurrent matrices by name: square blocks of parameters that are named as such."""
    found = []
    for name, p in model.named_parameters():
        if "hh" in name or name in ("R", "out.weight"):
            rows = p.detach().double().reshape(-1, p.shape[-1])
            found += [*rows.split(p.shape[-1])] if p.dim() > 1 else []
    return found


@pytest.mark.parametrize(("make", "count"), MODULES)
def test_recurrent_matrices_are_rotations(make, count):
    model = make()
    torch.manual_seed(0)
    assert orthogonal_(model) == count == len(rotations(model))
    for W in rotations(model):
        torch.testing.assert_close(W @ W.T, torch.eye(len(W)).double(), rtol=0, atol=1e-6)


def test_other_matrices_have_deviation_1_over_sqrt_fan_in_and_the_rest_stays():
    model = Own(n=60)
    words, b = model.words.weight.clone(), model.b.clone()
    model.norm.requires_grad_(False)
    orthogonal_(model)
    assert model.W.std().item() == pytest.approx(1 / 20, rel=0.05)
    assert torch.equal(model.words.weight, words) and torch.equal(model.b, b)
    assert (model.out.bias == 0).all() and (model.norm.weight == 1).all()


def test_weights_without_a_gradient_stay():
    model = nn.LSTM(3, 4).requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    assert orthogonal_(model) == chrono_(model, 50) == 0
    assert all(map(torch.equal, model.parameters(), before))


def test_a_state_of_another_size_than_the_gates_has_no_square_blocks():
    assert orthogonal_(nn.LSTM(3, 4, proj_size=3)) == 0


def gates(model):
    """(Blocks of biases that make memories longer, shorter) by the equations of torch and RHN."""
    if isinstance(model, cells.RHN):
        return [], [b.detach().reshape(-1, 6)[1] for b in model.bias]
    b = model.bias_ih_l0.detach().reshape(-1, 6)
    return ([b[1]], [b[0]]) if isinstance(model, nn.LSTM) else ([b[1]], [])


GATED = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: nn.LSTM(3, 6), id="LSTM"),
        pytest.param(lambda: nn.GRU(3, 6), id="GRU"),
        pytest.param(lambda: cells.RHN(3, 6, depth=2), id="RHN"),
    ],
)


@GATED
def test_gates_begin_open_for_memories(make):
    model = make()
    orthogonal_(model)
    longer, shorter = gates(model)
    assert all((b == 1).all() for b in longer)
    if isinstance(model, cells.RHN):
        assert all((b == -1).all() for b in shorter)


@GATED
def test_chrono_gates_remember_up_to_t_steps(make):
    model = make()
    weights = {n: p.clone() for n, p in model.named_parameters() if "weight" in n}
    assert chrono_(model, 100, torch.Generator().manual_seed(1)) == max(1, len(gates(model)[1]))
    longer, shorter = gates(model)
    for b in longer:
        assert ((b >= 0) & (b <= math.log(99))).all() and b.std() > 0
    for b in shorter:
        assert ((b <= 0) & (b >= -math.log(99))).all()
    if isinstance(model, nn.LSTM):
        assert torch.equal(longer[0], -shorter[0])
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters() if n in weights)


def test_memories_of_chrono_gates_are_spread_evenly_up_to_the_last_step():
    model = nn.LSTM(1, 4000)
    chrono_(model, 100, torch.Generator().manual_seed(1))
    u = model.bias_ih_l0.detach()[4000:8000].exp()
    assert (
        u.min() < 1.2
        and 98 < u.max() < 99.01
        and abs(u.mean() - 50) < 4 * 98 / math.sqrt(12 * 4000)
    )
    chrono_(model, 2, torch.Generator().manual_seed(1))
    low, high = model.bias_ih_l0.detach()[4000:8000].exp().aminmax()
    assert 1 <= low < 1.1 and 1.9 < high <= 2


def test_half_of_the_units_remember_an_input_for_many_steps():
    sizes = []
    for draw in (lambda rnn: None, lambda rnn: remembering_(rnn, 200)):
        torch.manual_seed(0)
        rnn = nn.RNN(2, 32, batch_first=True)
        draw(rnn)
        x = torch.randn(4, 200, 2, requires_grad=True)
        rnn(x)[0][:, -1].sum().backward()
        sizes.append(x.grad[:, 0].norm().item())
    assert sizes[1] > 1e-3 > 1e6 * sizes[0]


@pytest.mark.parametrize(
    ("make", "count"),
    [
        pytest.param(lambda: cells.DTRNN(2, 8, depth=3), 1, id="one transition of three layers"),
        pytest.param(lambda: nn.RNN(2, 8, num_layers=3), 3, id="three recurrences"),
    ],
)
def test_a_recurrence_that_remembers_reads_no_input_there_and_has_deeper_identities(make, count):
    model = make()
    assert remembering_(model, 50) == count
    for name, W in model.named_parameters():
        if "weight_ih" in name:
            assert not W[4:].any() and W[:4].all()
    if count == 1:
        assert torch.equal(model.weight_hh[1:], torch.eye(8).expand(2, 8, 8))


def test_our_cells_are_drawn_with_deviation_1_over_sqrt_fan_in_whatever_their_own_was():
    torch.manual_seed(0)
    model = cells.RNN(3, 100, init="gaussian:100")
    reset_(model)
    assert model.weight_hh.std().item() == pytest.approx(0.1, rel=0.05)


def test_matrices_of_gates_have_deviation_1_over_sqrt_fan_in_beside_units_that_remember():
    model = nn.ModuleList([nn.RNN(3, 4), nn.GRU(3, 100)])
    assert remembering_(model, 50) == 1
    assert model[1].weight_hh_l0.std().item() == pytest.approx(0.1, rel=0.05)


def test_a_generator_decides_all():
    pair = nn.GRU(3, 4), nn.GRU(3, 4)
    for model in pair:
        orthogonal_(model, torch.Generator().manual_seed(5))
        chrono_(model, 30, torch.Generator().manual_seed(6))
    assert all(map(torch.equal, *(model.parameters() for model in pair)))

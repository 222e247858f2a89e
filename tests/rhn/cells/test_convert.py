"""Our RNN, LSTM and GRU are torch.nn's, with converted weights: outputs, states and gradients to
float32 rounding.
"""

import pytest
import torch
from cases import assert_close, randomize
from tables import for_each
from torch import nn

from rhn.cells import GRU, from_torch, name_of_cell, resolve_cell
from rhn.cells.convert import OURS
from rhn.checkpoints import load, save
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

THEIRS = {
    "rnn-tanh": lambda **k: nn.RNN(5, 7, **k),
    "rnn-relu": lambda **k: nn.RNN(5, 7, nonlinearity="relu", **k),
    "lstm": lambda **k: nn.LSTM(5, 7, **k),
    "gru": lambda **k: nn.GRU(5, 7, **k),
}
every_module = pytest.mark.parametrize("name", THEIRS)


def joined(state):
    """torch's last state (1, B, n), or the LSTM's pair, as our one tensor (B, state_size)."""
    return torch.cat(state, -1).squeeze(0) if isinstance(state, tuple) else state.squeeze(0)


def split(s0, module):
    """Our state as torch's."""
    s0 = s0.unsqueeze(0)
    return tuple(t.contiguous() for t in s0.chunk(2, -1)) if isinstance(module, nn.LSTM) else s0


def gradients(module, outputs, last, leaves):
    g = torch.Generator().manual_seed(4)
    total = sum((y * torch.randn(y.shape, generator=g)).sum() for y in (outputs, last))
    return torch.autograd.grad(total, [*leaves, *module.parameters()])


@every_module
@for_each("batch_first", [False, True])
@for_each("bias", [True, False])
def test_from_torch_gives_outputs_states_and_gradients(name, bias, batch_first):
    theirs = THEIRS[name](bias=bias, batch_first=batch_first)
    randomize(theirs)
    ours = from_torch(theirs)
    x, s0 = (
        torch.randn(6, 4, 5, requires_grad=True),
        torch.randn(4, ours.state_size).mul_(0.5).requires_grad_(),
    )
    if batch_first:
        x = torch.randn(4, 6, 5, requires_grad=True)
    y, last = ours(x, s0)
    z, state = theirs(x, split(s0, theirs))
    assert_close(y, z, 2e-6, "outputs")
    assert_close(last, joined(state), 2e-6, "last state")
    mine = gradients(ours, y, last, [x, s0])
    wanted = gradients(theirs, z, joined(state), [x, s0])
    for what, g, h in zip(("x", "s0", "weight_ih", "weight_hh"), mine, wanted, strict=False):
        assert_close(g.reshape(h.shape), h, 5e-6, f"gradient of {what}")
    if bias:
        assert_close(mine[4].flatten(), wanted[4], 5e-6, "gradient of bias")
    if bias and name == "gru":
        assert_close(mine[5], wanted[5][14:], 5e-6, "gradient of bias_hn")


@for_each(
    ("kind", "options"),
    [(nn.RNNCell, {}), (nn.RNNCell, {"nonlinearity": "relu"}), (nn.GRUCell, {}), (nn.LSTMCell, {})],
)
@for_each("bias", [True, False])
def test_torchs_single_step_cells(kind, options, bias):
    theirs = kind(5, 7, bias=bias, **options)
    randomize(theirs)
    ours = from_torch(theirs)
    x, s = torch.randn(4, 5), torch.randn(4, ours.state_size) * 0.5
    wanted = (
        torch.cat(theirs(x, s.chunk(2, -1)), -1)
        if isinstance(theirs, nn.LSTMCell)
        else theirs(x, s)
    )
    assert_close(ours.step(x, s), wanted, 2e-6, "step")


def test_dtype_is_kept_weights_are_copied_and_the_callers_random_numbers_left_alone():
    theirs, before = nn.LSTM(3, 4, dtype=torch.float64), torch.get_rng_state()
    ours = from_torch(theirs)
    assert torch.equal(torch.get_rng_state(), before) and ours.weight_ih.dtype == torch.float64
    with torch.no_grad():
        theirs.weight_ih_l0.zero_()
    assert ours.weight_ih.any()


@pytest.mark.parametrize("theirs", OURS, ids=lambda theirs: theirs.__name__)
def test_torch_s_cells_have_names_and_start_as_torch_s_do(theirs):
    build = resolve_cell(f"torch.nn:{theirs.__name__}")
    ours = build(5, 100, generator=torch.Generator().manual_seed(0))
    assert name_of_cell(ours) == OURS[theirs] == name_of_cell(from_torch(theirs(3, 4)))
    for p in ours.parameters():
        assert 0.09 < p.abs().max() <= 0.1, "uniform within 1 / sqrt(n)"
    assert str(build(5, 100, init="gaussian:0.3").init) == "gaussian:0.3"
    with pytest.raises(InvalidInputError, match="depth is 2: expected 1"):
        build(5, 100, 2)


def test_a_network_of_torch_s_cell_is_saved_and_loaded_by_its_name(tmp_path):
    model = PolyphonicModel("torch.nn:LSTM", hidden_size=5)
    again = load(save(tmp_path / "m.safetensors", model))
    x = torch.rand(4, 2, 88)
    assert again.cell == "torch.nn:LSTM" and torch.equal(again(x), model(x))
    theirs = PolyphonicModel(lambda m, n, depth, **where: nn.GRU(m, n, **where), hidden_size=5)
    assert type(theirs.cells[0]) is GRU

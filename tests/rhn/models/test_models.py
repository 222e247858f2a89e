"""The polyphonic model is its equation, predicts from the past alone, stacks, and survives a
checkpoint.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import randomize
from rounding import assert_within, largest
from tables import for_each
from torch import nn
from torch.func import vmap

from rhn.cells import CELLS
from rhn.checkpoints import load, save
from rhn.errors import CheckpointError
from rhn.kernels.losses import frame_nll
from rhn.models import PolyphonicModel
from rhn.training.ensemble import deterministic


def frames(T=7, B=3, keys=88, dtype=torch.float64):
    return (torch.rand(T, B, keys) < 0.1).to(dtype)


def model(cell="rhn", dtype=torch.float64, seed=0, **options):
    made = PolyphonicModel(cell, **{"hidden_size": 6, "dtype": dtype} | options)
    randomize(made, seed)
    return made


class PlainCell(nn.Module):
    """A user's cell that knows nothing of ours."""

    def __init__(self, input_size, hidden_size, depth=1, *, device=None, dtype=None):
        super().__init__()
        self.inner = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, x, s=None):
        y = torch.tanh(self.inner(x)).cumsum(0)
        return y, y[-1]


def test_the_nll_is_that_of_an_independent_computation():
    m, x = model(depth=2), frames()
    W, R, b = (
        p.detach().numpy() for p in (m.cells[0].weight_ih, m.cells[0].weight_hh, m.cells[0].bias)
    )
    O, o = m.output.weight.detach().numpy(), m.output.bias.detach().numpy()
    X, n = x.numpy(), 6
    expected = np.zeros(X.shape[:2])
    for row in range(X.shape[1]):
        s = np.zeros(n)
        for t in range(len(X) - 1):
            for layer in range(2):
                z = R[layer] @ s + b[layer] + (W @ X[t, row] if layer == 0 else 0)
                h, gate = np.tanh(z[:n]), 1 / (1 + np.exp(-z[n:]))
                s = h * gate + s * (1 - gate)
            p = 1 / (1 + np.exp(-(O @ s + o)))
            expected[t + 1, row] = -np.log(np.where(X[t + 1, row] == 1, p, 1 - p)).sum()
    np.testing.assert_allclose(m.nll(x).detach().numpy(), expected[1:], rtol=1e-12)


@for_each("keys", [1, 88, 128, 2000])
@for_each("dtype", [torch.float32, torch.float64])
def test_the_loss_is_torch_s_cross_entropy_at_any_scale_and_for_any_number_of_keys(keys, dtype):
    """A product of 128 probabilities of 1/2 is below every normal number of float32."""
    for spread, shift in ((0, 0), (0, 30), (0, -30), (1e-3, 0), (1, 0), (30, 0), (1e4, 0)):
        z, x = torch.randn(5, 2, keys, dtype=dtype) * spread + shift, frames(5, 2, keys, dtype)
        expected = F.binary_cross_entropy_with_logits(z.double(), x.double(), reduction="none").sum(
            -1
        )
        with deterministic():  # denormal numbers are zero while training
            found = frame_nll(z, x)
        # of one key: log(1 + exp(z)) - x z, rounded in any order
        terms = (1 + z.double().abs()).sum(-1)
        assert_within(largest((found - expected) / terms), 8 * torch.finfo(dtype).eps, "loss")


def test_the_loss_has_first_and_second_derivatives():
    x = frames(2, 2, 5)
    z = torch.randn_like(x, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: frame_nll(z, x), z)
    assert torch.autograd.gradgradcheck(lambda z: frame_nll(z, x), z)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_the_loss_of_stacked_models_is_each_one_s_own(in_dims):
    z, x = torch.randn(4, 4, 3, 88), frames(4, 4 * 3, dtype=torch.float32).unflatten(1, (4, 3))
    args = [t if d is not None else t[0] for t, d in zip((z, x), in_dims, strict=True)]
    each = [
        [t if d is None else t.select(d, k) for t, d in zip(args, in_dims, strict=True)]
        for k in range(4)
    ]
    torch.testing.assert_close(
        vmap(frame_nll, in_dims)(*args), torch.stack([frame_nll(*a) for a in each])
    )


@for_each("key", CELLS)
def test_a_frame_is_predicted_from_the_frames_before_it(key):
    m, x = model(key), frames()
    changed = x.clone()
    changed[4] = 1 - changed[4]
    before, after = m.nll(x), m.nll(changed)
    assert torch.equal(before[:3], after[:3])  # frames 1, 2, 3
    # a unit of ReLU may be dead
    assert (before[3] != after[3]).all() and (before[4:] != after[4:]).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_padding_costs_nothing_and_a_whole_loss_is_the_sum_over_real_frames(dtype):
    m, x = model(dtype=dtype), frames(dtype=dtype)
    mask = torch.arange(7).unsqueeze(1) < torch.tensor([7, 5, 3])
    nll = m.nll(x * mask.unsqueeze(-1), mask)
    assert nll.shape == (6, 3) and (nll[~mask[1:]] == 0).all()
    torch.testing.assert_close(nll[:4, 1], m.nll(x[:5, 1:2])[:, 0])
    real, nll = mask[1:], frame_nll(m(x[:-1]), x[1:]).double()
    for given, wanted in ((None, nll), (real, nll[real]), (real.to(dtype), nll[real])):
        assert m(x[:-1], x[1:], given).item() == pytest.approx(wanted.sum().item(), rel=1e-6)
        assert m(x[:-1], x[1:].bool(), given).item() == pytest.approx(wanted.sum().item(), rel=1e-6)


def test_the_generator_alone_decides_the_initial_weights():
    def drawn(seed, cell):
        generator = torch.Generator().manual_seed(seed)
        return PolyphonicModel(cell, hidden_size=50, init="gaussian:0.01", generator=generator)

    for cell in ("rhn", PlainCell):
        a, b, other = drawn(1, cell), drawn(1, cell), drawn(2, cell)
        for (name, p), q, r in zip(
            a.named_parameters(), b.parameters(), other.parameters(), strict=True
        ):
            assert torch.equal(p, q)
            if "bias" not in name:
                kept = "inner" in name  # a cell that takes no init
                assert kept or 0.009 < p.std().item() < 0.011, name
                assert not torch.equal(p, r)
        assert (a.output.bias == 0).all()


@for_each("key", CELLS)
def test_a_checkpoint_gives_the_model_back(key, tmp_path):
    m = model(
        key, layers=2, dtype=torch.float32, **({"transform_bias": -1} if key == "rhn" else {})
    )
    again = load(save(tmp_path / "m.safetensors", m))
    assert json.loads(json.dumps(m.config())) == again.config()
    assert all(torch.equal(p, q) for p, q in zip(m.parameters(), again.parameters(), strict=True))
    x = frames(dtype=torch.float32)
    assert torch.equal(again(x), m(x))


def test_a_model_with_a_cell_of_the_user_s_own_needs_that_cell_to_load(tmp_path):
    m = model(PlainCell)
    path = save(tmp_path / "m.safetensors", m)
    with pytest.raises(
        CheckpointError, match=r"cell of .* is .*:PlainCell: expected .*, or --cell"
    ):
        load(path)
    x = frames()
    assert torch.equal(load(path, PlainCell)(x), m(x))

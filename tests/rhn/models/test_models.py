"""Both models are their equations, start from their generator, and survive a checkpoint."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import assert_close, randomize
from rounding import assert_within, largest
from tables import for_each
from torch import nn
from torch.func import vmap

from rhn.cells import CELLS
from rhn.cells.registry import num_parameters
from rhn.checkpoints import load, save
from rhn.errors import CheckpointError
from rhn.kernels.losses import frame_nll
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.ensemble import deterministic


def frames(T=7, B=3, keys=88, dtype=torch.float64):
    return (torch.rand(T, B, keys) < 0.1).to(dtype)


def model(cell="rhn", dtype=torch.float64, **options):
    made = PolyphonicModel(cell, **{"hidden_size": 6, "dtype": dtype} | options)
    randomize(made)
    return made


class PlainCell(nn.Module):
    """A user's cell that knows nothing of ours."""

    def __init__(self, input_size, hidden_size, depth=1, *, device=None, dtype=None):
        super().__init__()
        self.inner = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, x, s=None):
        y = torch.tanh(self.inner(x)).cumsum(0)
        return y, y[-1]


@for_each("cell", [*CELLS, PlainCell])
def test_the_nll_of_a_frame_is_that_of_its_keys_after_the_frames_before_it(cell):
    m, x = model(cell, layers=2), frames()
    y, (O, o) = x, (p.detach().numpy() for p in m.output.parameters())
    for each in m.cells:
        y, _ = each(y)
    p = 1 / (1 + np.exp(-(y.detach().numpy() @ O.T + o)))[:-1]
    wanted = -np.log(np.where(x[1:].numpy() == 1, p, 1 - p)).sum(-1)
    np.testing.assert_allclose(m.nll(x).detach().numpy(), wanted, rtol=1e-12)


@for_each("keys", [1, 88, 128, 2000])
@for_each("dtype", [torch.float32, torch.float64])
def test_the_loss_is_torch_s_cross_entropy_at_any_scale_and_for_any_number_of_keys(keys, dtype):
    """A product of 128 probabilities of 1/2 is below every normal number of float32."""
    for spread, shift in ((0, 0), (0, 30), (0, -30), (1e-3, 0), (1, 0), (30, 0), (1e4, 0)):
        z, x = torch.randn(5, 2, keys, dtype=dtype) * spread + shift, frames(5, 2, keys, dtype)
        wide = z.double(), x.double()
        expected = F.binary_cross_entropy_with_logits(*wide, reduction="none").sum(-1)
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


@for_each("in_dims", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_the_loss_of_stacked_models_is_each_one_s_own(in_dims):
    z, x = torch.randn(4, 4, 3, 88), frames(4, 4 * 3, dtype=torch.float32).unflatten(1, (4, 3))
    args = [t if d is not None else t[0] for t, d in zip((z, x), in_dims, strict=True)]
    together = vmap(frame_nll, in_dims)(*args)
    for k in range(4):
        own = (t if d is None else t.select(d, k) for t, d in zip(args, in_dims, strict=True))
        torch.testing.assert_close(together[k], frame_nll(*own))


@for_each("dtype", [torch.float32, torch.float64])
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


def drawn(seed, cell="rhn", init="scaled", **options):
    generator = torch.Generator().manual_seed(seed)
    return PolyphonicModel(cell, hidden_size=50, init=init, generator=generator, **options)


@for_each("cell", ["rhn", PlainCell])
def test_the_generator_alone_decides_the_initial_weights(cell):
    a, b, other = (list(drawn(seed, cell).named_parameters()) for seed in (1, 1, 2))
    for (name, p), (_, q), (_, r) in zip(a, b, other, strict=True):
        assert torch.equal(p, q)
        assert "inner" in name or "bias" in name or not torch.equal(p, r)
    inner = [rows[0][1] for rows in (a, other)]
    assert not torch.equal(*inner), "of a cell that takes no init, too"


def test_the_output_layers_start_by_the_scheme():
    output = drawn(0, init="scaled:2", output_size=500).output
    assert abs(output.weight.std() * 50**0.5 - 2) < 0.05 and not output.bias.any()
    sizes = {"vocabulary_size": 13, "hidden_size": 6, "transform_bias": -3.0}
    net = LanguageModel("rhn", init="uniform:0.4,bias:0.5", **sizes)
    assert (net.output_bias == 0.5).all() and 0.3 < net.embedding.abs().max() <= 0.4
    assert net.cells[0].bias[0].tolist() == [0.5] * 6 + [-3.0] * 6
    tied = LanguageModel("rhn", tied=True, **sizes)
    assert num_parameters(LanguageModel("rhn", **sizes)) - num_parameters(tied) == 13 * 6


@for_each("key", CELLS)
def test_a_checkpoint_gives_the_model_back(key, tmp_path):
    m, x = model(key, layers=2, dtype=torch.float32), frames(dtype=torch.float32)
    again = load(save(tmp_path / "m.safetensors", m))
    assert json.loads(json.dumps(m.config())) == again.config()
    assert torch.equal(again(x), m(x))


def test_a_model_with_a_cell_of_the_user_s_own_needs_that_cell_to_load(tmp_path):
    m, x = model(PlainCell), frames()
    path = save(tmp_path / "m.safetensors", m)
    with pytest.raises(CheckpointError, match="cell of .* is .*:PlainCell: expected .*, or --cell"):
        load(path)
    assert torch.equal(load(path, PlainCell)(x), m(x))

"""Networks of users against NumPy, torch's derivatives and plain loops: looped blocks, caches of
transformers, complex weights, attention, large states.
"""

import copy
import functools
import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from cases import others_slow
from oracles import close
from scipy.special import erf
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from user_modules import Diagonal, Projected

from examples import layers
from examples.layers import Block, inputs, task
from gersgorin.analyses import large_states
from gersgorin.analyses.large_states import leading_eigenvalues, leading_norm
from gersgorin.analyses.products import products
from gersgorin.analyses.spectra import spectra
from gersgorin.jacobians import LargeJacobian
from gersgorin.run import open_run
from gersgorin.step import as_step
from rhn.cells import make_cell
from tests.numbers.record import M, N, T, X, filled

d = torch.float64
DIFFERENCE = "Jacobian against differences (relative)"
W = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 6))) / 2


def test_spectra_of_a_looped_block_are_numpys():
    """The reference differentiates by complex steps, which are exact up to rounding."""
    torch.manual_seed(0)
    block = Block().double().requires_grad_(False)
    x, s0 = (t[0] for t in inputs(block, *task(1, torch.Generator().manual_seed(1))))
    w, s, h = {k: p.numpy() for k, p in block.named_parameters()}, s0.numpy(), 1e-30

    def step(s):
        z = w["mix.weight"] @ np.concatenate((x.numpy(), s)) + w["mix.bias"]
        s = s + w["out.weight"] @ (z * (1 + erf(z / math.sqrt(2))) / 2) + w["out.bias"]
        return s / np.sqrt((s * s).mean() + np.finfo(float).eps)

    found = spectra(block, x.expand(6, -1), s0)
    for loop in range(6):
        A = np.stack([step(s + 1j * h * e).imag / h for e in np.eye(len(s))], 1)
        s = step(s)
        assert found.spectral_radius[loop] == pytest.approx(abs(np.linalg.eigvals(A)).max())
        assert found.norm[loop] == pytest.approx(np.linalg.norm(A, 2))


def test_a_transformer_that_is_looped_over_its_tokens_has_torchs_jacobian():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double().eval()
    tokens = torch.randn(3, 4, dtype=d)
    run = open_run(lambda _, s: layer((s + tokens)[None])[0], torch.zeros(4, 1), 0 * tokens)
    for s, A in zip(run.states, run.jacobians(), strict=False):
        whole = jacobian(lambda s: layer((s.view(3, 4) + tokens)[None])[0].flatten(), s)
        close(A, whole, 1e-8)


def cache(x, state):
    """Reverse mode refuses this step, since the sigmoid's output is overwritten."""
    h, kept = state
    gate = torch.sigmoid(h)
    gate.mul_(h)
    kept.copy_(kept.roll(1, -1))
    kept[..., 0] = h.sum(-1)
    h.copy_(torch.tanh(gate @ W + kept.mean(-1, keepdim=True) + x.sum()))
    return h[..., :1], (h, kept)


def no_cache(x, state):
    h, kept = state
    kept = torch.cat((h.sum(-1, keepdim=True), kept[..., :-1]), -1)
    return torch.tanh(torch.sigmoid(h) * h @ W + kept.mean(-1, keepdim=True) + x.sum()), kept


def attention(fused):
    def step(x, state):
        q, k, v = state[0] @ W[:4, :4], state[0] @ W[2:, 2:], state[0] @ W[:4, 2:]
        if fused:
            return (F.scaled_dot_product_attention(q, k, v) + x.sum(),)
        return (torch.softmax(q @ k.mT / 2, -1) @ v + x.sum(),)

    return step


S0 = torch.rand(1, 6, dtype=d, generator=torch.Generator().manual_seed(2))
SAME = {
    "in place": (cache, no_cache, (S0, torch.zeros(1, 4, dtype=d))),
    "fused attention": (attention(True), attention(False), (S0.expand(1, 8, 6)[..., :4],)),
}


@pytest.mark.parametrize("name", SAME)
def test_two_ways_to_write_a_step_have_one_jacobian(name):
    one, other, s0 = SAME[name]
    before = [part.clone() for part in s0]
    found, wanted = (open_run(step, X, s0) for step in (one, other))
    assert all(map(torch.equal, s0, before))
    close(found.states, wanted.states)
    close(found.jacobians(), wanted.jacobians())
    close(found.input_jacobians(), wanted.input_jacobians())


@pytest.mark.parametrize("layer", others_slow(layers.LAYERS, layers.mamba, layers.rwkv))
def test_a_layer_of_transformers_is_measured_through_its_cache(layer):
    """The reference: central differences, entry by entry. Parts of a step are in float32."""
    pytest.importorskip("transformers", reason="transformers is in the extra peers")
    step, s0, x = layers.made(layer)
    s0 = tuple(t.detach() for t in step(x[:1].to(s0[0]), tuple(t.clone() for t in s0))[1])
    columns = []
    for k, place in [(k, j) for k, part in enumerate(s0) for j in range(part.numel())]:
        ends = []
        for sign in (1, -1):
            state = tuple(part.clone() for part in s0)
            state[k].view(-1)[place] += sign * 1e-2
            with torch.no_grad():
                ends.append(
                    torch.cat([t.double().flatten() for t in step(x[:1].to(s0[0]), state)[1]])
                )
        columns.append((ends[0] - ends[1]) / 2e-2)
    wanted = torch.stack(columns, 1)
    found = spectra(step, x[:2], s0)
    np.testing.assert_allclose(
        open_run(step, x[:2], s0).jacobians()[0], wanted, atol=1e-3 * float(wanted.abs().max())
    )
    radius = np.abs(np.linalg.eigvals(wanted.numpy())).max()
    assert found.spectral_radius[0] == pytest.approx(radius, abs=1e-3)
    assert np.isfinite(found.log_norm_product).all()


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_the_layer_of_a_model_has_the_jacobians_of_torchs_own_layer(kind):
    model = filled(Projected(kind(M, N, batch_first=True), M, N))
    run = open_run(model, X)

    def step(x, s):
        state = s.reshape(-1, 1, 1, N)
        _, after = model.rnn(x[None, None], tuple(state) if len(state) > 1 else state[0])
        return torch.cat([part.flatten() for part in after])

    each = zip(run.inputs, run.states, strict=False)
    A = torch.stack([jacobian(functools.partial(step, x), s) for x, s in each])
    close(run.jacobians(), A)
    back = [np.linalg.multi_dot([*A[t:].flip(0).numpy(), np.eye(A.shape[1])]) for t in range(T)]
    wanted = np.log([np.linalg.norm(P, 2) for P in back])
    np.testing.assert_allclose(products(run).log_norm_back, wanted, rtol=1e-8)


class Layer(nn.Module):
    """A loop over the step, which learns its first state."""

    def __init__(self):
        super().__init__()
        self.cell, self.first = Diagonal(M), nn.Parameter(torch.ones(1, 2, dtype=torch.cfloat))

    def forward(self, x):
        s = self.first
        for x_t in x.unbind(1):
            s = self.cell(x_t, s)
        return s.real


@pytest.mark.parametrize(
    ("module", "x", "how"),
    [
        pytest.param(Diagonal(M), X, {}, id="step"),
        pytest.param(Diagonal(M, None), X, {"state_size": 2}, id="a size"),
        pytest.param(Layer(), X[None], {}, id="layer"),
        pytest.param(
            Diagonal(M), X, {"s0": torch.zeros(1, 2, dtype=torch.cfloat)}, id="a state in float32"
        ),
    ],
)
def test_complex_weights_have_their_eigenvalues_and_conjugates(module, x, how):
    found = spectra(module, x, **how).eigenvalues
    rates = getattr(module, "cell", module).rates.to(torch.cdouble).numpy()
    wanted = np.sort_complex(np.concatenate((rates, rates.conj())))
    for values in found:
        np.testing.assert_allclose(np.sort_complex(values), wanted, rtol=1e-12)
    if isinstance(module, Layer):
        assert open_run(module, x).states[0].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_detached_share_of_the_slope_is_the_difference(share):
    run = open_run(
        lambda x, s: 0.75 * (share * s + (1 - share) * s.detach()) + x, X, torch.ones(M).double()
    )
    np.testing.assert_allclose(spectra(run).table()[DIFFERENCE], 1 - share, atol=1e-8)


HEALTHY = {
    "relu": lambda x, s: F.relu(W.to(s) @ s + x[0]),
    "clamped": lambda x, s: (W.to(s) @ s + x[0]).clamp(-1, 1),
    "normalised": lambda x, s: F.layer_norm(W.to(s) @ s + x[0], (6,)),
    "sorted": lambda x, s: (W.to(s) @ s).sort().values,
    "constant": lambda x, s: x.sum().expand(6).clone(),
    "large": lambda x, s: 1e6 + W.to(s) @ s,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_other_steps_have_a_small_difference(name):
    for seed in range(3):
        s0 = torch.randn(6, dtype=d, generator=torch.Generator().manual_seed(seed))
        assert np.median(spectra(HEALTHY[name], X, s0).difference) < 0.02


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_numbers_are_the_same_if_the_caller_turned_gradients_off(mode):
    cell = make_cell("dts-rnn", M, N, depth=3)
    step = lambda x, s: torch.tanh(W @ s + x[0])  # noqa: E731
    for f, s0 in ((cell, None), (step, torch.ones(6, dtype=d)), (copy.deepcopy(Layer()), None)):
        x = X[None] if isinstance(f, Layer) else X
        wanted = spectra(f, x, s0)
        with mode():
            found = spectra(f, x.clone(), s0)
            assert not torch.is_grad_enabled()
        np.testing.assert_array_equal(found.eigenvalues, wanted.eigenvalues)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_leading_norms_and_eigenvalues_are_lapacks(scale):
    n = 300
    A = scale * np.random.default_rng(n).standard_normal((n, n))
    band = scale * scipy.sparse.diags_array([0.2, 0.3, 0.5], offsets=[-1, 0, 1], shape=(n, n))
    for each in (A, band.toarray()):  # the largest singular values of a band are close together
        found = leading_norm(each.__matmul__, each.T.__matmul__, n)
        np.testing.assert_allclose(found, np.linalg.norm(each, 2), rtol=1e-8)
    values = np.linalg.eigvals(A)
    wanted = sorted(values, key=lambda z: (-round(abs(z) / scale, 9), -z.imag))
    for k in (1, 7, 8, 90):  # 7 and 8: one of them parts two conjugates
        np.testing.assert_allclose(leading_eigenvalues(A.__matmul__, 300, k), wanted[:k], rtol=1e-7)
    assert not leading_eigenvalues(np.zeros_like, 30, 4).any()
    assert leading_norm(np.zeros_like, np.zeros_like, 30) == 0


def test_norms_and_eigenvalues_that_do_not_converge_are_unknown(monkeypatch):
    """After one iteration, for full accuracy."""
    monkeypatch.setattr(large_states, "ITERATIONS", 1)
    monkeypatch.setattr(large_states, "ACCURACY", 1e-15)
    A = np.random.default_rng(0).standard_normal((300, 300))
    assert np.isnan(leading_norm(A.__matmul__, A.T.__matmul__, 300))
    found = leading_eigenvalues(A.__matmul__, 300, 3)
    assert found.shape == (3,) and np.isnan(found).all()


def test_the_norm_of_a_band_matrix_converges_and_its_eigenvalues_are_unknown():
    """Its largest singular values are near 1 - k^2 / n^2. The conditions of the eigenvalues are
    near 2.5^(n/2): the largest one is 0.9325, and a change of 1e-16 moves it to 0.99.
    """
    n = 4097
    A = scipy.sparse.diags_array([0.2, 0.3, 0.5], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    angles = np.pi * np.arange(1, 3) / (n + 1)
    found = leading_norm(A.__matmul__, A.T.__matmul__, n)
    assert 1 - angles[0] ** 2 / 2 < found < 1
    assert found == pytest.approx(np.sqrt(scipy.sparse.linalg.eigsh(A @ A.T, 1, sigma=1.0)[0][0]))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_sparse_reservoir_of_five_thousand_units_needs_no_matrix():
    n, k, rng = 5000, 6, np.random.default_rng(0)
    held = scipy.sparse.diags_array(np.r_[np.linspace(1.6, 1.0, 16), np.zeros(n - 16)])
    places = np.repeat(np.arange(n), 10), rng.integers(n, size=10 * n)
    R = (scipy.sparse.csr_array((rng.normal(0, 0.12, 10 * n), places), (n, n)) + held).tocsr()
    parts = map(torch.from_numpy, (R.indptr, R.indices, R.data))
    sparse = torch.sparse_csr_tensor(*parts, (n, n), check_invariants=True)
    s = torch.full((n,), 0.1, dtype=d)
    step, x = as_step(lambda x, s: 0.6 * s + 0.4 * torch.tanh(x + sparse @ s), torch.zeros(1, n), s)
    A = LargeJacobian(step, x[0], s)
    found = leading_eigenvalues(lambda v: A.push_row(torch.from_numpy(v)[None])[0].numpy(), n, k)
    slope = scipy.sparse.diags_array(0.4 * (1 - np.tanh(R @ s.numpy()) ** 2))
    exact = 0.6 * scipy.sparse.eye_array(n) + slope @ R
    wanted = scipy.sparse.linalg.eigs(exact, k + 1, v0=np.ones(n), return_eigenvectors=False)
    np.testing.assert_allclose(found, wanted[np.argsort(-np.abs(wanted))][:k], rtol=1e-8)

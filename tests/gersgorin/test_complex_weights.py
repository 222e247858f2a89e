"""Modules with complex weights are measured as the same step in a function, and as torch's own
derivatives.
"""

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.network.gradients import gradient_norms
from gersgorin.validate import in_precision
from rhn.errors import InvalidInputError

EIGENVALUES = torch.polar(torch.tensor([0.99, 0.8]), torch.tensor([1.2, 2.5]))


def drawn(*shape, **how):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), **how)


class Diagonal(nn.Module):
    """A step of a diagonal linear recurrence with complex weights, one of them a buffer."""

    def __init__(self, state_size=2):
        super().__init__()
        if state_size:
            self.state_size = state_size
        self.B = nn.Parameter(drawn(2, 3, dtype=torch.cfloat))
        self.register_buffer("rates", EIGENVALUES.clone())

    def forward(self, x, s):
        return self.rates * s + x.to(self.B.dtype) @ self.B.T


class Layer(nn.Module):
    """The step in the loop of a layer that reads and returns real numbers, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.cell = Diagonal()
        self.out = nn.Linear(2, 1)

    def forward(self, x):
        s, outputs = torch.zeros(len(x), 2, dtype=torch.cfloat), []
        for t in range(x.shape[1]):
            s = self.cell(x[:, t], s)
            outputs.append(self.out(s.real))
        return torch.stack(outputs, 1)


X = drawn(20, 3)
S0 = torch.zeros(1, 2, dtype=torch.cfloat)
CALLS = {
    "its state_size": (Diagonal(), X, {}),
    "a given state_size": (Diagonal(None), X, {"state_size": 2}),
    "a complex first state": (Diagonal(), X, {"s0": S0}),
    "double precision": (in_precision(Diagonal(), torch.float64), X.double(), {}),
    "a layer": (Layer(), X[None], {}),
}


@for_each("name", CALLS)
def test_eigenvalues_keep_their_imaginary_parts(name):
    module, x, options = CALLS[name]
    found = gersgorin.spectra(module, x, **options)
    wanted = sorted([*EIGENVALUES.tolist(), *EIGENVALUES.conj().tolist()], key=lambda z: z.imag)
    eigenvalues = sorted(found.eigenvalues[7], key=lambda z: z.imag)
    np.testing.assert_allclose(eigenvalues, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.spectral_radius, 0.99, rtol=1e-6)
    assert found.doubt == ""


ANALYSES = {
    "spectra": lambda f, x, s0: gersgorin.spectra(f, x, s0=s0).eigenvalues,
    "lyapunov": lambda f, x, s0: gersgorin.lyapunov(f, x, s0=s0).exponents,
    "fixed points": lambda f, x, s0: gersgorin.fixed_points(f, x, s0=s0).states,
    "fixed points of starts": lambda f, x, s0: (
        gersgorin.fixed_points(f, x[0], starts=drawn(5, 2, dtype=torch.cdouble)).states
    ),
    "influence": lambda f, x, s0: gersgorin.influence(f, x, s0=s0).influence,
}


@for_each(("name", "measure"), ANALYSES.items())
def test_a_module_gives_the_numbers_of_its_step_as_a_function(name, measure):
    x, module = X.double(), Diagonal()
    same = in_precision(Diagonal(), torch.float64)
    expected = measure(lambda x, s: same(x, s), x, S0[0].cdouble())
    np.testing.assert_allclose(measure(module, x, S0), expected, rtol=1e-9, atol=1e-9)


@for_each("name", CALLS)
def test_the_influence_is_torchs_derivative(name):
    module, x, options = CALLS[name]
    found = gersgorin.influence(module, x, **options)

    def outputs(x):
        if isinstance(module, Layer):
            return module(x)[0]
        s, states = S0.to(module.B.dtype), []
        for x_t in x:
            s = module(x_t[None], s)
            states.append(torch.view_as_real(s).flatten())
        return torch.stack(states)

    slopes = torch.autograd.functional.jacobian(outputs, x).reshape(20, -1, 20, 3)
    np.testing.assert_allclose(found.influence, slopes.norm(dim=(1, 3)), rtol=1e-4, atol=1e-5)


def test_starts_may_be_complex_or_their_real_parts():
    starts = drawn(5, 2, dtype=torch.cdouble)
    parts = torch.view_as_real(starts).flatten(1)
    module = Diagonal(None)
    one, other = (
        gersgorin.fixed_points(module, X[0], starts=s, state_size=2) for s in (starts, parts)
    )
    np.testing.assert_allclose(one.states, other.states)
    np.testing.assert_allclose(abs(one.eigenvalues).max(), 0.99, rtol=1e-6)


def test_a_recorder_measures_complex_weights():
    module = Diagonal()
    recorder = gersgorin.Recorder(module, X, every=1)
    module(X[:1], S0).abs().square().sum().backward()
    recorder.step()
    np.testing.assert_allclose(recorder.recording.radius, 0.99, rtol=1e-6)
    gradients, _ = gradient_norms(module)
    np.testing.assert_allclose(gradients[0], module.B.grad.abs().square().sum().sqrt(), rtol=1e-6)


@for_each(
    ("name", "module", "options", "words"),
    (
        ("real", Diagonal(), {"s0": torch.zeros(1, 2)}, "a complex state from a real one"),
        (
            "a function",
            lambda x, s: EIGENVALUES * s,
            {"state_size": 2},
            r"give its first state, such as s0=torch.zeros\(2, dtype=torch.cfloat\)",
        ),
        ("complex", lambda x, s: s.real, {"s0": S0}, "a real state from a complex one"),
    ),
)
def test_a_first_state_of_the_other_kind_is_refused(name, module, options, words):
    for measure in (gersgorin.spectra, gersgorin.influence):
        with pytest.raises(InvalidInputError, match=words):
            measure(module, X, **options)


def test_a_copy_in_another_precision_keeps_whole_numbers():
    module = nn.BatchNorm1d(3)
    copied = in_precision(module, torch.float64)
    assert copied.num_batches_tracked.dtype == torch.int64
    assert copied.weight.dtype == copied.running_mean.dtype == torch.float64

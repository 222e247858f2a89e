"""The run of a linear recurrence has the elements of its scan as Jacobians; hand-written references
of modern layers.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.analyses import spectra
from gersgorin.cli.main import main
from gersgorin.loading.scan import ScanRun
from gersgorin.recording.recorder import Recorder
from rhn.errors import InvalidInputError

T, M = 9, 3


class SelectiveSSM(nn.Module):
    """The selective state-space model of Mamba without its convolution: s = exp(dt A) s + dt B x, A
    < 0, (B, T, m).
    """

    batch_first = True

    def __init__(self, input_size=M, states=4):
        super().__init__()
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(input_size, 1))
        self.dt = nn.Linear(input_size, input_size)
        self.B, self.C = nn.Linear(input_size, states), nn.Linear(input_size, states)

    def scan_elements(self, x):
        dt = F.softplus(self.dt(x))[..., None]
        return torch.exp(-dt * self.A_log.exp()), dt * self.B(x)[..., None, :] * x[..., None]

    def step_by_hand(self, x, s):
        a, b = self.scan_elements(x[None])
        return a[0].flatten() * s + b[0].flatten()

    def forward(self, x):
        a, b = self.scan_elements(x)
        s, outputs = torch.zeros_like(b[:, 0]), []
        for t in range(x.shape[1]):
            s = a[:, t] * s + b[:, t]
            outputs.append((s * self.C(x[:, t])[:, None]).sum(-1))
        return torch.stack(outputs, 1)


class LRU(nn.Module):
    """The linear recurrent unit (Orvieto et al. 2023): s = lambda s + gamma B x, complex and
    diagonal.
    """

    def __init__(self):
        super().__init__()
        self.nu, self.theta = nn.Parameter(torch.rand(4).sub(3)), nn.Parameter(torch.rand(4))
        self.B = nn.Parameter(torch.randn(4, M, 2))

    def scan_elements(self, x):
        a = torch.exp(torch.complex(-self.nu.exp(), self.theta))
        b = (1 - a.abs() ** 2).sqrt() * (x.to(a) @ torch.view_as_complex(self.B.contiguous()).T)
        return a.expand_as(b), b

    def step_by_hand(self, x, s):
        a, b = self.scan_elements(x[None])
        return torch.view_as_real(a[0] * torch.view_as_complex(s.view(-1, 2)) + b[0]).flatten()


class Rotations(nn.Module):
    """Blocks of 2 x 2, one for each pair of units."""

    def __init__(self):
        super().__init__()
        self.angle, self.B = nn.Linear(M, 3), nn.Linear(M, 6)

    def scan_elements(self, x):
        c, s = self.angle(x).cos(), self.angle(x).sin()
        a = 0.9 * torch.stack((torch.stack((c, -s), -1), torch.stack((s, c), -1)), -2)
        return a, self.B(x).unflatten(-1, (3, 2))

    def step_by_hand(self, x, s):
        a, b = self.scan_elements(x[None])
        return (a[0] @ s.view(3, 2, 1)).flatten() + b[0].flatten()


SCANS = [SelectiveSSM, LRU, Rotations]


@for_each("kind", SCANS)
def test_the_run_is_that_of_the_recurrence_written_by_hand(kind):
    module, x = kind().double(), torch.randn(T, M, dtype=torch.float64)
    run = gersgorin.open_run(module, x)
    assert isinstance(run, ScanRun) and len(run) == T
    s = torch.zeros(run.state_size, dtype=torch.float64)
    A, B, products = run.jacobians(), run.input_jacobians(), list(run.tangent_maps())
    for t in range(T):
        J_x, J_s = torch.autograd.functional.jacobian(module.step_by_hand, (x[t], s))
        torch.testing.assert_close(A[t], J_s, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(B[t], J_x, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(products[t](A[0]), A[t] @ A[0], rtol=1e-12, atol=1e-13)
        s = module.step_by_hand(x[t], s).detach()
        torch.testing.assert_close(run.states[t + 1], s, rtol=1e-12, atol=1e-13)


def test_thousands_of_states_are_measured_by_products():
    class Large(SelectiveSSM):
        def __init__(self):
            super().__init__(M, 700)

    run = gersgorin.open_run(Large(), torch.randn(1, M))
    found = spectra.spectra(run, leading=3)
    assert run.state_size == 2100
    np.testing.assert_allclose(
        found.eigenvalues.real, run.inputs[:, :2100].topk(3).values, rtol=1e-6
    )


def test_the_scan_in_a_model_reads_what_the_model_passes_to_it():
    scan, first = SelectiveSSM(), nn.Linear(2, M)
    model, x = (
        nn.Sequential(first, nn.Tanh(), scan).double(),
        torch.randn(1, T, 2, dtype=torch.float64),
    )
    run = gersgorin.open_run(model, x)
    torch.testing.assert_close(
        run.states, gersgorin.open_run(scan, torch.tanh(first(x[0])).detach()).states
    )


def test_a_recorder_measures_a_scan():
    model, x = nn.Sequential(nn.Linear(2, M), SelectiveSSM()), torch.randn(2, T, 2)
    recording = Recorder(model, x, every=1).recording
    assert recording.radius.shape == (1, 4) and np.isfinite(recording.input_gain).all()


def test_the_commands_take_a_module_with_scan_elements(own_folder, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(T, M)))
    assert (
        main(["products", "--module", "test_scans:SelectiveSSM", "--input", "x.npy", "--json"]) == 0
    )
    assert len(json.loads(capsys.readouterr().out)["products"]["log_norm"]) == T


class Returns(nn.Module):
    def __init__(self, elements):
        super().__init__()
        self.elements, self.weight = elements, nn.Parameter(torch.zeros(1))

    def scan_elements(self, x):
        return self.elements(x)


WRONG = {
    "one tensor": (lambda x: x, "gives no pair of tensors"),
    "shapes": (lambda x: (x[:, :2], x), "returns a (9, 2) and b (9, 3) for 9 steps"),
    "NaN": (lambda x: (x / 0, x), "returns NaN or infinite numbers"),
}


@for_each("name", WRONG)
def test_other_elements_are_refused_with_a_sentence(name):
    elements, said = WRONG[name]
    with pytest.raises(InvalidInputError) as error:
        gersgorin.open_run(Returns(elements), torch.randn(T, M))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_scan_has_no_step_from_any_state():
    with pytest.raises(InvalidInputError, match="elements of whole sequences"):
        gersgorin.fixed_points(gersgorin.open_run(LRU(), torch.randn(T, M)))

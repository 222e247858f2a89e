"""The audit of an initialisation finds wrong starts and says nothing about right ones."""

import json
import math

import numpy as np
import pytest
import torch
from test_caches import model_of
from test_scans import SelectiveSSM
from torch import nn

import gersgorin
from gersgorin.analyses.audit import _eigenvalue_moduli
from gersgorin.cli.main import main
from rhn.errors import InvalidInputError

T, M = 30, 8


def lstm(forget_bias):
    torch.manual_seed(0)
    module = nn.LSTM(M, 16)
    with torch.no_grad():
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
        module.bias_hh_l0[16:32] = forget_bias
    return module


def said(found):
    return "\n".join(found.findings)


def test_an_lstm_with_forget_bias_0_forgets_at_once():
    found = gersgorin.audit(lstm(0.0), torch.randn(T, M))
    assert "inputs are forgotten at once" in said(found)


def test_an_lstm_with_forget_bias_2_is_in_line():
    found = gersgorin.audit(lstm(2.0), torch.randn(T, M))
    assert not len(found.findings), said(found)
    assert "Nothing is out of line" in found.summary()


def test_half_lives_are_those_of_the_decays():
    module = SelectiveSSM(M, 4).double()
    x = torch.randn(2, M, dtype=torch.float64)
    found = gersgorin.audit(module, x)
    a, _ = module.scan_elements(x)
    expected = np.sort(math.log(2) / -a.log().detach().flatten().numpy())
    np.testing.assert_allclose(found.half_lives["SelectiveSSM"], expected, rtol=1e-9)
    assert found.growth[0] == pytest.approx(float(a.max()))


def test_moduli_of_a_triangular_matrix_are_those_of_its_blocks():
    A = np.random.default_rng(0).normal(size=(12, 12))
    A[:5, 5:] = 0
    A[7:, 5:7] = 0
    expected = np.abs(np.linalg.eigvals(A))
    np.testing.assert_allclose(np.sort(_eigenvalue_moduli(A)), np.sort(expected), rtol=1e-9)


def test_rates_are_relative_gradients_of_every_parameter():
    model = nn.Sequential(nn.Linear(M, 4), nn.GRU(4, 4))
    model[1].weight_ih_l0.data.zero_()
    rates = gersgorin.audit(model, torch.randn(T, M)).rates
    assert rates.keys() == dict(model.named_parameters()).keys()
    assert math.isinf(rates["1.weight_ih_l0"]) and rates["0.weight"] == 0 and 0 < rates["1.bias_ih_l0"] < 1


def test_parameters_without_gradient_dead_units_and_saturated_gates_are_told():
    module = nn.Sequential(nn.Linear(M, 4), nn.LSTM(4, 4))
    with torch.no_grad():
        module[1].weight_ih_l0.zero_()
        module[1].bias_ih_l0[:8] = 20.0
        module[1].bias_ih_l0[8:] = 0
        module[1].weight_hh_l0.zero_()
        module[1].bias_hh_l0.zero_()
    found = gersgorin.audit(module, torch.randn(T, M))
    assert "0.weight, 0.bias, 1.weight_hh_l0: no gradient at this start" in said(found)
    assert "of its gates are within 0.01 of 0 or 1" in said(found) and found.saturated[0] == 1
    assert found.dead[0] == 1 and "of its state never changes" in said(found)


MAMBA2 = {"num_heads": 8, "head_dim": 2, "expand": 2}


def test_a_mamba2_without_its_initialisation_is_found():
    """dt constant and A left at zero, the defect that a library of such layers had for years."""
    model = model_of("Mamba2", **MAMBA2)
    with torch.no_grad():
        for layer in model.layers:
            layer.mixer.dt_bias.fill_(1.0)
            layer.mixer.A_log.zero_()
    text = said(gersgorin.audit(model, torch.arange(T)[None] % 11))
    assert text.count("inputs are forgotten at once") == 2


def test_the_command_prints_the_findings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(T, M)))
    command = ["audit", "--module", "torch.nn:LSTM", "--hidden-size", "4", "--input", "x.npy"]
    assert main(command) == 0
    assert "mode half-lives" in capsys.readouterr().out
    assert main([*command, "--json", "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["audit"]["rates"].keys() == dict(nn.LSTM(2, 2).named_parameters()).keys()


@pytest.mark.parametrize(
    ("module", "said"), [(nn.Linear(M, 2), "has no recurrent cell"), (torch.tanh, "is a function")]
)
def test_a_module_without_recurrent_layers_is_refused(module, said):
    with pytest.raises(InvalidInputError, match=said):
        gersgorin.audit(module, torch.randn(T, M))


def test_a_model_that_does_not_run_in_float64_is_one_sentence():
    class Single(nn.Linear):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise RuntimeError("expected Float")
            return super().forward(x)

    with pytest.raises(InvalidInputError, match="does not run in float64, in which layers are measured: audit its GRU"):
        gersgorin.audit(nn.Sequential(Single(M, 3), nn.GRU(3, 4)), torch.randn(T, M))

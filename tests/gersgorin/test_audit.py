"""The audit of an initialisation finds wrong starts and says nothing about right ones."""

import json

import numpy as np
import pytest
import torch
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
    assert "a thousandth of an input is left" in said(found)


def test_an_lstm_with_forget_bias_2_is_in_line():
    found = gersgorin.audit(lstm(2.0), torch.randn(T, M))
    assert not len(found.findings), said(found)
    assert "Nothing is out of line" in found.summary()


class Loop(nn.Module):
    """A loop over a cell."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(M, 16)

    def forward(self, x):
        h, states = x.new_zeros(x.shape[1], 16), []
        for frame in x:
            h = self.cell(frame, h)
            states.append(h)
        return torch.stack(states)


def test_sizes_of_a_cell_in_a_loop_are_of_all_its_calls():
    x = torch.randn(T, 1, M)
    x[T // 2 :] = 0  # of which the last call is one
    model = Loop()
    found = gersgorin.audit(model, x[:, 0])
    assert found.input_rms[0] == pytest.approx(x.square().mean().sqrt().item(), rel=1e-6)
    assert found.output_rms[0] == pytest.approx(model(x).square().mean().sqrt().item(), rel=1e-5)


def test_modes_that_grow_are_no_equal_half_lives():
    module = nn.RNN(M, 16, nonlinearity="relu")
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.diag(torch.tensor([1.1] * 8 + [0.5] * 8)))
        module.bias_hh_l0.fill_(9.0)
    found = gersgorin.audit(module, torch.randn(5, M))
    assert "grows" in said(found) and "same half-life" not in said(found)


def test_moduli_of_a_triangular_matrix_are_those_of_its_blocks():
    A = np.random.default_rng(0).normal(size=(12, 12))
    A[:5, 5:] = 0
    A[7:, 5:7] = 0
    expected = np.abs(np.linalg.eigvals(A))
    np.testing.assert_allclose(
        np.sort(_eigenvalue_moduli(torch.from_numpy(A))), np.sort(expected), rtol=1e-9
    )


def test_dead_units_and_saturated_gates_are_told():
    module = nn.Sequential(nn.Linear(M, 4), nn.LSTM(4, 4))
    with torch.no_grad():
        module[1].weight_ih_l0.zero_()
        module[1].bias_ih_l0[:8] = 20.0
        module[1].bias_ih_l0[8:] = 0
        module[1].weight_hh_l0.zero_()
        module[1].bias_hh_l0.zero_()
    found = gersgorin.audit(module, torch.randn(T, M))
    assert "of its gates are within 0.01 of 0 or 1" in said(found) and found.saturated[0] == 1
    assert found.dead[0] == 1 and "of its state never changes" in said(found)


@pytest.mark.parametrize(
    ("module", "flagged"),
    [(nn.RNN(M, M), []), (nn.LSTM(M, M), [])],
)
def test_weight_decay_of_a_decay_is_told(module, flagged):
    found = gersgorin.audit(
        module, torch.randn(T, M), torch.optim.AdamW(module.parameters(), weight_decay=0.1)
    )
    assert [line.split(":")[0] for line in found.findings if "acts on a decay" in line] == flagged
    without = gersgorin.audit(
        module, torch.randn(T, M), torch.optim.AdamW(module.parameters(), weight_decay=0)
    )
    assert "acts on a decay" not in said(without)


def test_an_optimizer_of_another_module_is_refused():
    with pytest.raises(InvalidInputError, match="no parameter of the module"):
        gersgorin.audit(
            nn.GRU(M, 4), torch.randn(T, M), torch.optim.AdamW(nn.GRU(M, 4).parameters())
        )


def test_the_command_prints_the_findings(own_folder, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(T, M)))
    command = ["audit", "--module", "torch.nn:LSTM", "--hidden-size", "4", "--input", "x.npy"]
    assert main(command) == 0
    assert "mode_half_life" in capsys.readouterr().out
    assert main([*command, "--json", "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["audit"]["layers"] == ["LSTM"]


@pytest.mark.parametrize("module", [nn.Linear(M, 2), torch.tanh])
def test_a_module_without_recurrent_layers_is_refused(module):
    with pytest.raises(InvalidInputError, match="has no recurrent cell"):
        gersgorin.audit(module, torch.randn(T, M))


class Single(nn.Linear):
    def forward(self, x):
        if x.dtype == torch.float64:
            raise RuntimeError("expected float32 or bfloat16")
        return super().forward(x)


def test_a_model_that_does_not_run_in_float64_is_run_in_its_own_type():
    torch.manual_seed(0)
    model, x = nn.Sequential(Single(M, 3), nn.GRU(3, 4)), torch.randn(T, M)
    alone = gersgorin.audit(model[1], model[0](x).detach())
    np.testing.assert_allclose(
        gersgorin.audit(model, x).half_lives["1"], alone.half_lives["GRU"], rtol=1e-5
    )

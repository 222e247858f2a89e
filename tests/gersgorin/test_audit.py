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


def test_half_lives_are_those_of_the_decays():
    module = SelectiveSSM(M, 4).double()
    x = torch.randn(2, M, dtype=torch.float64)
    found = gersgorin.audit(module, x)
    a, _ = module.scan_elements(x)
    expected = np.sort(math.log(2) / -a.log().detach().flatten().numpy())
    np.testing.assert_allclose(found.half_lives["SelectiveSSM"], expected, rtol=1e-9)
    assert found.growth[0] == pytest.approx(a.max().item())


def test_moduli_of_a_triangular_matrix_are_those_of_its_blocks():
    A = np.random.default_rng(0).normal(size=(12, 12))
    A[:5, 5:] = 0
    A[7:, 5:7] = 0
    expected = np.abs(np.linalg.eigvals(A))
    np.testing.assert_allclose(
        np.sort(_eigenvalue_moduli(torch.from_numpy(A))), np.sort(expected), rtol=1e-9
    )


def test_the_influence_of_an_input_halves_as_the_state_decays():
    found = gersgorin.audit(LRU(torch.full((M,), 0.9)), torch.randn(T, M))
    assert found.influence[0] == pytest.approx(math.log(2) / -math.log(0.9))
    assert "all its modes have the same half-life" in said(found)


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


class LRU(nn.Module):
    """h' = exp(-exp(log_rate)) h + x."""

    def __init__(self, decay):
        super().__init__()
        self.log_rate, self.scale = (
            nn.Parameter((-decay.log()).log()),
            nn.Parameter(torch.ones(len(decay))),
        )

    def scan_elements(self, x):
        return (-self.log_rate.exp()).exp().expand(len(x), -1), self.scale * x

    def forward(self, x):
        s, states = torch.zeros_like(x[0]), []
        for a, b in zip(*self.scan_elements(x), strict=True):
            states.append(s := a * s + b)
        return torch.stack(states)


def test_infinite_weights_are_told_by_name_and_do_not_end_the_audit():
    """-inf is what a rate of almost 0 rounds to: such a unit never forgets."""
    module = LRU(torch.linspace(0.8, 0.95, M))
    module.log_rate.data[2] = -math.inf
    found = gersgorin.audit(module.to(torch.bfloat16), torch.randn(T, M))
    assert "log_rate: infinite in 1 of its weights" in said(found)
    assert found.growth[0] == 1 and math.isinf(found.half_lives["LRU"][-1])
    assert torch.isinf(module.log_rate).sum() == 1


def test_decays_that_are_1_in_bfloat16_are_told():
    found = gersgorin.audit(LRU(torch.tensor([0.9] * 6 + [0.999] * 2)), torch.randn(T, M))
    assert found.rounded[
        0
    ] == 0.25 and "25% of its decays and gates are 0 or 1 in bfloat16" in said(found)


@pytest.mark.parametrize(
    ("module", "flagged"),
    [(LRU(torch.linspace(0.8, 0.95, M)), ["log_rate"]), (nn.RNN(M, M), []), (nn.LSTM(M, M), [])],
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


MAMBA2 = {"num_heads": 8, "head_dim": 2, "expand": 2}


def test_a_mamba2_without_its_initialisation_is_found():
    """dt constant and A left at zero, the defect that a library of such layers had for years."""
    model = model_of("Mamba2", **MAMBA2)
    with torch.no_grad():
        for layer in model.layers:
            layer.mixer.dt_bias.fill_(1.0)
            layer.mixer.A_log.zero_()
    text = said(gersgorin.audit(model, torch.arange(T)[None] % 11))
    assert text.count("a thousandth of an input is left") == 2


def test_a_gated_delta_net_is_measured_where_its_model_runs_in_its_own_type_only():
    """Qwen3-Next: dt_bias of ones forgets at once, and a small one does not; A_log = -inf in
    bfloat16, and weight decay, are told.
    """
    kind, x = "layers.0.linear_attn", torch.arange(T)[None] % 11
    configs = pytest.importorskip(
        "transformers", reason="the extra `layers` is not installed"
    ).models.qwen3_next
    heads = {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 4,
        "linear_value_head_dim": 4,
    }
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    sizes = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 4}
    torch.manual_seed(0)
    model = configs.Qwen3NextModel(configs.Qwen3NextConfig(**sizes, **heads, **experts)).eval()
    assert f"{kind}: its longest mode half-life" in said(
        gersgorin.audit(model, x, submodule="layers.0")
    )
    layer = model.layers[0].linear_attn
    layer.dt_bias.data = torch.linspace(0.001, 0.1, 4).expm1().log()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    found = said(gersgorin.audit(model, x, optimizer, submodule="layers.0"))
    assert "forgotten" not in found and found.count("acts on a decay") == 2
    layer.A_log.data[1] = -math.inf
    found = gersgorin.audit(model.to(torch.bfloat16), x, submodule="layers.0")
    assert f"{kind}.A_log: infinite in 1 of its weights" in said(found) and math.isinf(
        found.half_lives[kind][-1]
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

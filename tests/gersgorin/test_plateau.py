"""The plateau at a constant output: its rates are gradients, its order the integer that the
network's products of matrices make it.
"""

import json
import math

import numpy as np
import pytest
import torch
from chains import frames, network
from tables import for_each
from torch import nn

from gersgorin import credit, plateau
from gersgorin.cli.main import main
from gersgorin.training.frames import FrameTraining
from rhn.cells import CELLS
from rhn.checkpoints import save_checkpoint
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel

ORDERS = [
    (cell, depth)
    for cell in CELLS
    for depth in ((1, 2, 4, 6) if getattr(CELLS[cell], "deep", True) else (1,))
]


@for_each(("cell", "depth"), ORDERS)
def test_the_order_of_gaussian_weights_is_the_depth_less_one_without_a_carry_path_and_zero_with_one(
    cell, depth
):
    expected = depth - 1 if cell in ("dt-rnn", "dts-rnn") else 0
    measured = plateau(network(cell, depth), frames())
    assert (
        measured.order == pytest.approx(expected, abs=0.05) and measured.integer_order == expected
    )


def test_an_embedding_and_every_further_cell_of_a_stack_add_one():
    ids = torch.randint(6, (20, 4), generator=torch.Generator().manual_seed(0))
    model = LanguageModel("lstm", vocabulary_size=6, hidden_size=8, init="gaussian:1e-3")
    assert plateau(model, ids).integer_order == 1
    assert plateau(network("gru", layers=3), frames()).integer_order == 2


def test_identity_matrices_are_scaled_about_the_identity():
    assert plateau(network("dt-rnn", 4, "identity:1e-3"), frames()).order == pytest.approx(
        0, abs=0.05
    )
    assert plateau(network("irnn"), frames()).order == pytest.approx(0, abs=0.05)


def test_rates_are_gradients_at_the_constant_output():
    model, x = network("dt-rnn", 2, init="gaussian:0.3"), frames()
    before = {name: p.clone() for name, p in model.named_parameters()}
    measured = plateau(model, x)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    model.double()
    p = x[1:].mean((0, 1))
    assert measured.loss == pytest.approx(-(p * p.log() + (1 - p) * (1 - p).log()).sum().item())
    with torch.no_grad():
        model.output.bias += p.logit() - model(x[:-1]).mean((0, 1))
    model.nll(x).mean().backward()
    R, W = model.cells[0].weight_hh, model.output.weight
    assert measured.rates["cells.0.weight_hh[1]"] == pytest.approx(
        (R.grad[1].norm() / R[1].norm()).item()
    )
    assert measured.rates["output.weight"] == pytest.approx((W.grad.norm() / W.norm()).item())
    assert set(measured.rates) == {
        "cells.0.weight_ih",
        "cells.0.weight_hh[0]",
        "cells.0.weight_hh[1]",
        "output.weight",
    }


def test_a_step_changes_the_loss_as_the_rates_say():
    """Central difference along the gradient, of a fresh computation of the loss: its slope is the
    squared norm of all gradients.
    """
    training = FrameTraining(network("rhn", 3, init="gaussian:0.2"), frames())
    _, slopes = training.gradients()
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for name, p in training.parameters.items():
                p += step * slopes[name]
        values.append(training.mean_loss().item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(
        sum(g.square().sum().item() for g in slopes.values()), rel=1e-6
    )


def test_weights_far_from_zero_have_no_integer_order_and_rates_below_all_numbers_none():
    assert plateau(network("dt-rnn", 4, init="gaussian:0.5"), frames()).integer_order is None
    silent = plateau(network("dt-rnn", 6, init="gaussian:1e-80"), frames())
    assert (
        math.isnan(silent.order)
        and silent.integer_order is None
        and max(silent.rates.values()) == 0
    )


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(5, 8), nn.Linear(8, 5)
        for name, p in self.named_parameters():
            nn.init.zeros_(p) if "bias" in name else nn.init.normal_(p, std=1e-3)

    def forward(self, x):
        y, state = self.rnn(x)
        return self.out(y), state


def test_without_an_output_bias_there_is_no_order():
    torch.manual_seed(0)
    assert math.isnan(plateau(nn.LSTM(5, 5), frames(), "squared").order)


@pytest.mark.parametrize("trained", [(), ("output.bias",)])
def test_without_a_trained_matrix_there_is_no_plateau(trained):
    model = network("rhn")
    for name, p in model.named_parameters():
        p.requires_grad_(name in trained)
    with pytest.raises(InvalidInputError, match="no trained matrix"):
        plateau(model, frames())


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda z, t: (z.detach() - t).square().sum(-1), "do not detach"),
        (lambda z, t: t.sum(-1), "do not detach"),
        (lambda z, t: z.sum(-1), "no best constant"),
    ],
)
def test_a_loss_without_a_gradient_or_a_least_value_is_refused(loss, said):
    with pytest.raises(InvalidInputError, match=said):
        plateau(Own(), frames(), loss)
    assert math.isfinite(
        plateau(Own(), frames(), lambda z, t: (z - t).abs().sum(-1)).loss
    )  # a kink at its least is none


def answer(capsys, command, *words) -> dict:
    assert main([command, *words, "--json", "--force"]) == 0
    return json.loads(capsys.readouterr().out)[command]


def test_the_command_takes_a_new_cell_a_checkpoint_and_a_module_with_their_loss(own_folder, capsys):
    np.save("x.npy", frames(B=2).numpy().swapaxes(0, 1))
    piece = frames(B=2)
    new = network("rhn", 2, "uniform:0.3").float()
    save_checkpoint("model.safetensors", new)
    found = answer(capsys, "plateau", "--checkpoint", "model.safetensors", "--input", "x.npy")
    assert found["rates"] == pytest.approx(plateau(new, piece).rates) and found["sequences"] == 2
    fresh = answer(
        capsys, "plateau", "--cell", "rhn", "--depth", "2", "--hidden-size", "8", "--input", "x.npy"
    )
    assert (
        fresh["loss_unit"].startswith("squared error")
        and fresh["title"] == "rhn, depth 2, 8 units on sequence x.npy"
    )
    assert (
        fresh["about"]
        == "uniform:0.04, transform bias -2, seed 0; x.npy, 2 sequences of 12 steps, 5 numbers each"
    )
    credits = answer(capsys, "credit", "--checkpoint", "model.safetensors", "--input", "x.npy")
    assert credits["lag_share"] == pytest.approx(
        credit(new, piece[:-1], piece[1:]).lag_share.tolist()
    )
    assert (
        answer(capsys, "plateau", "--hidden-size", "4", "--steps", "9")["loss_unit"]
        == "nats a frame"
    )

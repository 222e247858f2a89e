"""Gate activity: numbers against a plain loop, limits, names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import GATED, SUBJECTS, language_network, name, rolls
from tables import for_each

from analysis import gate_activity
from rhn.cells import RHN


@for_each(("bias", "wanted"), [(-20.0, 0.0), (20.0, 1.0)])
@for_each("options", [{}, {"coupled": False}])
def test_the_transform_bias_holds_the_gates(bias, wanted, options):
    activity = gate_activity(
        RHN(88, 8, 3, transform_bias=bias, init="gaussian:0.1", **options), rolls(5, 11)
    )
    for sequence in activity.sequences:
        assert np.abs(sequence.activity - wanted).max() < 1e-6
    table = activity.table()
    assert table["sum of means"] == pytest.approx(3 * wanted, abs=1e-5)
    assert (table["share below 0.1"] == 1 - wanted).all()
    assert (table["share above 0.9"] == wanted).all()


@pytest.mark.parametrize(
    ("kind", "case"),
    [*(("chorales", case) for case in GATED), ("texts", GATED[0]), ("tied texts", GATED[2])],
    ids=name,
)
def test_gates_are_those_of_a_plain_loop_over_the_equation(kind, case):
    build, data, _ = SUBJECTS[kind.removeprefix("tied ")]
    model = (
        language_network(*case, layers=2, tied=True)
        if kind == "tied texts"
        else build(*case, layers=2)
    )
    record = gate_activity(model, data)
    for part, sequence in zip(data, record.sequences, strict=True):
        assert sequence.activity.shape[1] == len(part), "padding does not count"
        states = [torch.zeros(cell.state_size, dtype=torch.float64) for cell in model.cells]
        for t, step in enumerate(part):
            x, gates = (
                torch.from_numpy(step).double() if kind == "chorales" else model.embedding[step],
                [],
            )
            for k, cell in enumerate(model.cells):
                gates += cell.gates(x, states[k]).t
                states[k] = cell.step(x, states[k])
                x = states[k][..., : cell.hidden_size]
            assert np.allclose(
                sequence.activity[:, t], [g.mean().item() for g in gates], atol=1e-13
            )
            assert np.allclose(
                sequence.open[:, t], [(g > 0.9).double().mean().item() for g in gates]
            )
            assert np.allclose(
                sequence.closed[:, t], [(g < 0.1).double().mean().item() for g in gates]
            )


def test_a_cell_with_coupled_gates_need_not_give_the_carry_gates():
    class Own(RHN):
        def gates(self, x, s):
            return replace(super().gates(x, s), c=())

    options = {"init": "gaussian:0.1", "generator": torch.Generator().manual_seed(0)}
    cells = [kind(88, 8, 2, **options) for kind in (RHN, Own)]
    cells[1].load_state_dict(cells[0].state_dict())
    wanted, found = (gate_activity(cell, rolls(5, 11)) for cell in cells)
    np.testing.assert_array_equal(found.activity, wanted.activity)

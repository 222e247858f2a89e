"""Gate activity against a plain loop."""

import numpy as np
import torch
from networks import GATED, SUBJECTS
from tables import for_each

from analysis import gate_activity


@for_each(
    ("kind", "case", "options"),
    [
        *(("chorales", case, {"layers": 2}) for case in GATED),
        ("texts", GATED[0], {"layers": 2}),
        ("texts", GATED[2], {"layers": 2, "tied": True}),
    ],
)
@torch.no_grad()
def test_gates_are_those_of_a_plain_loop_over_the_equation(kind, case, options):
    build, data, _ = SUBJECTS[kind]
    model = build(*case, **options)
    for weight in model.parameters():
        weight *= 4  # so that some gates are open and some closed
    record = gate_activity(model, data)
    assert record.open.any() and record.closed.any()
    for part, sequence in zip(data, record.sequences, strict=True):
        assert sequence.activity.shape[1] == len(part), "padding does not count"
        states = [torch.zeros(cell.state_size, dtype=torch.float64) for cell in model.cells]
        for t, step in enumerate(part):
            x = torch.from_numpy(step).double() if kind == "chorales" else model.embedding[step]
            gates = []
            for k, cell in enumerate(model.cells):
                gates += cell.gates(x, states[k]).t
                states[k] = cell.step(x, states[k])
                x = states[k][..., : cell.hidden_size]
            wanted = torch.stack(gates).numpy()
            assert np.allclose(sequence.activity[:, t], wanted.mean(1), atol=1e-13)
            assert np.allclose(sequence.open[:, t], (wanted > 0.9).mean(1))
            assert np.allclose(sequence.closed[:, t], (wanted < 0.1).mean(1))

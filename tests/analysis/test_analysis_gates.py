"""Gate activity against a plain loop."""

import numpy as np
import torch
from networks import GATED, SUBJECTS, gates_by_loop
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
        steps = torch.from_numpy(part)
        inputs = steps.double() if kind == "chorales" else model.embedding[steps]
        gates = gates_by_loop(model.cells, inputs)
        assert np.allclose(sequence.activity, gates.mean(2), atol=1e-13)
        assert np.allclose(sequence.open, (gates > 0.9).mean(2))
        assert np.allclose(sequence.closed, (gates < 0.1).mean(2))

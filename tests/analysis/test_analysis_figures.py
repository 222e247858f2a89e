"""The figures of gates and lesions can be read, whatever the network and the sequence."""

from dataclasses import replace

import numpy as np
import pytest
from networks import network, rolls
from readable import readable
from test_analysis_records import activity_of

from analysis import gate_activity, lesion
from analysis.activity import draw_gates
from analysis.damage import draw_lesions
from rhn.utils.figures import our_style

LONG = "a name of forty characters, $signs$ and 字"
TITLE = "RHN, 2 cells, depth 10, 830 units (a-run-with-a-long-name, seed-12)"
ABOUT = (
    "a-run/best.safetensors: gaussian:0.008342, transform bias -2, seed 0, trial 11, epoch 40; train split of chorales"
)


def named(record, name=LONG):
    return replace(
        record,
        names=tuple(f"{k} {name}" for k, _ in enumerate(record.names)),
        title=TITLE,
        about=ABOUT,
    )


GATES = {
    "one layer, one step": lambda: activity_of(np.array([[0.3]])),
    "10 layers": lambda: gate_activity(network(depth=10, hidden_size=3), rolls(60, 39, 5, 80)),
    "a long run": lambda: gate_activity(network(), rolls(4000)),
    "nothing finite": lambda: activity_of(np.full((3, 50), np.nan)),
}


def lesions(*lengths, depth=3, **asked):
    return replace(lesion(network(depth=depth, hidden_size=3), rolls(*lengths), split="train", **asked), about=ABOUT)


def times(table, factor):
    """The table with every damage so much greater."""
    return replace(table, **{name: abs(getattr(table, name)) * factor for name in ("delta", "low", "high")})


LESIONS = {
    "one layer, one sequence": lambda: lesions(9, depth=1),
    "all measured": lambda: lesions(6, 9, 12, pairs=True),
    "20 layers": lambda: lesions(6, 9, depth=20, pairs=True),
    "huge": lambda: times(lesions(6, 9), 1e9),
    "nothing finite": lambda: times(lesions(6, 9), np.nan),
}


@pytest.mark.parametrize("record", GATES)
def test_gates_can_be_read(record):
    with our_style():
        found = GATES[record]()
        readable(draw_gates(named(found)))
        readable(found.plot().figure)


@pytest.mark.parametrize("record", LESIONS)
def test_lesions_can_be_read(record):
    with our_style():
        found = LESIONS[record]()
        readable(draw_lesions(replace(found, title=TITLE)))
        readable(found.plot().figure)

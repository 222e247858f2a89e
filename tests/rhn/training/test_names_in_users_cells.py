"""A user's cell trains, stops and continues to the same bits, whatever its parts are named, and
however many cells are stacked.
"""

from functools import partial

import pytest
import torch
from torch import nn

from rhn.errors import InvalidInputError
from rhn.training.run import train
from tests.rhn.texts import SMALL, small_corpus

TEXT = small_corpus(8, 3)
NAMES = ("states", "best", "cell", "optimizer", "rest", "weights", "average", "velocity", "step")
PLAIN = {
    **dict.fromkeys(("drop_embedding", "drop_input", "drop_hidden", "drop_output"), 0.0),
    "transform_bias": None,
    "init": None,
    "depth": 1,
    "hidden_size": 5,
    "epochs": 1,
    "batch_size": 2,
}


class Own(nn.Module):
    """A tanh recurrence, whose recurrent part has a name of the test's."""

    part = "recurrent"

    def __init__(self, inputs, units, depth=1, *, device=None, dtype=None):
        super().__init__()
        where = {"device": device, "dtype": dtype}
        setattr(self, self.part, nn.Linear(units, units, **where))
        self.reads = nn.Linear(inputs, units, **where)

    def forward(self, x, s=None):
        recurrent, outputs = self.get_submodule(self.part), []
        s = x.new_zeros(x.shape[1], recurrent.in_features) if s is None else s
        for x_t in x:
            s = torch.tanh(self.reads(x_t) + recurrent(s))
            outputs.append(s)
        return torch.stack(outputs), s


class Gated(nn.Module):
    """A loop over a cell of torch.nn, whose state is a pair of tensors."""

    def __init__(self, inputs, units, depth=1, *, device=None, dtype=None):
        super().__init__()
        self.cell = nn.LSTMCell(inputs, units, device=device, dtype=dtype)

    def forward(self, x, state=None):
        outputs = []
        for x_t in x:
            state = self.cell(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs), state


def losses(folder, cell, stops=0, **changes):
    """The losses of a training run that stops within its first epoch so many times."""
    run = partial(train, SMALL, TEXT, out=folder, cell=f"{__name__}:{cell}", **PLAIN | changes)
    for _ in range(stops):
        assert all(each.epochs == 0 and not each.finished for each in run(max_minutes=0))
    return [(each.train_nll, each.valid_nll) for each in run()]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_names_of_parts_change_no_bit_of_a_stopped_run(seeds, tmp_path, monkeypatch):
    folder = tmp_path / f"{len(seeds)}"
    whole = losses(folder / "whole", "Own", seeds=seeds)
    for name in NAMES if len(seeds) == 1 else NAMES[:1]:
        monkeypatch.setattr(Own, "part", name)
        assert losses(folder / name, "Own", 1, seeds=seeds) == whole, name


def test_each_of_many_cells_continues_from_its_own_state(tmp_path):
    changes = {"layers": 11, "init": "uniform:0.5"}  # in the file in the order 0, 1, 10, 2, ...
    whole = losses(tmp_path / "whole", "Own", **changes)
    assert losses(tmp_path / "cut", "Own", 1, **changes) == whole


def test_a_state_of_two_tensors_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match=r"^state of Gated is tuple: expected one tensor "):
        losses(tmp_path / "two", "Gated")
